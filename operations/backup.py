"""Backups of a node: made, proven, fetched.

A backup counts only where it is whole, and is proven only where it was tried. Its content passes through this process,
and appears in no command line, output or log.
"""

from __future__ import annotations

import time
from typing import Any

from pyinfra.api import FunctionCommand
from pyinfra.context import host, state

from gb10.facts.identity import NodeIdentity
from gb10.facts.reading.reports import report
from gb10.operations.backups.making import BackupPolicy, BackupRequest, about_node, fetch, make
from gb10.operations.backups.proving import machine, prove_copies, prove_fetched
from gb10.operations.backups.reports import Remark
from gb10.operations.kit.operation import Commands, known, operation
from gb10.programs.answer import RefusedError
from gb10.programs.archive.manifest import shown
from gb10.programs.backups.listing import ID
from gb10.programs.backups.store import AHEAD_SECONDS, is_whole, made_at, made_seconds


@operation(is_idempotent=False)
def made(policy: BackupPolicy, request: BackupRequest) -> Commands:
    """
    Make a backup of this node, and keep it on the controller and on other nodes.

    + policy: where it is kept, and for how long
    + request: what it holds beside its fixed contents, and who may read it

    It fails if one of the keepers did not get it, after all others have.
    """
    if not ID.fullmatch(f"{policy.node}-20260101T000000Z"):
        raise RefusedError("SETTINGS_INVALID", f"{policy.node!r} cannot be the name of a folder for backups")
    about = about_node()
    if not state.is_executing:
        place, others = f"{policy.folder}/{policy.node}", policy.keeper_names or "no other node"
        host.log(f"would back up {policy.node} to the controller ({place}) and to {others}")
    if not policy.keepers:
        loss = f"with the controller's disk the backup of {policy.node} is lost"
        report(host, Remark(f"MISSING: another node that keeps it: {loss}", "yellow"))
    yield FunctionCommand(make, (policy, request, about), {})


@operation(is_idempotent=False)
def proven(
    policy: BackupPolicy,
    identity_file: str | None,
    backup: str = "latest",
    most_age_seconds: float | None = None,
    stand_in: bool = False,
    any_installation: bool = False,
) -> Commands:
    """
    Prove a backup in every place that has it: unpack it as a restore would, compare it, open its database.

    + policy: where it is kept
    + identity_file: age's key, on the controller, for encrypted ones
    + backup: its id, or "latest"
    + most_age_seconds: an older backup is refused as stale; None: no limit
    + stand_in: this host is not the node, which is away: the backup need not be of this machine
    + any_installation: the backup may be of an earlier installation of the node

    It fails if one copy is not proven, after all have been tried.
    """
    if backup != "latest" and not ID.fullmatch(backup):
        raise RefusedError("BACKUP_MISSING", f"{shown(backup)!r} is no id of a backup")
    expected: dict[str, Any] = {"node": policy.node, "most_age_seconds": most_age_seconds}
    if not stand_in:
        expected |= machine(known(NodeIdentity))
    if any_installation:
        expected.pop("machine_id", None)
    yield FunctionCommand(prove_copies, (policy, identity_file, backup, expected), {})


@operation(is_idempotent=False)
def fetched(policy: BackupPolicy, identity_file: str | None, backup: str = "latest") -> Commands:
    """
    Fetch a backup that another node keeps: for a new controller, or one that lost its own.

    + policy: where it is kept
    + identity_file: age's key, on the controller, for encrypted ones
    + backup: its id, or "latest": the newest that a node has and calls proven; without any, the newest

    A damaged copy of the controller is replaced. What a node says of its proofs only helps to choose: the controller
    proves its new copy itself. A backup from the future is not the latest.
    """
    copies = [(keeper, copy) for keeper in policy.keepers for copy in policy.listed(keeper) if copy.complete]
    if backup == "latest":
        copies = [one for one in copies if made_seconds(one[1].id) <= time.time() + AHEAD_SECONDS]
    there = {copy.id for _, copy in copies}
    proven = {copy.id for _, copy in copies if copy.proven}
    chosen = max(proven or there, key=made_at, default=None) if backup == "latest" else backup
    if chosen is None or chosen not in there:
        what = f"no backup of {policy.node}" if chosen is None else f"no backup {chosen}"
        raise RefusedError("BACKUP_MISSING", f"{policy.keeper_names or 'nobody'} has {what}")
    if is_whole(policy.folder, policy.node, chosen):
        host.noop(f"the controller has {chosen}")
        return
    sources = tuple(one for one in copies if one[1].id == chosen)
    yield FunctionCommand(fetch, (policy, sources, chosen), {})
    yield FunctionCommand(prove_fetched, (policy, identity_file, chosen), {})
