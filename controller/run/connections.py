"""SSH connections of pyinfra, bounded in output and silence, whose commands can be ended."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib.resources import files
from pathlib import Path
from typing import Any

import gevent
from gevent.local import local
from paramiko import AuthenticationException, BadHostKeyException, PasswordRequiredException, SSHException, Transport
from pyinfra.api import Host
from pyinfra.api.exceptions import ConnectError
from pyinfra.connectors.ssh import SSHConnector

from gb10.controller.run.messages import Failure
from gb10.group_data.settings import SshSettings
from gb10.operations.kit.inventory import read_settings, ssh_address
from gb10.operations.kit.known_hosts import HostKey, KnownHosts, host_name, keys_of

LARGEST_OUTPUT_BYTES = 256 << 20  # of one command, in memory
LINE_BYTES = 200  # memory overhead of a line
CHUNK = 1 << 18
PROBE_SECONDS = 15.0  # between two checks that a node still answers
END_SECONDS = 3  # for commands on a node to end by themselves

_CUT_OFF = "transport shut down or saw EOF"  # text of paramiko


# What a command may print --------------------------------------------------------------------------------------------


class Output:
    """The output of one command as lines of text. A command that prints too much is cut off, and `flooded` set."""

    def __init__(self, channel: Any) -> None:
        self.channel = channel
        self.flooded = False
        self._left = LARGEST_OUTPUT_BYTES

    def lines(self, receive: Callable[[int], bytes]) -> Iterator[str]:
        """Yield the lines of one stream."""
        rest = bytearray()
        while data := receive(CHUNK):
            self._left -= len(data) + LINE_BYTES * data.count(b"\n")
            if self._left < 0:
                self.flooded = True
                self.channel.close()
                return
            first, *others = data.split(b"\n")
            rest += first
            for other in others:
                yield rest.decode(errors="replace")
                rest = bytearray(other)
        if rest:
            yield rest.decode(errors="replace")


class _Stream:
    """One stream of an output, as pyinfra reads it."""

    def __init__(self, output: Output, receive: Callable[[int], bytes]) -> None:
        self.channel = output.channel
        self._lines = output.lines(receive)

    def __iter__(self) -> Iterator[str]:
        return self._lines


class BoundedClient:
    """pyinfra's SSH client with bounded outputs."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._last = local()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def exec_command(self, command: str, **options: Any) -> tuple[Any, Any, Any]:
        stdin, stdout, _ = self._client.exec_command(command, **options)
        channel = stdout.channel
        output = self._last.output = Output(channel)
        return stdin, _Stream(output, channel.recv), _Stream(output, channel.recv_stderr)

    @property
    def flooded(self) -> bool:
        """Return True if the last command of this greenlet printed too much."""
        return bool(getattr(self._last, "output", None) and self._last.output.flooded)


# The connections of a host -------------------------------------------------------------------------------------------


def transport_of(host: Host) -> Transport | None:
    """Return a host's SSH connection, or None if it has none."""
    client = host.connector.client if isinstance(host.connector, SSHConnector) else None
    return client.get_transport() if client else None


def broken(host: Host) -> bool:
    """Return True if the host was connected by SSH and is not any more."""
    transport = transport_of(host)
    return transport is not None and not transport.is_active()


def revoked_key(host: Host) -> HostKey | None:
    """Return the key of a host that its known_hosts file revokes, or None. pyinfra does not know that mark."""
    ssh = read_settings(SshSettings, host)
    file = KnownHosts(Path(ssh.known_hosts_file or "~/.ssh/known_hosts").expanduser())
    if not (revoked := file.revoked()):
        return None
    known = keys_of(file.about(host_name(ssh_address(host), ssh.port)))
    return next((key for key in known if key.blob in revoked), None)


def guard(host: Host, silence_seconds: float) -> None:
    """Bound what a newly connected host may send, and close the connection once the host stays silent too long."""
    if isinstance(host.connector, SSHConnector) and host.connector.client is not None:
        host.connector.client = BoundedClient(host.connector.client)  # type: ignore[assignment]
        gevent.spawn(_probe, transport_of(host), silence_seconds)


def _probe(transport: Transport, silence_seconds: float) -> None:
    while transport.is_active():
        gevent.sleep(min(PROBE_SECONDS, silence_seconds))
        with gevent.Timeout(silence_seconds, False):
            with suppress(SSHException, EOFError, OSError):
                transport.global_request("keepalive@openssh.com", wait=True)
            continue
        transport.close()


def close(host: Host) -> None:
    """Close the SSH connection of a host: pyinfra leaves it open."""
    if transport := transport_of(host):
        transport.close()


def end_commands(host: Host) -> None:
    """End what runs on a node over this connection: sshd lets it run when the connection is closed."""
    transport = transport_of(host)
    if transport is None or not transport.is_active():
        return
    script = files("gb10.programs").joinpath("shell", "end-sessions.sh").read_bytes()
    with suppress(SSHException, EOFError, OSError), transport.open_session(timeout=END_SECONDS) as channel:
        channel.settimeout(2 * END_SECONDS)
        channel.exec_command(f"sh -s {END_SECONDS}")
        channel.sendall(script)
        channel.shutdown_write()
        while channel.recv(CHUNK):
            pass


# Why a connection failed ---------------------------------------------------------------------------------------------


def connect_failure(host: Host, error: ConnectError) -> Failure:
    """Return the reason why the connection to a host failed."""
    causes = list(_causes(error))
    cause = causes[1] if len(causes) > 1 else error
    text = str(cause)
    if any(isinstance(one, PasswordRequiredException) for one in causes):
        key = read_settings(SshSettings, host).key
        return Failure(
            "SSH_AUTH",
            host.name,
            reason=f"the key {key} asks for a passphrase; put it into ssh-agent and leave out ssh_key",
        )
    if isinstance(cause, BadHostKeyException):
        return Failure("SSH_HOST_KEY", host.name, reason=f"Host key for {cause.hostname} does not match.")
    if "found in known_hosts" in text:
        return Failure("SSH_HOST_KEY", host.name, reason=text.removeprefix("StrictPolicy: "))
    if _CUT_OFF in text:
        why = "it closed the connection during the login: sshd was stopped, or was offered too many keys of an agent"
        return Failure("NODE_UNREACHABLE", host.name, reason=why)
    if isinstance(cause, AuthenticationException) or "authentication" in text.lower():
        ssh = read_settings(SshSettings, host)
        known = (("username", ssh.user), ("key", ssh.key))
        who = ", ".join(f"{name}={value}" for name, value in known if value)
        return Failure("SSH_AUTH", host.name, reason=f"{text} ({who})" if who else text)
    return Failure("NODE_UNREACHABLE", host.name, reason=_without_number(text) or "it closed the connection")


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _without_number(text: str) -> str:
    return re.sub(r"^\[Errno [^\]]+\] ", "", text)
