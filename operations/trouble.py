"""How an operation refuses: one line that the log, the pyinfra CLI and the gb10 command all understand.

The contract: every refusal prints `gb10: CODE: what happened`; CODE stands in the catalogue of gb10.controller.errors.
"""

from __future__ import annotations

from collections.abc import Generator

from pyinfra.api import FunctionCommand, Host, State
from pyinfra.context import host, state


def say(where: Host, code: str, message: str) -> None:
    """Log a refusal for one host."""
    where.log_styled(f"gb10: {code}: {' '.join(message.split())}", fg="red")


def refuse(code: str, message: str) -> Generator[FunctionCommand, None, None]:
    """Fail the operation on this host alone. A dry run says what would be refused, and goes on."""
    if state.is_executing:
        yield FunctionCommand(_refuse, (code, message), {})
    else:
        host.log_styled(f"would be refused: {code}: {' '.join(message.split())}", fg="yellow")


def _refuse(state: State, host: Host, code: str, message: str) -> bool:
    say(host, code, message)
    return False
