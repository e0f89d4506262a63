"""The manifest of a backup, in the archive, and its summary, beside the archive.

The manifest names the members, the node, and what was left out. The summary is what may be known of a backup without
opening it: nothing secret.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, cast

from gb10.programs.answer import RefusedError

FORMAT = 1
MANIFEST = "MANIFEST.json"
ROOT = "root"  # folder of the node's own files
OWN = "gb10"  # folder of descriptions of the node
PARTS = ("identity", "users", "network", "docker", "k3s", "system", "serving", "inventory-of", "extra")
SUMMARIZED = ("role", "machine", "versions")  # of `about`
TEXTS = ("id", "node", "created", "sha256", "manifest_sha256")


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
        """The path on the node, or None for a description of the node."""
        return self.path.removeprefix(ROOT) if self.path.startswith(f"{ROOT}/") else None

    @property
    def is_climbing(self) -> bool:
        """True for a link that leads above the root folder: harmless on a node, but not where it is unpacked."""
        depth = 0 if self.target.startswith("/") else self.path.count("/") - 1
        for part in self.target.split("/"):
            depth += -1 if part == ".." else 0 if part in ("", ".") else 1
            if depth < 0:
                return True
        return False

    def to_json(self) -> dict[str, Any]:
        """Return the member as it is written in a manifest."""
        document = asdict(self)
        owner = document.pop("owner")
        return {**document, **owner}


@dataclass(frozen=True)
class Note:
    """A difference between the backup and the node. One that harms makes the backup incomplete."""

    path: str
    text: str
    harms: bool = False


@dataclass(frozen=True)
class Manifest:
    """The contents of a backup and the node it is of. programs/backups/making.py says what is in `about`."""

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
        """Return the manifest as it is written in the archive. Equal manifests have equal bytes."""
        members = [member.to_json() for member in self.members]
        document = {**vars(self), "members": members, "notes": [vars(note) for note in self.notes]}
        return json.dumps(document, sort_keys=True, separators=(",", ":")).encode() + b"\n"

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.encoded()).hexdigest()


def decoded(content: bytes) -> Manifest:
    """Return the manifest with these bytes. Raise RefusedError if there is none, or in a newer format."""
    try:
        found = json.loads(content)
        version = found["format"]
        if not isinstance(version, int) or version > FORMAT:
            raise _newer(version)
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
    """Return True if all values have the types that a writer gives them. It may raise what `decoded` catches."""
    for member in manifest.members:
        for content in member.xattrs.values():
            base64.b64decode(content, validate=True)
        if not (_has_kinds(member) and _has_kinds(member.owner)):
            return False
    notes = all(isinstance(note.path, str) and isinstance(note.text, str) for note in manifest.notes)
    texts = all(isinstance(text, str) for text in (manifest.id, manifest.node, manifest.created))
    return notes and texts and _is_about(manifest.about)


def _has_kinds(value: Member | Owner) -> bool:
    return all(type(getattr(value, one.name)) is _KINDS[str(one.type)] for one in fields(value))


def _is_about(about: Any) -> bool:
    """Return True if the description of a node has lists and names in all places that are read."""
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


def damaged(reason: str) -> RefusedError:
    """Return the error for an archive that has changed, or that gb10 did not make."""
    return RefusedError("BACKUP_DAMAGED", reason)


def _newer(version: object) -> RefusedError:
    text = f"its format is version {version!r}, and this gb10 knows version {FORMAT}: install a newer one"
    return RefusedError("BACKUP_NEWER", text)


def shown(text: str) -> str:
    """Return text with any bytes as one printable line."""
    printable = text.encode(errors="surrogateescape").decode(errors="backslashreplace")
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in printable)


def summary_of(manifest: Manifest, sha256: str, size: int, encrypted: bool) -> dict[str, Any]:
    """Return the summary of a backup. The digest and the size are those of the archive as it is kept."""
    return {
        "format": manifest.format,
        "id": manifest.id,
        "node": manifest.node,
        "created": manifest.created,
        "sha256": sha256,
        "size": size,
        "manifest_sha256": manifest.sha256,
        "encrypted": encrypted,
        "parts": list(manifest.parts),
        "members": len(manifest.members),
        "notes": len(manifest.notes),
        **{name: manifest.about.get(name) for name in SUMMARIZED},
    }


def encode_summary(summary: Mapping[str, Any]) -> bytes:
    """Return a summary as it is written in its file."""
    return json.dumps(summary, sort_keys=True, indent=1).encode() + b"\n"


def decode_summary(content: bytes) -> dict[str, Any]:
    """Return the summary with this content. Raise RefusedError if gb10 did not write it."""
    try:
        found = json.loads(content)
        if isinstance(found, dict) and isinstance(found.get("format"), int) and found["format"] > FORMAT:
            raise _newer(found["format"])
        whole = (
            isinstance(found, dict)
            and encode_summary(found) == content
            and all(isinstance(found.get(name), str) for name in TEXTS)
            and isinstance(found.get("size"), int)
            and isinstance(found.get("encrypted"), bool)
            and _is_about(found)
        )
    except (ValueError, RecursionError):
        whole = False
    if not whole:
        raise damaged("its summary is not as it was written")
    return cast(dict[str, Any], found)


def agree(manifest: Manifest, summary: Mapping[str, Any]) -> None:
    """Raise RefusedError if a summary does not describe this manifest."""
    if manifest.sha256 != summary["manifest_sha256"]:
        raise damaged("its manifest is not the one that its summary names")
    if summary_of(manifest, summary["sha256"], summary["size"], summary["encrypted"]) != summary:
        raise damaged("its summary describes another backup")
