"""Copies between nodes: running ones, and the proof of a complete one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gb10.facts.reading.tree import Entry, Tree, shown
from gb10.facts.reading.values import FactValue


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
class CopyProof(FactValue):
    """The proof that a copy is complete, or the reasons why it is not. Paths are printable.

    `digest` stands for the whole listing: two proofs of the same content have the same one.
    """

    source: str  # node:folder
    target: str
    files: int
    bytes: int
    links: int
    hashed: bool
    digest: str
    missing: tuple[str, ...] = ()  # on the target
    different: tuple[str, ...] = ()  # in type, size, where a link leads, or (hashed) in content
    broken_links: tuple[str, ...] = ()  # do not resolve inside the target's folder
    damaged: tuple[str, ...] = ()  # content is not what the name of the file says, already on the source
    unread: tuple[str, ...] = ()  # node:path of what should have been read (hashed) and could not be
    unnoted: tuple[str, ...] = ()  # shared blobs that the target's store may remove too early
    allowed: tuple[str, ...] = field(default=())  # links that are broken on the source too, and were allowed to be

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

    def to_json(self) -> dict[str, Any]:
        return {**super().to_json(), "holds": self.holds}


def prove_copy(
    source: Tree, target: Tree, names: tuple[str, str], hashed: bool, allow_broken: bool
) -> CopyProof | None:
    """Given both listings, made after the copy, return the proof; None where brief listings do not suffice.

    + names: what to call both nodes
    + hashed: whether the listings were made with the content of all files
    + allow_broken: links that are broken on the source may be so on the target

    The target may hold more. Times and owners prove nothing, and are not compared.
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
