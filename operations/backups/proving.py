"""Proof of every copy of a backup, in the place where it is."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from pyinfra.api import Host, State

from gb10.facts.reading.launcher import Launch
from gb10.facts.reading.node import Identity
from gb10.facts.reading.reports import report
from gb10.operations.backups import age
from gb10.operations.backups.making import BackupPolicy
from gb10.operations.backups.reports import ProofDone, Transferred
from gb10.operations.kit.operation import say
from gb10.operations.kit.peers import run_stream
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
    """Return what a backup of this machine and of its installation says of it."""
    return {
        "macs": sorted(identity.macs.values()),
        "architecture": identity.architecture,
        "machine_id": identity.machine_id,
    }


def prove_copies(
    state: State, host: Host, policy: BackupPolicy, identity_file: str | None, backup: str, expected: dict[str, Any]
) -> bool:
    """Prove every copy, report the results, and write them down. Return True if all are proven."""
    chosen = backup if backup != "latest" else _newest(policy)
    if chosen is None:
        say(host, "BACKUP_MISSING", f"there is no backup of {policy.node}, neither here nor on another node")
        return False
    job = {"node": policy.node, "id": chosen, "expected": expected}

    def tried(where: str, prove: Callable[[], ProofResult]) -> ProofResult:
        report(host, Transferred(f"Prove {chosen} on {where}"))
        try:
            return prove()
        except RefusedError as error:
            reasons = ((error.code, error.reason),)
            return ProofResult(where, policy.node, chosen, time.time(), reasons=reasons)

    own = tried(CONTROLLER, partial(_prove_here, job, policy, identity_file))
    opened = own.proven and own.opened and own.encrypted
    there = {**job, "trusted": own.sha256 if opened else None}
    others = [tried(str(one.name), partial(_prove_there, one, there, policy)) for one in policy.keepers]
    results = [own, *(_compared(one, own) for one in others)]
    write_proofs(policy.folder, policy.node, chosen, results)
    for one in results:
        report(host, ProofDone(one))
        if not one.proven:
            reasons = "; ".join(one.texts)
            say(host, one.codes[0], f"{chosen} on {one.where} is not proven: {reasons}")
    return all(one.proven for one in results)


def prove_fetched(state: State, host: Host, policy: BackupPolicy, identity_file: str | None, backup: str) -> bool:
    """Prove the controller's copy of a backup that was fetched: the word of the node that kept it does not count."""
    job = {"node": policy.node, "id": backup, "expected": {"node": policy.node}}
    try:
        result = _prove_here(job, policy, identity_file)
    except RefusedError as error:
        result = ProofResult(CONTROLLER, policy.node, backup, time.time(), reasons=((error.code, error.reason),))
    write_proofs(policy.folder, policy.node, backup, [result])
    report(host, ProofDone(result))
    return True


def _compared(found: ProofResult, own: ProofResult) -> ProofResult:
    """Return the result of another node, with a reason against its copy if that is not the controller's."""
    if found.proven and own.sha256 and (found.sha256, found.created) != (own.sha256, own.created):
        return replace(found, reasons=(("BACKUP_DAMAGED", "it is not the file that the controller keeps"),))
    return found


def _newest(policy: BackupPolicy) -> str | None:
    """Return the id of the newest backup of a node in any place."""
    there = [copy.id for keeper in policy.keepers for copy in policy.listed(keeper)]
    return max([*ids(policy.folder, policy.node), *there], key=made_at, default=None)


def _prove_here(job: Mapping[str, Any], policy: BackupPolicy, identity_file: str | None) -> ProofResult:
    """Prove the controller's copy."""
    folder = policy.folder
    try:
        summary = read_summary(folder, policy.node, job["id"])
        path = Path(folder, policy.node, archive_name(summary))
        with age.opened(path, identity_file) if summary["encrypted"] else nullcontext() as plain:
            decrypted = f"/proc/self/fd/{plain.fileno()}" if plain else None
            return prove(folder, {**job, "where": CONTROLLER}, decrypted)
    except OSError as error:
        code = "KEEPER_FULL" if error.errno in FULL else "BACKUP_MISSING"
        raise RefusedError(code, f"it cannot be tried in {folder}: {error.strerror}") from error


def _prove_there(keeper: Host, job: Mapping[str, Any], policy: BackupPolicy) -> ProofResult:
    """Have another node prove its copy."""
    where = str(keeper.name)
    task = {**job, "root": policy.keeper_folder, "where": where}
    options: dict[str, Any] = {"seconds": PROVE_SECONDS, "streams": True, "guarded": [policy.keeper_folder]}
    launch = Launch("gb10.programs.backups.keeper:prove_here", task, **options)
    try:
        found = ProofResult.from_json(run_stream(keeper, launch, failed="BACKUP_FAILED"))
    except ODD_ERRORS as error:
        raise RefusedError("NODE_ANSWER", f"its answer is not understood: {error!r}") from error
    if (found.where, found.node, found.id) != (where, job["node"], job["id"]):
        raise RefusedError("NODE_ANSWER", "its answer is about another backup")
    return replace(found, at=time.time())  # by this machine's clock
