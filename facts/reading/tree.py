"""A folder of a node with everything in it: what a copy is planned from, and what proves it.

The contract: paths are relative to the root, and may hold whatever a file name may hold; bytes that are no UTF-8 come
as surrogate escapes. `shown` makes such a name printable.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gb10.facts.reading.values import FactValue

LISTS = ("missing", "broken", "damaged", "unread", "unreferenced")  # of a tree, beside its entries
# Where a Hugging Face hub keeps its locks. A lock file of a snapshot (uv.lock, poetry.lock) is a file of the model.
LOCKS = ("/.locks", "/*--*/blobs/*.lock", "/*--*/blobs/*.lock.soft")
# What nobody wants on another node: downloads that are not complete, locks, and links that are being made.
UNFINISHED = ("*.incomplete", *LOCKS, ".*.shared")


@dataclass(frozen=True)
class Entry(FactValue):
    """One file, folder or link. Times in nanoseconds since the epoch."""

    path: str
    type: str  # f, d, l, or o for what cannot be copied
    mode: int
    uid: int
    gid: int
    mtime: int
    size: int = 0  # bytes of a file
    sparse: bool = False  # it has holes
    inode: int | None = None  # of a file that has several names
    target: str | None = None  # of a link
    state: str | None = None  # of a link: "inside" the root, "outside" of it, or "dangling"
    sha256: str | None = None  # where it was asked for


@dataclass(frozen=True)
class Tree(FactValue):
    """A listing. An absent folder has no entries, and `free` of the file system where it would be made.

    `digest` stands for all that a copy must have: paths, types, sizes, where links lead and, where it was asked for,
    the content; `version` for the times of files instead of their content.
    """

    root: str
    free: int  # bytes that root's file system has left
    machine: str = ""  # the node's machine-id
    digest: str = ""
    version: str = ""
    file_count: int = 0
    size: int = 0  # bytes of its files; a file with several names counts once
    links: int = 0
    broken: tuple[str, ...] = ()  # links that do not resolve inside the root
    damaged: tuple[str, ...] = ()  # files whose name tells their sha256, and that have another
    unread: tuple[str, ...] = ()  # files whose content was asked for, and could not be read
    absent: bool = False
    missing: tuple[str, ...] = ()  # of the paths that were asked for; then nothing else is listed
    top: Entry | None = None  # the root itself
    entries: tuple[Entry, ...] = ()
    users: Mapping[int, str] = field(default_factory=dict)  # of the node, by number
    groups: Mapping[int, str] = field(default_factory=dict)
    references: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # blob of a shared store -> links to it
    unreferenced: tuple[str, ...] = ()  # blobs of which the store does not note all of these links
    texts: Mapping[str, str | None] = field(default_factory=dict)
    halves: Mapping[str, int] = field(default_factory=dict)  # path -> bytes, of files that came by ssh in part
    parts: Mapping[str, int] = field(default_factory=dict)  # key -> bytes, of files that have arrived in part

    @property
    def files(self) -> tuple[Entry, ...]:
        return tuple(entry for entry in self.entries if entry.type == "f")

    def by_path(self) -> dict[str, Entry]:
        return {entry.path: entry for entry in self.entries}


def read_tree(answer: Mapping[str, Any]) -> Tree:
    """Given a listing by programs/tree/listing.py, return the tree. Raise an error for anything else."""
    found = dict(answer)
    lists: dict[str, Any] = {name: tuple(found.pop(name, ())) for name in LISTS}
    return Tree(
        root=found.pop("root", ""),
        top=Entry(**top) if (top := found.pop("top", None)) else None,
        entries=tuple(Entry(**entry) for entry in found.pop("entries", ())),
        users={int(number): name for number, name in found.pop("users").items()},
        groups={int(number): name for number, name in found.pop("groups").items()},
        references={blob: tuple(links) for blob, links in found.pop("references", {}).items()},
        **lists,
        **found,
    )


def shown(path: str) -> str:
    """Given a path of any bytes, return it printable, in one line."""
    text = path.encode(errors="surrogateescape").decode(errors="backslashreplace")
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
