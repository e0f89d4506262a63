"""Comparing an unpacked archive with its manifest."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from typing import Any

from gb10.programs.archive.files import extended, file_digest, kind_of
from gb10.programs.archive.manifest import Manifest, Member, shown
from gb10.programs.archive.places import parents


def compare(folder: str, manifest: Manifest, attributes: bool = False) -> list[str]:
    """Given a folder into which an archive was unpacked, return in words what differs from the manifest."""
    wanted = {member.path: member for member in manifest.members}
    found = set(_below(folder))
    known = {parent for path in wanted for parent in parents(path)} | set(wanted)
    wrong = [f"{path} is not in the manifest" for path in sorted(found - known)]
    for path, member in wanted.items():
        if path not in found:
            wrong.append(f"{path} is missing")
        elif difference := _difference(os.path.join(folder, path), member, attributes):
            wrong.append(f"{path} has another {difference}")
    return [shown(line) for line in wrong]


def _difference(place: str, member: Member, attributes: bool) -> str:
    found = os.lstat(place)
    kind = kind_of(found)
    pairs: list[tuple[str, Any, Any]] = [("type", kind, "f" if member.type == "h" else member.type)]
    if kind == "f" and member.type == "f":
        pairs += [("size", found.st_size, member.size), ("content", file_digest(place), member.sha256)]
    if kind == "l":
        pairs += [("target", os.readlink(place), member.target)]
    if attributes:
        owner = (member.owner.uid, member.owner.gid)
        pairs += [("time", found.st_mtime_ns, member.mtime), ("extended attributes", extended(place), member.xattrs)]
        pairs += [("mode", stat.S_IMODE(found.st_mode), member.mode)] if kind != "l" else []
        pairs += [("owner", (found.st_uid, found.st_gid), owner)] if os.geteuid() == 0 else []
    return next((what for what, one, other in pairs if one != other), "")


def _below(folder: str) -> Iterator[str]:
    for place, folders, names in os.walk(folder):
        for name in (*folders, *names):
            yield os.path.relpath(os.path.join(place, name), folder)
