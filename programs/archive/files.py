"""Files as an archive sees them: opened without following links, described, hashed."""

from __future__ import annotations

import base64
import errno
import grp
import hashlib
import os
import pwd
import stat
from collections.abc import Callable
from typing import Any, BinaryIO

from gb10.programs.archive.manifest import Member, Owner

CHUNK = 1 << 20
FULL = (errno.ENOSPC, errno.EDQUOT)  # errors of a disk without room
_TESTS = (("f", stat.S_ISREG), ("d", stat.S_ISDIR), ("l", stat.S_ISLNK))


def kind_of(found: os.stat_result) -> str:
    """Given what lstat found, return the type of a member: f, d, l, or "" for anything else."""
    return next((kind for kind, test in _TESTS if test(found.st_mode)), "")


def attributes(path: str, found: os.stat_result) -> dict[str, Any]:
    """Given a path and what lstat found there, return its attributes as a member has them."""
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
    """Given a path, return its extended attributes: ACLs and capabilities are such. A link is not followed."""
    try:
        names = os.listxattr(path, follow_symlinks=False)
        return {name: _base64(os.getxattr(path, name, follow_symlinks=False)) for name in sorted(names)}
    except OSError:  # a file system without any
        return {}


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def apply_attributes(place: str, member: Member) -> None:
    """Give what lies at a place the attributes of a member. Its owner, by number, only if this process is root."""
    if os.geteuid() == 0:
        os.chown(place, member.owner.uid, member.owner.gid, follow_symlinks=False)
    if member.type != "l":
        os.chmod(place, member.mode)
    for name, content in member.xattrs.items():
        os.setxattr(place, name, base64.b64decode(content), follow_symlinks=False)
    os.utime(place, ns=(member.mtime, member.mtime), follow_symlinks=False)


def opened(path: str) -> BinaryIO:
    """Open without following a link, and without waiting for the other end of what became a pipe meanwhile."""
    return os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb")


def digest(content: bytes) -> str:
    """Return the sha256 of bytes."""
    return hashlib.sha256(content).hexdigest()


def stream_digest(stream: BinaryIO) -> str:
    """Return the sha256 of all that a stream holds, from its beginning."""
    stream.seek(0)
    found = hashlib.sha256()
    while chunk := stream.read(CHUNK):
        found.update(chunk)
    return found.hexdigest()


def file_digest(path: str) -> str:
    """Return the sha256 of a file."""
    with open(path, "rb") as file:
        return stream_digest(file)
