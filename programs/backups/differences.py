"""How a node differs from a backup. Nothing is changed."""

from __future__ import annotations

import glob
import grp
import os
import pwd
import stat
from contextlib import suppress
from typing import Any

from gb10.programs.answer import Outlet
from gb10.programs.archive.files import kind_of
from gb10.programs.archive.manifest import Owner
from gb10.programs.files import free_bytes, sha256_of


def compare(job: dict[str, Any], outlet: Outlet) -> dict[str, Any]:
    """Return how paths of the node differ from job["wanted"], and the accounts of the node.

    + job: wanted, folder (of the restore), root (of the node)
    """
    root, different = job.get("root", ""), {}
    for wanted in job["wanted"]:
        what = difference(root + wanted["path"], wanted, root)
        if what:
            different[wanted["path"]] = what
    return {
        "different": different,
        "open": [path for path in different if is_open(path, root)],
        "accounts": accounts(),
        "free": free_bytes(job["folder"]),
        "left": os.path.lexists(job["folder"]),
    }


def is_open(path: str, root: str) -> bool:
    """Return True if everybody on the node can read a file: its mode and the folders above allow it."""
    try:
        found = os.lstat(root + path)
        above = path
        while (above := os.path.dirname(above)) != "/":
            if not os.stat(root + above).st_mode & stat.S_IXOTH:
                return False
    except OSError:
        return False
    return stat.S_ISREG(found.st_mode) and bool(found.st_mode & stat.S_IROTH)


def difference(place: str, wanted: dict[str, Any], root: str) -> list[str] | None:
    """Return how a path differs: a word and, for a file with other content, its sha256; None if it does not differ."""
    try:
        found = os.lstat(place)
    except (FileNotFoundError, NotADirectoryError):
        return ["absent"]
    kind = kind_of(found)
    if kind != ("f" if wanted["type"] == "h" else wanted["type"]):
        return ["type"]
    if wanted["type"] == "h":
        first = root + wanted["target"]
        return None if os.path.lexists(first) and os.path.samestat(found, os.lstat(first)) else ["content"]
    if kind == "l":
        return None if os.readlink(place) == wanted["target"] else ["target"]
    if wanted.get("any"):  # any content will do
        return None
    different = _content_differs(place, found.st_size, wanted) if kind == "f" else None
    return different or _attributes_differ(found, wanted)


def _attributes_differ(found: os.stat_result, wanted: dict[str, Any]) -> list[str] | None:
    if numbers(Owner(**wanted["owner"])) != (found.st_uid, found.st_gid):
        return ["owner"]
    return None if stat.S_IMODE(found.st_mode) == wanted["mode"] else ["mode"]


def _content_differs(place: str, size: int, wanted: dict[str, Any]) -> list[str] | None:
    if "lines" in wanted:  # these must be there, and others may be
        with open(place, encoding="utf-8", errors="surrogateescape") as file:
            have = set(file.read().splitlines())
        return ["content"] if set(wanted["lines"]) - have else None
    found = sha256_of(place)
    return None if (size, found) == (wanted["size"], wanted["sha256"]) else ["content", found]


def numbers(owner: Owner) -> tuple[int, int]:
    """Return uid and gid of an owner: those of its name if the node knows it, else those of the backup."""
    if os.geteuid() != 0:
        return os.geteuid(), os.getegid()  # nobody else can be made the owner
    uid, gid = owner.uid, owner.gid
    with suppress(KeyError):
        uid = pwd.getpwnam(owner.user).pw_uid
    with suppress(KeyError):
        gid = grp.getgrnam(owner.group).gr_gid
    return uid, gid


def accounts() -> dict[str, Any]:
    """Return the accounts and groups of the node, and the numbers of users who have processes."""
    busy = set()
    for process in glob.glob("/proc/[0-9]*"):
        with suppress(OSError):
            busy.add(os.stat(process).st_uid)
    return {
        "users": {user.pw_name: user.pw_uid for user in pwd.getpwall()},
        "groups": {group.gr_name: [group.gr_gid, group.gr_mem] for group in grp.getgrall()},
        "busy": sorted(busy),
    }
