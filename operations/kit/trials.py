"""Changes that may lock us out of a node: tried, confirmed over a new connection, or taken back by the node itself.

The contract: the node gets back to where it was without any help, also when this controller is killed or the
connection is lost. Actions whose change must not outlive a power failure either keep it below /run until it is kept.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from typing import Any, cast

from paramiko import Channel, SSHException
from pyinfra.api import FunctionCommand, Host, State, StringCommand
from pyinfra.api.arguments import CONNECTOR_ARGUMENT_KEYS, ConnectorArguments
from pyinfra.api.exceptions import ConnectError
from pyinfra.connectors.base import BaseConnector
from pyinfra.connectors.ssh import SSHConnector

from gb10.facts.reading import launcher
from gb10.operations.kit.operation import say
from gb10.operations.kit.peers import printed
from gb10.operations.kit.scripts import run_script, script
from gb10.operations.kit.waiting import wait_until

FOLDER = "/run/gb10-trial"
POLL_SECONDS = 0.5
ENDS = ("kept", "failed", "undone")
CONFIRM = """cd {folder} || exit
read -r state <state || exit
[ "$state" != applied ] || touch confirmed
echo "$state"
grep -v '^$' output | tail -n 1"""
UNDO_SECONDS = 100  # for the node to take a change back
COMMAND_SECONDS = 20


def trial(
    name: str, action: str, content: str, seconds: int, code: str, keys_only: bool = False, values: str = ""
) -> Generator[StringCommand | FunctionCommand, None, None]:
    """
    Yield the commands of a change that takes itself back.

    + name: of the trial, one word
    + action: script of programs/shell that can apply, undo and keep, see trial.sh
    + content, values: of the files `wanted` and `values` beside it
    + seconds: how long the node waits for the confirmation before it takes the change back
    + code: of the error if it was taken back
    + keys_only: the new connection must be opened by a key
    """
    files = {"action": script(action), "wanted": content, "values": values}
    yield run_script("trial.sh", name, str(seconds), seconds=2 * seconds + UNDO_SECONDS, variables=files, outlives=True)
    yield FunctionCommand(_confirm, (name, seconds, code, keys_only), {})


def _confirm(state: State, host: Host, name: str, seconds: int, code: str, keys_only: bool) -> bool:
    """Confirm over a new connection. Return True if the change was kept, else report what happened."""
    reason = ""

    def look() -> tuple[str, str]:
        """Confirm a change that is applied. Return its state, and once it has ended the last line that it printed."""
        nonlocal reason
        try:
            with closing(NewLogin(state, host, keys_only)) as login:
                done, printed = login.run(CONFIRM.format(folder=f"{FOLDER}/{name}"))
        except ConnectError as error:
            reason = str(error)
            return "", ""
        word, _, output = printed.partition("\n") if done else ("", "", "")
        return word, output.strip()

    limit = seconds + UNDO_SECONDS
    word, output = wait_until(look, lambda seen: seen[0] in ENDS, seconds=limit, poll_seconds=POLL_SECONDS)
    if word == "failed":
        say(host, code, f"{host.name}: {output}: everything is as it was")
    elif word == "undone":
        say(host, code, f"{host.name} let nobody in with it ({reason}) and went back to what it had before")
    elif word != "kept":
        say(host, code, f"{host.name} does not let us in any more: {reason}")
    return word == "kept"


class KeyConnector(SSHConnector):
    """A connection that only a key may open, whatever password the inventory holds."""

    tunnel: Channel | None = None  # which carries it, instead of a connection of its own

    def make_paramiko_kwargs(self) -> dict[str, Any]:
        """Return paramiko's arguments without any password."""
        arguments = {key: value for key, value in super().make_paramiko_kwargs().items() if key != "password"}
        extra = arguments["_pyinfra_ssh_paramiko_connect_kwargs"] or {}
        allowed = {key: value for key, value in extra.items() if key != "password"}
        through = {"sock": self.tunnel} if self.tunnel else {}
        return {**arguments, **through, "_pyinfra_ssh_paramiko_connect_kwargs": allowed}


class NewLogin:
    """A new connection to a host, the only proof that the host still lets us in.

    Raises ConnectError if it cannot be opened. A host that is not reached by SSH keeps its own connector.
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
        """Open a channel to a port of the node's loopback. Raise ConnectError if sshd forbids that."""
        client = self._connector.client if isinstance(self._connector, SSHConnector) else None
        transport = client.get_transport() if client else None
        if transport is None:
            raise ConnectError(f"{self._host.name} is not reached by SSH")
        try:
            places = ("127.0.0.1", port), ("127.0.0.1", 0)
            return transport.open_channel("direct-tcpip", *places, timeout=COMMAND_SECONDS)
        except SSHException as error:
            raise ConnectError(f"sshd forwards nothing ({error})") from error

    def run(self, text: str, *arguments: str) -> tuple[bool, str]:
        """Run a shell script with this operation's sudo; return whether it succeeded, and what it printed."""
        wanted = cast(dict[str, Any], self._host.current_op_global_arguments or {})
        given = cast(ConnectorArguments, {key: wanted[key] for key in CONNECTOR_ARGUMENT_KEYS if key in wanted})
        script = launcher.run_script(text, *arguments, seconds=COMMAND_SECONDS)
        launcher.equip(self._host, self._connector)
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
