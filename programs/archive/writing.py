"""Writes an archive to a stream, in one pass.

Its gzip stream has several parts, so that content that cannot be compressed costs no time.
"""

from __future__ import annotations

import io
import os
import struct
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, cast

from gb10.programs.answer import Outlet
from gb10.programs.archive.files import CHUNK, attributes, digest, kind_of, opened, stream_digest
from gb10.programs.archive.manifest import MANIFEST, OWN, ROOT, Manifest, Member, Note, Owner, shown

HELD_BYTES = 8 << 20  # in memory; a larger file is copied to the scratch folder first, since it may grow meanwhile
BLOCK = 1 << 18  # bytes that are compressed at a time
TRIES = 3
TAR_TYPES = {"f": tarfile.REGTYPE, "d": tarfile.DIRTYPE, "l": tarfile.SYMTYPE, "h": tarfile.LNKTYPE}
HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x04\xff"  # no name, no time, fast, on no system in particular
SAMPLE_BYTES = 1 << 13  # of each block, to find out if it can be compressed
WORTHWHILE = 0.95  # a sample is compressed to less than this of its size


class UnwritableError(Exception):
    """The archive itself, or a file in the scratch folder, cannot be written."""

    def __init__(self, error: OSError) -> None:
        super().__init__(str(error))
        self.errno = error.errno
        self.strerror = error.strerror


class Writer:
    """An archive that is being written to a stream. It is valid only after `close`, which writes the manifest.

    + scratch: a folder, closed to others, for files that are too large for memory
    + root: path of the node's root folder
    """

    def __init__(self, out: BinaryIO | Outlet, scratch: str, root: str = "/") -> None:
        self.members: dict[str, Member] = {}
        self.notes: list[Note] = []
        self._scratch = scratch
        self._root = root
        self._names: dict[tuple[int, int], str] = {}  # device and inode -> member
        self._zipped = Zipped(out)
        self._tar = tarfile.open(  # noqa: SIM115 - `close` closes it
            fileobj=cast(BinaryIO, self._zipped),
            mode="w|",
            bufsize=BLOCK,
            format=tarfile.PAX_FORMAT,
            encoding="utf-8",
            errors="surrogateescape",
        )

    def note(self, path: str, text: str, harms: bool = False) -> None:
        """Note a difference between the archive and the node."""
        self.notes.append(Note(path, text, harms))

    def add_tree(self, path: str, part: str, skip: Callable[[str], bool] = lambda path: False) -> None:
        """Add an absolute path with everything below it on the same file system. An absent one is left out."""
        waiting = [path]
        device = os.lstat(path).st_dev if os.path.lexists(path) else None
        while waiting:
            found = waiting.pop()
            if skip(found) or self.add(found, part) != "d":
                continue
            try:
                if os.lstat(found).st_dev != device:
                    self.note(found, "is another file system, of which only the folder is in the backup")
                    continue
                waiting += sorted((os.path.join(found, name) for name in os.listdir(found)), reverse=True)
            except FileNotFoundError:
                continue  # removed while we walk
            except OSError as error:
                self.note(found, f"cannot be listed: {error.strerror}", harms=True)

    def add(self, path: str, part: str, content_of: str | None = None) -> str:
        """Add an absolute path alone; return its type, or "" if nothing was added. Raise UnwritableError.

        + content_of: another file with the content: a consistent copy
        """
        name = f"{ROOT}/{os.path.relpath(path, self._root)}"
        if name in self.members:
            return self.members[name].type
        for last in (False,) * (TRIES - 1) + (True,):
            try:
                kind = self._try(name, path, content_of or path, part, last)
            except FileNotFoundError:
                return ""  # removed meanwhile
            except OSError as error:
                self.note(path, f"cannot be read: {error.strerror}", harms=True)
                return ""
            if kind is not None:
                return kind
        raise AssertionError("the last try returns")

    def add_text(self, name: str, text: str, part: str) -> None:
        """Add a description of the node under a name of our own."""
        content = text.encode("utf-8", "surrogateescape")
        root = Owner(0, 0, "root", "root")
        self._put(
            Member(f"{OWN}/{name}", part, "f", 0o600, root, 0, len(content), digest(content)), io.BytesIO(content)
        )

    def close(self, **about: Any) -> Manifest:
        """Write the manifest, with these fields besides members and notes, and end the archive."""
        manifest = Manifest(**about, members=tuple(self.members.values()), notes=tuple(self.notes))
        content = manifest.encoded()
        with _writing():
            self._tar.addfile(_header(MANIFEST, 0o600, len(content)), io.BytesIO(content))
            self._tar.close()
            self._zipped.end()
        return manifest

    def _try(self, name: str, path: str, source: str, part: str, last: bool) -> str | None:
        """Add one path; return its type, or None if its content changed meanwhile: then it is tried again."""
        found = os.lstat(path)
        kind = kind_of(found)
        if not kind:
            self.note(path, "is no file, folder or link, and was left out")
            return ""
        known = self._names.get((found.st_dev, found.st_ino)) if kind == "f" and found.st_nlink > 1 else None
        if known:
            kind = "h"
        target = os.readlink(path) if kind == "l" else known or ""
        member = {"path": name, "part": part, "type": kind, "target": target, **attributes(path, found)}
        if kind == "l" and Member(**member).is_climbing:
            self.note(path, f"is a link to {shown(target)}, which climbs above the root folder, and was left out")
            return ""
        if kind != "f":
            self._put(Member(**member))
            return kind
        if not self._put_content(member, path, source, last):
            return None
        self._names[found.st_dev, found.st_ino] = name
        return kind

    def _put_content(self, member: dict[str, Any], path: str, source: str, last: bool) -> bool:
        """Add a file with its content; return False if it changed meanwhile, unless this is the last try."""
        with opened(source) as file:
            before = os.fstat(file.fileno())
            content = self._held(file, before.st_size)
            after = os.fstat(file.fileno())
        with content:
            if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
                if not last:
                    return False
                self.note(path, "changed while it was read")
            size = content.seek(0, os.SEEK_END)
            sha256 = stream_digest(content)
            content.seek(0)
            self._put(Member(**member, size=size, sha256=sha256), content)
        return True

    def _held(self, file: BinaryIO, size: int) -> BinaryIO:
        """Read the bytes that a file had when it was opened: one that grows steadily has no end."""
        held = cast(BinaryIO, tempfile.SpooledTemporaryFile(HELD_BYTES, dir=self._scratch))  # noqa: SIM115 - returned
        while size > 0 and (chunk := file.read(min(CHUNK, size))):
            with _writing():
                held.write(chunk)
            size -= len(chunk)
        return held

    def _put(self, member: Member, content: BinaryIO | None = None) -> None:
        header = _header(member.path, member.mode, member.size)
        header.type = TAR_TYPES[member.type]
        header.linkname = member.target
        owner = member.owner
        header.uid, header.gid, header.uname, header.gname = owner.uid, owner.gid, owner.user, owner.group
        header.mtime = member.mtime // 10**9
        with _writing():
            self._tar.addfile(header, content)
        self.members[member.path] = member


@contextmanager
def _writing() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UnwritableError(error) from error


def _header(name: str, mode: int, size: int) -> tarfile.TarInfo:
    header = tarfile.TarInfo(name)
    header.mode, header.size = mode, size
    return header


class Zipped:
    """A stream that compresses what is written to it, in parts that follow one another."""

    def __init__(self, out: BinaryIO | Outlet) -> None:
        self._out = out
        self._level = -1  # of the open part; -1 if none is open
        self._crc = self._size = 0
        self._deflate = zlib.compressobj()

    def write(self, data: bytes) -> int:
        """Write data, compressed if a sample shows that this pays."""
        sample = data[:SAMPLE_BYTES]
        pays = len(data) < SAMPLE_BYTES or len(zlib.compress(sample, 1)) < SAMPLE_BYTES * WORTHWHILE
        if self._level != int(pays):
            self.end()
            self._begin(int(pays))
        self._crc = zlib.crc32(data, self._crc)
        self._size += len(data)
        self._out.write(self._deflate.compress(data))
        return len(data)

    def end(self) -> None:
        """End the open part."""
        if self._level >= 0:
            self._out.write(self._deflate.flush() + struct.pack("<LL", self._crc, self._size & 0xFFFFFFFF))
            self._level = -1

    def _begin(self, level: int) -> None:
        self._out.write(HEADER)
        self._level, self._crc, self._size = level, zlib.crc32(b""), 0
        self._deflate = zlib.compressobj(level, zlib.DEFLATED, -zlib.MAX_WBITS)
