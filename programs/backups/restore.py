"""The steps of a restore on the node: unpack the backup, put files in place, have services read them.

The job of each function has "folder", where the backup is unpacked, and "stamp", the time of the restore.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from typing import Any, BinaryIO, cast

from gb10.programs.answer import Outlet, RefusedError
from gb10.programs.archive.files import remove
from gb10.programs.archive.manifest import damaged
from gb10.programs.archive.reading import unpack as unpack_archive
from gb10.programs.backups.placing import BESIDE, MANIFEST, TREE, Placer

NOTED = 5  # lines of an error output
SHOWN_SECONDS = 10  # to wait until sshd shows the restored keys
UNIT_SECONDS = 120
RELOAD_SECONDS = 60


def unpack(job: dict[str, Any], outlet: Outlet) -> None:
    """Unpack the archive on standard input into "folder", which is emptied first, and closed to others."""
    folder = job["folder"]
    remove(folder)
    os.makedirs(os.path.dirname(folder), 0o755, exist_ok=True)
    os.mkdir(folder, 0o700)
    try:
        manifest = unpack_archive(cast(BinaryIO, sys.stdin.buffer), os.path.join(folder, TREE))
        if manifest.sha256 != job["manifest_sha256"]:
            raise damaged("what arrived is not the backup that was sent")
        with open(os.path.join(folder, MANIFEST), "wb") as file:
            file.write(manifest.encoded())
    except OSError as error:
        raise RefusedError("RESTORE_FAILED", f"the backup cannot be unpacked: {error}") from error


def put(job: dict[str, Any], outlet: Outlet) -> None:
    """Put "paths" in place. Those in "merge" also keep the lines that only the node has."""
    try:
        Placer(job).put(job["paths"], job.get("merge", ()))
    except OSError as error:
        raise _failed(error) from error


def users(job: dict[str, Any], outlet: Outlet) -> None:
    """Run "commands", which make accounts.

    The accounts in "created" get their old password, from the lines of shadow in the backup.
    """
    for path in job["sudoers"]:
        _run(["visudo", "-cf", job["folder"] + f"/{TREE}/root{path}"], "SUDOERS_REJECTED")
    for command in job["commands"]:
        _run(command, "RESTORE_FAILED")
    if job["created"]:
        with open(os.path.join(job["folder"], TREE, job["accounts"]), encoding="utf-8") as file:
            hashes = dict(line.split(":")[:2] for line in json.load(file)["shadow"])
        lines = "".join(f"{user}:{hashes[user]}\n" for user in job["created"] if hashes.get(user))
        _run(["chpasswd", "--encrypted"], "RESTORE_FAILED", lines)


def docker(job: dict[str, Any], outlet: Outlet) -> None:
    """Put "paths" in place, but "file" beside its place, as FILE.new. Refuse one that dockerd does not accept."""
    file, paths = job["file"], job["paths"]
    others = [path for path in paths if path != file]
    put({**job, "paths": others}, outlet)
    if any(path.startswith("/etc/systemd/") for path in others):
        _reload_units()
    if file in paths:
        put({**job, "paths": [file], "moved": {file: f"{file}.new"}}, outlet)
        _run(["dockerd", "--validate", "--config-file", f"{file}.new"], "DOCKER_CONFIG_REJECTED")
        if os.path.exists(file):
            shutil.copy2(file, file + BESIDE + job["stamp"])


def system(job: dict[str, Any], outlet: Outlet) -> None:
    """Put "paths" in place; then apply kernel settings, and restart those of "units" that are enabled."""
    put(job, outlet)
    _reload_units()
    if any(path.startswith("/etc/sysctl") for path in job["paths"]):
        done = _tried(["sysctl", "--system"])
        for line in done.stderr.splitlines()[:NOTED] if done.returncode else ():
            outlet.report(note=line.strip())
    for unit in job["units"]:
        if _tried(["systemctl", "is-enabled", "--quiet", unit]).returncode:
            continue
        if _tried(["systemctl", "restart", unit], UNIT_SECONDS).returncode:
            outlet.report(note=f"{unit} is enabled, and does not start: see journalctl -u {unit}")


def k3s(job: dict[str, Any], outlet: Outlet) -> None:
    """Put the folder "server" in place as a whole, keep the former one beside it; then put "paths" in place.

    K3s refuses a datastore beside files that are newer, so nothing of another cluster may be left there.
    """
    try:
        if job["server"]:
            Placer(job).put_folder(job["server"])
    except OSError as error:
        raise _failed(error) from error
    put(job, outlet)


def sshd(job: dict[str, Any], outlet: Outlet) -> None:
    """Put "paths" of sshd in place, reload it, and check that it shows the restored host "keys".

    Undo everything if sshd does not accept its configuration or does not show the keys, or if this program is ended.
    """
    placer = Placer(job)
    trouble: str | None = "it was ended"
    try:
        placer.put(job["paths"])
        trouble = _sshd_trouble(job["keys"])
    except OSError as error:
        trouble = str(error)
    finally:
        if trouble:
            placer.take_back()
            _reload_sshd()
    if trouble:
        raise RefusedError("SSHD_REJECTED", f"with the backup's files: {trouble}: everything is as it was")


def _sshd_trouble(keys: list[str]) -> str | None:
    """Reload sshd; return why it does not work with its new files, or None."""
    tested = _tried(["sshd", "-t"])
    if tested.returncode:
        return (tested.stderr.strip().splitlines() or ["sshd -t fails"])[-1]
    _reload_sshd()
    return None if _shows(keys) else "it does not show the restored host keys"


def _reload_sshd() -> None:
    """Reload sshd, if it runs. Open sessions stay open."""
    for unit in ("ssh.service", "sshd.service"):
        if _tried(["systemctl", "is-active", "--quiet", unit]).returncode == 0:
            _tried(["systemctl", "reload", unit])
            return


def _shows(keys: list[str]) -> bool:
    """Return True if sshd shows one of these public keys, each as "type base64", within SHOWN_SECONDS."""
    settings = _tried(["sshd", "-T"]).stdout
    port = next((line.split()[1] for line in settings.splitlines() if line.startswith("port ")), "22")
    deadline = time.monotonic() + SHOWN_SECONDS
    while keys and time.monotonic() < deadline:
        found = _tried(["ssh-keyscan", "-T", "3", "-p", port, "127.0.0.1"]).stdout
        if {" ".join(line.split()[1:3]) for line in found.splitlines() if not line.startswith("#")} & set(keys):
            return True
        time.sleep(0.3)
    return not keys


def _reload_units() -> None:
    _tried(["systemctl", "daemon-reload"])


def _tried(command: list[str], seconds: int = RELOAD_SECONDS) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=seconds, stdin=subprocess.DEVNULL
    )


def _run(command: list[str], code: str, stdin: str = "") -> None:
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RefusedError(code, f"{command[0]}: {' '.join((done.stderr or done.stdout).split())[-300:]}")


def _failed(error: OSError) -> RefusedError:
    return RefusedError("RESTORE_FAILED", f"{error.filename or 'a file'} cannot be restored: {error.strerror or error}")
