"""The connections to a receiver: on the rails' addresses only, from the peer only, with the secret of the copy only.

Our sender connects to the listener, and so does an rsync, which gets a daemon of its own for this copy. An rsync over
ssh comes in through sshd, with a key that is valid for this copy alone.
"""

from __future__ import annotations

import errno
import glob
import os
import pwd
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from gb10.programs.answer import RefusedError
from gb10.programs.copying.protocol import authenticate
from gb10.programs.copying.receiving.run_folder import write_file

PORTS = range(8873, 8973)
HELLO_SECONDS = 15
ANNOUNCED_SECONDS = 5  # from an rsync until its sender announces it, on another connection
MOST_STRANGERS = 32  # connections at a time that have not proved yet that they know the secret
SILENCE_SECONDS = 60  # on a connection

CONFIGURATION = "rsyncd.conf"
SSH_CONFIGURATION = "rsyncd-ssh.conf"
GREETING = b"@RSYNCD:"  # first bytes of an rsync
# A reverse lookup would wait for a name server that may be unreachable.
MODULE = """\
reverse lookup = no
[copy]
reverse lookup = no
uid = 0
gid = 0
use chroot = yes
numeric ids = yes
munge symlinks = no
list = no
read only = no
write only = yes
refuse options = delete*
auth users = gb10
timeout = 60
"""

Serve = Callable[[socket.socket], None]


def log(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


class Listener:
    """Accepts connections and serves each by its kind.

    + serve: kind of a connection ("control", "data", "rsync") -> the function that serves it
    + await_announcement: waits until the sender has announced an rsync; raises RefusedError
    """

    def __init__(
        self, peers: set[str], secret: bytes, serve: dict[str, Serve], await_announcement: Callable[[], None]
    ) -> None:
        self._peers = peers
        self._secret = secret
        self._serve = serve
        self._await_announcement = await_announcement
        self._strangers = threading.Semaphore(MOST_STRANGERS)

    def listen(self, address: str) -> int:
        """Listen on an address and its interface alone; return the port. Raise RefusedError."""
        server = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if interface := interface_of(address):
            server.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
        for port in PORTS:
            try:
                server.bind((address, port))
                server.listen(128)
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise RefusedError("RAIL_DOWN", f"nothing can listen on {address}: {error.strerror}") from error
                continue
            threading.Thread(target=self._accept, args=(server,), daemon=True).start()
            return port
        raise RefusedError("COPY_FAILED", f"no port of {PORTS[0]} to {PORTS[-1]} is free on {address}")

    def _accept(self, server: socket.socket) -> None:
        while True:
            stream, sender = server.accept()
            if sender[0] not in self._peers:
                log(f"refused a connection from {sender[0]}: it is not the peer")
                stream.close()
                continue
            if not self._strangers.acquire(blocking=False):
                log(f"refused a connection from {sender[0]}: too many have not proved that they know the secret")
                stream.close()
                continue
            threading.Thread(target=self._serve_one, args=(stream, sender[0]), daemon=True).start()

    def _serve_one(self, stream: socket.socket, sender: str) -> None:
        with stream:
            try:
                try:
                    kind = self._kind(stream)
                finally:
                    self._strangers.release()
                self._serve[kind](stream)
            except KeyError as error:
                log(f"{sender} asked for something that is not part of this copy: {error}")
            except RefusedError as error:
                log(f"gb10: {error} (from {sender})")
            except (OSError, ValueError, struct.error) as error:
                log(f"the connection from {sender} broke: {error}")

    def _kind(self, stream: socket.socket) -> str:
        """Authenticate a connection; return its kind. An rsync must be announced; its daemon authenticates it."""
        stream.settimeout(HELLO_SECONDS)
        if "rsync" in self._serve and _peek(stream, len(GREETING)) == GREETING:
            self._await_announcement()
            stream.settimeout(None)
            return "rsync"
        kind = authenticate(stream, self._secret)
        stream.settimeout(None)  # with a timeout of Python each read costs one more system call
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", SILENCE_SECONDS, 0))
        return kind


def _peek(stream: socket.socket, count: int) -> bytes:
    """Return the first bytes of a connection without consuming them."""
    deadline = time.monotonic() + HELLO_SECONDS
    while time.monotonic() < deadline:
        start = stream.recv(count, socket.MSG_PEEK)
        if not start or len(start) == count:
            return start
        time.sleep(0.01)
    return b""


def interface_of(address: str) -> str | None:
    """Return the name of the interface that has an address, or None."""
    command = ["ip", "-o", "address", "show", "to", address]
    words = subprocess.run(command, check=False, capture_output=True, text=True).stdout.split()
    return words[1] if words else None


class RsyncDaemon:
    """The rsync daemon of one copy: one folder, one user, one secret, a process for each connection.

    No process starts before the sender, which has proved that it knows the secret, has announced an rsync.
    """

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._children: list[subprocess.Popen[bytes]] = []
        self._lock = threading.Lock()
        self._announced = threading.Semaphore(0)

    def expect(self) -> None:
        """Let one more rsync in."""
        self._announced.release()

    def await_announcement(self) -> None:
        """Wait until an rsync is announced. Raise RefusedError if none is."""
        if not self._announced.acquire(timeout=ANNOUNCED_SECONDS):
            raise RefusedError("COPY_REFUSED", "refused an rsync that the sender has not announced")

    def configure(self, root: int, secret: str, peers: set[str]) -> None:
        """Write the configuration.

        + root: descriptor of the target folder, which stays open: the folder's path becomes no line of it
        """
        write_file(os.path.join(self._folder, "secrets"), f"gb10:{secret}\n")
        allowed = {"hosts allow": " ".join(sorted(peers)), "hosts deny": "*"}
        write_file(os.path.join(self._folder, CONFIGURATION), self._text(root, allowed))
        # a connection through sshd has no address here: its key is restricted to the peer's addresses
        write_file(os.path.join(self._folder, SSH_CONFIGURATION), self._text(root, {}))

    def _text(self, root: int, hosts: dict[str, str]) -> str:
        settings = {
            "path": f"/proc/{os.getpid()}/fd/{root}",
            "secrets file": os.path.join(self._folder, "secrets"),
            **hosts,
        }
        return MODULE + "".join(f"{key} = {value}\n" for key, value in settings.items())

    @property
    def is_busy(self) -> bool:
        return bool(self._children)

    def serve(self, stream: socket.socket) -> None:
        """Run an rsync on a connection until it ends."""
        command = ["rsync", "--daemon", f"--config={os.path.join(self._folder, CONFIGURATION)}"]
        child = subprocess.Popen(command, stdin=stream.fileno(), stdout=stream.fileno())
        with self._lock:
            self._children.append(child)
        stream.close()
        child.wait()
        with self._lock:
            self._children.remove(child)

    def stop(self) -> None:
        with self._lock:
            for child in self._children:
                child.terminate()


def authorize_key(name: str, folder: str, job: dict[str, Any]) -> None:
    """Add the sender's key to the authorized keys: only for this copy's daemon, from the peer, until its deadline."""
    peers = ",".join(sorted({peer for rail in job["rails"].values() for peer in rail["peers"]}))
    until = time.strftime("%Y%m%d%H%M", time.localtime(time.time() + job["lifetime"]))
    sudo = "" if job["user"] == "root" else "sudo -n "
    forced = f"{sudo}rsync --server --daemon --config={folder}/{SSH_CONFIGURATION} ."
    line = f'restrict,from="{peers}",expiry-time="{until}",command="{forced}" {job["ssh"]} {name}\n'
    path = _authorized_keys(job["user"])
    owner = pwd.getpwnam(job["user"])
    if not os.path.isdir(os.path.dirname(path)):
        os.mkdir(os.path.dirname(path), 0o700)
        os.chown(os.path.dirname(path), owner.pw_uid, owner.pw_gid)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    with open(descriptor, "r+") as file:
        os.fchown(descriptor, owner.pw_uid, owner.pw_gid)
        text = file.read()
        file.write(line if not text or text.endswith("\n") else f"\n{line}")


def remove_key(name: str, user: str) -> None:
    """Remove the key of a copy from the authorized keys."""
    with suppress(FileNotFoundError), open(_authorized_keys(user), "r+") as file:
        lines = file.readlines()
        kept = [line for line in lines if not line.endswith(f" {name}\n")]
        if kept != lines:
            file.seek(0)
            file.writelines(kept)
            file.truncate()


def _authorized_keys(user: str) -> str:
    return os.path.join(pwd.getpwnam(user).pw_dir, ".ssh", "authorized_keys")


def host_keys() -> list[str]:
    """Return the public SSH host keys of the node: type and key."""
    found = []
    for path in sorted(glob.glob("/etc/ssh/ssh_host_*_key.pub")):
        with open(path) as file:
            found.append(" ".join(file.read().split()[:2]))
    return found
