"""What a listing says of a folder beside its entries: digests, counts, texts."""

from __future__ import annotations

import fnmatch
import hashlib
import os
import stat
from typing import Any

from gb10.programs.copying.places import WORKSHOP
from gb10.programs.room import free_bytes
from gb10.programs.tree.store import CLASSIC_BLOB, is_noted
from gb10.programs.tree.walk import Walk

READ_BYTES = 64 << 20

Entry = dict[str, Any]


def summary(walk: Walk) -> dict[str, Any]:
    """Return what was found, with a digest of all that a copy must have, and one with times instead of content."""
    entries = list(walk.entries.values())
    wanted = sorted((e for e in entries if e["type"] != "o"), key=lambda entry: str(entry["path"]))
    shape = ["\0".join((e["path"], e["type"], str(e.get("size")), str(e.get("target")))) for e in wanted]
    references = sorted(walk.references.items())
    return {
        "root": walk.root,
        "digest": digest(shape, [str(e.get("sha256")) for e in wanted]),
        "version": digest(shape, [str(e["mtime"]) for e in wanted if e["type"] == "f"]),
        "unreferenced": [blob for blob, links in references if not is_noted(walk.full(blob), links)],
        "references": {blob: sorted(links) for blob, links in references},
        "free": free_bytes(walk.root),
        **({} if walk.job.get("brief") else details(walk, entries)),
        **counts(entries),
    }


def details(walk: Walk, entries: list[Entry]) -> dict[str, Any]:
    """Return the entries, the root itself, texts, and what copies have not completed."""
    patterns = walk.job.get("read", [])
    texts = [entry["path"] for entry in entries if entry["type"] in "fl" and is_matched(entry["path"], patterns)]
    return {
        "entries": entries,
        "top": top(walk.root),
        "texts": {path: text(walk.full(path)) for path in texts},
        "parts": parts(walk.full(WORKSHOP)),
        "halves": walk.halves,
    }


def counts(entries: list[Entry]) -> dict[str, Any]:
    """Return how much there is, and what is wrong with it."""
    files = [entry for entry in entries if entry["type"] == "f"]
    return {
        "file_count": len(files),
        "size": sum({entry.get("inode", entry["path"]): entry["size"] for entry in files}.values()),
        "links": sum(entry["type"] == "l" for entry in entries),
        "broken": [e["path"] for e in entries if e["type"] == "l" and e["state"] != "inside"],
        "damaged": [e["path"] for e in files if is_damaged(e)],
        "unread": [e["path"] for e in files if e.get("sha256", "") is None],
    }


def top(root: str) -> Entry:
    """Return the root itself, which is not listed if only some paths are."""
    found = os.stat(root)
    owner = {"uid": found.st_uid, "gid": found.st_gid}
    return {"path": ".", "type": "d", "mode": stat.S_IMODE(found.st_mode), "mtime": found.st_mtime_ns, **owner}


def is_matched(path: str, patterns: list[str]) -> bool:
    """Return True if a path is one that a pattern of the shell means."""
    return any(fnmatch.fnmatchcase(path, pattern) for pattern in patterns)


def text(path: str) -> str | None:
    """Return the text of a small file, or None if it cannot be read."""
    try:
        with open(path, errors="surrogateescape") as file:
            return file.read(READ_BYTES)
    except OSError:
        return None


def parts(workshop: str) -> dict[str, int]:
    """Return key -> bytes that have arrived, of files that a copy has not completed."""
    found = {}
    for name in os.listdir(workshop) if os.path.isdir(workshop) else []:
        if name.endswith(".map") and os.path.exists(os.path.join(workshop, f"{name[:-4]}.part")):
            with open(os.path.join(workshop, name)) as notes:
                ranges = [line.split() for line in notes.read().splitlines()[1:]]
            found[name[:-4]] = sum(int(length) for _, length in ranges)
    return found


def digest(shape: list[str], more: list[str]) -> str:
    """Return one digest of many texts."""
    return hashlib.sha256("\0".join(shape + more).encode(errors="surrogateescape")).hexdigest()


def is_damaged(entry: Entry) -> bool:
    """Return True if a file's name says what its content hashes to, and it does not."""
    match = CLASSIC_BLOB.fullmatch(entry["path"])
    return bool(match and entry.get("sha256") and entry["sha256"] != match[1])
