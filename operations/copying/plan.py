"""Plan of a copy: what is to be sent, and how. Pure functions of the listings of both nodes."""

from __future__ import annotations

import hashlib
import heapq
import itertools
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gb10.facts.reading.copy import Entry, Tree, shown

LARGE_BYTES = 16 << 20  # a file of this size or more goes in pieces over all streams
ENTRY_BYTES = 64 << 10  # the cost of a file beside its content, expressed in bytes
SLICES_PER_STREAM = 8
SPARE_BYTES = 64 << 20  # free space that a copy leaves on the target
SHOWN = 5

# A file whose name is a digest of its content never changes, whatever its time says (caches of huggingface_hub).
NAMED_BY_CONTENT = re.compile(
    r"(?:(?:models|datasets|spaces)--[^/]+/blobs/[0-9a-f]{40,64}|blobs/[0-9a-f]{2}/[0-9a-f]{64})"
)


@dataclass(frozen=True)
class CopyPlan:
    """The work that is left. Paths are relative to both roots."""

    large: tuple[Entry, ...] = ()  # sent in pieces
    small: tuple[Entry, ...] = ()  # sent in bundles
    compared: tuple[Entry, ...] = ()  # sent by rsync, as far as they differ
    finish: tuple[str, ...] = ()  # folders, links and attributes: set last
    references: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # to note in the target's shared store
    stale: tuple[str, ...] = ()  # keys of parts that belong to another version of a file
    halves: tuple[str, ...] = ()  # paths of files that an earlier copy over ssh sent in part; this one does not use ssh
    arrived: int = 0  # bytes of large files that an earlier copy has sent
    room: int = 0  # bytes that must be free on the target
    again: bool = False  # some files are sent although they look the same

    @property
    def is_empty(self) -> bool:
        return not (self.sent or self.finish or self.references)

    @property
    def sent(self) -> tuple[Entry, ...]:
        """The files that may have to be sent, whole or in part."""
        return (*self.large, *self.small, *self.compared)

    @property
    def size(self) -> int:
        """Bytes to be sent."""
        return sum(entry.size for entry in self.sent) - self.arrived

    @property
    def count(self) -> int:
        """Files to be sent."""
        return len(self.sent)


def plan_copy(source: Tree, target: Tree, distrusted: frozenset[str] = frozenset(), by_rsync: bool = False) -> CopyPlan:
    """Given the listings of source and target, return what is left to do.

    + distrusted: paths, as `shown` prints them, whose content is sent in any case
    + by_rsync: rsync sends all files, so parts of large ones that have arrived do not count
    """
    there = {path: entry for path, entry in target.by_path().items() if shown(path) not in distrusted}
    owners = _owner_maps(source, target)
    first_names = {entry.inode: entry.path for entry in reversed(source.files) if entry.inode is not None}
    first = [e for e in source.files if e.inode is None or first_names[e.inode] == e.path]
    send = [entry for entry in first if not _has_content(there.get(entry.path), entry)]
    # One that has the right size and another time may well be the same: rsync looks before it sends.
    compared = [entry for entry in send if by_rsync or _is_alike(there.get(entry.path), entry)]
    paths = {entry.path for entry in compared}
    own = [entry for entry in send if entry.path not in paths]
    large = [entry for entry in own if entry.size >= LARGE_BYTES or entry.sparse]
    wanted = {entry.path for entry in send}
    known = {entry.path for entry in source.entries if _is_as_wanted(there.get(entry.path), entry, owners)}
    linked = _linked_otherwise(source, there)
    open_paths = [e for e in source.entries if e.type != "o" and (e.path not in known or e.path in wanted | linked)]
    arrived = {entry.path: min(target.parts.get(part_key(entry), 0), entry.size) for entry in large}
    halves = {} if not by_rsync else {e.path: min(target.halves.get(e.path, 0), e.size) for e in send}
    return CopyPlan(
        large=tuple(large),
        small=tuple(entry for entry in own if entry.size < LARGE_BYTES and not entry.sparse),
        compared=tuple(compared),
        finish=_finish(source, open_paths, {entry.path for entry in send if entry.inode is None}),
        references={blob: source.references[blob] for blob in _unnoted(source, target)},
        stale=tuple(sorted(_other_versions(large, target))),
        halves=() if by_rsync else tuple(target.halves),
        arrived=sum(arrived.values()),
        again=bool(distrusted),
        room=sum(e.size - arrived.get(e.path, halves.get(e.path, 0)) for e in send) + (SPARE_BYTES if send else 0),
    )


def conflicts(source: Tree, target: Tree) -> tuple[str, ...]:
    """Return the paths that are a folder on one node and something else on the other.

    A file replaces anything else in its place, but a folder may hold the only copy of something.
    """
    there = target.by_path()
    return tuple(
        entry.path
        for entry in source.entries
        if entry.type != "o"
        and entry.path in there
        and "d" in (types := {entry.type, there[entry.path].type})
        and len(types) > 1
    )


def spread(files: Iterable[Entry], streams: int) -> tuple[tuple[Entry, ...], ...]:
    """Divide files into one list for each stream, with about the same work in each.

    Files of one folder stay together as far as possible: streams that write into one folder wait for each other.
    """
    slices = _slices(sorted(files, key=lambda entry: entry.path), streams * SLICES_PER_STREAM)
    lists: list[list[Entry]] = [[] for _ in range(streams)]
    loads = [(0, number) for number in range(streams)]
    for found in sorted(slices, key=lambda found: -_load(found)):
        load, number = heapq.heappop(loads)
        lists[number] += found
        heapq.heappush(loads, (load + _load(found), number))
    return tuple(tuple(found) for found in lists if found)


def _slices(files: Sequence[Entry], count: int) -> list[list[Entry]]:
    """Cut files, in the order of their paths, into slices of one folder each, of at most 1/`count` of all work."""
    most = _load(files) / count
    slices: list[list[Entry]] = []
    folder, load = "", 0
    for entry in files:
        here = entry.path.rpartition("/")[0]
        if not slices or here != folder or load + _load([entry]) > most:
            slices.append([])
            folder, load = here, 0
        slices[-1].append(entry)
        load += _load([entry])
    return slices


def _load(files: Iterable[Entry]) -> int:
    return sum(entry.size + ENTRY_BYTES for entry in files)


def part_key(entry: Entry) -> str:
    """Return the name under which a large file arrives. It belongs to this version of the file alone."""
    version = json.dumps([entry.path, entry.size, entry.mtime])
    return f"{_path_key(entry.path)}-{hashlib.sha256(version.encode()).hexdigest()[:16]}"


def owner_map(source: Mapping[int, str], target: Mapping[int, str]) -> dict[int, int]:
    """Given the names of ids on both nodes, return the source's id -> the target's id.

    Ids are matched by name if the target has that name, otherwise by number.
    """
    ids = {name: number for number, name in target.items()}
    return {number: ids.get(name, number) for number, name in source.items()}


def describe(plan: CopyPlan) -> str:
    """Return what a plan does, in one line."""
    parts = []
    if plan.count:
        resumed = f" ({human(plan.arrived)} of them have arrived before)" if plan.arrived else ""
        parts.append(f"{plan.count} files, {human(plan.size)}{resumed}")
    if plan.finish:
        parts.append(f"{len(plan.finish)} folders, links and attributes")
    if plan.references:
        parts.append(f"{len(plan.references)} notes in the shared store")
    return ", ".join(parts) or "nothing"


def human(count: float) -> str:
    """Return a number of bytes as people read it: 1.5 GiB."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def named(paths: Sequence[str]) -> str:
    """Return the first few paths, printable, and how many more there are."""
    more = f" and {len(paths) - SHOWN} more" if len(paths) > SHOWN else ""
    return ", ".join(shown(path) for path in paths[:SHOWN]) + more


def _has_content(there: Entry | None, entry: Entry) -> bool:
    if there is None or not _is_alike(there, entry):
        return False
    return there.mtime == entry.mtime or NAMED_BY_CONTENT.fullmatch(entry.path) is not None


def _is_alike(there: Entry | None, entry: Entry) -> bool:
    return there is not None and there.type == "f" and there.size == entry.size


def _is_as_wanted(there: Entry | None, entry: Entry, owners: tuple[dict[int, int], dict[int, int]]) -> bool:
    if there is None or there.type != entry.type:
        return False
    if entry.type == "f" and NAMED_BY_CONTENT.fullmatch(entry.path) and there.size == entry.size:
        return True  # it belongs to the target and may have other owners
    owned = (owners[0].get(entry.uid, entry.uid), owners[1].get(entry.gid, entry.gid)) == (there.uid, there.gid)
    if entry.type == "l":
        return owned and there.target == entry.target
    # The time of a folder changes with everything that is put into it.
    return owned and there.mode == entry.mode and (entry.type == "d" or _has_content(there, entry))


def _linked_otherwise(source: Tree, there: Mapping[str, Entry]) -> set[str]:
    """Return the names of files with several names, if the target does not have all of them as one file."""
    groups: dict[int, list[str]] = {}
    for entry in source.files:
        if entry.inode:
            groups.setdefault(entry.inode, []).append(entry.path)
    found: set[str] = set()
    for paths in groups.values():
        inodes = {there[path].inode if path in there else None for path in paths}
        if len(paths) > 1 and (len(inodes) > 1 or None in inodes):
            found.update(paths)
    return found


def _finish(source: Tree, open_paths: Sequence[Entry], whole: set[str]) -> tuple[str, ...]:
    """Return the paths for the last rsync: what differs, all names of its files, and the folders above.

    + whole: files that get their attributes with their content, so only their folders are on the list
    """
    inodes = {entry.inode for entry in open_paths if entry.inode}
    paths = {entry.path for entry in open_paths} | {e.path for e in source.files if e.inode and e.inode in inodes}
    folders = {folder for path in paths for folder in _parents(path)}
    return tuple(e.path for e in source.entries if e.path in folders or (e.path in paths and e.path not in whole))


def changed(before: Tree, now: Tree) -> tuple[str, ...]:
    """Return the paths that differ between two listings of one folder."""
    old, new = before.by_path(), now.by_path()
    return tuple(path for path in {**old, **new} if _version(old.get(path)) != _version(new.get(path)))


def _version(entry: Entry | None) -> tuple[object, ...]:
    """Return what must not change during a copy. The time of a folder says nothing that its entries do not."""
    if entry is None:
        return ()
    return (entry.type, entry.size, entry.target, entry.mtime if entry.type == "f" else None)


def _parents(path: str) -> Iterable[str]:
    return itertools.accumulate(path.split("/")[:-1], "{}/{}".format)


def _unnoted(source: Tree, target: Tree) -> list[str]:
    """Return the shared blobs of which the target does not note all links that the source has."""
    noted = {blob: set(links) for blob, links in target.references.items() if blob not in target.unreferenced}
    return [blob for blob, links in source.references.items() if blob not in noted or not set(links) <= noted[blob]]


def _other_versions(large: Sequence[Entry], target: Tree) -> set[str]:
    wanted = {part_key(entry) for entry in large}
    prefixes = {_path_key(entry.path) for entry in large}
    return {key for key in target.parts if key.split("-")[0] in prefixes and key not in wanted}


def _path_key(path: str) -> str:
    return hashlib.sha256(path.encode(errors="surrogateescape")).hexdigest()[:16]


def file_jobs(files: Iterable[Entry], source: Tree, target: Tree) -> list[dict[str, Any]]:
    """Return files as both programs expect them, with the owners on the target."""
    users, groups = _owner_maps(source, target)
    return [
        {
            "path": entry.path,
            "size": entry.size,
            "mtime": entry.mtime,
            "mode": entry.mode,
            "uid": users.get(entry.uid, entry.uid),
            "gid": groups.get(entry.gid, entry.gid),
        }
        for entry in files
    ]


def large_jobs(plan: CopyPlan, source: Tree, target: Tree) -> list[dict[str, Any]]:
    """Return the large files of a plan, with the names under which they arrive."""
    return [
        {**job, "sparse": entry.sparse, "key": part_key(entry)}
        for entry, job in zip(plan.large, file_jobs(plan.large, source, target), strict=True)
    ]


def owner_options(source: Tree, target: Tree) -> list[str]:
    """Return the options by which rsync gives files to the same users and groups if their numbers differ."""
    options = []
    for option, numbers in zip(("usermap", "groupmap"), _owner_maps(source, target), strict=True):
        changed = [f"{one}:{other}" for one, other in numbers.items() if one != other]
        if changed:
            options.append(f"--{option}={','.join(changed)}")
    return options


def _owner_maps(source: Tree, target: Tree) -> tuple[dict[int, int], dict[int, int]]:
    return owner_map(source.users, target.users), owner_map(source.groups, target.groups)
