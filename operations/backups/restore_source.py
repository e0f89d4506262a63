"""The controller's copy of a backup, for a restore: decrypted, and checked as a whole before anything of it is used."""

from __future__ import annotations

import functools
import tarfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

from gb10.operations.backups import age
from gb10.operations.backups.restore_plan import HOST_KEYS
from gb10.programs.answer import RefusedError
from gb10.programs.archive.files import FULL
from gb10.programs.archive.manifest import Manifest, Member, agree, damaged, shown
from gb10.programs.archive.reading import check
from gb10.programs.backups import store
from gb10.programs.backups.listing import ID
from gb10.programs.backups.store import is_proven, read_proofs, same_machine
from gb10.programs.files import sha256_of

LATEST = "latest"
HELD_BYTES = 256 << 10  # of a file whose content the controller looks at


@dataclass(frozen=True)
class Backup:
    """A backup that was checked as a whole, and agrees with its summary."""

    path: Path
    manifest: Manifest = field(repr=False)
    identity_file: str | None = None
    proven: bool = False  # by this controller
    reasons: tuple[str, ...] = ()  # faults that the last proof of this copy found
    is_latest: bool = False  # nobody named it
    passed_over: tuple[str, ...] = ()  # newer ones without a proven copy

    @property
    def id(self) -> str:
        return self.manifest.id

    def opened(self) -> AbstractContextManager[BinaryIO]:
        """The archive, decrypted."""
        return age.opened(self.path, self.identity_file)

    def before_wipe(self) -> str | None:
        """Return the newest older proven backup of the same machine that has other host keys and another installation.

        None if there is none: then this one is of a node that has been restored, or was never wiped.
        """
        root, node = str(self.path.parent.parent), self.path.parent.name
        installation = _installation(root, node, self.id)
        older = [one for one in store.ids(root, node) if _is_newer(self.id, one)]
        older.sort(key=store.made_at, reverse=True)
        for one in same_machine(root, node, [self.id, *older])[1:]:
            if not is_proven(root, node, one, store.CONTROLLER) or _installation(root, node, one) == installation:
                continue
            try:
                other = open_backup(root, node, one, self.identity_file)
            except RefusedError:
                return one
            return None if host_keys(other.manifest) == host_keys(self.manifest) else one
        return None

    def contents(self, chosen: Callable[[Member], bool]) -> dict[str, bytes]:
        """Return name in the backup -> content of the small files that are chosen."""
        names = {m.path for m in self.manifest.members if m.type == "f" and m.size <= HELD_BYTES and chosen(m)}
        found: dict[str, bytes] = {}
        with (
            self.opened() as stream,
            tarfile.open(fileobj=stream, mode="r:gz", encoding="utf-8", errors="surrogateescape") as tar,
        ):
            for header in tar:
                content = tar.extractfile(header) if header.name in names else None
                if content is not None:
                    found[header.name] = content.read()
        return found


def open_backup(root: str, node: str, wanted: str, identity_file: str | None) -> Backup:
    """Open a backup of the controller. Raise RefusedError if there is none, or it is damaged.

    + root: where the controller keeps backups
    + node: "latest" is the newest proven backup of this node, or without one the newest
    + wanted: "latest", or the id of a backup of any node
    + identity_file: the key of age for encrypted ones
    """
    match = ID.fullmatch(wanted)
    node = match["node"] if match else node
    found = latest(root, node) if wanted == LATEST else wanted
    if found is None or found not in store.ids(root, node):
        name = "" if found is None else f"{shown(found)} "
        raise RefusedError("BACKUP_MISSING", f"the controller keeps no backup {name}of {node}")
    summary = store.read_summary(root, node, found)
    path = Path(root) / node / store.archive_name(summary)
    try:
        backup = _checked(path, path.stat().st_mtime_ns, identity_file)
    except OSError as error:
        if error.errno in FULL:
            raise RefusedError("KEEPER_FULL", f"there is no room to decrypt it in {path.parent}") from None
        raise damaged(f"it cannot be read: {error.strerror}") from None
    own = next((one for one in read_proofs(root, node, found) if one.where == store.CONTROLLER), None)
    return replace(
        backup,
        proven=is_proven(root, node, found, store.CONTROLLER),
        reasons=own.texts if own else (),
        is_latest=wanted == LATEST,
        passed_over=tuple(one for one in store.ids(root, node) if wanted == LATEST and _is_newer(one, found)),
    )


def latest(root: str, node: str) -> str | None:
    """Return the id of the newest proven backup of a node; without any, of the newest; None if there is none."""
    proven = [backup for backup in store.ids(root, node) if is_proven(root, node, backup, store.CONTROLLER)]
    return max(proven, key=store.made_at, default=store.newest(root, node))


def _is_newer(backup: str, other: str) -> bool:
    return store.made_at(backup) > store.made_at(other)


def host_keys(manifest: Manifest) -> dict[str | None, str]:
    """Return the digests of the public host keys in a backup, by path."""
    return {
        member.node_path: member.sha256
        for member in manifest.members
        if (member.node_path or "").startswith(HOST_KEYS) and member.path.endswith(".pub")
    }


def _installation(root: str, node: str, backup: str) -> Any:
    """Return the machine-id of the installation that a backup is of."""
    return (store.read_summary(root, node, backup).get("machine") or {}).get("machine_id")


@functools.lru_cache(maxsize=4)
def _checked(path: Path, mtime: int, identity_file: str | None) -> Backup:
    """Check a backup as a whole, once for each version of its file."""
    backup = path.name.partition(".tar.gz")[0]
    summary = store.read_summary(str(path.parent.parent), path.parent.name, backup)
    if (summary["size"], summary["sha256"]) != (path.stat().st_size, sha256_of(str(path))):
        raise damaged("it is not the file that its summary describes")
    with age.opened(path, identity_file) as stream:
        manifest = check(stream)
    agree(manifest, summary)
    if manifest.id != backup:
        raise damaged(f"it calls itself {shown(manifest.id)}")
    return Backup(path, manifest, identity_file)
