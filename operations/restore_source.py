"""The controller's copy of a backup, for a restore: decrypted, and read whole before anything of it is believed."""

from __future__ import annotations

import functools
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, cast

from gb10.operations import age, archive, backup_store
from gb10.operations.archive import ID, ArchiveError, Manifest, Member, shown

LATEST = "latest"
HELD_BYTES = 256 << 10  # of a file whose content the controller looks at


@dataclass(frozen=True)
class Backup:
    """A backup that was read whole, and is what its summary says."""

    path: Path
    manifest: Manifest = field(repr=False)
    identity_file: str | None = None

    @property
    def id(self) -> str:
        return self.manifest.id

    @contextmanager
    def opened(self) -> Iterator[BinaryIO]:
        """The archive, decrypted: where it has to be, in a file without a name that ends with the block."""
        with _opened(self.path, self.identity_file) as stream:
            yield stream

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
    + node: whose newest one is meant by "latest"
    + wanted: "latest", or the id of one, of whatever node
    + identity_file: age's, for encrypted ones
    """
    match = ID.fullmatch(wanted)
    node = match["node"] if match else node
    found = backup_store.newest(root, node) if wanted == LATEST else wanted
    if found is None or found not in backup_store.ids(root, node):
        raise ArchiveError(
            "BACKUP_MISSING", f"the controller keeps no backup {'' if found is None else shown(found) + ' '}of {node}"
        )
    summary = backup_store.read_summary(root, node, found)
    path = Path(root) / node / backup_store.archive_name(summary)
    try:
        stat = path.stat()
        return _checked(path, stat.st_mtime_ns, identity_file)
    except OSError as error:
        raise archive.damaged(f"it cannot be read: {error.strerror}") from None


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
