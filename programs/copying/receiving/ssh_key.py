"""The SSH key of one copy: valid only for its rsync daemon, only from the peer, and only for the copy's lifetime."""

from __future__ import annotations

import glob
import os
import pwd
import time
from contextlib import suppress
from typing import Any

from gb10.programs.copying.receiving.rsync_daemon import SSH_CONFIGURATION


def let_in(name: str, folder: str, job: dict[str, Any]) -> None:
    """Add the sender's key to the authorized keys, restricted to this copy."""
    peers = ",".join(sorted({peer for rail in job["rails"].values() for peer in rail["peers"]}))
    until = time.strftime("%Y%m%d%H%M", time.localtime(time.time() + job["lifetime"]))
    sudo = "" if job["user"] == "root" else "sudo -n "
    forced = f"{sudo}rsync --server --daemon --config={folder}/{SSH_CONFIGURATION} ."
    line = f'restrict,from="{peers}",expiry-time="{until}",command="{forced}" {job["ssh"]} {name}\n'
    path = authorized_keys(job["user"])
    owner = pwd.getpwnam(job["user"])
    if not os.path.isdir(os.path.dirname(path)):
        os.mkdir(os.path.dirname(path), 0o700)
        os.chown(os.path.dirname(path), owner.pw_uid, owner.pw_gid)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    with open(descriptor, "r+") as file:
        os.fchown(descriptor, owner.pw_uid, owner.pw_gid)
        text = file.read()
        file.write(line if not text or text.endswith("\n") else f"\n{line}")


def lock_out(name: str, user: str) -> None:
    """Remove the key of a copy from the authorized keys."""
    with suppress(FileNotFoundError), open(authorized_keys(user), "r+") as file:
        lines = file.readlines()
        kept = [line for line in lines if not line.endswith(f" {name}\n")]
        if kept != lines:
            file.seek(0)
            file.writelines(kept)
            file.truncate()


def authorized_keys(user: str) -> str:
    """Return the path of a user's authorized_keys."""
    return os.path.join(pwd.getpwnam(user).pw_dir, ".ssh", "authorized_keys")


def host_keys() -> list[str]:
    """Return the node's own SSH host keys, type and key."""
    found = []
    for path in sorted(glob.glob("/etc/ssh/ssh_host_*_key.pub")):
        with open(path) as file:
            found.append(" ".join(file.read().split()[:2]))
    return found
