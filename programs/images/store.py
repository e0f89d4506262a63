"""The store of images: a folder with blobs, and a record for each tag.

    blobs/sha256/HEX              layers, configurations and manifests, as the engine gave them
    images/TAG.json               the record of one tag, with the blobs it consists of; TAG is quoted as in a URL
    partial/ damaged/             blobs that are being written, and blobs whose content does not match their name

The contract: a blob gets its name only when it is complete and on the disk, and a record only when its blobs are.
So a kill at any time leaves an intact store, and the next save goes on with the complete blobs.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import IO
from urllib.parse import quote

from gb10.programs.answer import Outlet, RefusedError
from gb10.programs.digests import sha256_of_all
from gb10.programs.files import finish, free_bytes, is_short, rename, sha256_of
from gb10.programs.images.contents import BLOBS, HEX, Json, Record, blob_path

BUFFER_BYTES = 1 << 17  # larger buffers do not fit into the CPU's cache
LOCK_SECONDS = 20
SPARE_BYTES = 256 << 20  # room that must stay free


class Store:
    """The store in a folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._count = 0

    def create(self) -> None:
        self.root.mkdir(parents=True, exist_ok=True, mode=0o711)
        for name in (BLOBS, "images", "partial", "damaged"):
            (self.root / name).mkdir(parents=True, exist_ok=True)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes out during the block; remove what killed ones have left half written."""
        self.create()
        with (self.root / ".lock").open("w") as lock:
            deadline = time.monotonic() + LOCK_SECONDS
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise RefusedError("LOCKED", f"another gb10 works in {self.root}") from None
                    time.sleep(0.2)
            for left in (self.root / "partial").iterdir():
                left.unlink()
            yield

    def path(self, digest: str) -> Path:
        return self.root / blob_path(digest)

    def has(self, digest: str, size: int) -> bool:
        """Return True if there is a blob with this digest and size."""
        try:
            return self.path(digest).stat().st_size == size
        except FileNotFoundError:
            return False

    def blobs(self) -> dict[str, int]:
        """Return digest -> size in bytes of every blob, whether a record names it or not."""
        found = {}
        with os.scandir(self.root / BLOBS) as entries:
            for entry in entries:
                if HEX.fullmatch(entry.name) and entry.is_file():
                    found[f"sha256:{entry.name}"] = entry.stat().st_size
        return found

    def missing(self, record: Record) -> list[str]:
        return record.missing({digest: size for digest, size in record.blobs.items() if self.has(digest, size)})

    def records(self) -> tuple[dict[str, Record], list[str]]:
        """Return the records by tag, and the names of other files among them."""
        found, strange = {}, []
        for path in sorted((self.root / "images").glob("*.json")):
            try:
                record = Record.from_json(json.loads(path.read_text()))
                if path != self._record_path(record.tag):
                    raise ValueError("a record under the name of another")
                found[record.tag] = record
            except ValueError:
                strange.append(path.name)
        return found, strange

    def listing(self) -> Json | None:
        """Return the contents of the store, or None if there is no store."""
        if not (self.root / BLOBS).is_dir():
            return None
        records, strange = self.records()
        return {
            "images": [record.to_json() for record in records.values()],
            "blobs": self.blobs(),
            "strange": strange,
            "damaged": [],
            "set_aside_bytes": sum(path.stat().st_size for path in (self.root / "damaged").glob("*")),
            "free_bytes": free_bytes(self.root),
        }

    def damaged(self, digests: Iterable[str]) -> list[str]:
        """Read these blobs; return those whose content does not match their digest."""
        names = sorted(set(digests) & self.blobs().keys())
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            found = pool.map(lambda name: f"sha256:{sha256_of(self.path(name))}", names)
            return [name for name, digest in zip(names, found, strict=True) if digest != name]

    def changed(self, outlet: Outlet) -> list[str]:
        """Return all damaged blobs. A blob that has not changed since it was last read is not read again."""
        paths = {str(self.path(name)): name for name in self.blobs()}
        return sorted(
            paths[path] for path, found in sha256_of_all(paths, outlet).items() if paths[path] != f"sha256:{found}"
        )

    def add(self, source: IO[bytes], size: int, digest: str | None = None) -> str:
        """Read a blob from a stream; return its digest. Raise RefusedError if another one was expected."""
        with self._partial() as partial:
            found = hashlib.sha256()
            with partial.open("xb") as file:
                for chunk in chunks(source, size):
                    found.update(chunk)
                    file.write(chunk)
                name = f"sha256:{found.hexdigest()}"
                if digest not in (None, name):
                    raise RefusedError("IMAGE_SAVE_FAILED", f"the engine gave {name} where {digest} belongs")
                finish(file, partial, self.path(name))
        return name

    def write_record(self, record: Record) -> None:
        """Write the record of an image. Raise RefusedError if a blob is missing."""
        if missing := self.missing(record):
            raise RefusedError("IMAGE_INCOMPLETE", f"{record.tag}: the store lacks {', '.join(missing)}")
        with self._partial() as partial, partial.open("x") as file:
            json.dump(record.to_json(), file, indent=1, sort_keys=True)
            finish(file, partial, self._record_path(record.tag))

    def put_aside(self, digest: str) -> None:
        """Move a damaged blob to another folder: from now on it is missing."""
        rename(self.path(digest), self.root / "damaged" / digest.removeprefix("sha256:"))

    def _record_path(self, tag: str) -> Path:
        name = quote(tag, safe="")
        if len(name) > 200:  # the length of file names is limited
            name = f"{name[:120]}-{hashlib.sha256(tag.encode()).hexdigest()}"
        return self.root / "images" / f"{name}.json"

    @contextmanager
    def _partial(self) -> Iterator[Path]:
        self._count += 1
        partial = self.root / "partial" / f"{os.getpid()}-{self._count}"
        try:
            yield partial
        finally:
            partial.unlink(missing_ok=True)


def chunks(source: IO[bytes], size: int) -> Iterator[bytes]:
    """Yield this many bytes of a stream. Raise EOFError if it ends before."""
    while size:
        chunk = source.read(min(BUFFER_BYTES, size))
        if not chunk:
            raise EOFError("the stream ends within a file")
        size -= len(chunk)
        yield chunk


def check_room(folder: str | PathLike[str], free: int, needed: int, what: str = "are needed") -> None:
    """Raise RefusedError if a folder with this many free bytes has no room for those needed."""
    if is_short(free, needed, SPARE_BYTES):
        raise RefusedError("DISK_FULL", f"{folder} has {amount(free)} free; {amount(needed)} {what}")


def amount(count: int) -> str:
    """Return a number of bytes as text: 1.5 GB."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
