"""The Hugging Face cache of a node: its models, and if they are complete.

The layout is that of huggingface_hub: hub/models--org--name/{refs,blobs,snapshots,trees}. Since 1.32 the content of
most files lies in a store that all repositories share, hub/blobs, and a repository's own blobs are links into it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from gb10.facts.reading.copy import Entry, Tree, shown
from gb10.facts.reading.values import FactValue

KINDS = {"models": "model", "datasets": "dataset", "spaces": "space"}
FOLDER = re.compile(r"(?P<kind>models|datasets|spaces)--(?P<name>.+)")
SHA256 = re.compile(r"blobs/[0-9a-f]{64}")  # a file of Git LFS; others are named by their Git hash
LISTING_VERSION = 1  # of trees/<commit>.json (huggingface_hub, _tree_cache.py)
# What belongs to the hub as a whole, and is needed beside any of its models.
HUB_FILES = ("blobs/.huggingface-shared-blobs", "CACHEDIR.TAG")


@dataclass(frozen=True)
class Revision(FactValue):
    """One snapshot of a repository. `size` is in bytes, of the files that its links lead to."""

    commit: str
    refs: tuple[str, ...]  # branches and tags that point to it
    files: int
    size: int
    dangling: tuple[str, ...]  # links that lead nowhere
    torn: tuple[str, ...]  # not of the size in the repository's own listing
    absent: tuple[str, ...] | None  # listed but not here, perhaps on purpose; None without a listing

    @property
    def sound(self) -> bool:
        """True if all files that are here are whole. Files of the repository may be absent."""
        return not self.dangling and not self.torn

    @property
    def complete(self) -> bool:
        """True if it is sound and no file is known to be absent."""
        return self.sound and not self.absent

    also = ("sound", "complete")


@dataclass(frozen=True)
class Repository(FactValue):
    """One repository of the cache. Sizes are in bytes."""

    name: str  # as on the Hub: org/name
    kind: str  # model, dataset or space
    folder: str  # below the hub
    size: int  # all revisions, with what lies in the shared store
    shared_blobs: int
    shared_size: int
    revisions: tuple[Revision, ...]
    incomplete_downloads: int

    @property
    def sound(self) -> bool:
        """True if every revision is sound."""
        return bool(self.revisions) and all(revision.sound for revision in self.revisions)

    @property
    def complete(self) -> bool:
        """True if every revision is complete, and no download is unfinished."""
        return not self.incomplete_downloads and all(revision.complete for revision in self.revisions) and self.sound

    also = ("sound", "complete")


@dataclass(frozen=True)
class HuggingFaceCache(FactValue):
    """A hub."""

    root: str
    shared_store: bool
    repositories: tuple[Repository, ...]

    def repository(self, name: str, kind: str = "model") -> Repository | None:
        """Given a name as on the Hub, return that repository, or None."""
        return next((r for r in self.repositories if (r.name, r.kind) == (name, kind)), None)


@dataclass(frozen=True)
class Content(FactValue):
    """The content of all revisions of a repository."""

    digests: Mapping[str, str | None]  # path below the hub -> sha256, or None if it could not be read
    damaged: tuple[str, ...]  # blobs below the hub whose sha256 is not their name
    files: Mapping[str, str] = field(default_factory=dict)  # path -> the file below the hub to which it leads


def folder_name(name: str, kind: str = "model") -> str:
    """Given a name as on the Hub, return the repository's folder below the hub."""
    return f"{kind}s--{name.replace('/', '--')}"


def read_cache(tree: Tree) -> HuggingFaceCache:
    """Read the cache from the listing of its hub, with SMALL_FILES."""
    entries = tree.by_path()
    members: dict[str, list[Entry]] = {}
    for entry in tree.entries:
        folder, slash, _ = entry.path.partition("/")
        if slash and FOLDER.fullmatch(folder):
            members.setdefault(folder, []).append(entry)
    return HuggingFaceCache(
        root=tree.root,
        shared_store=HUB_FILES[0] in entries,
        repositories=tuple(_repository(folder, found, entries, tree) for folder, found in sorted(members.items())),
    )


def read_contents(tree: Tree) -> dict[str, Content]:
    """Return folder -> content of the repositories in the listing of a hub with the sha256 of its files."""
    entries = tree.by_path()
    digests: dict[str, dict[str, str | None]] = {}
    damaged: dict[str, list[str]] = {}
    files: dict[str, dict[str, str]] = {}
    for entry in tree.entries:
        folder, _, path = entry.path.partition("/")
        end = None if entry.type == "d" or not FOLDER.fullmatch(folder) else _end(entry, entries)
        if end:
            files.setdefault(folder, {})[entry.path] = end.path
        if path.startswith("snapshots/") and entry.type != "d":
            digests.setdefault(folder, {})[entry.path] = end.sha256 if end else None
        elif end and SHA256.fullmatch(path) and end.sha256 != path.rpartition("/")[2]:
            damaged.setdefault(folder, []).append(entry.path)
    return {
        folder: Content(found, tuple(damaged.get(folder, ())), files.get(folder, {}))
        for folder, found in digests.items()
    }


def _repository(folder: str, members: list[Entry], entries: Mapping[str, Entry], tree: Tree) -> Repository:
    match = FOLDER.fullmatch(folder)
    assert match is not None  # noqa: S101 - for mypy: the caller has looked
    whole = [entry for entry in members if not entry.path.endswith(".incomplete")]
    ends = {end.path: end for entry in whole if (end := _end(entry, entries)) and end.type == "f"}
    shared = [end for path, end in ends.items() if not path.startswith(f"{folder}/")]
    refs = _refs(folder, tree.texts)
    snapshots = _snapshots(folder, members)
    return Repository(
        name=shown(match["name"].replace("--", "/", 1)),
        kind=KINDS[match["kind"]],
        folder=folder,
        size=sum(end.size for end in ends.values()),
        shared_blobs=len(shared),
        shared_size=sum(end.size for end in shared),
        revisions=tuple(
            _revision(commit, found, refs.get(commit, ()), entries, _listing(folder, commit, tree.texts))
            for commit, found in sorted(snapshots.items())
        ),
        incomplete_downloads=len(members) - len(whole),
    )


def _snapshots(folder: str, members: Iterable[Entry]) -> dict[str, dict[str, Entry]]:
    """Commit -> path within the snapshot -> entry."""
    found: dict[str, dict[str, Entry]] = {}
    for entry in members:
        parts = entry.path.removeprefix(f"{folder}/").split("/", 2)
        if parts[0] == "snapshots" and len(parts) > 1:
            files = found.setdefault(parts[1], {})
            if len(parts) == 3 and entry.type != "d":
                files[parts[2]] = entry
    return found


def _revision(
    commit: str,
    files: Mapping[str, Entry],
    refs: tuple[str, ...],
    entries: Mapping[str, Entry],
    listing: Mapping[str, int] | None,
) -> Revision:
    ends = {path: _end(entry, entries) for path, entry in files.items()}
    sizes = {path: end.size for path, end in ends.items() if end}
    listed = listing or {}
    return Revision(
        commit=commit,
        refs=refs,
        files=len(files),
        size=sum({end.path: end.size for end in ends.values() if end}.values()),
        dangling=tuple(shown(path) for path, end in ends.items() if end is None),
        torn=tuple(shown(path) for path, size in sizes.items() if listed.get(path, size) != size),
        absent=None if listing is None else tuple(shown(path) for path in listing if path not in files),
    )


def _end(entry: Entry | None, entries: Mapping[str, Entry]) -> Entry | None:
    """Given an entry, follow its links; return what they lead to, or None where that is nothing of the hub."""
    for _ in range(8):
        if entry is None or entry.type != "l":
            return entry
        entry = entries.get(_normal(entry.path.rpartition("/")[0], entry.target or ""))
    return None


def _normal(folder: str, target: str) -> str:
    parts: list[str] = []
    for part in [*folder.split("/"), *target.split("/")]:
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    return "/".join(parts) if not target.startswith("/") else target


def _refs(folder: str, texts: Mapping[str, str | None]) -> dict[str, tuple[str, ...]]:
    """Commit -> the names that mean it."""
    found: dict[str, tuple[str, ...]] = {}
    start = f"{folder}/refs/"
    for path, text in sorted(texts.items()):
        if path.startswith(start) and text:
            found[text.strip()] = (*found.get(text.strip(), ()), shown(path.removeprefix(start)))
    return found


def _listing(folder: str, commit: str, texts: Mapping[str, str | None]) -> dict[str, int] | None:
    """Path -> size, as the Hub lists the revision; None where that is not kept, or in a format that we do not know."""
    text = texts.get(f"{folder}/trees/{commit}.json")
    try:
        document = json.loads(text or "")
        if document["format_version"] != LISTING_VERSION:
            return None
        return {path: int(file.get("lfs_size") or file["size"]) for path, file in document["files"].items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
