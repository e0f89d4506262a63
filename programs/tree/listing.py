"""The listing of a folder.

The contract: file names are bytes that may be anything but a slash. Here they are text with surrogate escapes. Paths
are relative to the root, which itself is ".".
"""

from __future__ import annotations

import fnmatch
import gc
import grp
import hashlib
import os
import pwd
import stat
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from gb10.programs.answer import Outlet
from gb10.programs.copying.names import STAGING
from gb10.programs.digests import sha256_of_all
from gb10.programs.files import free_bytes, sha256_of
from gb10.programs.tree.walk import CLASSIC_BLOB, Entry, Walk

TEXT_BYTES = 64 << 20  # of a file whose text is wanted


def main(job: dict[str, Any], outlet: Outlet) -> dict[str, Any]:
    """List job["root"]; if there is no such folder, return what is known without it.

    The job may also have

    + paths: list only these below the root, and what their links reach
    + also: more of them, where they exist
    + exclude: patterns of names to leave out, as the shell matches them; with a leading slash, whole paths
    + read: patterns of paths of small files whose text is wanted
    + hash: add the sha256 of every file
    + remembered: do not read a file again that has not changed since its sha256 was last remembered
    + brief: leave the entries out
    + copied_to: folder that will hold a copy: an absolute link that does not lead into it leads outside
    """
    gc.disable()  # nothing that is made here can be freed before the end
    with open("/etc/machine-id") as file:
        machine = file.read().strip()
    node = {
        "machine": machine,
        "users": {user.pw_uid: user.pw_name for user in reversed(pwd.getpwall())},
        "groups": {group.gr_gid: group.gr_name for group in reversed(grp.getgrall())},
        "free": free_bytes(job["root"]),
    }
    if not os.path.isdir(job["root"]):
        return {**node, "absent": True}
    walk = Walk(job)
    if missing := walk.run():
        return {**node, "root": walk.root, "missing": missing}
    if job.get("remembered"):
        remember_files(walk, outlet)
    elif job.get("hash"):
        hash_files(walk)
    return {**node, **summary(walk)}


def hash_files(walk: Walk) -> None:
    """Add the sha256 of every file, None if it cannot be read. Each core hashes a file, the largest come first."""
    files = sorted((entry for entry in walk.entries.values() if entry["type"] == "f"), key=lambda entry: -entry["size"])
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        digests = pool.map(lambda entry: _sha256(walk.full(entry["path"])), files)
        for entry, digest in zip(files, digests, strict=True):
            entry["sha256"] = digest


def remember_files(walk: Walk, outlet: Outlet) -> None:
    """Add the sha256 of every file, None if it cannot be read."""
    files = {walk.full(entry["path"]): entry for entry in walk.entries.values() if entry["type"] == "f"}
    for path, digest in sha256_of_all(files, outlet).items():
        files[path]["sha256"] = digest


def _sha256(path: str) -> str | None:
    try:
        return sha256_of(path)
    except OSError:
        return None


def summary(walk: Walk) -> dict[str, Any]:
    """Return what was found, with one digest of all that a copy must have, and one of the times of all files."""
    entries = list(walk.entries.values())
    wanted = sorted((e for e in entries if e["type"] != "o"), key=lambda entry: str(entry["path"]))
    shape = ["\0".join((e["path"], e["type"], str(e.get("size")), str(e.get("target")))) for e in wanted]
    files = [entry for entry in entries if entry["type"] == "f"]
    references = sorted(walk.references.items())
    return {
        "root": walk.root,
        "digest": _digest(shape, [str(e.get("sha256")) for e in wanted]),
        "version": _digest(shape, [str(e["mtime"]) for e in wanted if e["type"] == "f"]),
        "unreferenced": [blob for blob, links in references if not _is_noted(walk.full(blob), links)],
        "references": {blob: sorted(links) for blob, links in references},
        **({} if walk.job.get("brief") else _details(walk, entries)),
        "file_count": len(files),
        "size": sum({entry.get("inode", entry["path"]): entry["size"] for entry in files}.values()),
        "links": sum(entry["type"] == "l" for entry in entries),
        "broken": [e["path"] for e in entries if e["type"] == "l" and e["state"] != "inside"],
        "damaged": [e["path"] for e in files if _is_damaged(e)],
        "unread": [e["path"] for e in files if e.get("sha256", "") is None],
    }


def _digest(shape: list[str], more: list[str]) -> str:
    return hashlib.sha256("\0".join(shape + more).encode(errors="surrogateescape")).hexdigest()


def _is_noted(blob: str, links: list[str]) -> bool:
    """Return True if the shared store's notes of a blob, given by its full path, name all of these links."""
    try:
        with open(f"{blob}.refs", errors="surrogateescape") as notes:
            return set(links) <= set(notes.read().splitlines())
    except OSError:
        return False


def _is_damaged(file: Entry) -> bool:
    """Return True if the name of a file is a sha256, but not that of its content."""
    match = CLASSIC_BLOB.fullmatch(file["path"])
    return bool(match and file.get("sha256") and file["sha256"] != match[1])


def _details(walk: Walk, entries: list[Entry]) -> dict[str, Any]:
    """Return the entries, the root itself, the wanted texts, and what interrupted copies have left."""
    paths = [entry["path"] for entry in entries if entry["type"] in "fl"]
    patterns = walk.job.get("read", [])
    wanted = [path for path in paths if any(fnmatch.fnmatchcase(path, pattern) for pattern in patterns)]
    return {
        "entries": entries,
        "top": _top(walk.root),
        "texts": {path: _text(walk.full(path)) for path in wanted},
        "parts": _parts(walk.full(STAGING)),
        "halves": walk.halves,
    }


def _top(root: str) -> Entry:
    """Return the root as an entry: a listing of some paths does not have it."""
    found = os.stat(root)
    owner = {"uid": found.st_uid, "gid": found.st_gid}
    return {"path": ".", "type": "d", "mode": stat.S_IMODE(found.st_mode), "mtime": found.st_mtime_ns, **owner}


def _text(path: str) -> str | None:
    try:
        with open(path, errors="surrogateescape") as file:
            return file.read(TEXT_BYTES)
    except OSError:
        return None


def _parts(folder: str) -> dict[str, int]:
    """Return key -> bytes that have arrived, for each file that a copy has not completed."""
    found = {}
    for name in os.listdir(folder) if os.path.isdir(folder) else []:
        if name.endswith(".map") and os.path.exists(os.path.join(folder, f"{name[:-4]}.part")):
            with open(os.path.join(folder, name)) as notes:
                ranges = [line.split() for line in notes.read().splitlines()[1:]]
            found[name[:-4]] = sum(int(length) for _, length in ranges)
    return found
