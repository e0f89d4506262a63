"""Reading an archive: checked as a whole, and unpacked into a folder that nothing leads out of."""

from __future__ import annotations

import gzip
import hashlib
import os
import stat
import tarfile
import zlib
from collections.abc import Mapping
from typing import Any, BinaryIO, cast

from gb10.programs.archive.files import CHUNK, apply_attributes
from gb10.programs.archive.manifest import MANIFEST, Manifest, Member, Owner, damaged, decoded, shown
from gb10.programs.archive.places import refuse_member, refuse_place
from gb10.programs.archive.writing import TAR_TYPES
from gb10.programs.archive.zipping import HEADER, Joined

MANIFEST_BYTES = 256 << 20  # a larger manifest is not read


def check(stream: BinaryIO) -> Manifest:
    """Read an archive whole and return its manifest. Raise RefusedError if it is not as gb10 made it."""
    return _read(stream, None)


def unpack(stream: BinaryIO, folder: str, attributes: bool = False) -> Manifest:
    """Unpack an archive into a folder that is empty or absent; return its manifest.

    + attributes: give members their own mode, time, extended attributes and, as root, owner

    Raise RefusedError if it is not as gb10 made it: then what is in the folder is worth nothing. Raise OSError if
    there is no room.
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


def _read(stream: BinaryIO, folder: str | None) -> Manifest:
    """Read every member, hash it, write it into the folder if there is one, and compare all with the manifest."""
    if stream.read(len(HEADER)) != HEADER:
        raise damaged("it does not begin as a backup does")
    unzipped = gzip.GzipFile(fileobj=cast(BinaryIO, Joined(HEADER, stream)), mode="rb")
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


def _manifest_bytes(archive: tarfile.TarFile, header: tarfile.TarInfo) -> bytes:
    content = archive.extractfile(header) if header.isreg() and header.size <= MANIFEST_BYTES else None
    if content is None:
        raise damaged("its manifest is no file, or far too large")
    return content.read()


def _member(
    archive: tarfile.TarFile, header: tarfile.TarInfo, folder: str | None, seen: Mapping[str, Member]
) -> Member:
    """Read one member, into the folder if there is one. A tar does not tell its part or extended attributes."""
    kind = next((kind for kind, number in TAR_TYPES.items() if header.type == number), "")
    name = header.name
    if not kind:
        raise damaged(f"{shown(name)} is no file, folder or link")
    if name in seen:
        raise damaged(f"{shown(name)} is in it twice")
    refuse_place(name)
    if folder is not None:
        _make_folder(folder, name if kind == "d" else os.path.dirname(name))
    size, sha256 = 0, ""
    if kind == "f":
        content = archive.extractfile(header)
        if content is None:
            raise damaged(f"{shown(name)} has no content")
        size, sha256 = _taken(cast(BinaryIO, content), name, folder)
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


def _taken(content: BinaryIO, name: str, folder: str | None) -> tuple[int, str]:
    """Read a member's content, into the folder if there is one; return its size and sha256."""
    found, size = hashlib.sha256(), 0
    with open(os.devnull, "wb") if folder is None else _new_file(folder, name) as out:
        while chunk := content.read(CHUNK):
            found.update(chunk)
            size += len(chunk)
            out.write(chunk)
    return size, found.hexdigest()


def _new_file(folder: str, name: str) -> BinaryIO:
    """Open a new file for a member: none is ever followed or overwritten."""
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
        refuse_member(member, wanted)
        told, found = _comparable(member), _comparable(seen[path])
        wrong = next((name for name in told if told[name] != found[name]), None)
        if wrong:
            raise damaged(f"{shown(path)} has another {wrong} than its manifest says")
    return manifest


def _comparable(member: Member) -> dict[str, Any]:
    """Return what a tar header tells as well: it shows a manifest that was exchanged, if the content does not."""
    told = member.document()
    told["mtime"] = member.mtime // 10**9  # a tar keeps seconds
    for name in ("part", "xattrs"):
        del told[name]
    return told
