"""The rsync daemon of one copy: one folder, one user, one secret. Each connection has a process of its own."""

from __future__ import annotations

import os
import socket
import subprocess
import threading

from gb10.programs.copying.receiving.folder import write_file

CONFIGURATION = "rsyncd.conf"
SSH_CONFIGURATION = "rsyncd-ssh.conf"
GREETING = b"@RSYNCD:"  # how an rsync begins
TIMEOUT_SECONDS = 60


class RsyncDaemon:
    """The configuration of the daemon, and its processes."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._children: list[subprocess.Popen[bytes]] = []
        self._lock = threading.Lock()

    def configure(self, root: str, secret: str, peers: set[str]) -> None:
        """Write the configuration."""
        write_file(os.path.join(self._folder, "secrets"), f"gb10:{secret}\n")
        allowed = {"hosts allow": " ".join(sorted(peers)), "hosts deny": "*"}
        write_file(os.path.join(self._folder, CONFIGURATION), self._text(root, allowed))
        # a connection through sshd has no address here; its key is restricted to the peer's addresses
        write_file(os.path.join(self._folder, SSH_CONFIGURATION), self._text(root, {}))

    def _text(self, root: str, hosts: dict[str, str]) -> str:
        settings = {
            **hosts,
            "uid": "0",
            "gid": "0",
            "use chroot": "yes",
            "numeric ids": "yes",
            "munge symlinks": "no",
            "path": root.replace("%", "%%"),
            "list": "no",
            "read only": "no",
            "write only": "yes",
            "refuse options": "delete*",
            "auth users": "gb10",
            "secrets file": os.path.join(self._folder, "secrets"),
            "timeout": str(TIMEOUT_SECONDS),
        }
        # a reverse lookup would wait for a name server that may be out of reach
        return "reverse lookup = no\n[copy]\nreverse lookup = no\n" + "".join(
            f"{key} = {value}\n" for key, value in settings.items()
        )

    @property
    def is_busy(self) -> bool:
        return bool(self._children)

    def serve(self, stream: socket.socket) -> None:
        """Serve a connection with rsync until it ends."""
        command = ["rsync", "--daemon", f"--config={os.path.join(self._folder, CONFIGURATION)}"]
        child = subprocess.Popen(command, stdin=stream.fileno(), stdout=stream.fileno())
        with self._lock:
            self._children.append(child)
        stream.close()
        child.wait()
        with self._lock:
            self._children.remove(child)

    def stop(self) -> None:
        """End all connections."""
        with self._lock:
            for child in self._children:
                child.terminate()
