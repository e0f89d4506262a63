"""The lines of a program's answer, among all that a login shell prints.

The contract: a line counts only if it begins with the random mark of the request; sizes are bounded before anything is
unpacked.
"""

from __future__ import annotations

import base64
import binascii
import json
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


class FloodError(Exception):
    """A node sent more than it may."""


class FrameError(Exception):
    """A node sent a line with the right mark that is no answer."""


@dataclass
class Answer:
    """The answer of a program, or its refusal. `others` are lines that are not ours."""

    mark: str
    limit_bytes: int
    told: Callable[[dict[str, Any]], None] = lambda details: None
    value: Any = None
    complete: bool = False
    refusal: tuple[str, str] | None = None
    others: list[str] = field(default_factory=list)

    def hear(self, line: str) -> None:
        """Take in a line. Raise FrameError or FloodError for one that cannot be ours."""
        line = line.rstrip("\r\n")
        if not line.startswith(f"{self.mark} "):
            if line.strip():
                self.others.append(line)
            return
        kind, _, text = line.removeprefix(f"{self.mark} ").partition(" ")
        value = self._value(kind, text)
        match kind.removesuffix("/deflated"), value:
            case "report", dict():
                self.told(value)
            case "refused", [str(code), str(reason)]:
                self.refusal = (code, reason)
            case "answer", _:
                self.value, self.complete = value, True
            case _:
                raise FrameError(f"no answer has the form of {kind}")

    def _value(self, kind: str, text: str) -> Any:
        try:
            return json.loads(self._inflated(text) if kind.endswith("/deflated") else text)
        except (ValueError, RecursionError, binascii.Error, zlib.error) as error:
            raise FrameError(str(error)) from error

    def _inflated(self, text: str) -> bytes:
        inflater = zlib.decompressobj()
        content = inflater.decompress(base64.b64decode(text, validate=True), self.limit_bytes)
        if not inflater.eof:
            raise FloodError(f"its answer is longer than {self.limit_bytes} bytes, or cut off")
        return content
