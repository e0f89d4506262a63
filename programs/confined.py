"""Follows no links in folders that others can change.

Root works there by path, and the owner of a folder, or a container that mounts it, may put a link in place of a file
or folder at any moment. So the process moves into a mount namespace of its own, in which the kernel refuses to follow
links below such folders, on every path and in every child process (mount_setattr(2), since Linux 5.14).
"""

from __future__ import annotations

import errno
import os
import pwd
import stat
import struct
from collections.abc import Iterable
from typing import Any

from gb10.programs.answer import RefusedError

HOMES = "~"  # stands for the home folders of all people
HUMANS = range(1000, 60000)  # their user ids
SYSTEM = ("/etc", "/root", "/run", "/usr", "/var")  # no container gets to write here, unless it is root of the node
OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
MOST_LINKS = 40  # as the kernel follows

CLONE_NEWNS = 0x20000  # sched.h
MS_BIND, MS_REC, MS_SLAVE = 0x1000, 0x4000, 0x80000  # linux/mount.h
MOUNT_ATTR_NOSYMFOLLOW = 0x200000
AT_FDCWD, AT_RECURSIVE = -100, 0x8000  # linux/fcntl.h
PR_CAPBSET_DROP, CAP_SYS_ADMIN, CAPABILITY_VERSION = 24, 21, 0x20080522  # linux/prctl.h, linux/capability.h
MOUNT_SETATTR = 442  # its number as a system call, on every architecture


def follow_no_links(paths: Iterable[str]) -> None:
    """Have this process, and what it starts from now on, follow no links where others can change these paths.

    Call it before the first thread starts. HOMES among the paths stands for the homes of all people. Without root's
    rights nothing is done: links lead nowhere that their owner could not go.

    Raise RefusedError if a path is or passes a link that others may have made, or if the kernel cannot do it.
    """
    if os.geteuid() != 0:
        return
    wanted = set(paths)
    homes = people_homes() if HOMES in wanted else []
    wanted = {path for path in wanted - {HOMES} if not any(_is_below(path, home) for home in homes)}
    tops = {top for path in {*homes, *wanted} if (top := top_of(path))}
    try:
        _enter(sorted(top for top in tops if not any(top != other and _is_below(top, other) for other in tops)))
    except OSError as error:
        text = f"the kernel does not switch off links below {', '.join(sorted(tops))}: {error.strerror}"
        raise RefusedError("PROGRAM_FAILED", text) from error
    for path in sorted(wanted):
        _refuse_link(path)


def people_homes() -> list[str]:
    """Return the home folders of all people who have an account here."""
    return sorted({user.pw_dir for user in pwd.getpwall() if user.pw_uid in HUMANS and user.pw_dir != "/"})


def top_of(path: str) -> str | None:
    """Return the folder from which on no link may be followed on the way to a path, or None if every link is root's.

    It is the first folder in which others than root can write. If there is none, a container may still do so, by a
    mount: then it is the folder that holds the path. Links above it are followed.
    """
    place, _ = _divided(path)
    is_system = is_roots(place) and any(_is_below(place, folder) for folder in SYSTEM)
    return None if place == "/" or is_system else place


def real(path: str) -> str:
    """Return a path without the links that only root can have made. Others stay in it: nobody may follow them.

    Without root's rights, return it without any links.
    """
    if os.geteuid() != 0:
        return os.path.realpath(path)
    return os.path.join(*_divided(path))


def _divided(path: str) -> tuple[str, str]:
    """Divide a path into the folder from which on others can change it, without links, and the rest."""
    place, links = "/", 0
    left = os.path.normpath(path).split("/")[1:]
    while len(left) > 1 and is_roots(place):
        beyond = os.path.join(place, left[0])
        if os.path.islink(beyond) and links < MOST_LINKS:
            links += 1
            target = os.path.normpath(os.path.join(place, os.readlink(beyond)))
            place, left = "/", [*target.split("/")[1:], *left[1:]]
        elif os.path.isdir(beyond):
            place, left = beyond, left[1:]
        else:
            break
    return place, "/".join(left)


def is_roots(folder: str) -> bool:
    """Return True if only root can write in a folder, as far as its mode says."""
    found = os.stat(folder)
    return found.st_uid == 0 and not found.st_mode & OTHERS_WRITE


def give_up_mounting() -> None:
    """Take from this process, and from what it starts, the right to mount. Call it before the first thread starts."""
    import ctypes  # noqa: PLC0415

    library = ctypes.CDLL(None, use_errno=True)
    library.prctl(PR_CAPBSET_DROP, CAP_SYS_ADMIN, 0, 0, 0)
    header, rights = struct.pack("Ii", CAPABILITY_VERSION, 0), ctypes.create_string_buffer(24)
    library.capget(header, rights)
    effective, permitted, inheritable, *more = struct.unpack("6I", rights.raw)
    kept = ~(1 << CAP_SYS_ADMIN) & 0xFFFFFFFF
    library.capset(header, struct.pack("6I", effective & kept, permitted & kept, inheritable & kept, *more))


def _refuse_link(path: str) -> None:
    try:
        is_link = os.path.islink(path) and top_of(path) is not None
        if not is_link:
            os.stat(path)
    except FileNotFoundError:
        return
    except OSError as error:
        if error.errno != errno.ELOOP:
            return
        is_link = True
    if is_link:
        raise RefusedError("PATH_LINKED", f"{path} is a link, or lies behind one, that others than root may have made")


def _is_below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(f"{folder}/")


def _enter(tops: list[str]) -> None:
    """Move into a mount namespace of our own, in which no link below these folders is followed. Raise OSError."""
    if not tops:
        return
    import ctypes  # noqa: PLC0415 - it takes longer than all else here, and is seldom needed

    library = ctypes.CDLL(None, use_errno=True)

    def call(name: str, *arguments: Any) -> None:
        if getattr(library, name)(*arguments):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

    call("unshare", CLONE_NEWNS)
    call("mount", None, b"/", None, MS_REC | MS_SLAVE, None)
    attributes = struct.pack("QQQQ", MOUNT_ATTR_NOSYMFOLLOW, 0, 0, 0)  # struct mount_attr: what to set comes first
    for top in map(os.fsencode, tops):
        call("mount", top, top, None, MS_BIND | MS_REC, None)
        size = ctypes.c_size_t(len(attributes))
        call("syscall", MOUNT_SETATTR, AT_FDCWD, top, AT_RECURSIVE, attributes, size)
