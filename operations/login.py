"""New connections to a node, opened while an operation runs: the only proof that a node still lets us in."""

from __future__ import annotations

from typing import Any, cast

from paramiko import SSHException
from pyinfra.api import Host, State, StringCommand
from pyinfra.api.arguments import CONNECTOR_ARGUMENT_KEYS, ConnectorArguments
from pyinfra.api.exceptions import ConnectError
from pyinfra.connectors.base import BaseConnector
from pyinfra.connectors.ssh import SSHConnector

COMMAND_SECONDS = 20


class KeyConnector(SSHConnector):
    """A connection that keys alone may open, whatever password the inventory holds."""

    def make_paramiko_kwargs(self) -> dict[str, Any]:
        """What paramiko connects with, less every password."""
        arguments = {key: value for key, value in super().make_paramiko_kwargs().items() if key != "password"}
        extra = arguments["_pyinfra_ssh_paramiko_connect_kwargs"] or {}
        allowed = {key: value for key, value in extra.items() if key != "password"}
        return {**arguments, "_pyinfra_ssh_paramiko_connect_kwargs": allowed}


class NewLogin:
    """A new connection to a host, as the inventory says, with or without its password.

    Raises ConnectError where it cannot be opened. Where the host is not reached by SSH at all, there is no connection
    to lose, and its own connector serves.
    """

    def __init__(self, state: State, host: Host, keys_only: bool) -> None:
        self._state, self._host = state, host
        self._connector: BaseConnector = host.connector
        if isinstance(host.connector, SSHConnector):
            self._connector = (KeyConnector if keys_only else SSHConnector)(state, host)
            self._connector.connect()
        elif keys_only:
            raise ConnectError(f"{host.name} is not reached by SSH")

    def run(self, command: str) -> tuple[bool, str]:
        """Run a command with this operation's sudo; return whether it succeeded, and what it printed."""
        wanted = cast(dict[str, Any], self._host.current_op_global_arguments or {})
        arguments = {key: wanted[key] for key in CONNECTOR_ARGUMENT_KEYS if key in wanted}
        bounded = cast(ConnectorArguments, {**arguments, "_timeout": COMMAND_SECONDS})
        try:
            done, output = self._connector.run_shell_command(
                StringCommand(command),
                print_output=self._state.print_output,
                print_input=self._state.print_input,
                **bounded,
            )
        except (OSError, EOFError, SSHException) as error:
            return False, str(error)
        return done, output.output

    def close(self) -> None:
        """Close the connection, if it is a new one."""
        if isinstance(self._connector, SSHConnector) and self._connector is not self._host.connector:
            client = self._connector.client
            if client:
                client.close()


def login_trouble(state: State, host: Host, keys_only: bool) -> str | None:
    """Open a new connection to a host and close it; return what speaks against it, or None when it worked."""
    try:
        login = NewLogin(state, host, keys_only)
    except ConnectError as error:
        return str(error)
    done, output = login.run("true")
    login.close()
    return None if done else output or "the connection works, but no command"
