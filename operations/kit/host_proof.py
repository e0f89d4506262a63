"""The host key that a machine proves to have: by a key exchange, which it signs, and without a login.

No text counts: neither what ssh prints, which may come from the machine, nor a file on it.
"""

from __future__ import annotations

import logging
import shlex
import socket
import subprocess
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gb10.facts.reading.printable import printable
from gb10.group_data.settings import SshSettings
from gb10.operations.kit.known_hosts import HostKey, host_name

CONNECT_SECONDS = 5
EXCHANGE_SECONDS = 10
# Type of a key -> the algorithms with which it signs, as this controller prefers them. None uses SHA-1.
ALGORITHMS = {
    **{kind: (kind,) for kind in ("ssh-ed25519", *(f"ecdsa-sha2-nistp{bits}" for bits in (256, 384, 521)))},
    "ssh-rsa": ("rsa-sha2-512", "rsa-sha2-256"),
}
NOT_OFFERED = "Incompatible ssh peer (no acceptable host key)"  # text of paramiko


@dataclass(frozen=True)
class SshHost:
    """Where a host's sshd listens, and the known_hosts file about it."""

    address: str
    port: int
    known_hosts: Path
    proxy: list[str] = field(default_factory=list)  # the command that reaches it, if it is behind another host

    @property
    def name(self) -> str:
        """Its name in known_hosts."""
        return host_name(self.address, self.port)


def ssh_host(address: str, login: SshSettings) -> SshHost:
    """Return how a host is reached, by its settings and the configuration of ssh."""
    config = ["-F", login.config_file] if login.config_file else []
    command = ["ssh", *config, "-G", address]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True)
    found = dict(line.split(" ", 1) for line in done.stdout.splitlines() if " " in line)
    port = login.port if login.port != 22 else int(found["port"])
    proxy: list[str] = []
    if jumps := found.get("proxyjump"):
        *before, last = jumps.split(",")
        before_it = ["-J", ",".join(before)] if before else []
        target = f"[{found['hostname']}]:{port}"
        proxy = ["ssh", *config, "-o", "BatchMode=yes", *before_it, "-W", target, f"ssh://{last}"]
    elif given := found.get("proxycommand"):
        proxy = ["sh", "-c", f"exec {given.replace('%h', found['hostname']).replace('%p', str(port))}"]
    path = Path(login.known_hosts_file or found["userknownhostsfile"].split()[0]).expanduser()
    return SshHost(found["hostname"], port, path, proxy)


class NotOfferedError(ConnectionError):
    """The host has no key of the wanted types."""


def proven_key(host: SshHost, *kinds: str) -> HostKey:
    """Return the key, of one of these types or of any, that a host proves to have.

    Raise NotOfferedError if it has none of them, ConnectionError if no key exchange succeeds.
    """
    from paramiko import SSHException, Transport  # noqa: PLC0415 # loading it takes longer than a whole help text
    from paramiko.ssh_exception import IncompatiblePeer  # noqa: PLC0415

    logging.getLogger("paramiko").addHandler(logging.NullHandler())  # its errors are raised as well
    wanted = [name for kind, names in ALGORITHMS.items() if kind in (kinds or ALGORITHMS) for name in names]
    if not wanted:
        raise NotOfferedError(f"no such type of key: {', '.join(kinds)}")
    try:
        with closing(_stream(host)) as stream, closing(Transport(stream)) as transport:
            transport.banner_timeout = EXCHANGE_SECONDS
            transport.get_security_options().key_types = wanted
            transport.start_client(timeout=EXCHANGE_SECONDS)
            key = transport.get_remote_server_key()
    except IncompatiblePeer as error:
        raise (NotOfferedError if str(error) == NOT_OFFERED else ConnectionError)(printable(str(error))) from error
    except (OSError, EOFError, SSHException) as error:
        raise ConnectionError(printable(str(error)) or "it closed the connection") from error
    return HostKey(key.get_name(), key.get_base64())


def proven_keys(host: SshHost) -> list[HostKey]:
    """Return one key of each type that a host proves to have, the best first. Raise ConnectionError as above."""
    keys = []
    for kind in ALGORITHMS:
        with suppress(NotOfferedError):
            keys.append(proven_key(host, kind))
    return keys


def _stream(host: SshHost) -> Any:
    from paramiko import ProxyCommand  # noqa: PLC0415 # as above

    if host.proxy:
        return ProxyCommand(shlex.join(host.proxy))
    return socket.create_connection((host.address, host.port), CONNECT_SECONDS)
