"""The other nodes of the cluster, asked and told from within an operation of this one.

A fact on another host inherits nothing from this operation, least of all its sudo: that is passed on here.
"""

from __future__ import annotations

from typing import Any, TypeVar

from pyinfra.api import FactBase, Host, StringCommand
from pyinfra.api.exceptions import ConnectError
from pyinfra.context import host, state

Value = TypeVar("Value")


def _sudo() -> bool:
    arguments = host.current_op_global_arguments
    return bool(arguments and arguments.get("_sudo"))


def reached(peer: Host) -> bool:
    """Connect to another host, unless that is done; return whether it answers."""
    try:
        if not peer.connected:
            peer.connect(reason=f"for {host.name}", raise_exceptions=True)
    except ConnectError:
        return False
    return True


def peer_fact(peer: Host, fact: type[FactBase[Value]], **arguments: Any) -> Value | None:
    """Given another host, return a fact of it, or None where it cannot be reached."""
    if not reached(peer):
        return None
    return peer.get_fact(fact, **arguments, _sudo=_sudo())


def peer_run(peer: Host, command: StringCommand, shown: bool = False) -> tuple[bool, str]:
    """Run a command on another host; return whether it succeeded, and what it printed. `shown` also logs it."""
    if not reached(peer):
        return False, f"{peer.name} cannot be reached"
    arguments = {"_sudo": _sudo(), **command.connector_arguments}
    status, output = peer.run_shell_command(
        command, print_output=shown or state.print_output, print_input=state.print_input, **arguments
    )
    return status, output.output
