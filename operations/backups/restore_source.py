"""The controller's copy of a backup, for a restore: decrypted, and read whole before anything of it is believed."""

from __future__ import annotations

import errno
import functools
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO, cast

from gb10.operations.backups import age
from gb10.programs import archive
from gb10.programs.archive import ID, ArchiveError, Manifest, Member, shown
from gb10.programs.backups import store as backup_store

LATEST = "latest"
HELD_BYTES = 256 << 10  # of a file whose content the controller looks at


@dataclass(frozen=True)
class Backup:
    """A backup that was read whole, and is what its summary says."""

    path: Path
    manifest: Manifest = field(repr=False)
    identity_file: str | None = None
    proven: bool = False  # some copy of it; it has been hashed here since, so that each speaks for it
    reasons: tuple[str, ...] = ()  # what the last proof of this copy said against it
    is_latest: bool = False  # nobody named it
    passed_over: tuple[str, ...] = ()  # newer ones, of which no copy is proven

    @property
    def id(self) -> str:
        return self.manifest.id

    @contextmanager
    def opened(self) -> Iterator[BinaryIO]:
        """The archive, decrypted: where it has to be, in a file without a name that ends with the block."""
        with _opened(self.path, self.identity_file) as stream:
            yield stream

    def before_wipe(self) -> str | None:
        """The newest proven backup of the same machine as another node: with other host keys, of another installation.

        None where there is none: then this one is of a node that has been restored, or was never wiped.
        """
        root, node = str(self.path.parent.parent), self.path.parent.name
        older = [one for one in backup_store.ids(root, node) if _is_newer(self.id, one)]
        older.sort(key=backup_store.made_at, reverse=True)
        for one in backup_store.same_machine(root, node, [self.id, *older])[1:]:
            if _is_proven(root, node, one) and _installation(root, node, one) != _installation(root, node, self.id):
                return None if self._has_keys_of(one) else one
        return None

    def _has_keys_of(self, other: str) -> bool:
        root, node = str(self.path.parent.parent), self.path.parent.name
        try:
            return host_keys(open_backup(root, node, other, self.identity_file).manifest) == host_keys(self.manifest)
        except ArchiveError:
            return False

    def contents(self, chosen: Callable[[Member], bool]) -> dict[str, bytes]:
        """Return the content of those small files of the backup that are chosen, by their name in it."""
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
    """Return a backup of the controller. Raise ArchiveError where there is none, or it is not what somebody made.

    + root: where the controller keeps backups
    + node: whose newest proven one is meant by "latest"; without any the newest
    + wanted: "latest", or the id of one, of whatever node
    + identity_file: age's, for encrypted ones
    """
    match = ID.fullmatch(wanted)
    node = match["node"] if match else node
    found = latest(root, node) if wanted == LATEST else wanted
    if found is None or found not in backup_store.ids(root, node):
        raise ArchiveError(
            "BACKUP_MISSING", f"the controller keeps no backup {'' if found is None else shown(found) + ' '}of {node}"
        )
    summary = backup_store.read_summary(root, node, found)
    path = Path(root) / node / backup_store.archive_name(summary)
    try:
        backup = _checked(path, path.stat().st_mtime_ns, identity_file)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise ArchiveError("KEEPER_FULL", f"there is no room to decrypt it in {path.parent}") from None
        raise archive.damaged(f"it cannot be read: {error.strerror}") from None
    own = next(
        (one for one in backup_store.evidence(root, node, found) if one.get("where") == backup_store.CONTROLLER), {}
    )
    return replace(
        backup,
        proven=_is_proven(root, node, found),
        reasons=tuple(own.get("reasons", ())),
        is_latest=wanted == LATEST,
        passed_over=tuple(one for one in backup_store.ids(root, node) if wanted == LATEST and _is_newer(one, found)),
    )


def latest(root: str, node: str) -> str | None:
    """The id of the newest backup of a node that is proven; without any, of the newest; None where there is none."""
    proven = [backup for backup in backup_store.ids(root, node) if _is_proven(root, node, backup)]
    return max(proven, key=backup_store.made_at, default=backup_store.newest(root, node))


def _is_newer(backup: str, other: str) -> bool:
    return backup_store.made_at(backup) > backup_store.made_at(other)


def host_keys(manifest: Manifest) -> dict[str | None, str]:
    """The digests of the public host keys in a backup, by path."""
    return {
        member.node_path: member.sha256
        for member in manifest.members
        if (member.node_path or "").startswith("/etc/ssh/ssh_host_") and member.path.endswith(".pub")
    }


def _is_proven(root: str, node: str, backup: str) -> bool:
    """Whether a copy of the archive was proven, in whatever place: who opens this one hashes it."""
    places = {str(one.get("where")) for one in backup_store.evidence(root, node, backup)}
    return any(backup_store.is_proven(root, node, backup, where) for where in places)


def _installation(root: str, node: str, backup: str) -> Any:
    """The machine-id that a backup is of."""
    return (backup_store.read_summary(root, node, backup).get("machine") or {}).get("machine_id")


@functools.lru_cache(maxsize=4)
def _checked(path: Path, mtime: int, identity_file: str | None) -> Backup:
    """Read a backup whole, once for each version of its file."""
    backup = path.name.partition(".tar.gz")[0]
    summary = backup_store.read_summary(str(path.parent.parent), path.parent.name, backup)
    if (summary["size"], summary["sha256"]) != (path.stat().st_size, archive.file_digest(str(path))):
        raise archive.damaged("it is not the file of which its summary tells")
    with _opened(path, identity_file) as stream:
        manifest = archive.check(stream)
    archive.agree(manifest, summary)
    if manifest.id != backup:
        raise archive.damaged(f"it calls itself {shown(manifest.id)}")
    return Backup(path, manifest, identity_file)


@contextmanager
def _opened(path: Path, identity_file: str | None) -> Iterator[BinaryIO]:
    with path.open("rb") as file:
        if path.suffix != age.SUFFIX:
            yield file
            return
        with tempfile.TemporaryFile(dir=path.parent) as plain:
            age.decrypt(file, plain, identity_file)
            plain.seek(0)
            yield cast(BinaryIO, plain)
