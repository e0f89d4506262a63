"""The manifest of a backup: its members, the node, and what was left out."""

from __future__ import annotations

import base64
import calendar
import hashlib
import json
import re
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from gb10.programs.answer import RefusedError

FORMAT = 1
MANIFEST = "MANIFEST.json"
ROOT = "root"  # the room of the node's own files
OWN = "gb10"  # the room of what was written down about it
PARTS = ("identity", "users", "network", "docker", "k3s", "system", "serving", "inventory-of", "extra")
ID = re.compile(r"(?P<node>[A-Za-z0-9][A-Za-z0-9._-]*)-(?P<when>\d{8}T\d{6}Z)")
TYPES = {"f": "file", "d": "folder", "l": "link", "h": "further name"}


@dataclass(frozen=True)
class Owner:
    """The owner of a file, by number and by name."""

    uid: int
    gid: int
    user: str  # "" if the node has no name for the number
    group: str


@dataclass(frozen=True)
class Member:
    """One member. Paths and owners may hold any bytes: they are text with surrogate escapes."""

    path: str  # in the archive: root/etc/hostname
    part: str
    type: str  # f, d, l (a symbolic link), or h (a further name of a file before it)
    mode: int
    owner: Owner
    mtime: int  # nanoseconds since the epoch
    size: int = 0  # bytes of a file
    sha256: str = ""  # of a file
    target: str = ""  # where a link leads; of a further name, the member that has the content
    xattrs: Mapping[str, str] = field(default_factory=dict)  # name -> content in base64

    @property
    def node_path(self) -> str | None:
        """The path on the node, or None for what only describes the node."""
        return self.path.removeprefix(ROOT) if self.path.startswith(f"{ROOT}/") else None

    def document(self) -> dict[str, Any]:
        """Return the member as a manifest has it."""
        told = asdict(self)
        owner = told.pop("owner")
        return {**told, **owner}


@dataclass(frozen=True)
class Note:
    """What is not in the backup as it is on the node. With one that harms, the backup is incomplete."""

    path: str
    text: str
    harms: bool = False


@dataclass(frozen=True)
class Manifest:
    """What a backup holds, and of which node. programs/backups/maker.py says what is in `about`."""

    id: str
    node: str
    created: str  # UTC: 2026-11-23T20:15:00Z
    about: Mapping[str, Any]
    members: tuple[Member, ...]
    notes: tuple[Note, ...] = ()
    format: int = FORMAT

    @property
    def parts(self) -> tuple[str, ...]:
        """The parts that have members, in the order of PARTS."""
        there = {member.part for member in self.members}
        return tuple(part for part in PARTS if part in there)

    def encoded(self) -> bytes:
        """Return the manifest as it stands in the archive: equal manifests have equal bytes."""
        members = [member.document() for member in self.members]
        told = {**vars(self), "members": members, "notes": [vars(note) for note in self.notes]}
        return json.dumps(told, sort_keys=True, separators=(",", ":")).encode() + b"\n"

    @property
    def sha256(self) -> str:
        """The digest of the manifest."""
        return hashlib.sha256(self.encoded()).hexdigest()


def decoded(content: bytes) -> Manifest:
    """Given the bytes of a manifest, return it. Raise RefusedError for anything else, and for a newer format."""
    try:
        found = json.loads(content)
        version = found["format"]
        if not isinstance(version, int) or version > FORMAT:
            raise newer(f"version {version!r}")
        members = tuple(_member(member) for member in found.pop("members"))
        notes = tuple(Note(**note) for note in found.pop("notes"))
        manifest = Manifest(**found, members=members, notes=notes)
        same = manifest.encoded() == content and _is_plain(manifest)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise damaged(f"its manifest cannot be read ({type(error).__name__})") from None
    if not same:
        raise damaged("its manifest is not as it was written")
    return manifest


def _member(found: dict[str, Any]) -> Member:
    owner = Owner(**{name: found.pop(name) for name in _OWNER})
    return Member(**found, owner=owner)


_OWNER = tuple(one.name for one in fields(Owner))
_KINDS: Mapping[str, type] = {"str": str, "int": int, "Owner": Owner, "Mapping[str, str]": dict}


def _is_plain(manifest: Manifest) -> bool:
    """Return True if all values of a manifest have the types that a writer gives them.

    It may raise what `decoded` catches.
    """
    for member in manifest.members:
        for content in member.xattrs.values():
            base64.b64decode(content, validate=True)
        if not (_has_kinds(member) and _has_kinds(member.owner)):
            return False
    notes = all(isinstance(note.path, str) and isinstance(note.text, str) for note in manifest.notes)
    told = all(isinstance(text, str) for text in (manifest.id, manifest.node, manifest.created))
    return notes and told and is_about(manifest.about)


def _has_kinds(value: Member | Owner) -> bool:
    return all(type(getattr(value, one.name)) is _KINDS[str(one.type)] for one in fields(value))


def is_about(about: Any) -> bool:
    """Return True if what a backup says of its node has lists and names wherever they are read."""
    if not isinstance(about, dict):
        return False
    machine, versions, cluster = (about.get(name) or {} for name in ("machine", "versions", "cluster"))
    if not all(isinstance(one, dict) for one in (machine, versions, cluster)):
        return False
    macs, lists = machine.get("macs") or {}, [names for names in cluster.values() if isinstance(names, list)]
    words = [machine.get("architecture"), machine.get("machine_id"), versions.get("k3s"), about.get("role")]
    words += macs.values() if isinstance(macs, dict) else [macs]
    words += [name for names in lists for name in names]
    return len(lists) == len(cluster) and all(word is None or isinstance(word, str) for word in words)


def seconds(created: str) -> float:
    """Given when a backup was created, return seconds since the epoch. Raise ValueError for anything else."""
    return float(calendar.timegm(time.strptime(created, "%Y-%m-%dT%H:%M:%SZ")))


def damaged(reason: str) -> RefusedError:
    """Return the refusal of an archive that has changed, or that gb10 did not make."""
    return RefusedError("BACKUP_DAMAGED", reason)


def newer(version: str) -> RefusedError:
    """Return the refusal of a backup in a newer format."""
    return RefusedError(
        "BACKUP_NEWER", f"its format is {version}, and this gb10 knows version {FORMAT}: install a newer one"
    )


def shown(text: str) -> str:
    """Given text of any bytes, return it printable, in one line."""
    printable = text.encode(errors="surrogateescape").decode(errors="backslashreplace")
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in printable)
