"""Backups made and proven: streamed from the node to the controller, from there to other nodes, tried in each place.

The contract: a backup counts only where it is whole, and is proven only where it was tried. Its content passes through
this process, and shows in no command line, output or log of it.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BufferedIOBase
from typing import Any, BinaryIO, cast

from pyinfra.api import FunctionCommand, Host, State, operation
from pyinfra.context import host, state

from gb10.facts.backups import Backups
from gb10.facts.dgx import DgxRelease
from gb10.facts.docker import DockerEngine
from gb10.facts.identity import NodeIdentity
from gb10.facts.k3s import K3sInstall
from gb10.facts.reading.backups import BackupCopy
from gb10.facts.reading.identity import Identity
from gb10.operations.backups import age
from gb10.operations.copying.plan import human
from gb10.operations.kit.failures import guarded, known, refuse, say
from gb10.operations.kit.peers import has_sudo, peer_fact
from gb10.operations.kit.streams import BrokenStreamError, Ended, stream_program
from gb10.programs.archive import CHUNK, ID, ArchiveError, decode_summary, shown, stream_digest
from gb10.programs.backups import store as backup_store
from gb10.programs.backups.store import CONTROLLER

Commands = Generator[FunctionCommand, None, None]

PROGRESS = "gb10-backup-"  # how lines begin that programs read
MAKE_SECONDS = 3600
KEEP_SECONDS = 3600
SILENCE_SECONDS = 300  # of a node that makes or sends a backup: then it is dead
PROVE_SECONDS = 1800
PROGRESS_SECONDS = 10.0  # after which to say how far a long transfer is
MAKER = ("archive", "backups.maker")
STORE = ("archive", "backups.proof", "backups.store")
FULL = (28, 122)  # ENOSPC, EDQUOT


@dataclass(frozen=True)
class Keeping:
    """Where the backups of a node are kept, and for how long."""

    node: str  # its name, as in Kubernetes
    folder: str  # on the controller
    keepers: tuple[Host, ...]  # other nodes
    keeper_folder: str  # on those
    count: int | None = None
    days: int | None = None


@dataclass(frozen=True)
class Wanted:
    """What goes into a backup beside what always does, and who may read it."""

    paths: tuple[str, ...] = ()
    recipients: tuple[str, ...] = ()
    hub: str = "/data/huggingface/hub"
    serving: Any = field(default=None, repr=False)  # the inventory's serving modes, which may hold secrets
    progress_seconds: float = PROGRESS_SECONDS


class _RefusedError(Exception):
    """Why something did not come to pass: a code of the catalogue, and what happened."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


def tell(where: Host, kind: str, document: Mapping[str, Any]) -> None:
    """Log a line for the gb10 command."""
    where.log(f"{PROGRESS}{kind}: {json.dumps(document)}")


# Making ---------------------------------------------------------------------------------------------------------------


@operation(is_idempotent=False)
@guarded
def made(keeping: Keeping, wanted: Wanted) -> Commands:
    """
    Make a backup of this node, and keep it on the controller and on other nodes.

    + keeping: where it is kept, and for how long
    + wanted: what goes into it beside what always does, and who may read it

    It fails where one of the keepers did not get it, after all others have.
    """
    if not ID.fullmatch(f"{keeping.node}-20260101T000000Z"):
        yield from refuse("SETTINGS_INVALID", f"{keeping.node!r} cannot be the name of a folder for backups")
        return
    about = about_node()
    names = ", ".join(keeper.name for keeper in keeping.keepers) or "no other node"
    if not state.is_executing:
        host.log(f"would back up {keeping.node} to the controller ({keeping.folder}/{keeping.node}) and to {names}")
    if not keeping.keepers:
        host.log(
            f"MISSING: another node that keeps it: with the controller's disk the backup of {keeping.node} is lost"
        )
    yield FunctionCommand(_make, (keeping, wanted, about), {})


def about_node() -> dict[str, Any]:
    """What is told of a node beside what is in the backup: its role, which machine it is, what is installed."""
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


def _make(state: State, host: Host, keeping: Keeping, wanted: Wanted, about: dict[str, Any]) -> bool:
    """Make it, and send it on; return whether it is in every place."""
    try:
        summary = _received(host, keeping, wanted, about)
    except _RefusedError as error:
        say(host, error.code, f"{host.name}: {error.reason}")
        return False
    kept = [_kept(host, keeper, keeping, summary, wanted.progress_seconds) for keeper in keeping.keepers]
    gone = backup_store.prune(keeping.folder, keeping.node, keeping.count, keeping.days, time.time(), CONTROLLER)
    if gone:
        host.log(f"thrown away, as old: {', '.join(gone)}")
    return all(kept)


def _received(host: Host, keeping: Keeping, wanted: Wanted, about: dict[str, Any]) -> dict[str, Any]:
    """Have the node make the backup, and write it to the controller's disk; return its summary."""
    now = time.gmtime()
    backup = f"{keeping.node}-{time.strftime('%Y%m%dT%H%M%SZ', now)}"
    created = time.strftime("%Y-%m-%dT%H:%M:%SZ", now)
    job = {"function": "main", "id": backup, "node": keeping.node, "created": created, "about": about}
    job |= {"paths": wanted.paths, "hub": wanted.hub, "serving": wanted.serving}
    sealed = bool(wanted.recipients)
    name = backup + backup_store.SUFFIXES[sealed]
    try:
        with backup_store.incoming(keeping.folder, keeping.node, name) as file:
            with _plain(file, keeping.folder, wanted.recipients) as plain:
                meter = _Meter(plain, _Progress(host, f"Back up {keeping.node}", wanted.progress_seconds))
                ended = stream_program(
                    host, MAKER, job, sudo=has_sudo(), seconds=MAKE_SECONDS, silence=SILENCE_SECONDS, take=meter.take
                )
                told = _told(ended)
            sha256, size = (
                (stream_digest(file), os.fstat(file.fileno()).st_size) if sealed else (meter.sha256, meter.size)
            )
        noted = told.pop("noted")
        summary = {**told, "sha256": sha256, "size": size, "encrypted": sealed}
        backup_store.put(keeping.folder, keeping.node, backup + backup_store.SUMMARY, _encoded(summary))
    except OSError as error:
        raise _unkept(keeping, error) from None
    except BrokenStreamError as error:
        raise _RefusedError("NODE_UNREACHABLE", f"{error}; nothing was kept") from None
    for note in noted:
        host.log(f"{'MISSING' if note['harms'] else 'noted'}: {note['path']} {note['text']}")
    host.log(f"{backup}: {summary['members']} members, {human(size)}, on the controller")
    tell(host, "made", {**summary, "where": CONTROLLER, "seconds": round(meter.seconds, 1)})
    return summary


def _unkept(keeping: Keeping, error: OSError) -> _RefusedError:
    code = "KEEPER_FULL" if error.errno in FULL else "BACKUP_FAILED"
    return _RefusedError(code, f"the controller cannot keep it in {keeping.folder}: {error.strerror}")


@contextmanager
def _plain(file: BinaryIO, folder: str, recipients: Sequence[str]) -> Iterator[BinaryIO]:
    """Where the archive is written as it comes: the file itself; or, for one that is to be encrypted, another that has
    no name, which is encrypted into the file when the block ends."""
    if not recipients:
        yield file
        return
    with tempfile.TemporaryFile(dir=folder) as plain:
        yield cast(BinaryIO, plain)
        plain.seek(0)
        age.encrypt(cast(BufferedIOBase, plain), cast(BufferedIOBase, file), recipients)
        file.flush()


def _told(ended: Ended) -> dict[str, Any]:
    """The summary that the maker printed last. Raise _RefusedError where it failed."""
    if ended.status != 0:
        code, reason = ended.refusal or ("BACKUP_FAILED", ended.lines[-1] if ended.lines else "it ended without a word")
        raise _RefusedError(code, reason)
    found: dict[str, Any] = json.loads(ended.lines[-1])
    return found


def _encoded(summary: Mapping[str, Any]) -> bytes:
    return backup_store.encode_summary(summary)


class _Progress:
    """Says now and then how far something is. `total`: bytes, where they are known."""

    def __init__(self, host: Host, what: str, every: float, total: int | None = None) -> None:
        self.size = 0
        self._host, self._what, self._every, self._total = host, what, every, total
        self._told = time.monotonic()

    def add(self, size: int) -> None:
        self.size += size
        if time.monotonic() - self._told > self._every:
            self.tell()

    def tell(self) -> None:
        self._told = time.monotonic()
        tell(self._host, "progress", {"what": self._what, "bytes": self.size, "total": self._total})


class _Meter:
    """Writes what comes, hashes it, and says now and then how far it is."""

    def __init__(self, file: BinaryIO, progress: _Progress) -> None:
        self._file, self._progress = file, progress
        self._sha256 = hashlib.sha256()
        self._began = time.monotonic()

    def take(self, chunk: bytes) -> None:
        self._file.write(chunk)
        self._sha256.update(chunk)
        self._progress.add(len(chunk))

    @property
    def size(self) -> int:
        return self._progress.size

    @property
    def sha256(self) -> str:
        return self._sha256.hexdigest()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began


def _kept(host: Host, keeper: Host, keeping: Keeping, summary: Mapping[str, Any], every: float) -> bool:
    """Send a backup from the controller to another node; return whether it is there."""
    job: dict[str, Any] = {"function": "keep", "root": keeping.keeper_folder, "summary": summary}
    job |= {"where": keeper.name, "count": keeping.count, "days": keeping.days}
    path = os.path.join(keeping.folder, keeping.node, backup_store.archive_name(summary))
    try:
        with open(path, "rb") as file:
            progress = _Progress(host, f"Send {summary['id']} to {keeper.name}", every, summary["size"])
            ended = stream_program(
                keeper, STORE, job, sudo=has_sudo(), seconds=KEEP_SECONDS, give=_counted(file, progress)
            )
    except BrokenStreamError as error:
        say(host, "BACKUP_NOT_KEPT", f"{summary['id']} is not on {keeper.name}: {error}")
        return False
    if ended.status != 0:
        code, reason = ended.refusal or ("BACKUP_NOT_KEPT", ended.lines[-1] if ended.lines else "without a word")
        say(host, code, f"{summary['id']} is not on {keeper.name}: {reason}")
        return False
    host.log(f"{summary['id']}: on {keeper.name}")
    tell(host, "kept", {"id": summary["id"], "where": keeper.name})
    return True


def _counted(file: BinaryIO, progress: _Progress) -> Iterator[bytes]:
    while chunk := file.read(CHUNK):
        yield chunk
        progress.add(len(chunk))


# Proving --------------------------------------------------------------------------------------------------------------


@operation(is_idempotent=False)
@guarded
def proven(
    keeping: Keeping,
    identity_file: str | None,
    backup: str = "latest",
    most_age_seconds: float | None = None,
    stand_in: bool = False,
    any_installation: bool = False,
) -> Commands:
    """
    Prove a backup in every place where it is: unpacked as a restore would, compared, its database opened.

    + keeping: where it is kept
    + identity_file: age's key, on the controller, for encrypted ones
    + backup: its id, or "latest"
    + most_age_seconds: beyond it a backup is refused as stale; None: however old
    + stand_in: this host is not the node, which is away: the backup need not be of this machine
    + any_installation: it need not be of the installation that the node has: of one that was wiped since

    It fails where one copy is not proven, after all have been tried.
    """
    if backup != "latest" and not ID.fullmatch(backup):
        yield from refuse("BACKUP_MISSING", f"{shown(backup)!r} is not how a backup is called")
        return
    expected: dict[str, Any] = {"node": keeping.node, "most_age_seconds": most_age_seconds}
    if not stand_in:
        expected |= machine(known(NodeIdentity))
    if any_installation:
        expected.pop("machine_id", None)
    yield FunctionCommand(_prove, (keeping, identity_file, backup, expected), {})


def machine(identity: Identity) -> dict[str, Any]:
    """What a backup has to be of, to be of this machine and of its installation."""
    return {
        "macs": sorted(identity.macs.values()),
        "architecture": identity.architecture,
        "machine_id": identity.machine_id,
    }


def _prove(
    state: State, host: Host, keeping: Keeping, identity_file: str | None, backup: str, expected: dict[str, Any]
) -> bool:
    """Prove every copy, say what came of it, and write it down; return whether all hold."""
    chosen = backup if backup != "latest" else _newest(keeping)
    if chosen is None:
        say(host, "BACKUP_MISSING", f"there is no backup of {keeping.node}, neither here nor on another node")
        return False
    job = {"node": keeping.node, "id": chosen, "expected": expected}
    _begin_proof(host, chosen, CONTROLLER)
    first = _proven_here(job, keeping, identity_file)
    found = [first]
    trusted = first["sha256"] if first["proven"] and first["opened"] and first["encrypted"] else None
    for keeper in keeping.keepers:
        _begin_proof(host, chosen, str(keeper.name))
        found.append(_proven_there(keeper, {**job, "trusted": trusted}, keeping))
    backup_store.write_evidence(keeping.folder, keeping.node, chosen, found)
    for evidence in found:
        tell(host, "proof", evidence)
        if evidence["proven"]:
            how = "unpacked, compared" if evidence["opened"] else "read, and the same as the one on the controller"
            nodes = f"; its database holds {', '.join(evidence['nodes'])}" if evidence["nodes"] else ""
            host.log(f"{chosen} on {evidence['where']} is proven: {how}{nodes}")
        else:
            reasons = "; ".join(evidence["reasons"])
            say(host, evidence["codes"][0], f"{chosen} on {evidence['where']} is not proven: {reasons}")
    return all(evidence["proven"] for evidence in found)


def _begin_proof(host: Host, backup: str, where: str) -> None:
    """Say what may take minutes now."""
    _Progress(host, f"Prove {backup} on {where}", 0).tell()


def _newest(keeping: Keeping) -> str | None:
    """The id of the newest backup of a node, wherever it is."""
    here = backup_store.ids(keeping.folder, keeping.node)
    there = [copy.id for keeper in keeping.keepers for copy in _listed(keeper, keeping) if copy.node == keeping.node]
    return max([*here, *there], key=backup_store.made_at, default=None)


def _listed(keeper: Host, keeping: Keeping) -> tuple[BackupCopy, ...]:
    return peer_fact(keeper, Backups, root=keeping.keeper_folder) or ()


def _unproven(where: str, job: Mapping[str, Any], code: str, reason: str) -> dict[str, Any]:
    found = {"sha256": None, "created": None, "opened": False, "encrypted": None, "nodes": None, "proven": False}
    told = {"where": where, "node": job["node"], "id": job["id"], "at": time.time()}
    return {**told, **found, "codes": [code], "reasons": [reason]}


def _proven_here(job: Mapping[str, Any], keeping: Keeping, identity_file: str | None) -> dict[str, Any]:
    """Try the controller's copy."""
    node, backup = job["node"], job["id"]
    try:
        summary = backup_store.read_summary(keeping.folder, node, backup)
        with _decrypted(keeping.folder, summary, identity_file) as plain:
            return backup_store.prove(keeping.folder, {**job, "where": CONTROLLER}, plain)
    except ArchiveError as error:
        return _unproven(CONTROLLER, job, error.code, error.reason)
    except OSError as error:
        code = "KEEPER_FULL" if error.errno in FULL else "BACKUP_MISSING"
        return _unproven(CONTROLLER, job, code, f"it cannot be tried in {keeping.folder}: {error.strerror}")


@contextmanager
def _decrypted(folder: str, summary: Mapping[str, Any], identity_file: str | None) -> Iterator[str | None]:
    """The path of an encrypted archive's content, in a file without a name; None for one that is not encrypted."""
    if not summary["encrypted"]:
        yield None
        return
    path = os.path.join(folder, summary["node"], backup_store.archive_name(summary))
    with tempfile.TemporaryFile(dir=folder) as plain, open(path, "rb") as sealed:
        age.decrypt(cast(BufferedIOBase, sealed), cast(BufferedIOBase, plain), identity_file)
        plain.flush()
        yield f"/proc/self/fd/{plain.fileno()}"


def _proven_there(keeper: Host, job: Mapping[str, Any], keeping: Keeping) -> dict[str, Any]:
    """Have another node try its copy."""
    printed: list[bytes] = []
    task = {**job, "function": "prove_here", "root": keeping.keeper_folder, "where": keeper.name}
    try:
        ended = stream_program(keeper, STORE, task, sudo=has_sudo(), seconds=PROVE_SECONDS, take=printed.append)
        if ended.status == 0:
            found: dict[str, Any] = json.loads(b"".join(printed))
            return found
    except BrokenStreamError as error:
        return _unproven(keeper.name, job, "NODE_UNREACHABLE", str(error))
    code, reason = ended.refusal or ("BACKUP_FAILED", ended.lines[-1] if ended.lines else "it ended without a word")
    return _unproven(keeper.name, job, code, reason)


# Fetching -------------------------------------------------------------------------------------------------------------


@operation(is_idempotent=False)
@guarded
def fetched(keeping: Keeping, backup: str = "latest") -> Commands:
    """
    Have a backup on the controller that another node keeps: for a controller that lost its own, or is another one.

    + keeping: where it is kept
    + backup: its id, or "latest": the newest that is proven of those that nodes have, without any the newest

    A damaged copy of the controller is replaced. What proves a copy comes with it.
    """
    copies = {
        keeper: [copy for copy in _listed(keeper, keeping) if copy.node == keeping.node and copy.complete]
        for keeper in keeping.keepers
    }
    there = {copy.id for found in copies.values() for copy in found}
    proven = {copy.id for found in copies.values() for copy in found if copy.proven}
    chosen = max(proven or there, key=backup_store.made_at, default=None) if backup == "latest" else backup
    if chosen is None or chosen not in there:
        what = f"no backup of {keeping.node}" if chosen is None else f"no backup {chosen}"
        yield from refuse("BACKUP_MISSING", f"{', '.join(one.name for one in keeping.keepers) or 'nobody'} has {what}")
        return
    if backup_store.is_whole(keeping.folder, keeping.node, chosen):
        host.noop(f"the controller has {chosen}")
        return
    sources = tuple((keeper, copy) for keeper, found in copies.items() for copy in found if copy.id == chosen)
    yield FunctionCommand(_fetch, (keeping, sources, chosen), {})


def _fetch(state: State, host: Host, keeping: Keeping, sources: Sequence[tuple[Host, BackupCopy]], backup: str) -> bool:
    """Take a backup from the first node that gives it whole, a proven one if there is; return whether one did."""
    for source, copy in sorted(sources, key=lambda one: not one[1].proven):
        try:
            progress = _Progress(host, f"Fetch {backup} from {source.name}", PROGRESS_SECONDS, copy.size)
            summary = _given(source, keeping, backup, progress)
            evidence = [one.to_json() for one in copy.evidence]
            backup_store.write_evidence(keeping.folder, keeping.node, backup, evidence)
        except (_RefusedError, ArchiveError, backup_store.StoreError) as error:
            say(host, error.code, f"{backup} of {source.name}: {error.reason}")
            continue
        host.log(f"{backup}: {human(summary['size'])} from {source.name}")
        tell(host, "kept", {"id": backup, "where": CONTROLLER})
        return True
    return False


def _given(source: Host, keeping: Keeping, backup: str, progress: _Progress) -> dict[str, Any]:
    """Have a node send a backup, and write it to the controller's disk; return its summary."""

    def take(chunk: bytes) -> None:
        file.write(chunk)
        progress.add(len(chunk))

    job = {"function": "give", "root": keeping.keeper_folder, "node": keeping.node, "id": backup}
    with tempfile.TemporaryFile(dir=backup_store.node_folder(keeping.folder, keeping.node)) as file:
        try:
            ended = stream_program(
                source, STORE, job, sudo=has_sudo(), seconds=KEEP_SECONDS, silence=SILENCE_SECONDS, take=take
            )
        except BrokenStreamError as error:
            raise _RefusedError("NODE_UNREACHABLE", str(error)) from None
        except OSError as error:
            raise _unkept(keeping, error) from None
        if ended.status != 0:
            raise _RefusedError(*(ended.refusal or ("BACKUP_FAILED", "it ended without a word")))
        file.seek(0)
        summary = decode_summary(backup_store.encode_summary(json.loads(file.readline())))
        if (summary["node"], summary["id"]) != (keeping.node, backup):
            raise _RefusedError("BACKUP_FOREIGN", f"it is {summary['id']}")
        backup_store.receive(keeping.folder, summary, iter(lambda: file.read(CHUNK), b""))
    return summary
