"""Requests to run a program on a node, and its answer.

Text and job travel on standard input; the command line holds a fixed loader alone. The program runs with LC_ALL=C.UTF-8
and the system's PATH, for a limited time and with limited memory, and ends when the connection does. Its answer comes
on lines that begin with a random mark of the request: nothing that a login shell prints is taken for it. Its size is
checked before anything is unpacked.
"""

from __future__ import annotations

import ast
import base64
import binascii
import functools
import json
import secrets
import shlex
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

LOADER = "import json,sys;exec(json.loads(sys.stdin.buffer.readline()))"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PROGRAMS = "gb10.programs"
SECTIONS = f"{PROGRAMS}.sections:main"
CONFINED = f"{PROGRAMS}.confined"
# Rooms whose programs work in folders of others: no request without `guarded`.
IN_FOLDERS = tuple(f"{PROGRAMS}.{room}." for room in ("backups", "copying", "images", "tree"))
SECONDS = 60
MEMORY_BYTES = 2 << 30
ANSWER_BYTES = 64 << 20
KILL_SECONDS = 15  # from the end of its time until a program is killed
# An answer takes far more memory as objects than as text: a long one has at most one value in so many bytes.
FREE_VALUES, VALUE_BYTES = 1 << 19, 12
MOST_INFLATED = 32  # times, beyond ANSWER_BYTES


class Request:
    """A request to run a function of a program on a node: a command line and what follows on standard input.

    + function: "gb10.programs.images.listing:main"
    + job: what the function gets: a JSON object; it may hold secrets
    + seconds: how long it may take
    + on_report: called with what the program reports while it runs
    + guarded: paths at which the program works and others than root may write: it follows no link there. HOMES in
      gb10.programs.confined stands for the homes of all people
    """

    def __init__(
        self,
        function: str,
        job: Mapping[str, Any],
        *,
        seconds: int = SECONDS,
        memory_bytes: int = MEMORY_BYTES,
        answer_bytes: int = ANSWER_BYTES,
        streams: bool = False,
        on_report: Callable[[dict[str, Any]], None] = lambda details: None,
        guarded: Sequence[str] = (),
    ) -> None:
        if function.startswith(IN_FOLDERS) and not guarded:
            raise ValueError(f"{function} works in folders of others: name them as guarded")
        self.function = function
        self.job = job
        self.seconds = seconds
        self.answer_bytes = answer_bytes
        self.guarded = guarded
        self.on_report = on_report
        self.mark = f"gb10-{secrets.token_hex(12)}"
        request = {
            "mark": self.mark,
            "modules": texts(function.partition(":")[0]) | (texts(CONFINED) if guarded else {}),
            "function": function,
            "job": job,
            "memory_bytes": memory_bytes,
            "answer_bytes": answer_bytes,
            "streams": streams,
            "guarded": list(guarded),
        }
        self.text = f"{json.dumps(_bootstrap())}\n{json.dumps(request)}\n"
        limit = f"timeout --kill-after={KILL_SECONDS} {seconds}"
        self.line = f"exec env PATH={PATH} LC_ALL=C.UTF-8 {limit} python3 -I -S -B -c {shlex.quote(LOADER)}"

    def answer(self) -> Answer:
        """Return an object that takes in the lines of the answer."""
        return Answer(self.mark, self.answer_bytes, self.on_report)

    def read(self, output: str) -> Any:
        """Given all that the command printed, return the answer. Raise FrameError or FloodError for anything else."""
        answer = self.answer()
        for line in output.split("\n"):
            answer.read_line(line)
        if not answer.complete:
            raise FrameError(answer.refusal[1] if answer.refusal else "it does not answer")
        return answer.value


@functools.cache
def _bootstrap() -> str:
    return files(PROGRAMS).joinpath("bootstrap.py").read_text()


@functools.cache
def texts(module: str) -> dict[str, str]:
    """Given a module of gb10.programs, return name -> text of it and of all that it imports from there."""
    found: dict[str, str] = {}
    left = [module, f"{PROGRAMS}.answer"]
    while left:
        name = left.pop()
        if name in found or not (text := _text(name)):
            continue
        found[name] = text
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(PROGRAMS):
                left += [str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)]
    return dict(sorted(found.items()))


@functools.cache
def _text(module: str) -> str:
    """The text of a module of gb10.programs; empty for a package, and for a name in a module."""
    place = files(PROGRAMS).joinpath(*module.removeprefix(PROGRAMS).strip(".").split("."))
    path = place.parent.joinpath(f"{place.name}.py") if hasattr(place, "parent") else place
    return path.read_text() if path.is_file() else ""


def sections_job(commands: Mapping[str, str], files: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Given shell commands and paths by name, return the job of SECTIONS, which reads all of them."""
    return {"commands": dict(commands), "files": dict(files or {})}


class FloodError(Exception):
    """A node sent more than it may."""


class FrameError(Exception):
    """A node sent a line with the right mark that is no answer."""


@dataclass
class Answer:
    """The answer of a program, or its refusal. `others` are lines that are not ours."""

    mark: str
    limit_bytes: int
    on_report: Callable[[dict[str, Any]], None] = lambda details: None
    value: Any = None
    complete: bool = False
    refusal: tuple[str, str] | None = None
    others: list[str] = field(default_factory=list)

    def read_line(self, line: str) -> None:
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
                self.on_report(value)
            case "refused", [str(code), str(reason)]:
                self.refusal = (code, reason)
            case "answer", _:
                self.value, self.complete = value, True
            case _:
                raise FrameError(f"no answer has the form of {kind}")

    def _value(self, kind: str, text: str) -> Any:
        try:
            document = self._inflated(text) if kind.endswith("/deflated") else text
            if sum(map(document.count, "[{,")) > FREE_VALUES + len(document) // VALUE_BYTES:
                raise FloodError("its answer has too many values")
            return json.loads(document)
        except (ValueError, RecursionError, binascii.Error, zlib.error) as error:
            raise FrameError(str(error)) from error

    def _inflated(self, text: str) -> str:
        inflater, packed = zlib.decompressobj(), base64.b64decode(text, validate=True)
        limit = min(self.limit_bytes, ANSWER_BYTES + MOST_INFLATED * len(packed))
        content = inflater.decompress(packed, limit)
        if not inflater.eof:
            raise FloodError(f"its answer is longer than {limit} bytes, or cut off")
        return content.decode()
