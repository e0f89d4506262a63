"""Backups made and proven: streamed from the node to the controller, from there to other nodes, tried in each place.

The contract: a backup counts only where it is whole, and is proven only where it was tried. Its content passes through
this process, and shows in no command line, output or log of it.
"""

from __future__ import annotations

from typing import Any

from pyinfra.api import FunctionCommand
from pyinfra.context import host, state

from gb10.facts.identity import NodeIdentity
from gb10.facts.reading.reports import report
from gb10.operations.backups.fetching import fetch
from gb10.operations.backups.keeping import Keeping, Wanted
from gb10.operations.backups.making import about_node, make
from gb10.operations.backups.proving import machine, prove_copies
from gb10.operations.backups.reports import NoKeeper
from gb10.operations.kit.operation import Commands, known, operation, refuse
from gb10.programs.archive.manifest import shown
from gb10.programs.backups.listing import ID
from gb10.programs.backups.store import is_whole, made_at


@operation(is_idempotent=False)
def made(keeping: Keeping, wanted: Wanted) -> Commands:
    """
    Make a backup of this node, and keep it on the controller and on other nodes.

    + keeping: where it is kept, and for how long
    + wanted: what goes into it beside what always does, and who may read it

    It fails if one of the keepers did not get it, after all others have.
    """
    if not ID.fullmatch(f"{keeping.node}-20260101T000000Z"):
        yield from refuse("SETTINGS_INVALID", f"{keeping.node!r} cannot be the name of a folder for backups")
        return
    about = about_node()
    if not state.is_executing:
        place, others = f"{keeping.folder}/{keeping.node}", keeping.keeper_names or "no other node"
        host.log(f"would back up {keeping.node} to the controller ({place}) and to {others}")
    if not keeping.keepers:
        report(host, NoKeeper(keeping.node))
    yield FunctionCommand(make, (keeping, wanted, about), {})


@operation(is_idempotent=False)
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

    It fails if one copy is not proven, after all have been tried.
    """
    if backup != "latest" and not ID.fullmatch(backup):
        yield from refuse("BACKUP_MISSING", f"{shown(backup)!r} is no id of a backup")
        return
    expected: dict[str, Any] = {"node": keeping.node, "most_age_seconds": most_age_seconds}
    if not stand_in:
        expected |= machine(known(NodeIdentity))
    if any_installation:
        expected.pop("machine_id", None)
    yield FunctionCommand(prove_copies, (keeping, identity_file, backup, expected), {})


@operation(is_idempotent=False)
def fetched(keeping: Keeping, backup: str = "latest") -> Commands:
    """
    Have a backup on the controller that another node keeps: for a controller that lost its own, or is another one.

    + keeping: where it is kept
    + backup: its id, or "latest": the newest proven one that a node has; without any, the newest

    A damaged copy of the controller is replaced. What proves a copy comes with it.
    """
    copies = [(keeper, copy) for keeper in keeping.keepers for copy in keeping.listed(keeper) if copy.complete]
    there = {copy.id for _, copy in copies}
    proven = {copy.id for _, copy in copies if copy.proven}
    chosen = max(proven or there, key=made_at, default=None) if backup == "latest" else backup
    if chosen is None or chosen not in there:
        what = f"no backup of {keeping.node}" if chosen is None else f"no backup {chosen}"
        yield from refuse("BACKUP_MISSING", f"{keeping.keeper_names or 'nobody'} has {what}")
        return
    if is_whole(keeping.folder, keeping.node, chosen):
        host.noop(f"the controller has {chosen}")
        return
    sources = tuple(one for one in copies if one[1].id == chosen)
    yield FunctionCommand(fetch, (keeping, sources, chosen), {})
