"""Which places an archive may name: nothing in it leads out of the folder where it is unpacked."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping

from gb10.programs.answer import RefusedError
from gb10.programs.archive.manifest import OWN, PARTS, ROOT, TYPES, Member, damaged, shown


def unsafe(reason: str) -> RefusedError:
    """Return the refusal of an archive that leads out of its folder."""
    return RefusedError("BACKUP_UNSAFE", reason)


def refuse_place(path: str) -> None:
    """Raise RefusedError for a path that is not clearly inside one of the archive's rooms."""
    parts = path.split("/")
    if path.startswith("/"):
        raise unsafe(f"{shown(path)} is an absolute path")
    if ".." in parts:
        raise unsafe(f"{shown(path)} leads out of the archive")
    if parts[0] not in (ROOT, OWN) or "" in parts or "." in parts or "\0" in path:
        raise unsafe(f"{shown(path)} is no path of a backup")


def refuse_member(member: Member, members: Mapping[str, Member]) -> None:
    """Raise RefusedError for a member that is of no known kind, lies behind a link, or leads out of the archive."""
    if member.part not in PARTS or member.type not in TYPES or member.mode & ~0o7777:
        raise damaged(f"{shown(member.path)} is of no known kind")
    for parent in parents(member.path):
        if parent in members and members[parent].type != "d":
            raise unsafe(f"{shown(member.path)} lies behind {shown(parent)}, which is no folder")
    if member.type == "l":
        _refuse_link(member)
    if member.type == "h" and (member.target not in members or members[member.target].type != "f"):
        raise unsafe(f"{shown(member.path)} is a further name of what is not in the archive")


def _refuse_link(member: Member) -> None:
    if climbs(member):
        raise unsafe(f"the link {shown(member.path)} leads out of the tree")
    if not member.path.startswith(f"{ROOT}/") or not member.target or "\0" in member.target:
        raise unsafe(f"{shown(member.path)} is no link of a node")


def climbs(link: Member) -> bool:
    """Return True if a link leads above the root folder: harmless on a node, but not where it is unpacked.

    An absolute one starts at the root.
    """
    depth = 0 if link.target.startswith("/") else link.path.count("/") - 1
    for part in link.target.split("/"):
        depth += -1 if part == ".." else 0 if part in ("", ".") else 1
        if depth < 0:
            return True
    return False


def parents(path: str) -> Iterator[str]:
    """Yield the folders above a relative path, the nearest first."""
    while path := os.path.dirname(path):
        yield path
