"""A real SSH server on the loopback interface. It runs commands as this user and can break connections."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
from contextlib import suppress
from pathlib import Path

import paramiko
from paramiko.common import AUTH_FAILED, AUTH_SUCCESSFUL, OPEN_SUCCEEDED


class SshServer:
    """A server that listens until `stop` is called. `path` is put first in the PATH of its commands."""

    def __init__(self, folder: Path, path: str = "") -> None:
        self.key = folder / "client_key"
        client = paramiko.ECDSAKey.generate()
        client.write_private_key_file(str(self.key))
        self._allowed = client.asbytes()
        self.host_keys: list[paramiko.PKey] = [paramiko.ECDSAKey.generate()]  # used from the next connection on
        self.known_hosts = folder / "known_hosts"
        self.attempts: list[str] = []  # of a login
        self._environment = {**os.environ, "PATH": f"{path}:{os.environ['PATH']}" if path else os.environ["PATH"]}
        self._transports: list[paramiko.Transport] = []
        self._processes: list[subprocess.Popen[bytes]] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.known_hosts.write_text(self.known_line())
        threading.Thread(target=self._accept, daemon=True).start()

    def host_data(self, **other: object) -> dict[str, object]:
        """Return the host data of an inventory for a host that connects to this server."""
        return {
            "ssh_hostname": "127.0.0.1",
            "ssh_port": self.port,
            "ssh_user": "nvidia",
            "ssh_key": str(self.key),
            "ssh_known_hosts_file": str(self.known_hosts),
            **other,
        }

    def known_line(self) -> str:
        """Return the line of known_hosts about this server."""
        (key, *_) = self.host_keys
        return f"[127.0.0.1]:{self.port} {key.get_name()} {key.get_base64()}\n"

    def cut(self) -> None:
        """Break every connection. The commands continue, as under sshd."""
        for transport in self._transports:
            transport.close()

    def stop(self) -> None:
        """Refuse new connections and kill the running commands."""
        with suppress(OSError):
            self._listener.shutdown(
                socket.SHUT_RDWR
            )  # after close() alone, the waiting accept() would take one more connection
        self._listener.close()
        self.cut()
        for process in self._processes:
            with suppress(ProcessLookupError):
                process.kill()
            process.wait()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            transport = paramiko.Transport(connection)
            for key in self.host_keys:
                transport.add_server_key(key)
            transport.set_subsystem_handler("sftp", paramiko.SFTPServer)
            self._transports.append(transport)
            with suppress(paramiko.SSHException, EOFError):
                transport.start_server(event=threading.Event(), server=_Session(self))

    def allows(self, key: paramiko.PKey) -> bool:
        return key.asbytes() == self._allowed

    def execute(self, channel: paramiko.Channel, command: bytes) -> None:
        process = subprocess.Popen(
            ["/bin/sh", "-c", command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=self._environment,
        )
        self._processes.append(process)
        assert process.stdin
        assert process.stdout
        assert process.stderr
        pumps = [
            threading.Thread(target=_pump, args=(process.stdout.fileno(), channel.sendall), daemon=True),
            threading.Thread(target=_pump, args=(process.stderr.fileno(), channel.sendall_stderr), daemon=True),
        ]
        for pump in pumps:
            pump.start()
        with suppress(OSError), process.stdin:
            while data := channel.recv(65536):
                process.stdin.write(data)
        for pump in pumps:
            pump.join()
        status = process.wait()
        with suppress(OSError, paramiko.SSHException, EOFError):
            channel.send_exit_status(status % 256)  # a killed command counts as failed
            channel.close()


def _pump(descriptor: int, send: object) -> None:
    assert callable(send)
    with suppress(OSError):
        while data := os.read(descriptor, 65536):
            send(data)


class _Session(paramiko.ServerInterface):
    def __init__(self, server: SshServer) -> None:
        self._server = server

    def get_allowed_auths(self, username: str) -> str:
        return "publickey"

    def check_auth_none(self, username: str) -> int:
        self._server.attempts.append("none")
        return AUTH_FAILED

    def check_auth_password(self, username: str, password: str) -> int:
        self._server.attempts.append(f"password {password}")
        return AUTH_FAILED

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        self._server.attempts.append("publickey")
        return AUTH_SUCCESSFUL if self._server.allows(key) else AUTH_FAILED

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return OPEN_SUCCEEDED

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        threading.Thread(target=self._server.execute, args=(channel, command), daemon=True).start()
        return True
