"""Fetching a backup from a node that keeps it to the controller."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from typing import Any

from pyinfra.api import Host, State

from gb10.facts.reading.backups import BackupCopy
from gb10.facts.reading.launcher import Launch
from gb10.facts.reading.reports import report
from gb10.operations.backups.keeping import KEEP_SECONDS, PROGRESS_SECONDS, SILENCE_SECONDS, Keeping
from gb10.operations.backups.reports import Kept
from gb10.operations.backups.transfer import Progress
from gb10.operations.kit.operation import say
from gb10.operations.kit.peers import BrokenStreamError, run_stream
from gb10.programs.answer import RefusedError
from gb10.programs.archive.files import CHUNK
from gb10.programs.archive.manifest import decode_summary, encode_summary
from gb10.programs.backups.store import CONTROLLER, ProofResult, node_folder, receive, write_proofs


def fetch(state: State, host: Host, keeping: Keeping, sources: Sequence[tuple[Host, BackupCopy]], backup: str) -> bool:
    """Take a backup from the first node that gives it whole, a proven one if there is; return True if one did."""
    for source, copy in sorted(sources, key=lambda one: not one[1].proven):
        try:
            progress = Progress(host, f"Fetch {backup} from {source.name}", PROGRESS_SECONDS, copy.size)
            _fetch_from(source, keeping, backup, progress)
        except RefusedError as error:
            say(host, error.code, f"{backup} of {source.name}: {error.reason}")
            continue
        results = [ProofResult.from_json(one.to_json()) for one in copy.evidence]
        write_proofs(keeping.folder, keeping.node, backup, results)
        report(host, Kept(backup, CONTROLLER))
        return True
    return False


def _fetch_from(source: Host, keeping: Keeping, backup: str, progress: Progress) -> None:
    """Have a node send a backup, and write it to the controller's disk."""

    def take(chunk: bytes) -> None:
        file.write(chunk)
        progress.add(len(chunk))

    job = {"root": keeping.keeper_folder, "node": keeping.node, "id": backup}
    launch = Launch("gb10.programs.backups.keeper:give", job, seconds=KEEP_SECONDS, streams=True)
    try:
        with tempfile.TemporaryFile(dir=node_folder(keeping.folder, keeping.node)) as file:
            told = run_stream(source, launch, take=take, silence=SILENCE_SECONDS, failed="BACKUP_FAILED")
            summary = _summary(told, keeping, backup)
            file.seek(0)
            receive(keeping.folder, summary, iter(lambda: file.read(CHUNK), b""))
    except BrokenStreamError as error:
        raise RefusedError("NODE_UNREACHABLE", str(error)) from None
    except OSError as error:
        raise keeping.unkept(error) from None


def _summary(told: Any, keeping: Keeping, backup: str) -> dict[str, Any]:
    """Return the summary that a node sent. Raise RefusedError if it is none, or that of another backup."""
    summary = decode_summary(encode_summary(told))
    if (summary["node"], summary["id"]) != (keeping.node, backup):
        raise RefusedError("BACKUP_FOREIGN", f"it is {summary['id']}")
    return summary
