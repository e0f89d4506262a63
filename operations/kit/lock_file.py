"""gb10.lock: the digests of what was downloaded, by name. It lies beside the inventory, for version control.

The contract: a file that is not understood is refused by name, and never written.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit, urlunsplit

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from gb10.group_data.settings import Digest
from gb10.operations.kit.files import write_atomically
from gb10.programs.answer import RefusedError

FILE = "gb10.lock"
LARGEST_BYTES = 1 << 20
MODE = 0o644  # of a new file: nothing in it is secret

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.:@+/-]{1,300}$")]
Source = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f-\x9f]{1,2000}$")]


class Locked(BaseModel):
    """What was downloaded at the first use of a name."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sha256: Digest
    source: Source  # where it came from


class _Content(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    version: Literal[1]
    pins: dict[Name, Locked]


def k3s_name(version: str, file: str) -> str:
    """Return the name of a file of a K3s release; the binary's is its architecture."""
    return f"k3s/{version}/{file}"


def helm_name(version: str, architecture: str) -> str:
    """Return the name of helm's archive."""
    return f"helm/{version}/{architecture}"


def chart_name(chart: str, version: str) -> str:
    """Return the name of a chart's archive."""
    return f"chart/{chart}/{version}"


def image_name(tag: str) -> str:
    """Return the name of a container image."""
    return f"image/{tag}"


def beside(inventory: str) -> Path:
    """Return the lock file of an inventory: beside it, or in the current folder if the inventory is no file."""
    path = Path(inventory)
    return path.parent / FILE if path.is_file() else Path(FILE)


def without_login(source: str) -> str:
    """Return a URL without user, password and query. A path stays as it is."""
    parts = urlsplit(source)
    if not parts.netloc:
        return source
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def read(path: Path) -> dict[str, Locked]:
    """Return the pins of a lock file by name; none if there is no file. Raise RefusedError for a broken one."""
    try:
        with path.open("rb") as file:
            text = file.read(LARGEST_BYTES + 1)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise _unusable(path, f"cannot be read: {error.strerror}") from error
    if len(text) > LARGEST_BYTES:
        raise _unusable(path, f"has more than {LARGEST_BYTES} bytes")
    try:
        return _Content.model_validate(json.loads(text, object_pairs_hook=_each_once)).pins
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        raise _unusable(path, f"is broken: {'.'.join(map(str, first['loc']))!r}: {first['msg']}") from error
    except (ValueError, RecursionError) as error:
        raise _unusable(path, f"is broken: {error}") from error


def record(path: Path, name: str, found: Locked) -> Locked:
    """Pin what was found, unless the name has a pin. Return the pin that stands."""
    with _changing(path) as pins:
        return pins.setdefault(name, found)


def forget(path: Path, names: Iterable[str]) -> None:
    """Remove pins, so that the next use of each name records it anew."""
    with _changing(path) as pins:
        for name in names:
            pins.pop(name, None)


def _each_once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object. Raise ValueError for a key that stands there twice, as after a careless merge."""
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"{next(key for key in keys if keys.count(key) > 1)!r} stands there twice")
    return found


@contextmanager
def _changing(path: Path) -> Iterator[dict[str, Locked]]:
    """Yield the pins for changes, and write them. No other process changes them meanwhile."""
    folder = path.resolve().parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise _unusable(path, f"cannot be written: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        pins = read(path)
        before = dict(pins)
        yield pins
        if pins != before:
            _write(path, pins)
    finally:
        os.close(descriptor)


def _write(path: Path, pins: dict[str, Locked]) -> None:
    try:
        content = _Content(version=1, pins=dict(sorted(pins.items()))).model_dump()
        write_atomically(path, json.dumps(content, indent=2) + "\n", None if path.exists() else MODE)
    except ValidationError as error:
        raise _unusable(path, "takes no such name or source as that of this download") from error
    except OSError as error:
        raise _unusable(path, f"cannot be written: {error.strerror}") from error


def _unusable(path: Path, why: str) -> RefusedError:
    return RefusedError("PINS_UNUSABLE", f"{path} {why}")
