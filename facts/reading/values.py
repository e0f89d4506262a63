"""The base of all values of facts."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class FactValue:
    """A typed result of a fact. The pyinfra CLI prints it by `to_json`."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)
