"""Puts members of an unpacked backup in place on the node.

The contract: nothing on the node is lost. A file that is replaced is kept beside its place, and a reader sees the old
file or the new one, never half of it. A secret is never wider than its final mode.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from gb10.programs.archive.files import CHUNK, apply_attributes, remove
from gb10.programs.archive.manifest import ROOT, Member, Owner, decoded
from gb10.programs.backups.differences import numbers
from gb10.programs.files import sha256_of, sync_folder

MANIFEST, TREE = "manifest.json", "tree"  # in the folder of the restore
NEW = ".gb10-restore"  # suffix of a file that is not yet complete
BESIDE = ".before-restore-"  # suffix of what was replaced, followed by the time of the restore


class Placer:
    """Puts members of the unpacked backup in place, and keeps what it replaces.

    + job: folder and stamp (time) of the restore, root (of the node), moved (path of the node -> path to use instead)
    """

    def __init__(self, job: dict[str, Any]) -> None:
        self.tree = os.path.join(job["folder"], TREE)
        self.root: str = job.get("root", "")
        self.stamp = job["stamp"]
        self.moved: dict[str, str] = job.get("moved", {})
        self.replaced: list[tuple[str, str | None]] = []  # place and path of its former content
        with open(os.path.join(job["folder"], MANIFEST), "rb") as file:
            self.members: dict[str, Member] = {m.node_path: m for m in decoded(file.read()).members if m.node_path}

    def put(self, paths: Sequence[str], merge: Collection[str] = ()) -> None:
        """Put these paths in place, folders first. Files in `merge` also keep the lines that only the node has."""
        chosen = [self.members[path] for path in sorted(paths)]
        folders = [member for member in chosen if member.type == "d"]
        for member in folders:
            self._folder(member)
        for member in sorted(chosen, key=lambda member: member.type == "h"):  # further names last
            if member.type != "d":
                self._file(member, merge=member.node_path in merge)
        for member in reversed(folders):
            self._attributes(self._place_of(member), member)
        for folder in {os.path.dirname(self._place_of(member)) for member in chosen}:
            sync_folder(folder)

    def place(self, path: str) -> str:
        """Return the place for a path of the node."""
        for old, new in self.moved.items():
            if path == old or path.startswith(f"{old}/"):
                return self.root + new + path[len(old) :]
        return self.root + path

    def _place_of(self, member: Member) -> str:
        return self.place(member.path.removeprefix(ROOT))

    def put_folder(self, path: str) -> None:
        """Put a folder in place as a whole, and keep the former one beside it."""
        self.moved = {**self.moved, path: path + NEW}
        remove(self.place(path))
        self.put([below for below in self.members if below == path or below.startswith(f"{path}/")])
        make_folders(self.place(path))
        self.keep(self.root + path)
        os.rename(self.place(path), self.root + path)

    def keep(self, place: str) -> None:
        """Keep the content of a place beside it. A file also stays there until it is replaced."""
        if not os.path.lexists(place):
            self.replaced.append((place, None))
            return
        kept = place + BESIDE + self.stamp
        remove(kept)
        if stat.S_ISREG(os.lstat(place).st_mode):
            os.link(place, kept)
        else:
            os.rename(place, kept)
        self.replaced.append((place, kept))

    def take_back(self) -> None:
        """Undo all replacements."""
        for place, kept in reversed(self.replaced):
            if kept is None:
                remove(place)
            else:
                os.replace(kept, place)

    def _folder(self, member: Member) -> None:
        place = self._place_of(member)
        if os.path.lexists(place) and (os.path.islink(place) or not os.path.isdir(place)):
            self.keep(place)
        make_folders(place)

    def _file(self, member: Member, merge: bool) -> None:
        place, source = self._place_of(member), os.path.join(self.tree, member.path)
        make_folders(os.path.dirname(place))
        new = place + NEW
        remove(new)
        if member.type == "l":
            os.symlink(member.target, new)
        elif member.type == "h":
            os.link(self.place(member.target.removeprefix(ROOT)), new, follow_symlinks=False)
        elif not merge and _has_content(place, member):
            self._attributes(place, member)
            return
        else:
            _copy(source, new, _own_lines(source, place) if merge else b"")
        if member.type != "h":
            self._attributes(new, member)
        self.keep(place)
        os.replace(new, place)

    def _attributes(self, place: str, member: Member) -> None:
        uid, gid = numbers(member.owner)
        apply_attributes(place, replace(member, owner=Owner(uid, gid, "", "")))


def _has_content(place: str, member: Member) -> bool:
    """Return True if only the attributes of a file differ."""
    with suppress(OSError):
        found = os.lstat(place)
        return stat.S_ISREG(found.st_mode) and found.st_size == member.size and sha256_of(place) == member.sha256
    return False


def make_folders(path: str) -> None:
    """Make missing folders, each with the owner and mode of the one above it, but not writable for others."""
    if os.path.isdir(path):
        return
    make_folders(os.path.dirname(path))
    above = os.stat(os.path.dirname(path))
    os.mkdir(path, 0o700)
    os.chown(path, above.st_uid, above.st_gid)
    os.chmod(path, stat.S_IMODE(above.st_mode) & 0o755)


def _own_lines(source: str, place: str) -> bytes:
    """Return the lines of a file that the node has and the backup lacks."""
    if not os.path.isfile(place):
        return b""
    with open(source, "rb") as file:
        known = set(file.read().splitlines())
    with open(place, "rb") as file:
        return b"".join(line + b"\n" for line in file.read().splitlines() if line not in known)


def _copy(source: str, new: str, more: bytes) -> None:
    """Copy a file and add more bytes: to a new file on the disk that is closed to others."""
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "wb") as out:
        with open(source, "rb") as file:
            last = b"\n"
            while chunk := file.read(CHUNK):
                out.write(chunk)
                last = chunk[-1:]
        out.write((b"" if last == b"\n" or not more else b"\n") + more)
        out.flush()
        os.fsync(out.fileno())
