"""ssh commands of the controller, bounded, and what a machine has to do to be known by a host key."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import paramiko
import pytest

from gb10.controller import host_keys
from gb10.controller.host_keys import settle_host_key, shown_keys
from gb10.controller.inventory import InventoryHost
from gb10.controller.rebuild.observation import look
from gb10.operations.kit.known_hosts import HostKey
from tests.unit.controller.hosts import inventory_host
from tests.unit.ssh_server import SshServer

REFUSED = "a@b: Permission denied (publickey)."


def test_an_ssh_command_that_floods_or_hangs_is_a_failed_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_keys, "PROBE_SECONDS", 1)
    for command in (["yes"], ["sleep", "60"]):
        done = host_keys.run_ssh(command)
        assert (done.returncode, done.stdout) == (255, "")
    assert host_keys.run_ssh(["sh", "-c", "cat; echo no >&2; exit 3"], "text").stdout == "text"


def packet(payload: bytes) -> bytes:
    """Return a packet of the SSH protocol before its key exchange."""
    padding = 16 - (5 + len(payload)) % 8
    return struct.pack("!IB", 1 + len(payload) + padding, padding) + payload + bytes(padding)


def text(words: str) -> bytes:
    return struct.pack("!I", len(words)) + words.encode()


# What a stranger without any key can send: a banner, a disconnect, and an offer of key exchanges.
STRANGERS = {
    "banner": f"{REFUSED}\r\n".encode(),
    "disconnect": b"SSH-2.0-x\r\n" + packet(b"\x01" + struct.pack("!I", 2) + text(REFUSED) + text("")),
    "disconnect with a newline": b"SSH-2.0-x\r\n" + packet(b"\x01" + bytes(4) + text(f"x\n{REFUSED}") + text("")),
    "offer with a newline": b"SSH-2.0-x\r\n" + packet(b"\x14" + bytes(16) + text(f"x\n{REFUSED}") * 10 + bytes(5)),
}


class Stranger:
    """A server without a host key that answers each connection with the same bytes."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                connection.sendall(self._answer)
                connection.recv(65536)  # its version, so that it reads the answer before the end

    def stop(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@pytest.fixture
def stranger(request: pytest.FixtureRequest) -> Iterator[Stranger]:
    server = Stranger(STRANGERS[request.param])
    yield server
    server.stop()


def host_at(port: int, folder: Path, key: HostKey) -> InventoryHost:
    """Return a host that is known by this key."""
    known_hosts = folder / "known"
    known_hosts.write_text(f"[127.0.0.1]:{port} {key.kind} {key.blob}\n")
    login = {"ssh_port": port, "ssh_user": "nvidia", "ssh_known_hosts_file": str(known_hosts)}
    return inventory_host("spark-1", ssh_hostname="127.0.0.1", **login)


def public(key: paramiko.PKey) -> HostKey:
    return HostKey(key.get_name(), key.get_base64())


@pytest.mark.parametrize("stranger", STRANGERS, indirect=True)
def test_the_text_of_a_stranger_proves_no_key(
    stranger: Stranger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GB10_STATE", str(tmp_path / "state"))
    key = public(paramiko.ECDSAKey.generate())
    host = host_at(stranger.port, tmp_path, key)
    assert shown_keys(host, [key]) == set()
    assert settle_host_key(host) == "silent"
    assert look(host).host_key is None


class PublicHalf(paramiko.ECDSAKey):
    """A key that shows the public half of another one, and signs with its own."""

    def __init__(self, claimed: paramiko.PKey) -> None:
        own = paramiko.ECDSAKey.generate()
        super().__init__(vals=(own.signing_key, own.verifying_key))
        self._claimed = claimed

    def asbytes(self) -> bytes:
        return self._claimed.asbytes()


def test_the_public_half_of_a_key_proves_nothing(
    ssh_server: SshServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GB10_STATE", str(tmp_path / "state"))
    real = paramiko.ECDSAKey.generate()
    host = host_at(ssh_server.port, tmp_path, public(real))
    ssh_server.host_keys = [PublicHalf(real)]
    assert shown_keys(host, [public(real)]) == set()
    assert settle_host_key(host) == "silent"
    assert look(host).host_key is None

    ssh_server.host_keys = [real]
    assert shown_keys(host, [public(real)]) == {public(real)}
    assert look(host).host_key == public(real), "it refuses our login after it has proven its key"
