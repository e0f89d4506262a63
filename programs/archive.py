"""The format of a backup: one gzipped tar whose last member, MANIFEST.json, says what all the others must be.

This file also runs on the nodes, as text for their own python3 (3.10 or newer): standard library only.

    root/etc/hostname    a file of the node, under its own path
    gb10/packages.txt    what was written down about the node
    MANIFEST.json        every member with type, mode, owner, time, size and sha256; the node; what was left out

The contract: what `unpack` or `check` accept without raising ArchiveError is, member by member, what was put in.
Nothing is ever written outside the folder, whatever an archive says. Unpacked files are 0600 in 0700 folders unless
their own attributes are asked for: a manifest keeps those.
"""

from __future__ import annotations

import base64
import calendar
import grp
import gzip
import hashlib
import json
import os
import pwd
import re
import stat
import struct
import tarfile
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from typing import Any, BinaryIO, cast

FORMAT = 1
MANIFEST = "MANIFEST.json"
ROOT = "root"  # the room of the node's own files
OWN = "gb10"  # the room of what was written down about it
PARTS = ("identity", "users", "network", "docker", "k3s", "system", "serving", "inventory-of", "extra")
ID = re.compile(r"(?P<node>[A-Za-z0-9][A-Za-z0-9._-]*)-(?P<when>\d{8}T\d{6}Z)")
GZIP_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x04\xff"  # no name, no time, fast, on no system in particular
HELD_BYTES = 8 << 20  # larger files go by way of a file, so that one that grows does not end up torn
CHUNK = 1 << 20
BLOCK = 1 << 18  # what is gzipped at a time
SAMPLE_BYTES = 1 << 13  # by which is told whether that pays
MANIFEST_BYTES = 256 << 20  # nothing that calls itself a manifest is read beyond that
TRIES = 3
TYPES = {"f": "file", "d": "folder", "l": "link", "h": "further name"}


class ArchiveError(Exception):
    """A backup that is refused: a code of the catalogue, and the reason in words."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class UnwritableError(Exception):
    """An archive cannot be written: not the fault of what is put into it."""

    def __init__(self, error: OSError) -> None:
        super().__init__(str(error))
        self.errno = error.errno
        self.strerror = error.strerror


@dataclass(frozen=True)
class Member:
    """One member. Paths and owners may hold any bytes: they are text with surrogate escapes."""

    path: str  # in the archive: root/etc/hostname
    part: str
    type: str  # f, d, l (a symbolic link), or h (a further name of a file before it)
    mode: int
    uid: int
    gid: int
    user: str  # "" where the node has no name for the number
    group: str
    mtime: int  # nanoseconds since the epoch
    size: int = 0  # bytes of a file
    sha256: str = ""  # of a file
    target: str = ""  # where a link leads; of a further name, the member that has the content
    xattrs: Mapping[str, str] = field(default_factory=dict)  # name -> content in base64

    @property
    def node_path(self) -> str | None:
        """The path on the node, or None for what only describes it."""
        return self.path.removeprefix(ROOT) if self.path.startswith(f"{ROOT}/") else None


@dataclass(frozen=True)
class Note:
    """What is not in the backup as it is on the node. `harms`: with it, nobody may call the backup complete."""

    path: str
    text: str
    harms: bool = False


@dataclass(frozen=True)
class Manifest:
    """What a backup holds, and of which node. `about` is told by whoever made it; see programs/backups/maker.py."""

    id: str
    node: str
    created: str  # UTC: 2026-11-23T20:15:00Z
    about: Mapping[str, Any]
    members: tuple[Member, ...]
    notes: tuple[Note, ...] = ()
    format: int = FORMAT

    @property
    def parts(self) -> tuple[str, ...]:
        """The parts that have members, in the order of PARTS."""
        there = {member.part for member in self.members}
        return tuple(part for part in PARTS if part in there)

    def encoded(self) -> bytes:
        """The manifest as it stands in the archive: equal manifests have equal bytes."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":")).encode() + b"\n"

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.encoded()).hexdigest()


def decoded(content: bytes) -> Manifest:
    """Given the bytes of a manifest, return it. Raise ArchiveError for anything else, and for a newer format."""
    try:
        found = json.loads(content)
        version = found["format"]
        if not isinstance(version, int) or version > FORMAT:
            raise ArchiveError(
                "BACKUP_NEWER", f"its format is version {version!r}, and this gb10 knows {FORMAT}: install a newer one"
            )
        members = tuple(Member(**member) for member in found.pop("members"))
        notes = tuple(Note(**note) for note in found.pop("notes"))
        manifest = Manifest(**found, members=members, notes=notes)
        same = manifest.encoded() == content and _is_plain(manifest)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise damaged(f"its manifest cannot be read ({type(error).__name__})") from None
    if not same:
        raise damaged("its manifest is not as it was written")
    return manifest


def _is_plain(manifest: Manifest) -> bool:
    """Whether everything in a manifest is of the type that a writer gives it. It may raise what `decoded` catches."""
    names = {member_field.name: _FIELDS[str(member_field.type)] for member_field in fields(Member)}
    for member in manifest.members:
        for content in member.xattrs.values():
            base64.b64decode(content, validate=True)
        if not all(type(getattr(member, name)) is kind for name, kind in names.items()):
            return False
    notes = all(isinstance(note.path, str) and isinstance(note.text, str) for note in manifest.notes)
    told = all(isinstance(text, str) for text in (manifest.id, manifest.node, manifest.created))
    return notes and told and _is_about(manifest.about)


_FIELDS: Mapping[str, type] = {"str": str, "int": int, "Mapping[str, str]": dict}


def _is_about(about: Any) -> bool:
    """Whether what is told of a node has the shape that its maker gave it: lists and names where they are read."""
    if not isinstance(about, dict):
        return False
    machine, versions, cluster = (about.get(name) or {} for name in ("machine", "versions", "cluster"))
    if not all(isinstance(one, dict) for one in (machine, versions, cluster)):
        return False
    macs, lists = machine.get("macs") or {}, [names for names in cluster.values() if isinstance(names, list)]
    words = [machine.get("architecture"), machine.get("machine_id"), versions.get("k3s"), about.get("role")]
    words += macs.values() if isinstance(macs, dict) else [macs]
    words += [name for names in lists for name in names]
    return len(lists) == len(cluster) and all(word is None or isinstance(word, str) for word in words)


def seconds(created: str) -> float:
    """Given when a backup was created, return seconds since the epoch. Raise ValueError for anything else."""
    return float(calendar.timegm(time.strptime(created, "%Y-%m-%dT%H:%M:%SZ")))


def damaged(reason: str) -> ArchiveError:
    """The refusal of an archive that is not what somebody made."""
    return ArchiveError("BACKUP_DAMAGED", reason)


# Writing --------------------------------------------------------------------------------------------------------------


class Writer:
    """An archive that is being written to a stream. Without `close` it has no manifest, and nobody accepts it.

    + scratch: a folder, closed to others, for files that are too large to be held
    + root: the node's root folder, as seen from here
    """

    def __init__(self, out: BinaryIO, scratch: str, root: str = "/") -> None:
        self.members: dict[str, Member] = {}
        self.notes: list[Note] = []
        self._scratch = scratch
        self._root = root
        self._names: dict[tuple[int, int], str] = {}  # device and inode -> member
        self._zipped = _Zipped(out)
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
        """Given an absolute path, add it alone; return its type, "" where nothing was added.

        Raise UnwritableError where the archive, or what is held in the scratch folder, cannot be written.

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
        member = Member(f"{OWN}/{name}", part, "f", 0o600, 0, 0, "root", "root", 0, len(content), digest(content))
        self._put(member, [content])

    def close(self, **about: Any) -> Manifest:
        """Write the manifest, whose fields are given but for members and notes, and so complete the archive."""
        manifest = Manifest(**about, members=tuple(self.members.values()), notes=tuple(self.notes))
        content = manifest.encoded()
        with _writing():
            self._tar.addfile(_header(MANIFEST, 0o600, len(content)), _Chunks([content]))
            self._tar.close()
            self._zipped.end()
        return manifest

    def _try(self, name: str, path: str, source: str, part: str, last: bool) -> str | None:
        """Add one path; return its type, or None where its content changed under our hands, and is to be read again."""
        found = os.lstat(path)
        kind = next((kind for kind, test in _TESTS if test(found.st_mode)), "")
        if not kind:
            self.note(path, "is no file, folder or link, and was left out")
            return ""
        known = self._names.get((found.st_dev, found.st_ino)) if kind == "f" and found.st_nlink > 1 else None
        if known:
            kind = "h"
        target = os.readlink(path) if kind == "l" else known or ""
        member = {"path": name, "part": part, "type": kind, "target": target, **_attributes(path, found)}
        if kind == "l" and climbs(Member(**member)):
            self.note(path, f"is a link to {shown(target)}, which climbs above the root folder, and was left out")
            return ""
        if kind != "f":
            self._put(Member(**member), [])
            return kind
        with _opened(source) as file:
            before = os.fstat(file.fileno())
            content = self._content(file, before.st_size)
            after = os.fstat(file.fileno())
            settled = (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns)
            if not settled and not last:
                return None
            if not settled:
                self.note(path, "changed while it was read")
            with content:
                size = content.seek(0, os.SEEK_END)
                sha256 = stream_digest(content)
                content.seek(0)
                self._put(Member(**member, size=size, sha256=sha256), iter(lambda: content.read(CHUNK), b""))
        self._names[found.st_dev, found.st_ino] = name
        return kind

    def _content(self, file: BinaryIO, size: int) -> BinaryIO:
        """Read as much as a file had when it was opened: one that somebody goes on writing to has no end."""
        held = cast(BinaryIO, tempfile.SpooledTemporaryFile(HELD_BYTES, dir=self._scratch))  # noqa: SIM115 - returned
        while size > 0 and (chunk := file.read(min(CHUNK, size))):
            with _writing():
                held.write(chunk)
            size -= len(chunk)
        return held

    def _put(self, member: Member, content: Any) -> None:
        header = _header(member.path, member.mode, member.size)
        header.type = _TAR_TYPES[member.type]
        header.linkname = member.target
        header.uid, header.gid, header.uname, header.gname = member.uid, member.gid, member.user, member.group
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


class _Zipped:
    """A stream that is gzipped: in pieces, one after the other, so that what is random costs no time."""

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self._level = -1  # of the piece that is open; less than 0 where none is
        self._crc = self._size = 0
        self._deflate = zlib.compressobj()

    def write(self, data: bytes) -> int:
        level = 1 if len(data) < SAMPLE_BYTES or len(zlib.compress(data[:SAMPLE_BYTES], 1)) < SAMPLE_BYTES * 0.95 else 0
        if level != self._level:
            self.end()
            self._begin(level)
        self._crc = zlib.crc32(data, self._crc)
        self._size += len(data)
        self._out.write(self._deflate.compress(data))
        return len(data)

    def end(self) -> None:
        """Write the end of the piece."""
        if self._level >= 0:
            self._out.write(self._deflate.flush() + struct.pack("<LL", self._crc, self._size & 0xFFFFFFFF))
            self._level = -1

    def _begin(self, level: int) -> None:
        self._out.write(GZIP_HEADER)
        self._level, self._crc, self._size = level, zlib.crc32(b""), 0
        self._deflate = zlib.compressobj(level, zlib.DEFLATED, -zlib.MAX_WBITS)


class _Chunks:
    """Chunks as a file that tarfile reads."""

    def __init__(self, chunks: Any) -> None:
        self._chunks = iter(chunks)
        self._rest = b""

    def read(self, size: int = CHUNK) -> bytes:
        while len(self._rest) < size and (chunk := next(self._chunks, b"")):
            self._rest += chunk
        given, self._rest = self._rest[:size], self._rest[size:]
        return given


_TESTS = (("f", stat.S_ISREG), ("d", stat.S_ISDIR), ("l", stat.S_ISLNK))
_TAR_TYPES = {"f": tarfile.REGTYPE, "d": tarfile.DIRTYPE, "l": tarfile.SYMTYPE, "h": tarfile.LNKTYPE}


def _header(name: str, mode: int, size: int) -> tarfile.TarInfo:
    header = tarfile.TarInfo(name)
    header.mode, header.size = mode, size
    return header


def _attributes(path: str, found: os.stat_result) -> dict[str, Any]:
    return {
        "mode": stat.S_IMODE(found.st_mode),
        "uid": found.st_uid,
        "gid": found.st_gid,
        "user": _named(lambda: pwd.getpwuid(found.st_uid).pw_name),
        "group": _named(lambda: grp.getgrgid(found.st_gid).gr_name),
        "mtime": found.st_mtime_ns,
        "xattrs": extended(path),
    }


def _named(look: Callable[[], str]) -> str:
    try:
        return look()
    except KeyError:
        return ""


def extended(path: str) -> dict[str, str]:
    """Given a path, return its extended attributes: ACLs and capabilities are such. A link is not followed."""
    try:
        names = os.listxattr(path, follow_symlinks=False)
        return {name: _base64(os.getxattr(path, name, follow_symlinks=False)) for name in sorted(names)}
    except OSError:  # a file system without any
        return {}


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _opened(path: str) -> BinaryIO:
    """Open without following a link, and without waiting for the other end of what became a pipe meanwhile."""
    return os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb")


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def stream_digest(stream: BinaryIO) -> str:
    """The sha256 of all that a stream holds, from its beginning."""
    stream.seek(0)
    found = hashlib.sha256()
    while chunk := stream.read(CHUNK):
        found.update(chunk)
    return found.hexdigest()


def sync_folder(path: str) -> None:
    """Have the names in a folder on the disk."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def file_digest(path: str) -> str:
    """The sha256 of a file."""
    with open(path, "rb") as file:
        return stream_digest(file)


# Reading --------------------------------------------------------------------------------------------------------------


def check(stream: BinaryIO) -> Manifest:
    """Read an archive whole, and return its manifest. Raise ArchiveError where it is not what somebody made."""
    return _read(stream, None)


def unpack(stream: BinaryIO, folder: str, attributes: bool = False) -> Manifest:
    """Unpack an archive into a folder that is empty or absent, and return its manifest.

    + attributes: give members their own mode, time, extended attributes and, as root, owner

    Raise ArchiveError where it is not what somebody made: then what is in the folder is worth nothing. Raise OSError
    where there is no room.
    """
    os.makedirs(folder, 0o700, exist_ok=True)
    if os.listdir(folder):
        raise FileExistsError(f"{folder} is not empty")
    os.chmod(folder, 0o700)
    manifest = _read(stream, folder)
    for member in manifest.members:
        place = os.path.join(folder, member.path)
        if member.type == "h":
            os.link(os.path.join(folder, member.target), place, follow_symlinks=False)
        elif member.type == "l":
            os.symlink(member.target, place)
    if attributes:
        for member in sorted(manifest.members, key=lambda member: member.path, reverse=True):
            apply_attributes(os.path.join(folder, member.path), member)
    return manifest


def apply_attributes(place: str, member: Member) -> None:
    """Give what lies at a place the attributes of a member: its owner by number, and only where we are root."""
    is_link = member.type == "l"
    if os.geteuid() == 0:
        os.chown(place, member.uid, member.gid, follow_symlinks=False)
    if not is_link:
        os.chmod(place, member.mode)
    for name, content in member.xattrs.items():
        os.setxattr(place, name, base64.b64decode(content), follow_symlinks=False)
    os.utime(place, ns=(member.mtime, member.mtime), follow_symlinks=False)


def compare(folder: str, manifest: Manifest, attributes: bool = False) -> list[str]:
    """Given a folder into which an archive was unpacked, return what is not as the manifest says, in words."""
    wanted = {member.path: member for member in manifest.members}
    found = set(_below(folder))
    parents = {parent for path in wanted for parent in _parents(path)}
    wrong = [f"{path} is not in the manifest" for path in sorted(found - set(wanted) - parents)]
    for path, member in wanted.items():
        if path not in found:
            wrong.append(f"{path} is missing")
        elif difference := _difference(os.path.join(folder, path), member, attributes):
            wrong.append(f"{path} has another {difference}")
    return [shown(line) for line in wrong]


def shown(text: str) -> str:
    """Given text of any bytes, return it printable, in one line."""
    printable = text.encode(errors="surrogateescape").decode(errors="backslashreplace")
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in printable)


def _difference(place: str, member: Member, attributes: bool) -> str:
    found = os.lstat(place)
    kind = next((kind for kind, test in _TESTS if test(found.st_mode)), "")
    pairs: list[tuple[str, Any, Any]] = [("type", kind, "f" if member.type == "h" else member.type)]
    if kind == "f" and member.type == "f":
        pairs += [("size", found.st_size, member.size), ("content", file_digest(place), member.sha256)]
    if kind == "l":
        pairs += [("target", os.readlink(place), member.target)]
    if attributes:
        pairs += [("time", found.st_mtime_ns, member.mtime), ("extended attributes", extended(place), member.xattrs)]
        pairs += [("mode", stat.S_IMODE(found.st_mode), member.mode)] if kind != "l" else []
        pairs += [("owner", (found.st_uid, found.st_gid), (member.uid, member.gid))] if os.geteuid() == 0 else []
    return next((what for what, one, other in pairs if one != other), "")


def _below(folder: str) -> Iterator[str]:
    for place, folders, names in os.walk(folder):
        for name in (*folders, *names):
            yield os.path.relpath(os.path.join(place, name), folder)


def _read(stream: BinaryIO, folder: str | None) -> Manifest:
    """Read every member, hash it, write it into the folder if there is one, and compare all with the manifest."""
    if stream.read(len(GZIP_HEADER)) != GZIP_HEADER:
        raise damaged("it does not begin as a backup does")
    unzipped = gzip.GzipFile(fileobj=cast(BinaryIO, _Joined(GZIP_HEADER, stream)), mode="rb")
    seen: dict[str, Member] = {}
    manifest: bytes | None = None
    try:
        with tarfile.open(
            fileobj=unzipped, mode="r|", encoding="utf-8", errors="surrogateescape", errorlevel=2
        ) as archive:
            for header in archive:
                if manifest is not None:
                    raise damaged(f"{shown(header.name)} follows its manifest")
                if header.name == MANIFEST:
                    manifest = _manifest_bytes(archive, header)
                else:
                    member = _member(archive, header, folder, seen)
                    seen[member.path] = member
        while rest := unzipped.read(CHUNK):
            if rest.strip(b"\0"):
                raise damaged("something follows its end")
    except (EOFError, gzip.BadGzipFile, zlib.error, tarfile.TarError, ValueError, OverflowError) as error:
        raise damaged(f"it cannot be read to its end ({error or type(error).__name__})") from None
    if manifest is None:
        raise damaged("it ends before its manifest")
    return _agreed(decoded(manifest), seen)


class _Joined:
    """Bytes that were read ahead, and the stream that goes on after them."""

    def __init__(self, first: bytes, stream: BinaryIO) -> None:
        self._first = first
        self._stream = stream

    def read(self, size: int = -1) -> bytes:
        if self._first:
            given, self._first = (self._first, b"") if size < 0 else (self._first[:size], self._first[size:])
            return given
        return self._stream.read(size)


def _manifest_bytes(archive: tarfile.TarFile, header: tarfile.TarInfo) -> bytes:
    content = archive.extractfile(header) if header.isreg() and header.size <= MANIFEST_BYTES else None
    if content is None:
        raise damaged("its manifest is no file, or far too large")
    return content.read()


def _member(
    archive: tarfile.TarFile, header: tarfile.TarInfo, folder: str | None, seen: Mapping[str, Member]
) -> Member:
    kind = next((kind for kind, number in _TAR_TYPES.items() if header.type == number), "")
    name = header.name
    if not kind:
        raise damaged(f"{shown(name)} is no file, folder or link")
    if name in seen:
        raise damaged(f"{shown(name)} is in it twice")
    refuse_place(name)
    size, sha256 = 0, ""
    if kind == "f":
        content = archive.extractfile(header)
        if content is None:
            raise damaged(f"{shown(name)} has no content")
        size, sha256 = _taken(cast(BinaryIO, content), name, folder)
    elif kind == "d" and folder is not None:
        _make_folder(folder, name)
    elif folder is not None:
        _make_folder(folder, os.path.dirname(name))
    return Member(
        path=name,
        part="",
        type=kind,
        mode=header.mode,
        uid=header.uid,
        gid=header.gid,
        user=header.uname,
        group=header.gname,
        mtime=int(header.mtime),
        size=size,
        sha256=sha256,
        target=header.linkname,
    )


def _taken(content: BinaryIO, name: str, folder: str | None) -> tuple[int, str]:
    """Read a member's content; return its size and sha256. It gets a new file: none is ever followed or overwritten."""
    found, size, out = hashlib.sha256(), 0, None
    if folder is not None:
        _make_folder(folder, os.path.dirname(name))
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            out = os.open(os.path.join(folder, name), flags, 0o600)
        except (FileExistsError, NotADirectoryError):
            raise damaged(f"{shown(name)} is in it twice, as different things") from None
    try:
        while chunk := content.read(CHUNK):
            found.update(chunk)
            size += len(chunk)
            if out is not None:
                rest = memoryview(chunk)
                while rest:
                    rest = rest[os.write(out, rest) :]
    finally:
        if out is not None:
            os.close(out)
    return size, found.hexdigest()


def _make_folder(folder: str, name: str) -> None:
    place = folder
    for part in name.split("/"):
        place = os.path.join(place, part)
        try:
            os.mkdir(place, 0o700)
        except FileExistsError:
            if not stat.S_ISDIR(os.lstat(place).st_mode):
                raise damaged(f"{shown(name)} is in it twice, as different things") from None


def _parents(path: str) -> Iterator[str]:
    while path := os.path.dirname(path):
        yield path


def refuse_place(path: str) -> None:
    """Raise ArchiveError for a path that is not clearly inside one of the archive's rooms."""
    parts = path.split("/")
    if path.startswith("/"):
        raise ArchiveError("BACKUP_UNSAFE", f"{shown(path)} is an absolute path")
    if ".." in parts:
        raise ArchiveError("BACKUP_UNSAFE", f"{shown(path)} leads out of the archive")
    if parts[0] not in (ROOT, OWN) or "" in parts or "." in parts or "\0" in path:
        raise ArchiveError("BACKUP_UNSAFE", f"{shown(path)} is no path of a backup")


def refuse_link(member: Member) -> None:
    """Raise ArchiveError for a link that climbs out of the node's own tree."""
    if climbs(member):
        raise ArchiveError("BACKUP_UNSAFE", f"the link {shown(member.path)} leads out of the tree")
    if not member.path.startswith(f"{ROOT}/") or not member.target or "\0" in member.target:
        raise ArchiveError("BACKUP_UNSAFE", f"{shown(member.path)} is no link of a node")


def climbs(link: Member) -> bool:
    """Whether a link leads above the root folder: harmless on a node, but not in a folder where it is unpacked.

    An absolute one starts at the root.
    """
    depth = 0 if link.target.startswith("/") else link.path.count("/") - 1
    for part in link.target.split("/"):
        depth += -1 if part == ".." else 0 if part in ("", ".") else 1
        if depth < 0:
            return True
    return False


def _agreed(manifest: Manifest, seen: Mapping[str, Member]) -> Manifest:
    """Compare what was read with what the manifest says. Raise ArchiveError for any difference."""
    wanted = {member.path: member for member in manifest.members}
    if len(wanted) != len(manifest.members):
        raise damaged("its manifest names a member twice")
    for path in (*wanted, *seen):
        if path not in seen:
            raise damaged(f"{shown(path)} is missing")
        if path not in wanted:
            raise damaged(f"{shown(path)} is not in its manifest")
    for path, member in wanted.items():
        _refuse_member(member, wanted)
        told, found = _comparable(member), seen[path]
        wrong = next((name for name, value in told.items() if value != getattr(found, name)), None)
        if wrong:
            raise damaged(f"{shown(path)} has another {wrong} than its manifest says")
    return manifest


def _refuse_member(member: Member, wanted: Mapping[str, Member]) -> None:
    if member.part not in PARTS or member.type not in TYPES or member.mode & ~0o7777:
        raise damaged(f"{shown(member.path)} is of no known kind")
    for parent in _parents(member.path):
        if parent in wanted and wanted[parent].type != "d":
            raise ArchiveError("BACKUP_UNSAFE", f"{shown(member.path)} lies behind {shown(parent)}, which is no folder")
    if member.type == "l":
        refuse_link(member)
    if member.type == "h" and (member.target not in wanted or wanted[member.target].type != "f"):
        raise ArchiveError("BACKUP_UNSAFE", f"{shown(member.path)} is a further name of what is not in the archive")


def _comparable(member: Member) -> dict[str, Any]:
    """What a tar header tells as well: a manifest that was exchanged shows here, if it does not in the content."""
    told = asdict(member)
    told["mtime"] = member.mtime // 10**9
    for name in ("part", "xattrs"):
        del told[name]
    return told


# The summary that lies beside an archive ------------------------------------------------------------------------------


def summary_of(manifest: Manifest, sha256: str, size: int, encrypted: bool) -> dict[str, Any]:
    """What may be known of a backup without opening it: nothing secret.

    + sha256, size: of the archive as it is kept
    """
    return {
        "format": manifest.format,
        "id": manifest.id,
        "node": manifest.node,
        "created": manifest.created,
        "sha256": sha256,
        "size": size,
        "manifest_sha256": manifest.sha256,
        "encrypted": encrypted,
        "parts": list(manifest.parts),
        "members": len(manifest.members),
        "notes": len(manifest.notes),
        **{name: manifest.about.get(name) for name in SUMMARIZED},
    }


SUMMARIZED = ("role", "machine", "versions")


def encode_summary(summary: Mapping[str, Any]) -> bytes:
    """A summary as it stands in its file."""
    return json.dumps(summary, sort_keys=True, indent=1).encode() + b"\n"


def decode_summary(content: bytes) -> dict[str, Any]:
    """Given the content of a summary's file, return it. Raise ArchiveError where nobody wrote it so."""
    try:
        found = json.loads(content)
        if isinstance(found, dict) and isinstance(found.get("format"), int) and found["format"] > FORMAT:
            raise ArchiveError("BACKUP_NEWER", f"its format is version {found['format']}, and this gb10 knows {FORMAT}")
        whole = (
            isinstance(found, dict)
            and encode_summary(found) == content
            and all(isinstance(found.get(name), str) for name in ("id", "node", "created", "sha256", "manifest_sha256"))
            and isinstance(found.get("size"), int)
            and isinstance(found.get("encrypted"), bool)
            and _is_about(found)
        )
    except (ValueError, RecursionError):
        whole = False
    if not whole:
        raise damaged("its summary is not as it was written")
    return cast(dict[str, Any], found)


def agree(manifest: Manifest, summary: Mapping[str, Any]) -> None:
    """Raise ArchiveError where a manifest is not the one of which a summary tells."""
    if manifest.sha256 != summary["manifest_sha256"]:
        raise damaged("its manifest is not the one that its summary names")
    if summary_of(manifest, summary["sha256"], summary["size"], summary["encrypted"]) != summary:
        raise damaged("its summary tells of another backup")
