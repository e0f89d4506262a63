"""Files as members of an archive: opened without following links, described, hashed."""

from __future__ import annotations

import base64
import errno
import grp
import hashlib
import os
import pwd
import shutil
import stat
from collections.abc import Callable
from contextlib import suppress
from typing import Any, BinaryIO

from gb10.programs.archive.manifest import Member, Owner

CHUNK = 1 << 20
FULL = (errno.ENOSPC, errno.EDQUOT)  # errors of a disk without room
KINDS = {stat.S_IFREG: "f", stat.S_IFDIR: "d", stat.S_IFLNK: "l"}


def kind_of(found: os.stat_result) -> str:
    """Return the type of a member for what lstat found: f, d, l, or "" for anything else."""
    return KINDS.get(stat.S_IFMT(found.st_mode), "")


def attributes(path: str, found: os.stat_result) -> dict[str, Any]:
    """Return the attributes of a path as a member has them.

    + found: by lstat
    """
    return {
        "mode": stat.S_IMODE(found.st_mode),
        "owner": Owner(
            found.st_uid,
            found.st_gid,
            _named(lambda: pwd.getpwuid(found.st_uid).pw_name),
            _named(lambda: grp.getgrgid(found.st_gid).gr_name),
        ),
        "mtime": found.st_mtime_ns,
        "xattrs": extended(path),
    }


def _named(look: Callable[[], str]) -> str:
    try:
        return look()
    except KeyError:
        return ""


def extended(path: str) -> dict[str, str]:
    """Return the extended attributes of a path, such as ACLs and capabilities. A link is not followed."""
    try:
        names = os.listxattr(path, follow_symlinks=False)
        content = {name: os.getxattr(path, name, follow_symlinks=False) for name in sorted(names)}
    except OSError:  # a file system without any
        return {}
    return {name: base64.b64encode(value).decode() for name, value in content.items()}


def apply_attributes(place: str, member: Member) -> None:
    """Give a file, folder or link the attributes of a member; as root also its owner, by number."""
    if os.geteuid() == 0:
        os.chown(place, member.owner.uid, member.owner.gid, follow_symlinks=False)
    if member.type != "l":
        os.chmod(place, member.mode)
    for name, content in member.xattrs.items():
        os.setxattr(place, name, base64.b64decode(content), follow_symlinks=False)
    os.utime(place, ns=(member.mtime, member.mtime), follow_symlinks=False)


def opened(path: str) -> BinaryIO:
    """Open a file without following a link, and without waiting at a pipe, if it has become one."""
    return os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb")


def remove(path: str) -> None:
    """Remove a file, link or folder, if it exists."""
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    else:
        with suppress(FileNotFoundError):
            os.unlink(path)


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def stream_digest(stream: BinaryIO) -> str:
    """Return the sha256 of a stream, from its beginning."""
    stream.seek(0)
    found = hashlib.sha256()
    while chunk := stream.read(CHUNK):
        found.update(chunk)
    return found.hexdigest()
