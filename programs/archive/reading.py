"""Reads an archive: checks it as a whole, unpacks it into a folder that nothing leads out of, compares the two."""

from __future__ import annotations

import errno
import gzip
import hashlib
import io
import os
import stat
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO, cast

from gb10.programs.answer import RefusedError
from gb10.programs.archive.files import CHUNK, kind_of
from gb10.programs.archive.manifest import (
    MANIFEST,
    OWN,
    PARTS,
    ROOT,
    Manifest,
    Member,
    Owner,
    damaged,
    decoded,
    shown,
)
from gb10.programs.archive.writing import HEADER, TAR_TYPES
from gb10.programs.files import sha256_of

# Ceilings: whoever made the archive may want to exhaust memory or disk.
MANIFEST_BYTES = 256 << 20  # a larger manifest is not read
MEMBERS = 500_000
HEADER_BYTES = 16 << 10  # of an extended header, which tarfile keeps in memory
PATH_BYTES = 4096 + 64  # the longest path of Linux, in a folder of the archive
VALUES = 40  # of a member in the manifest: it has 15
FREE_VALUES = 1 << 20  # for notes and the description of the node
LEFT_BYTES, LEFT_SHARE = 1 << 30, 20  # of a disk, the lesser of it and a twentieth stays free
UNREADABLE = (
    *(EOFError, gzip.BadGzipFile, zlib.error, tarfile.TarError),
    *(ValueError, OverflowError, RecursionError),
)


class Header(tarfile.TarInfo):
    """A header of a kind that gb10 writes. Others are refused before tarfile reads what belongs to them."""

    def _proc_member(self, archive: tarfile.TarFile) -> tarfile.TarInfo:
        if self.type == tarfile.XHDTYPE and self.size > HEADER_BYTES:
            raise damaged(f"it has a header of {self.size} bytes")
        if self.type not in (*TAR_TYPES.values(), tarfile.XHDTYPE):
            raise damaged(f"{shown(self.name)} is no file, folder or link")
        return super()._proc_member(archive)  # type: ignore[misc,no-any-return]

    def _refuse_sparse(self, *arguments: object) -> None:
        raise damaged("it has a sparse file")

    _proc_gnusparse_00 = _proc_gnusparse_01 = _proc_gnusparse_10 = _refuse_sparse


def check(stream: BinaryIO) -> Manifest:
    """Read a whole archive; return its manifest. Raise RefusedError if it is damaged or gb10 did not make it."""
    return _read(stream, None)


def unpack(stream: BinaryIO, folder: str) -> Manifest:
    """Unpack an archive into a folder that is empty or absent; return its manifest.

    Raise RefusedError as `check` does: then the content of the folder is worthless. Raise OSError if there is no room.
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
    return manifest


def _read(stream: BinaryIO, folder: str | None) -> Manifest:
    """Read and hash every member, write it into the folder, if any, and compare all with the manifest."""
    buffered = io.BufferedReader(cast(io.RawIOBase, stream), CHUNK)
    if not buffered.peek().startswith(HEADER):
        raise damaged("it does not begin as a backup does")
    unzipped = gzip.GzipFile(fileobj=buffered, mode="rb")
    try:
        seen, manifest = _read_members(unzipped, folder)
        while rest := unzipped.read(CHUNK):
            if rest.strip(b"\0"):
                raise damaged("something follows its end")
    except UNREADABLE as error:
        raise damaged(f"it cannot be read to its end ({error or type(error).__name__})") from None
    if manifest is None:
        raise damaged("it ends before its manifest")
    if sum(map(manifest.count, (b"[", b"{", b","))) > FREE_VALUES + VALUES * len(seen):
        raise damaged("its manifest has too many values")
    return _agreed(decoded(manifest), seen)


def _read_members(unzipped: gzip.GzipFile, folder: str | None) -> tuple[dict[str, Member], bytes | None]:
    """Read the members, into the folder, if any; return them by path, and the manifest, if it comes."""
    seen: dict[str, Member] = {}
    manifest: bytes | None = None
    options: dict[str, Any] = {"encoding": "utf-8", "errors": "surrogateescape", "errorlevel": 2, "tarinfo": Header}
    with tarfile.open(fileobj=unzipped, mode="r|", **options) as archive:
        for header in archive:
            archive.members.clear()  # type: ignore[attr-defined] # tarfile would keep all of them
            if manifest is not None:
                raise damaged(f"{shown(header.name)} follows its manifest")
            if header.name == MANIFEST:
                manifest = _manifest_bytes(archive, header)
            elif len(seen) == MEMBERS:
                raise damaged(f"it has more than {MEMBERS} members")
            else:
                member = _member(archive, header, folder, seen)
                seen[member.path] = member
    return seen, manifest


def _manifest_bytes(archive: tarfile.TarFile, header: tarfile.TarInfo) -> bytes:
    content = archive.extractfile(header) if header.isreg() and header.size <= MANIFEST_BYTES else None
    if content is None:
        raise damaged("its manifest is no file, or far too large")
    return content.read()


def _member(
    archive: tarfile.TarFile, header: tarfile.TarInfo, folder: str | None, seen: Mapping[str, Member]
) -> Member:
    """Read one member, into the folder, if any. A tar does not hold its part or extended attributes."""
    kind = next(kind for kind, number in TAR_TYPES.items() if header.type == number)
    name = header.name
    if name in seen:
        raise damaged(f"{shown(name)} is in it twice")
    _check_path(name)
    if folder is not None:
        _make_folder(folder, name if kind == "d" else os.path.dirname(name))
    size, sha256 = 0, ""
    if kind == "f":
        content = archive.extractfile(header)
        if content is None:
            raise damaged(f"{shown(name)} has no content")
        size, sha256 = _read_content(cast(BinaryIO, content), name, folder)
    return Member(
        path=name,
        part="",
        type=kind,
        mode=header.mode,
        owner=Owner(header.uid, header.gid, header.uname, header.gname),
        mtime=int(header.mtime) * 10**9,
        size=size,
        sha256=sha256,
        target=header.linkname,
    )


def _read_content(content: BinaryIO, name: str, folder: str | None) -> tuple[int, str]:
    """Read the content of a member, into the folder, if any; return its size and sha256."""
    found, size = hashlib.sha256(), 0
    with open(os.devnull, "wb") if folder is None else _new_file(folder, name) as out:
        while chunk := content.read(CHUNK):
            found.update(chunk)
            size += len(chunk)
            if folder is not None:
                _check_room(folder)
            out.write(chunk)
    return size, found.hexdigest()


def _check_room(folder: str) -> None:
    """Raise OSError before the disk is full, which would harm more than this."""
    disk = os.statvfs(folder)
    if disk.f_bavail * disk.f_frsize < min(LEFT_BYTES, disk.f_blocks * disk.f_frsize // LEFT_SHARE):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _new_file(folder: str, name: str) -> BinaryIO:
    """Open a new file for a member. Never follow a link or overwrite a file."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.fdopen(os.open(os.path.join(folder, name), flags, 0o600), "wb")
    except (FileExistsError, NotADirectoryError):
        raise _twice(name) from None


def _make_folder(folder: str, name: str) -> None:
    place = folder
    for part in filter(None, name.split("/")):
        place = os.path.join(place, part)
        try:
            os.mkdir(place, 0o700)
        except FileExistsError:
            if not stat.S_ISDIR(os.lstat(place).st_mode):
                raise _twice(name) from None


def _twice(name: str) -> Exception:
    return damaged(f"{shown(name)} is in it twice, as different things")


def _agreed(manifest: Manifest, seen: Mapping[str, Member]) -> Manifest:
    """Compare what was read with what the manifest says. Raise RefusedError for any difference."""
    wanted = {member.path: member for member in manifest.members}
    if len(wanted) != len(manifest.members):
        raise damaged("its manifest names a member twice")
    for path in (*wanted, *seen):
        if path not in seen:
            raise damaged(f"{shown(path)} is missing")
        if path not in wanted:
            raise damaged(f"{shown(path)} is not in its manifest")
    for path, member in wanted.items():
        _check_member(member, wanted)
        stated, found = _comparable(member), _comparable(seen[path])
        wrong = next((name for name in stated if stated[name] != found[name]), None)
        if wrong:
            raise damaged(f"{shown(path)} has another {wrong} than its manifest says")
    return manifest


def _comparable(member: Member) -> dict[str, Any]:
    """Return what a tar header holds as well. It must agree with the manifest, which could have been exchanged."""
    document = member.to_json()
    document["mtime"] = member.mtime // 10**9  # a tar keeps seconds
    for name in ("part", "xattrs"):
        del document[name]
    return document


def _unsafe(reason: str) -> RefusedError:
    """Return the error for an archive that leads out of its folder."""
    return RefusedError("BACKUP_UNSAFE", reason)


def _check_path(path: str) -> None:
    """Raise RefusedError for a path that is not clearly inside one of the archive's two folders."""
    parts = path.split("/")
    if len(path) > PATH_BYTES:
        raise _unsafe(f"{shown(path[:PATH_BYTES])}... is longer than any path")
    if path.startswith("/"):
        raise _unsafe(f"{shown(path)} is an absolute path")
    if ".." in parts:
        raise _unsafe(f"{shown(path)} leads out of the archive")
    if parts[0] not in (ROOT, OWN) or "" in parts or "." in parts or "\0" in path:
        raise _unsafe(f"{shown(path)} is no path of a backup")


def _check_member(member: Member, members: Mapping[str, Member]) -> None:
    """Raise RefusedError for a member that is of no known kind, lies behind a link, or leads out of the archive."""
    if member.part not in PARTS or member.type not in TAR_TYPES or member.mode & ~0o7777:
        raise damaged(f"{shown(member.path)} is of no known kind")
    for parent in _parents(member.path):
        if parent in members and members[parent].type != "d":
            raise _unsafe(f"{shown(member.path)} lies behind {shown(parent)}, which is no folder")
    if member.type == "l" and member.is_climbing:
        raise _unsafe(f"the link {shown(member.path)} leads out of the tree")
    if member.type == "l" and (not member.path.startswith(f"{ROOT}/") or not member.target or "\0" in member.target):
        raise _unsafe(f"{shown(member.path)} is no link of a node")
    if member.type == "h" and (member.target not in members or members[member.target].type != "f"):
        raise _unsafe(f"{shown(member.path)} is a further name of what is not in the archive")


def _parents(path: str) -> Iterator[str]:
    """Yield the folders above a relative path, the nearest first."""
    while path := os.path.dirname(path):
        yield path


def compare(folder: str, manifest: Manifest) -> list[str]:
    """Return the differences between a folder, into which an archive was unpacked, and its manifest, as texts."""
    wanted = {member.path: member for member in manifest.members}
    found = set(_below(folder))
    known = {parent for path in wanted for parent in _parents(path)} | set(wanted)
    wrong = [f"{path} is not in the manifest" for path in sorted(found - known)]
    for path, member in wanted.items():
        if path not in found:
            wrong.append(f"{path} is missing")
        elif difference := _difference(os.path.join(folder, path), member):
            wrong.append(f"{path} has another {difference}")
    return [shown(line) for line in wrong]


def _difference(place: str, member: Member) -> str:
    found = os.lstat(place)
    kind = kind_of(found)
    pairs: list[tuple[str, Any, Any]] = [("type", kind, "f" if member.type == "h" else member.type)]
    if kind == "f" and member.type == "f":
        pairs += [("size", found.st_size, member.size), ("content", sha256_of(place), member.sha256)]
    if kind == "l":
        pairs += [("target", os.readlink(place), member.target)]
    return next((what for what, one, other in pairs if one != other), "")


def _below(folder: str) -> Iterator[str]:
    for place, folders, names in os.walk(folder):
        for name in (*folders, *names):
            yield os.path.relpath(os.path.join(place, name), folder)
