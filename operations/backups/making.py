"""Making a backup: streamed from the node to the controller, and from there to other nodes."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import BufferedIOBase
from typing import Any, BinaryIO, cast

from pyinfra.api import Host, State

from gb10.facts.docker import DockerEngine
from gb10.facts.identity import DgxRelease, NodeIdentity
from gb10.facts.k3s import K3sInstall
from gb10.facts.reading.launcher import Launch
from gb10.facts.reading.reports import report
from gb10.operations.backups import age
from gb10.operations.backups.keeping import KEEP_SECONDS, SILENCE_SECONDS, Keeping, Wanted
from gb10.operations.backups.reports import Kept, Made, Noted, Pruned
from gb10.operations.backups.transfer import Meter, Progress
from gb10.operations.kit.operation import known, say
from gb10.operations.kit.peers import BrokenStreamError, run_stream
from gb10.programs.answer import RefusedError
from gb10.programs.archive.files import stream_digest
from gb10.programs.archive.manifest import Note, encode_summary
from gb10.programs.backups.store import CONTROLLER, SUFFIXES, SUMMARY, archive_name, incoming, prune, put

MAKE_SECONDS = 3600


def about_node() -> dict[str, Any]:
    """Return what a backup says of its node: its role, which machine it is, what is installed."""
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


def make(state: State, host: Host, keeping: Keeping, wanted: Wanted, about: dict[str, Any]) -> bool:
    """Make a backup of a host, and send it on; return True if it is in every place."""
    try:
        summary = _received(host, keeping, wanted, about)
    except RefusedError as error:
        say(host, error.code, f"{host.name}: {error.reason}")
        return False
    kept = [_kept(host, keeper, keeping, summary, wanted.progress_seconds) for keeper in keeping.keepers]
    gone = prune(keeping.folder, keeping.node, keeping.count, keeping.days, time.time(), CONTROLLER)
    if gone:
        report(host, Pruned(tuple(gone)))
    return all(kept)


def _received(host: Host, keeping: Keeping, wanted: Wanted, about: dict[str, Any]) -> dict[str, Any]:
    """Have the node make the backup, and write it to the controller's disk; return its summary."""
    now = time.gmtime()
    backup = f"{keeping.node}-{time.strftime('%Y%m%dT%H%M%SZ', now)}"
    created = time.strftime("%Y-%m-%dT%H:%M:%SZ", now)
    job = {"id": backup, "node": keeping.node, "created": created, "about": about}
    job |= {"paths": wanted.paths, "hub": wanted.hub, "serving": wanted.serving}
    launch = Launch("gb10.programs.backups.making:main", job, seconds=MAKE_SECONDS, streams=True)
    sealed = bool(wanted.recipients)
    try:
        with incoming(keeping.folder, keeping.node, backup + SUFFIXES[sealed]) as file:
            with _plain(file, keeping.folder, wanted.recipients) as plain:
                meter = Meter(plain, Progress(host, f"Back up {keeping.node}", wanted.progress_seconds))
                told = run_stream(host, launch, take=meter.take, silence=SILENCE_SECONDS, failed="BACKUP_FAILED")
            sha256, size = (
                (stream_digest(file), os.fstat(file.fileno()).st_size) if sealed else (meter.sha256, meter.size)
            )
        notes = [Note(**note) for note in told.pop("noted")]
        summary = {**told, "sha256": sha256, "size": size, "encrypted": sealed}
        put(keeping.folder, keeping.node, backup + SUMMARY, encode_summary(summary))
    except OSError as error:
        raise keeping.unkept(error) from None
    except BrokenStreamError as error:
        raise RefusedError("NODE_UNREACHABLE", f"{error}; nothing was kept") from None
    for note in notes:
        report(host, Noted(note))
    report(host, Made(summary, CONTROLLER, round(meter.seconds, 1)))
    return summary


@contextmanager
def _plain(file: BinaryIO, folder: str, recipients: Sequence[str]) -> Iterator[BinaryIO]:
    """The file into which the archive is written as it comes.

    One that is to be encrypted goes into a file without a name, which is encrypted when the block ends.
    """
    if not recipients:
        yield file
        return
    with tempfile.TemporaryFile(dir=folder) as plain:
        yield cast(BinaryIO, plain)
        plain.seek(0)
        age.encrypt(cast(BufferedIOBase, plain), cast(BufferedIOBase, file), recipients)
        file.flush()


def _kept(host: Host, keeper: Host, keeping: Keeping, summary: Mapping[str, Any], every: float) -> bool:
    """Send a backup from the controller to another node; return True if it is there."""
    job: dict[str, Any] = {"root": keeping.keeper_folder, "summary": summary, "where": keeper.name}
    job |= {"count": keeping.count, "days": keeping.days}
    launch = Launch("gb10.programs.backups.keeper:keep", job, seconds=KEEP_SECONDS, streams=True)
    backup = summary["id"]
    try:
        with open(os.path.join(keeping.folder, keeping.node, archive_name(summary)), "rb") as file:
            progress = Progress(host, f"Send {backup} to {keeper.name}", every, summary["size"])
            run_stream(keeper, launch, give=progress.counted(file), failed="BACKUP_NOT_KEPT")
    except BrokenStreamError as error:
        say(host, "BACKUP_NOT_KEPT", f"{backup} is not on {keeper.name}: {error}")
        return False
    except RefusedError as error:
        say(host, error.code, f"{backup} is not on {keeper.name}: {error.reason}")
        return False
    report(host, Kept(backup, str(keeper.name)))
    return True
