"""A folder of a node with everything in it, and copies of folders between nodes.

Paths are relative to the root and may hold whatever a file name may hold; bytes that are no UTF-8 come as surrogate
escapes. `shown` makes such a name printable.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gb10.facts.reading.values import FactValue

LISTS = ("missing", "broken", "damaged", "unread", "unreferenced")  # of a tree, beside its entries
# Where a Hugging Face hub keeps its locks. A lock file of a snapshot (uv.lock, poetry.lock) is a file of the model.
LOCKS = ("/.locks", "/*--*/blobs/*.lock", "/*--*/blobs/*.lock.soft")
# Never copied: incomplete downloads, locks, and links that are being made.
UNFINISHED = ("*.incomplete", *LOCKS, ".*.shared")


@dataclass(frozen=True)
class EntryAttributes(FactValue):
    """What every file, folder and link has."""

    path: str
    type: str  # f, d, l, or o for what cannot be copied
    mode: int
    uid: int
    gid: int
    mtime: int  # nanoseconds since the epoch


@dataclass(frozen=True)
class Entry(EntryAttributes):
    """One file, folder or link."""

    size: int = 0  # bytes of a file
    sparse: bool = False  # it has holes
    inode: int | None = None  # of a file that has several names
    target: str | None = None  # of a link
    state: str | None = None  # of a link: "inside" the root, "outside" of it, or "dangling"
    sha256: str | None = None  # where it was asked for


@dataclass(frozen=True)
class TreeSummary(FactValue):
    """A folder, in numbers.

    `digest` stands for all that a copy must have: paths, types, sizes, where links lead and, where it was asked for,
    the content; `version` for the times of files instead of their content.
    """

    root: str
    free: int  # bytes that root's file system has left, or that of the nearest folder if the root is absent
    machine: str = ""  # the node's machine-id
    digest: str = ""
    version: str = ""
    file_count: int = 0
    size: int = 0  # bytes of its files; a file with several names counts once
    links: int = 0
    absent: bool = False


@dataclass(frozen=True)
class TreeFaults(TreeSummary):
    """A folder, and the paths in it that a copy could not have."""

    broken: tuple[str, ...] = ()  # links that do not resolve inside the root
    damaged: tuple[str, ...] = ()  # files whose content does not match the sha256 in their name
    unread: tuple[str, ...] = ()  # files whose content was asked for, and could not be read
    missing: tuple[str, ...] = ()  # of the paths that were asked for; then nothing else is listed
    unreferenced: tuple[str, ...] = ()  # blobs whose links are not all noted in the shared store


@dataclass(frozen=True)
class Tree(TreeFaults):
    """A folder, and everything in it."""

    top: Entry | None = None  # the root itself
    entries: tuple[Entry, ...] = ()
    users: Mapping[int, str] = field(default_factory=dict)  # of the node, by number
    groups: Mapping[int, str] = field(default_factory=dict)
    references: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # blob of a shared store -> links to it
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


@dataclass(frozen=True)
class RunningCopy(FactValue):
    """A copy that this node receives now. Bytes are those of the files' content."""

    id: str
    root: str  # folder on this node
    source: str | None  # folder on the other one; None until its sender has come
    peer: str | None
    sent: int
    total: int
    seconds: float
    rails: Mapping[str, int]  # rail -> bytes


def read_running(found: dict[str, Any]) -> RunningCopy:
    now = found["now"]
    return RunningCopy(
        id=found["id"],
        root=found["root"],
        source=now.get("source"),
        peer=now.get("peer"),
        sent=int(now.get("sent", 0)),
        total=int(now.get("total", 0)),
        seconds=float(now.get("seconds", 0)),
        rails={name: int(count) for name, count in now.get("rails", {}).items()},
    )


@dataclass(frozen=True)
class CopyFaults(FactValue):
    """The reasons why a copy is not complete. Paths are printable."""

    missing: tuple[str, ...] = ()  # on the target
    different: tuple[str, ...] = ()  # in type, size, where a link leads, or (hashed) in content
    broken_links: tuple[str, ...] = ()  # do not resolve inside the target's folder
    damaged: tuple[str, ...] = ()  # content does not match the digest in the name, already on the source
    unread: tuple[str, ...] = ()  # node:path of files that could not be read for hashing
    unnoted: tuple[str, ...] = ()  # shared blobs that the target's store may remove too early
    allowed: tuple[str, ...] = ()  # links that are broken on the source too, and were allowed to be

    @property
    def holds(self) -> bool:
        """True if the copy is complete."""
        return not self.faults

    @property
    def faults(self) -> tuple[str, ...]:
        """The reasons why it is not complete."""
        found = {
            "missing": self.missing,
            "different": self.different,
            "links that lead nowhere": self.broken_links,
            "damaged on the source": self.damaged,
            "that could not be read": self.unread,
            "not noted in the shared store": self.unnoted,
        }
        return tuple(f"{len(paths)} {what}: {_first(paths)}" for what, paths in found.items() if paths)


@dataclass(frozen=True, kw_only=True)
class CopyProof(CopyFaults):
    """The proof that a copy is complete, or the reasons why it is not.

    `digest` stands for the whole listing: two proofs of the same content have the same one.
    """

    source: str  # node:folder
    target: str
    files: int
    bytes: int
    links: int
    hashed: bool
    digest: str

    also = ("holds",)


def prove_copy(
    source: Tree, target: Tree, names: tuple[str, str], hashed: bool, allow_broken: bool
) -> CopyProof | None:
    """Given both listings, made after the copy, return the proof; None where brief listings do not suffice.

    + names: of both nodes
    + hashed: the listings have the digests of all files
    + allow_broken: links that are broken on the source may be broken on the target

    The target may hold more. Times and owners are not compared.
    """
    there = target.by_path()
    wanted = [entry for entry in source.entries if entry.type != "o"]
    if source.digest != target.digest and not source.entries:
        return None
    allowed = source.broken if allow_broken else ()
    selected = source.by_path() or dict.fromkeys((*target.broken, *target.unread))
    return CopyProof(
        source=f"{names[0]}:{source.root}",
        target=f"{names[1]}:{target.root}",
        files=source.file_count,
        bytes=source.size,
        links=source.links,
        hashed=hashed,
        digest=source.digest,
        missing=_shown(entry.path for entry in wanted if entry.path not in there),
        different=_shown(e.path for e in wanted if e.path in there and _differs(e, there[e.path])),
        broken_links=_shown(path for path in target.broken if path in selected and path not in allowed),
        damaged=_shown(source.damaged),
        unread=_unread(names[0], source.unread) + _unread(names[1], [p for p in target.unread if p in selected]),
        unnoted=_shown(blob for blob in target.unreferenced if blob in source.references),
        allowed=_shown(allowed),
    )


def _differs(one: Entry, other: Entry) -> bool:
    return (one.type, one.size, one.target) != (other.type, other.size, other.target) or (
        one.sha256 is not None and one.sha256 != other.sha256
    )


def _unread(node: str, paths: Sequence[str]) -> tuple[str, ...]:
    return tuple(f"{node}:{path}" for path in _shown(paths))


def _shown(paths: Any) -> tuple[str, ...]:
    return tuple(shown(path) for path in paths)


def _first(paths: Sequence[str]) -> str:
    return ", ".join(paths[:3]) + (" ..." if len(paths) > 3 else "")
