"""Earlier operations of the same run."""

from __future__ import annotations

from pyinfra.api.operation import OperationMeta
from pyinfra.context import state


def changes(earlier: OperationMeta) -> bool:
    """Return True if an earlier operation of this run changed something, or in a dry run would."""
    return bool(earlier.did_change() if state.is_executing else earlier.will_change)
