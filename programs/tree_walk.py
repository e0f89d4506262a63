"""A folder with everything in it, as one listing that can be planned with, compared and proven.

This file runs on the nodes, as text for their own python3: standard library only.

    python3 tree_walk.py JOB      print the listing: JSON, deflated, in base64

JOB is JSON with "root", and of these what is wanted: "paths" (only these below root, and what their links reach),
"also" (more of them, where they exist), "exclude" (names that are left out, as the shell matches them; with a leading
slash, whole paths below root), "read" (paths, as the shell matches them, of small files whose text is listed), "hash"
(sha256 of every file, many at a time), "brief" (what all of it comes to, without the entries) and "copied_to" (where a
copy of it will lie: an absolute link that does not lead into that folder leads outside).

The contract: names are bytes on a node, and may be anything but a slash. Here they are text with surrogate escapes, and
always relative to the root, which itself is ".".
"""

import base64
import collections
import fnmatch
import functools
import gc
import grp
import hashlib
import json
import os
import pwd
import re
import select
import stat
import sys
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

WORKSHOP = ".gb10-copy"  # where a copy into this folder keeps what is not complete
PARTIAL = ".gb10-partial"  # where rsync over ssh does, beside the file
STORE_BLOB = re.compile(r"blobs/[0-9a-f]{2}/[0-9a-f]{64}")
CLASSIC_BLOB = re.compile(r"(?:models|datasets|spaces)--[^/]+/blobs/([0-9a-f]{64})")
STORE_MARKER = "blobs/.huggingface-shared-blobs"
STORE_OWN = re.compile(
    STORE_BLOB.pattern + r"\.(refs|lock(\.soft)?)|blobs/\.huggingface-shared-blobs\.[0-9a-f]{8}\.tmp"
)
READ_BYTES = 64 << 20
BUFFER_BYTES = 4 << 20
LINE = 64 * 1024


class Walk:
    """One listing of one folder."""

    def __init__(self, job: dict[str, Any]) -> None:
        self.root = os.path.realpath(job["root"])
        self.job = job
        self.entries: dict[str, dict[str, Any]] = {}
        self.halves: dict[str, int] = {}  # path -> bytes, of files that came by ssh in part
        self.links: list[str] = []  # that have been listed, and not yet followed
        self.references: dict[str, list[str]] = collections.defaultdict(list)
        # Beside a shared store of blobs lies what its owner notes about them: it is merged, never copied.
        self.is_hub = os.path.isfile(self.full(STORE_MARKER))

    def full(self, path: str) -> str:
        return self.root if path == "." else f"{self.root}/{path}"

    def run(self) -> dict[str, Any]:
        """List what the job wants; return what cannot be listed, if there is such."""
        paths = self.job.get("paths")
        if paths is None:
            self.add(".")
            self.descend(".")
        else:
            missing = [path for path in paths if not os.path.lexists(self.full(path))]
            if missing:
                return {"root": self.root, "missing": missing, "free": free_bytes(self.root)}
            present = [path for path in self.job.get("also", []) if os.path.lexists(self.full(path))]
            self.reach([*paths, *present])
        return {}

    def result(self) -> dict[str, Any]:
        """What was found, with what it comes to: a digest of all that a copy must have, and one with times."""
        entries = list(self.entries.values())
        wanted = sorted((e for e in entries if e["type"] != "o"), key=lambda entry: str(entry["path"]))
        shape = ["\0".join((e["path"], e["type"], str(e.get("size")), str(e.get("target")))) for e in wanted]
        content = [str(e.get("sha256")) for e in wanted]
        times = [str(e["mtime"]) for e in wanted if e["type"] == "f"]
        return {
            "root": self.root,
            "digest": digest(shape, content),
            "version": digest(shape, times),
            "unreferenced": [blob for blob, links in sorted(self.references.items()) if not self.is_noted(blob, links)],
            "references": {blob: sorted(links) for blob, links in sorted(self.references.items())},
            "free": free_bytes(self.root),
            **({} if self.job.get("brief") else self.details(entries)),
            **self.counts(entries),
        }

    def details(self, entries: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "entries": entries,
            "top": self.top(),
            "texts": {path: self.text(path) for path in self.entries if self.is_wanted_text(path)},
            "parts": self.parts(),
            "halves": self.halves,
        }

    def counts(self, entries: list[dict[str, Any]]) -> dict[str, Any]:
        files = [entry for entry in entries if entry["type"] == "f"]
        return {
            "file_count": len(files),
            "size": sum({entry.get("inode", entry["path"]): entry["size"] for entry in files}.values()),
            "links": sum(entry["type"] == "l" for entry in entries),
            "broken": [e["path"] for e in entries if e["type"] == "l" and e["state"] != "inside"],
            "damaged": [e["path"] for e in files if is_damaged(e)],
            "unread": [e["path"] for e in files if e.get("sha256", "") is None],
        }

    def top(self) -> dict[str, Any]:
        """The root itself, which is not listed where only some paths are."""
        found = os.stat(self.root)
        owner = {"uid": found.st_uid, "gid": found.st_gid}
        return {"path": ".", "type": "d", "mode": stat.S_IMODE(found.st_mode), "mtime": found.st_mtime_ns, **owner}

    def reach(self, paths: list[str]) -> None:
        """Add some paths with all below them, and whatever their links lead to inside the root."""
        waiting = collections.deque(os.path.normpath(path) for path in paths)
        while waiting:
            path = waiting.popleft()
            if path in self.entries:
                continue
            self.add_parents(path)
            if self.add(path) == "d":
                self.descend(path)
            while self.links:
                waiting += self.next_hop(self.links.pop())

    def add_parents(self, path: str) -> None:
        folder = os.path.dirname(path)
        if folder and folder not in self.entries:
            self.add_parents(folder)
            self.add(folder)

    def next_hop(self, link: str) -> Iterator[str]:
        """Where a link leads, without following the links there; nothing if that is outside, or does not exist."""
        target = os.path.join(os.path.dirname(self.full(link)), os.readlink(self.full(link)))
        place = os.path.join(os.path.realpath(os.path.dirname(target)), os.path.basename(target))
        if place.startswith(self.root + "/") and os.path.lexists(place) and os.path.basename(target) not in ("", ".."):
            yield os.path.relpath(place, self.root)

    def descend(self, folder: str) -> None:
        waiting = [folder]
        while waiting:
            folder = waiting.pop()
            excluded = excluded_in(folder, tuple(self.job.get("exclude", ())))
            with os.scandir(self.full(folder)) as found:
                names = sorted(entry.name for entry in found)
            for name in names:
                path = name if folder == "." else f"{folder}/{name}"
                if not excluded.match(name) and not self.is_ours(path, name) and self.add(path) == "d":
                    waiting.append(path)

    def is_ours(self, path: str, name: str) -> bool:
        """Whether it belongs to a copy under way, or to the owner of a store, and to nobody's content."""
        if name == PARTIAL:
            self.add_halves(path)
            return True
        return path == WORKSHOP or (self.is_hub and STORE_OWN.fullmatch(path) is not None)

    def add_halves(self, folder: str) -> None:
        with os.scandir(self.full(folder)) as found:
            for entry in found:
                path = os.path.join(os.path.dirname(folder), entry.name)
                self.halves[path] = entry.stat(follow_symlinks=False).st_size

    def add(self, path: str) -> str:
        """List one path; return its type: f, d, l, or o for what cannot be copied."""
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
            entry |= self.link(path)
            self.links.append(path)
        self.entries[path] = entry
        return kind

    def link(self, path: str) -> dict[str, str]:
        target = os.readlink(self.full(path))
        end = os.path.realpath(self.full(path))
        inside = end == self.root or end.startswith(self.root + "/")
        stays = inside and self.stays_inside(target)
        state = "dangling" if not os.path.exists(end) else "inside" if stays else "outside"
        blob = os.path.relpath(end, self.root) if inside else ""
        if self.is_hub and STORE_BLOB.fullmatch(blob) and os.path.basename(os.path.dirname(path)) == "blobs":
            self.references[blob].append(path)
        return {"target": target, "state": state}

    def stays_inside(self, target: str) -> bool:
        """Whether a link leads inside also where the listing's copy will lie: an absolute one knows but one place."""
        there = self.job.get("copied_to")
        return not there or not target.startswith("/") or f"{os.path.normpath(target)}/".startswith(f"{there}/")

    def is_noted(self, blob: str, links: list[str]) -> bool:
        try:
            with open(self.full(blob) + ".refs", errors="surrogateescape") as notes:
                return set(links) <= set(notes.read().splitlines())
        except OSError:
            return False

    def is_wanted_text(self, path: str) -> bool:
        return self.entries[path]["type"] in "fl" and any(
            fnmatch.fnmatchcase(path, pattern) for pattern in self.job.get("read", [])
        )

    def text(self, path: str) -> str | None:
        try:
            with open(self.full(path), errors="surrogateescape") as file:
                return file.read(READ_BYTES)
        except OSError:
            return None

    def parts(self) -> dict[str, int]:
        """Key -> bytes that have arrived, of files that a copy has not completed."""
        found = {}
        workshop = self.full(WORKSHOP)
        for name in os.listdir(workshop) if os.path.isdir(workshop) else []:
            if name.endswith(".map") and os.path.exists(os.path.join(workshop, name[:-4] + ".part")):
                with open(os.path.join(workshop, name)) as notes:
                    ranges = [line.split() for line in notes.read().splitlines()[1:]]
                found[name[:-4]] = sum(int(length) for _, length in ranges)
        return found

    def hash(self) -> None:
        """Add the sha256 of every file, the largest first: hashing needs a core for each."""
        files = sorted((e for e in self.entries.values() if e["type"] == "f"), key=lambda e: -e["size"])
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for entry, digest in zip(files, pool.map(lambda e: self.sha256(e["path"]), files), strict=True):
                entry["sha256"] = digest

    def sha256(self, path: str) -> str | None:
        digest, buffer = hashlib.sha256(), bytearray(BUFFER_BYTES)
        try:
            with open(self.full(path), "rb", buffering=0) as file:  # unbuffered: it is read in large pieces
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_SEQUENTIAL)
                while count := file.readinto(buffer):
                    end_without_reader()
                    digest.update(memoryview(buffer)[:count])
        except OSError:
            return None
        return digest.hexdigest()


KINDS = {stat.S_IFREG: "f", stat.S_IFDIR: "d", stat.S_IFLNK: "l"}
NOTHING = r"(?!)"


def end_without_reader() -> None:
    """End the program, from whatever thread, when nobody is there any more to read what it will print."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), select.POLLERR | select.POLLHUP)
    if poll.poll(0):
        os._exit(1)


def excluded_in(folder: str, patterns: tuple[str, ...]) -> "re.Pattern[str]":
    """Given a folder and patterns of the shell, return what matches the names in it that are left out.

    A pattern means names anywhere or, with a leading slash, whole paths: then `*` never stands for a slash.
    """
    above = [] if folder == "." else folder.split("/")
    names = []
    for pattern in patterns:
        *folders, name = pattern.removeprefix("/").split("/")
        if not pattern.startswith("/") or (
            len(folders) == len(above) and all(map(fnmatch.fnmatchcase, above, folders))
        ):
            names.append(name)
    return either(tuple(names))


@functools.cache
def either(names: tuple[str, ...]) -> "re.Pattern[str]":
    """What matches each name that one of some patterns of the shell means."""
    return re.compile("|".join(map(fnmatch.translate, names)) or NOTHING)


def digest(shape: list[str], more: list[str]) -> str:
    return hashlib.sha256("\0".join(shape + more).encode(errors="surrogateescape")).hexdigest()


def is_damaged(entry: dict[str, Any]) -> bool:
    """Whether a file's name says what its content hashes to, and it does not."""
    match = CLASSIC_BLOB.fullmatch(entry["path"])
    return bool(match and entry.get("sha256") and entry["sha256"] != match[1])


def machine() -> str:
    with open("/etc/machine-id") as file:
        return file.read().strip()


def free_bytes(folder: str) -> int:
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


def listing(job: dict[str, Any]) -> dict[str, Any]:
    """Given a job, return the listing; where there is no such folder, what is known without it."""
    node: dict[str, Any] = {
        "machine": machine(),
        "users": {user.pw_uid: user.pw_name for user in reversed(pwd.getpwall())},
        "groups": {group.gr_gid: group.gr_name for group in reversed(grp.getgrall())},
    }
    if not os.path.isdir(job["root"]):
        above = os.path.abspath(job["root"])
        while not os.path.isdir(above):
            above = os.path.dirname(above)
        return {**node, "absent": True, "free": free_bytes(above)}
    walk = Walk(job)
    if missing := walk.run():
        return {**node, **missing}
    if job.get("hash"):
        walk.hash()
    return {**node, **walk.result()}


def main(arguments: list[str]) -> None:
    """Do what the command line says."""
    gc.disable()  # all that is made here is wanted to the end
    text = json.dumps(listing(json.loads(arguments[0])), separators=(",", ":"))
    packed = base64.b64encode(zlib.compress(text.encode(), 1)).decode()
    for start in range(0, len(packed), LINE):
        print(packed[start : start + LINE])


if __name__ == "__main__":
    main(sys.argv[1:])
