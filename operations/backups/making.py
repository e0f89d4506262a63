"""Backups on their way: from the node to the controller, from there to other nodes, and back to the controller."""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BufferedIOBase
from typing import Any, BinaryIO, cast

from pyinfra.api import Host, State

from gb10.facts.backups import Backups
from gb10.facts.docker import DockerEngine
from gb10.facts.identity import DgxRelease, NodeIdentity
from gb10.facts.k3s import K3sInstall
from gb10.facts.reading.backups import BackupCopy
from gb10.facts.reading.launcher import Launch
from gb10.facts.reading.reports import report
from gb10.operations.backups import age
from gb10.operations.backups.reports import Kept, Made, Remark, Transferred
from gb10.operations.kit.operation import known, say
from gb10.operations.kit.peers import peer_fact, run_stream
from gb10.programs.answer import RefusedError
from gb10.programs.archive.files import CHUNK, FULL, stream_digest
from gb10.programs.archive.manifest import Note, encode_summary, shown
from gb10.programs.backups.store import (
    CONTROLLER,
    ODD_ERRORS,
    SUFFIXES,
    SUMMARY,
    archive_name,
    checked_summary,
    incoming,
    node_folder,
    prune,
    put,
    receive,
)
from gb10.programs.confined import HOMES

PROGRESS_SECONDS = 10.0  # between two reports of a long transfer
TRANSFER_SECONDS = 3600
SILENCE_SECONDS = 300  # a node that sends nothing for so long is taken for dead


@dataclass(frozen=True)
class BackupPolicy:
    """Where the backups of a node are kept, and for how long."""

    node: str  # its name, as in Kubernetes
    folder: str  # on the controller
    keepers: tuple[Host, ...]  # other nodes
    keeper_folder: str  # on those
    count: int | None = None
    days: int | None = None

    @property
    def keeper_names(self) -> str:
        """The names of the other nodes; empty if there are none."""
        return ", ".join(str(keeper.name) for keeper in self.keepers)

    def listed(self, keeper: Host) -> tuple[BackupCopy, ...]:
        """Return the copies of the node's backups that a keeper lists; none if it cannot be reached."""
        found = peer_fact(keeper, Backups, root=self.keeper_folder) or ()
        return tuple(copy for copy in found if copy.node == self.node)

    def unwritable(self, error: OSError) -> RefusedError:
        """Return the refusal if the controller cannot write to its folder."""
        code = "KEEPER_FULL" if error.errno in FULL else "BACKUP_FAILED"
        return RefusedError(code, f"the controller cannot keep it in {self.folder}: {error.strerror}")


@dataclass(frozen=True)
class BackupRequest:
    """What a backup holds beside its fixed contents, and who may read it."""

    paths: tuple[str, ...] = ()
    recipients: tuple[str, ...] = ()
    hub: str = "/data/huggingface/hub"
    serving: Any = field(default=None, repr=False)  # the inventory's serving modes, which may hold secrets
    progress_seconds: float = PROGRESS_SECONDS


class Progress:
    """Reports now and then how many bytes have been transferred. `total` is None if it is not known."""

    def __init__(self, host: Host, what: str, every: float = PROGRESS_SECONDS, total: int | None = None) -> None:
        self.size = 0
        self._host, self._what, self._every, self._total = host, what, every, total
        self._reported = time.monotonic()

    def add(self, size: int) -> None:
        """Count bytes that have been transferred."""
        self.size += size
        if time.monotonic() - self._reported > self._every:
            self._reported = time.monotonic()
            report(self._host, Transferred(self._what, self.size, self._total))

    def counted(self, file: BinaryIO) -> Iterator[bytes]:
        """Yield the content of a file, and count it."""
        while chunk := file.read(CHUNK):
            yield chunk
            self.add(len(chunk))


# Making and sending on ------------------------------------------------------------------------------------------------


def about_node() -> dict[str, Any]:
    """Return what a backup says of its node: its role, its machine, its versions."""
    identity, release, install = known(NodeIdentity), known(DgxRelease), known(K3sInstall)
    engine = known(DockerEngine)
    return {
        "role": install.role if install else None,
        "machine": {
            "hostname": identity.hostname,
            "machine_id": identity.machine_id,
            "macs": identity.macs,
            "architecture": identity.architecture,
            "serial": release.serial_number if release else None,
        },
        "versions": {
            "dgx_os": release.version if release else None,
            "os": identity.os_name,
            "k3s": install.version if install else None,
            "docker": engine.version if engine else None,
        },
    }


def make(state: State, host: Host, policy: BackupPolicy, request: BackupRequest, about: dict[str, Any]) -> bool:
    """Make a backup of a host, and send it to the keepers. Return True if it is in every place."""
    try:
        summary = _receive_from_node(host, policy, request, about)
    except RefusedError as error:
        say(host, error.code, f"{host.name}: {error.reason}")
        return False
    kept = [_send_to_keeper(host, keeper, policy, summary, request.progress_seconds) for keeper in policy.keepers]
    removed = prune(policy.folder, policy.node, policy.count, policy.days, time.time(), CONTROLLER)
    if removed:
        report(host, Remark(f"removed old backups: {', '.join(removed)}"))
    return all(kept)


def _receive_from_node(
    host: Host, policy: BackupPolicy, request: BackupRequest, about: dict[str, Any]
) -> dict[str, Any]:
    """Have the node make the backup, and write it to the controller's disk. Return its summary."""
    begun, now = time.monotonic(), time.gmtime()
    backup = f"{policy.node}-{time.strftime('%Y%m%dT%H%M%SZ', now)}"
    created = time.strftime("%Y-%m-%dT%H:%M:%SZ", now)
    job = {"id": backup, "node": policy.node, "created": created, "about": about}
    job |= {"paths": request.paths, "hub": request.hub, "serving": request.serving}
    guarded = [HOMES, os.path.dirname(request.hub), *request.paths]
    launch = Launch("gb10.programs.backups.making:main", job, seconds=TRANSFER_SECONDS, streams=True, guarded=guarded)
    encrypted = bool(request.recipients)
    progress = Progress(host, f"Back up {policy.node}", request.progress_seconds)
    sha256 = hashlib.sha256()

    def take(chunk: bytes) -> None:
        plain.write(chunk)
        sha256.update(chunk)
        progress.add(len(chunk))

    try:
        with incoming(policy.folder, policy.node, backup + SUFFIXES[encrypted]) as file:
            with _plain(file, policy.folder, request.recipients) as plain:
                answer = run_stream(host, launch, take=take, silence=SILENCE_SECONDS, failed="BACKUP_FAILED")
            digest, size = sha256.hexdigest(), progress.size
            if encrypted:
                digest, size = stream_digest(file), os.fstat(file.fileno()).st_size
            notes, answer = _without_notes(answer)
            answer |= {"sha256": digest, "size": size, "encrypted": encrypted}
            summary = checked_summary(answer, policy.node, backup)
        put(policy.folder, policy.node, backup + SUMMARY, encode_summary(summary))
    except OSError as error:
        raise policy.unwritable(error) from None
    for note in notes:
        mark = "MISSING" if note.harms else "noted"
        report(host, Remark(f"{mark}: {shown(note.path)} {shown(note.text)}"))
    report(host, Made(summary, CONTROLLER, round(time.monotonic() - begun, 1)))
    return summary


def _without_notes(answer: Any) -> tuple[list[Note], dict[str, Any]]:
    """Return the notes in the answer of a node, and the rest of it."""
    try:
        notes = [Note(str(note["path"]), str(note["text"]), bool(note["harms"])) for note in answer["noted"]]
        return notes, {key: value for key, value in answer.items() if key != "noted"}
    except ODD_ERRORS as error:
        raise RefusedError("NODE_ANSWER", f"its answer is not understood: {error!r}") from error


@contextmanager
def _plain(file: BinaryIO, folder: str, recipients: Sequence[str]) -> Iterator[BinaryIO]:
    """The file that takes the archive as it comes.

    With recipients it is a file without a name, which is encrypted into the other when the block ends.
    """
    if not recipients:
        yield file
        return
    with tempfile.TemporaryFile(dir=folder) as plain:
        yield cast(BinaryIO, plain)
        plain.seek(0)
        age.encrypt(cast(BufferedIOBase, plain), cast(BufferedIOBase, file), recipients)
        file.flush()


def _send_to_keeper(host: Host, keeper: Host, policy: BackupPolicy, summary: Mapping[str, Any], every: float) -> bool:
    """Send a backup from the controller to another node. Return True if it is there."""
    job: dict[str, Any] = {"root": policy.keeper_folder, "summary": summary, "where": keeper.name}
    job |= {"count": policy.count, "days": policy.days}
    guarded = [policy.keeper_folder]
    launch = Launch("gb10.programs.backups.keeper:keep", job, seconds=TRANSFER_SECONDS, streams=True, guarded=guarded)
    backup = summary["id"]
    progress = Progress(host, f"Send {backup} to {keeper.name}", every, summary["size"])
    try:
        with open(os.path.join(policy.folder, policy.node, archive_name(summary)), "rb") as file:
            run_stream(keeper, launch, give=progress.counted(file), failed="BACKUP_NOT_KEPT")
    except RefusedError as error:
        code = "BACKUP_NOT_KEPT" if error.code == "NODE_UNREACHABLE" else error.code
        say(host, code, f"{backup} is not on {keeper.name}: {error.reason}")
        return False
    report(host, Kept(backup, str(keeper.name)))
    return True


# Fetching -------------------------------------------------------------------------------------------------------------


def fetch(
    state: State, host: Host, policy: BackupPolicy, sources: Sequence[tuple[Host, BackupCopy]], backup: str
) -> bool:
    """Fetch a backup to the controller from the first node that has it whole, proven copies first."""
    for source, copy in sorted(sources, key=lambda one: not one[1].proven):
        try:
            progress = Progress(host, f"Fetch {backup} from {source.name}", total=copy.size)
            _receive_from_keeper(source, policy, backup, progress)
        except RefusedError as error:
            say(host, error.code, f"{backup} of {source.name}: {error.reason}")
            continue
        report(host, Kept(backup, CONTROLLER))
        return True
    return False


def _receive_from_keeper(source: Host, policy: BackupPolicy, backup: str, progress: Progress) -> None:
    """Have a node send a backup, and write it to the controller's disk."""

    def take(chunk: bytes) -> None:
        file.write(chunk)
        progress.add(len(chunk))

    job = {"root": policy.keeper_folder, "node": policy.node, "id": backup}
    guarded = [policy.keeper_folder]
    launch = Launch("gb10.programs.backups.keeper:give", job, seconds=TRANSFER_SECONDS, streams=True, guarded=guarded)
    try:
        with tempfile.TemporaryFile(dir=node_folder(policy.folder, policy.node)) as file:
            answer = run_stream(source, launch, take=take, silence=SILENCE_SECONDS, failed="BACKUP_FAILED")
            summary = checked_summary(answer, policy.node, backup)
            file.seek(0)
            receive(policy.folder, summary, iter(lambda: file.read(CHUNK), b""))
    except OSError as error:
        raise policy.unwritable(error) from None
