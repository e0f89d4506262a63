"""A walk through a folder: every file, folder and link, and where the links lead.

Hugging Face models share a store of blobs. What its owner notes beside the blobs is merged by a copy, never copied.
"""

from __future__ import annotations

import collections
import fnmatch
import functools
import os
import re
import stat
from collections.abc import Iterator
from typing import Any

from gb10.programs.confined import real
from gb10.programs.copying.names import PARTIAL, STAGING

Entry = dict[str, Any]

KINDS = {stat.S_IFREG: "f", stat.S_IFDIR: "d", stat.S_IFLNK: "l"}
STORE_BLOB = re.compile(r"blobs/[0-9a-f]{2}/[0-9a-f]{64}")
CLASSIC_BLOB = re.compile(r"(?:models|datasets|spaces)--[^/]+/blobs/([0-9a-f]{64})")
STORE_MARKER = "blobs/.huggingface-shared-blobs"
STORE_OWN = re.compile(
    STORE_BLOB.pattern + r"\.(refs|lock(\.soft)?)|blobs/\.huggingface-shared-blobs\.[0-9a-f]{8}\.tmp"
)


class Walk:
    """Everything below one folder.

    + job: of the listing
    """

    def __init__(self, job: dict[str, Any]) -> None:
        self.root = real(job["root"])
        self.job = job
        self.entries: dict[str, Entry] = {}  # by path
        self.halves: dict[str, int] = {}  # path -> bytes, of files that rsync over ssh has begun
        self.references: dict[str, list[str]] = collections.defaultdict(list)  # blob -> links that lead to it
        self._links: list[str] = []  # listed, but not yet followed
        self._is_hub = os.path.isfile(self.full(STORE_MARKER))

    def full(self, path: str) -> str:
        """Return a path below the root as a path of the node."""
        return self.root if path == "." else f"{self.root}/{path}"

    def run(self) -> list[str]:
        """List what the job wants; return the wanted paths that do not exist. If there are any, nothing is listed."""
        paths = self.job.get("paths")
        if paths is None:
            self._add(".")
            self._descend(".")
            return []
        missing = [path for path in paths if not os.path.lexists(self.full(path))]
        if not missing:
            self._reach([*paths, *(path for path in self.job.get("also", []) if os.path.lexists(self.full(path)))])
        return missing

    def _reach(self, paths: list[str]) -> None:
        """Add some paths with all below them, and whatever their links lead to inside the root."""
        waiting = collections.deque(os.path.normpath(path) for path in paths)
        while waiting:
            path = waiting.popleft()
            if path in self.entries:
                continue
            self._add_parents(path)
            if self._add(path) == "d":
                self._descend(path)
            while self._links:
                waiting += self._next_hop(self._links.pop())

    def _add_parents(self, path: str) -> None:
        folder = os.path.dirname(path)
        if folder and folder not in self.entries:
            self._add_parents(folder)
            self._add(folder)

    def _next_hop(self, link: str) -> Iterator[str]:
        """Yield the path that a link names, if it exists inside the root. Later links are followed later."""
        target = os.path.join(os.path.dirname(self.full(link)), os.readlink(self.full(link)))
        place = os.path.join(os.path.realpath(os.path.dirname(target)), os.path.basename(target))
        if place.startswith(self.root + "/") and os.path.lexists(place) and os.path.basename(target) not in ("", ".."):
            yield os.path.relpath(place, self.root)

    def _descend(self, folder: str) -> None:
        waiting = [folder]
        while waiting:
            folder = waiting.pop()
            excluded = excluded_in(folder, tuple(self.job.get("exclude", ())))
            with os.scandir(self.full(folder)) as found:
                names = sorted(entry.name for entry in found)
            for name in names:
                path = name if folder == "." else f"{folder}/{name}"
                if not excluded.match(name) and not self._is_internal(path, name) and self._add(path) == "d":
                    waiting.append(path)

    def _is_internal(self, path: str, name: str) -> bool:
        """Return True for files of a running copy, and for notes of a shared store: they are not content."""
        if name == PARTIAL:
            self._add_halves(path)
            return True
        return path == STAGING or (self._is_hub and STORE_OWN.fullmatch(path) is not None)

    def _add_halves(self, folder: str) -> None:
        with os.scandir(self.full(folder)) as found:
            for entry in found:
                path = os.path.join(os.path.dirname(folder), entry.name)
                self.halves[path] = entry.stat(follow_symlinks=False).st_size

    def _add(self, path: str) -> str:
        """List one path; return its type: f, d, l, o for what cannot be copied, or "" if it does not exist."""
        try:
            found = os.lstat(self.full(path))
        except FileNotFoundError:
            return ""  # removed while we walk
        kind = KINDS.get(stat.S_IFMT(found.st_mode), "o")
        entry = {
            "path": path,
            "type": kind,
            "mode": stat.S_IMODE(found.st_mode),
            "uid": found.st_uid,
            "gid": found.st_gid,
            "mtime": found.st_mtime_ns,
        }
        if kind == "f":
            entry["size"] = found.st_size
            if found.st_blocks * 512 < found.st_size:
                entry["sparse"] = True
            if found.st_nlink > 1:
                entry["inode"] = found.st_ino
        if kind == "l":
            entry |= self._link(path)
            self._links.append(path)
        self.entries[path] = entry
        return kind

    def _link(self, path: str) -> dict[str, str]:
        target = os.readlink(self.full(path))
        end = os.path.realpath(self.full(path))
        inside = end == self.root or end.startswith(self.root + "/")
        stays = inside and self._stays_inside(target)
        state = "dangling" if not os.path.exists(end) else "inside" if stays else "outside"
        blob = os.path.relpath(end, self.root) if inside else ""
        if self._is_hub and STORE_BLOB.fullmatch(blob) and os.path.basename(os.path.dirname(path)) == "blobs":
            self.references[blob].append(path)
        return {"target": target, "state": state}

    def _stays_inside(self, target: str) -> bool:
        """Return True unless a link is absolute and leads out of the folder that will hold the copy."""
        there = self.job.get("copied_to")
        return not there or not target.startswith("/") or f"{os.path.normpath(target)}/".startswith(f"{there}/")


def excluded_in(folder: str, patterns: tuple[str, ...]) -> re.Pattern[str]:
    """Return what matches the names in a folder that these patterns of the shell exclude.

    A pattern means names anywhere or, with a leading slash, whole paths. Its `*` never stands for a slash.
    """
    above = [] if folder == "." else folder.split("/")
    names = []
    for pattern in patterns:
        *folders, name = pattern.removeprefix("/").split("/")
        if not pattern.startswith("/") or (
            len(folders) == len(above) and all(map(fnmatch.fnmatchcase, above, folders))
        ):
            names.append(name)
    return _any_of(tuple(names))


@functools.cache
def _any_of(names: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(map(fnmatch.translate, names)) or r"(?!)")  # (?!) matches nothing
