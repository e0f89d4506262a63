"""New connections to a node, opened while an operation runs: the only proof that a node still lets us in."""

from __future__ import annotations

from typing import Any, cast

from paramiko import Channel, SSHException
from pyinfra.api import Host, State
from pyinfra.api.arguments import CONNECTOR_ARGUMENT_KEYS, ConnectorArguments
from pyinfra.api.exceptions import ConnectError
from pyinfra.connectors.base import BaseConnector
from pyinfra.connectors.ssh import SSHConnector

from gb10.facts.reading.launcher import equip, run_script
from gb10.operations.kit.peers import printed

COMMAND_SECONDS = 20


class KeyConnector(SSHConnector):
    """A connection that keys alone may open, whatever password the inventory holds."""

    tunnel: Channel | None = None  # through which it goes, instead of a connection of its own

    def make_paramiko_kwargs(self) -> dict[str, Any]:
        """What paramiko connects with, less every password."""
        arguments = {key: value for key, value in super().make_paramiko_kwargs().items() if key != "password"}
        extra = arguments["_pyinfra_ssh_paramiko_connect_kwargs"] or {}
        allowed = {key: value for key, value in extra.items() if key != "password"}
        through = {"sock": self.tunnel} if self.tunnel else {}
        return {**arguments, **through, "_pyinfra_ssh_paramiko_connect_kwargs": allowed}


class NewLogin:
    """A new connection to a host, as the inventory says, with or without its password.

    Raises ConnectError where it cannot be opened. Where the host is not reached by SSH at all, there is no connection
    to lose, and its own connector serves.
    """

    def __init__(self, state: State, host: Host, keys_only: bool, tunnel: Channel | None = None) -> None:
        self._state, self._host = state, host
        self._connector: BaseConnector = host.connector
        if keys_only:
            if not isinstance(host.connector, SSHConnector):
                raise ConnectError(f"{host.name} is not reached by SSH")
            self._connector = KeyConnector(state, host)
            self._connector.tunnel = tunnel
            self._connector.connect()
        elif isinstance(host.connector, SSHConnector):
            self._connector = SSHConnector(state, host)
            self._connector.connect()

    def tunnel(self, port: int) -> Channel:
        """Open a way to a port of the node's loopback. Raise ConnectError where sshd does not let us."""
        client = self._connector.client if isinstance(self._connector, SSHConnector) else None
        transport = client.get_transport() if client else None
        if transport is None:
            raise ConnectError(f"{self._host.name} is not reached by SSH")
        try:
            return transport.open_channel(
                "direct-tcpip", ("127.0.0.1", port), ("127.0.0.1", 0), timeout=COMMAND_SECONDS
            )
        except SSHException as error:
            raise ConnectError(f"sshd forwards nothing ({error})") from error

    def run(self, text: str, *arguments: str) -> tuple[bool, str]:
        """Run a shell script with this operation's sudo; return whether it succeeded, and what it printed."""
        wanted = cast(dict[str, Any], self._host.current_op_global_arguments or {})
        given = cast(ConnectorArguments, {key: wanted[key] for key in CONNECTOR_ARGUMENT_KEYS if key in wanted})
        script = run_script(text, *arguments, seconds=COMMAND_SECONDS)
        equip(self._host, self._connector)
        try:
            done, output = self._connector.run_shell_command(
                script, print_output=self._state.print_output, print_input=self._state.print_input, **given
            )
        except (OSError, EOFError, SSHException) as error:
            return False, str(error)
        return done, printed(script, done, output)

    def close(self) -> None:
        """Close the connection, if it is a new one."""
        if isinstance(self._connector, SSHConnector) and self._connector is not self._host.connector:
            client = self._connector.client
            if client:
                client.close()
