"""Writing an archive, to a stream and in one pass."""

from __future__ import annotations

import os
import tarfile
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, cast

from gb10.programs.archive import files
from gb10.programs.archive.files import CHUNK, attributes, digest, kind_of, stream_digest
from gb10.programs.archive.manifest import MANIFEST, OWN, ROOT, Manifest, Member, Note, Owner, shown
from gb10.programs.archive.places import climbs
from gb10.programs.archive.zipping import Sink, Zipped

HELD_BYTES = 8 << 20  # larger files go by way of a file, so that one that grows does not end up torn
BLOCK = 1 << 18  # bytes that are compressed at a time
TRIES = 3
TAR_TYPES = {"f": tarfile.REGTYPE, "d": tarfile.DIRTYPE, "l": tarfile.SYMTYPE, "h": tarfile.LNKTYPE}


class UnwritableError(Exception):
    """An archive cannot be written: not the fault of what is put into it."""

    def __init__(self, error: OSError) -> None:
        super().__init__(str(error))
        self.errno = error.errno
        self.strerror = error.strerror


class Writer:
    """An archive that is being written to a stream. Without `close` it has no manifest, and nobody accepts it.

    + scratch: a folder, closed to others, for files that are too large to be held
    + root: the node's root folder, as seen from here
    """

    def __init__(self, out: Sink, scratch: str, root: str = "/") -> None:
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
        """Write down what is not in the archive as it is on the node."""
        self.notes.append(Note(path, text, harms))

    def add_tree(self, path: str, part: str, skip: Callable[[str], bool] = lambda path: False) -> None:
        """Given an absolute path, add it with all below it, on its own file system. What is absent is left out."""
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
        """Given an absolute path, add it alone; return its type, "" if nothing was added.

        Raise UnwritableError if the archive, or what is held in the scratch folder, cannot be written.

        With `content_of` the content is that of another file: a consistent copy of one that changes.
        """
        name = f"{ROOT}/{os.path.relpath(path, self._root)}"
        if name in self.members:
            return self.members[name].type
        for last in (False,) * (TRIES - 1) + (True,):
            try:
                kind = self._try(name, path, content_of or path, part, last)
            except FileNotFoundError:
                return ""  # removed while we look: then it is not on the node
            except OSError as error:
                self.note(path, f"cannot be read: {error.strerror}", harms=True)
                return ""
            if kind is not None:
                return kind
        raise AssertionError("the last try returns")

    def add_text(self, name: str, text: str, part: str) -> None:
        """Add what was written down about the node, under a name of our own."""
        content = text.encode("utf-8", "surrogateescape")
        root = Owner(0, 0, "root", "root")
        self._put(Member(f"{OWN}/{name}", part, "f", 0o600, root, 0, len(content), digest(content)), [content])

    def close(self, **about: Any) -> Manifest:
        """Write the manifest, whose fields are given except members and notes, and so complete the archive."""
        manifest = Manifest(**about, members=tuple(self.members.values()), notes=tuple(self.notes))
        content = manifest.encoded()
        with _writing():
            self._tar.addfile(_header(MANIFEST, 0o600, len(content)), _Chunks([content]))
            self._tar.close()
            self._zipped.end()
        return manifest

    def _try(self, name: str, path: str, source: str, part: str, last: bool) -> str | None:
        """Add one path; return its type, or None if its content changed meanwhile and is to be read again."""
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
        if kind == "l" and climbs(Member(**member)):
            self.note(path, f"is a link to {shown(target)}, which climbs above the root folder, and was left out")
            return ""
        if kind != "f":
            self._put(Member(**member), [])
            return kind
        if not self._put_content(member, path, source, last):
            return None
        self._names[found.st_dev, found.st_ino] = name
        return kind

    def _put_content(self, member: dict[str, Any], path: str, source: str, last: bool) -> bool:
        """Add a file with its content; return False if that changed meanwhile, unless this is the last try."""
        with files.opened(source) as file:
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
            self._put(Member(**member, size=size, sha256=sha256), iter(lambda: content.read(CHUNK), b""))
        return True

    def _held(self, file: BinaryIO, size: int) -> BinaryIO:
        """Read as much as a file had when it was opened: one that somebody goes on writing to has no end."""
        held = cast(BinaryIO, tempfile.SpooledTemporaryFile(HELD_BYTES, dir=self._scratch))  # noqa: SIM115 - returned
        while size > 0 and (chunk := file.read(min(CHUNK, size))):
            with _writing():
                held.write(chunk)
            size -= len(chunk)
        return held

    def _put(self, member: Member, content: Iterable[bytes]) -> None:
        header = _header(member.path, member.mode, member.size)
        header.type = TAR_TYPES[member.type]
        header.linkname = member.target
        owner = member.owner
        header.uid, header.gid, header.uname, header.gname = owner.uid, owner.gid, owner.user, owner.group
        header.mtime = member.mtime // 10**9
        with _writing():
            self._tar.addfile(header, _Chunks(content) if member.type == "f" else None)
        self.members[member.path] = member


@contextmanager
def _writing() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UnwritableError(error) from error


class _Chunks:
    """Chunks as a file that tarfile reads."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._rest = b""

    def read(self, size: int = CHUNK) -> bytes:
        while len(self._rest) < size and (chunk := next(self._chunks, b"")):
            self._rest += chunk
        given, self._rest = self._rest[:size], self._rest[size:]
        return given


def _header(name: str, mode: int, size: int) -> tarfile.TarInfo:
    header = tarfile.TarInfo(name)
    header.mode, header.size = mode, size
    return header
