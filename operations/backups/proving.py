"""Proving every copy of a backup where it lies."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import BufferedIOBase
from typing import Any, cast

from pyinfra.api import Host, State

from gb10.facts.reading.launcher import Launch
from gb10.facts.reading.node import Identity
from gb10.facts.reading.reports import report
from gb10.operations.backups import age
from gb10.operations.backups.keeping import Keeping
from gb10.operations.backups.reports import Transferred, Tried
from gb10.operations.kit.operation import say
from gb10.operations.kit.peers import BrokenStreamError, run_stream
from gb10.programs.answer import RefusedError
from gb10.programs.archive.files import FULL
from gb10.programs.backups.proof import prove
from gb10.programs.backups.store import (
    CONTROLLER,
    ODD_ERRORS,
    ProofResult,
    archive_name,
    ids,
    made_at,
    read_summary,
    write_proofs,
)

PROVE_SECONDS = 1800


def machine(identity: Identity) -> dict[str, Any]:
    """Return what a backup has to be of, to be of this machine and of its installation."""
    return {
        "macs": sorted(identity.macs.values()),
        "architecture": identity.architecture,
        "machine_id": identity.machine_id,
    }


def prove_copies(
    state: State, host: Host, keeping: Keeping, identity_file: str | None, backup: str, expected: dict[str, Any]
) -> bool:
    """Prove every copy, report what came of it, and write it down; return True if all are proven."""
    chosen = backup if backup != "latest" else _newest(keeping)
    if chosen is None:
        say(host, "BACKUP_MISSING", f"there is no backup of {keeping.node}, neither here nor on another node")
        return False
    job = {"node": keeping.node, "id": chosen, "expected": expected}
    report(host, _begun(chosen, CONTROLLER))
    first = _proven_here(job, keeping, identity_file)
    found = [first]
    opened = first.proven and first.opened and first.encrypted
    for keeper in keeping.keepers:
        report(host, _begun(chosen, str(keeper.name)))
        trusted = first.sha256 if opened else None
        found.append(_proven_there(keeper, {**job, "trusted": trusted}, keeping))
    write_proofs(keeping.folder, keeping.node, chosen, found)
    for result in found:
        report(host, Tried(result))
        if not result.proven:
            reasons = "; ".join(result.texts)
            say(host, result.codes[0], f"{chosen} on {result.where} is not proven: {reasons}")
    return all(result.proven for result in found)


def _begun(backup: str, where: str) -> Transferred:
    return Transferred(f"Prove {backup} on {where}")


def _newest(keeping: Keeping) -> str | None:
    """Return the id of the newest backup of a node, wherever it is."""
    there = [copy.id for keeper in keeping.keepers for copy in keeping.listed(keeper)]
    return max([*ids(keeping.folder, keeping.node), *there], key=made_at, default=None)


def _untried(where: str, job: Mapping[str, Any], code: str, reason: str) -> ProofResult:
    return ProofResult(where, job["node"], job["id"], time.time(), reasons=((code, reason),))


def _proven_here(job: Mapping[str, Any], keeping: Keeping, identity_file: str | None) -> ProofResult:
    """Try the controller's copy."""
    try:
        summary = read_summary(keeping.folder, job["node"], job["id"])
        with _decrypted(keeping.folder, summary, identity_file) as plain:
            return prove(keeping.folder, {**job, "where": CONTROLLER}, plain)
    except RefusedError as error:
        return _untried(CONTROLLER, job, error.code, error.reason)
    except OSError as error:
        code = "KEEPER_FULL" if error.errno in FULL else "BACKUP_MISSING"
        return _untried(CONTROLLER, job, code, f"it cannot be tried in {keeping.folder}: {error.strerror}")


@contextmanager
def _decrypted(folder: str, summary: Mapping[str, Any], identity_file: str | None) -> Iterator[str | None]:
    """The path of an encrypted archive's content, in a file without a name; None if it is not encrypted."""
    if not summary["encrypted"]:
        yield None
        return
    path = os.path.join(folder, summary["node"], archive_name(summary))
    with tempfile.TemporaryFile(dir=folder) as plain, open(path, "rb") as sealed:
        age.decrypt(cast(BufferedIOBase, sealed), cast(BufferedIOBase, plain), identity_file)
        plain.flush()
        yield f"/proc/self/fd/{plain.fileno()}"


def _proven_there(keeper: Host, job: Mapping[str, Any], keeping: Keeping) -> ProofResult:
    """Have another node try its copy."""
    where = str(keeper.name)
    task = {**job, "root": keeping.keeper_folder, "where": where}
    launch = Launch("gb10.programs.backups.keeper:prove_here", task, seconds=PROVE_SECONDS, streams=True)
    try:
        found = ProofResult.from_json(run_stream(keeper, launch, failed="BACKUP_FAILED"))
    except BrokenStreamError as error:
        return _untried(where, job, "NODE_UNREACHABLE", str(error))
    except RefusedError as error:
        return _untried(where, job, error.code, error.reason)
    except ODD_ERRORS as error:
        return _untried(where, job, "NODE_ANSWER", f"its answer is not understood: {error!r}")
    if (found.where, found.node, found.id) != (where, job["node"], job["id"]):
        return _untried(where, job, "NODE_ANSWER", "its answer is about another backup")
    return found
