"""Facts to ask for, each with the type of its value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

Value = TypeVar("Value")


@dataclass(frozen=True)
class Ask(Generic[Value]):
    """A fact by the path of its class, "gb10.facts.file.SecretFile", and its arguments."""

    fact: str
    arguments: Mapping[str, Any] = field(default_factory=dict, compare=False)
    key: str = ""  # tells two asks of one fact apart

    def with_arguments(self, **arguments: Any) -> Ask[Value]:
        """Return the same ask with these arguments."""
        return Ask(self.fact, arguments, ", ".join(f"{name}={value!r}" for name, value in sorted(arguments.items())))

    def __str__(self) -> str:
        return f"{self.fact} ({self.key})" if self.key else self.fact
