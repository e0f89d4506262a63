"""gb10 backup: what makes a node this node, off the node, and proven."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import click

from gb10.cli.screen import console
from gb10.cli.screen.backup_view import BackupView, print_list, shown
from gb10.cli.screen.session import Session, command_options
from gb10.controller.backups import CONTROLLER, local_backups
from gb10.controller.cluster.asks import BACKUPS
from gb10.controller.errors import Gb10Error, decisive
from gb10.controller.inventory import InventoryHost
from gb10.controller.run.results import RunResult
from gb10.programs.backups.listing import ID

BACKUP, PROVE, FETCH = "gb10.deploys.backup", "gb10.deploys.prove_backup", "gb10.deploys.fetch_backup"


class _Group(click.Group):
    """`gb10 backup NODE` is `gb10 backup make NODE`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in (*self.commands, "--help"):
            args = ["make", *args]
        return super().parse_args(ctx, args)


@click.group(cls=_Group, subcommand_metavar="NODE... | --all | list | prove | fetch")
def backup() -> None:
    """Back nodes up to this controller and to other nodes, and prove it.

    \b
    gb10 backup spark-2         make a backup and prove every copy of it
    gb10 backup --all           of every node
    gb10 backup list            what there is, where, and whether it is proven
    gb10 backup prove spark-2   try the newest backup of a node again
    gb10 backup fetch spark-2   take it back from the node that keeps it

    A backup holds what makes a node this node: host keys, accounts and keys, network, Docker's and K3s' configuration,
    a head's database with its token and certificates, and backup_paths. Not models, images or logs.
    """


@backup.command(hidden=True)
@click.argument("nodes", metavar="[NODE]...", nargs=-1)
@click.option("--all", "everyone", is_flag=True, help="All nodes of the inventory.")
@click.option("--no-prove", is_flag=True, help="Do not try it: then it is not proven.")
@click.option("--dry-run", is_flag=True, help="Only show what would be backed up, and to where.")
@command_options(limit=False)
def make(session: Session, nodes: tuple[str, ...], everyone: bool, no_prove: bool, dry_run: bool) -> None:
    """Make a backup of each NODE, keep it off the node, and prove every copy."""
    chosen = _chosen(session, nodes, everyone)
    if dry_run:
        result = session.run(BACKUP, "Dry run of backup", limit=chosen, dry=True)
        if not session.as_json:
            console.print_result(result)
        session.finish({"run": result.to_json()}, result.error)
    with session.lock(), shown(session.as_json) as view:
        result = session.runner(chosen).run(BACKUP, kwargs={"progress_seconds": 0.5}, on_event=view.hear)
        runs = [result]
        if not no_prove and view.made:
            ids = {made.summary["node"] for made in view.made}
            nodes_made = [host.name for host in session.inventory.select(chosen) if host.node_name in ids]
            runs.append(session.runner(nodes_made or chosen).run(PROVE, on_event=view.hear))
    _end(session, runs, view)


@backup.command()
@click.argument("nodes", metavar="[NODE]...", nargs=-1)
@click.option("--from", "wanted", metavar="ID", default="latest", show_default=True, help="Which backup.")
@click.option("--any-age", is_flag=True, help="Also an older one than backup_fresh_hours, or of before a wipe.")
@command_options(limit=False)
def prove(session: Session, nodes: tuple[str, ...], wanted: str, any_age: bool) -> None:
    """Try the newest backup of each NODE, of all without any, in every place where it is.

    Each copy is unpacked as a restore would, every file is compared with the manifest, and a head's database is opened:
    it must be sound, hold the cluster's nodes and Helm releases, and belong to the token beside it. A node that is away
    does not matter: then another one is asked.
    """
    hosts = session.inventory.select(nodes) if nodes else _whose(session.inventory.hosts, wanted)
    with session.lock(), shown(session.as_json) as view:
        kwargs = {"backup": wanted, "any_age": any_age}
        result = session.runner([host.name for host in hosts]).run(PROVE, kwargs=kwargs, on_event=view.hear)
        runs = [result]
        away = _away(result)
        tried = {proof.node for proof in view.proofs}
        others = [host.name for host in session.inventory.hosts if host.name not in away]
        missing = [host.name for host in hosts if host.name in away and host.node_name not in tried]
        if missing and others:
            runs = [_without(result, missing)]
            runs += [_asked(session, others, PROVE, {**kwargs, "node": name}, view) for name in missing]
    _end(session, runs, view)


@backup.command()
@click.argument("node", metavar="NODE")
@click.option("--from", "wanted", metavar="ID", default="latest", show_default=True, help="Which backup.")
@command_options(limit=False)
def fetch(session: Session, node: str, wanted: str) -> None:
    """Take the newest backup of NODE from another node that keeps it.

    For a controller that lost its own copies, or is a new one. NODE itself may be away.
    """
    (host,) = session.inventory.select([node])
    others = [other.name for other in session.inventory.hosts if other.name != host.name]
    if not others:
        raise Gb10Error("BACKUP_MISSING", f"the inventory has no other node that could keep a backup of {host.name}")
    with session.lock(), shown(session.as_json) as view:
        kwargs = {"node": host.name, "backup": wanted}
        result = _asked(session, others, FETCH, kwargs, view)
    _end(session, [result], view)


@backup.command("list")
@click.argument("nodes", metavar="[NODE]...", nargs=-1)
@command_options(limit=False)
def list_(session: Session, nodes: tuple[str, ...]) -> None:
    """Show the backups of each NODE, of all without any: on this controller and on the nodes that answer."""
    names = {host.node_name for host in session.inventory.select(nodes)}
    with console.waiting("Look at the nodes", quiet=session.as_json):
        found = session.runner(()).facts([BACKUPS])
    places = {CONTROLLER: local_backups()}
    places |= {host: copies for host in found.hosts if (copies := found.of(host, BACKUPS))}
    rows = [(where, copy) for where, copies in places.items() for copy in copies if not nodes or copy.node in names]
    rows.sort(key=lambda row: (row[1].node, row[1].id, row[0] != CONTROLLER, row[0]))
    if not session.as_json:
        for error in found.errors:
            console.print_error(error)
        print_list(rows)
    document = {"backups": [{"where": where, **copy.to_json()} for where, copy in rows]}
    session.finish({**document, "unread": [error.to_json() for error in found.errors]}, None)


def _chosen(session: Session, nodes: Sequence[str], everyone: bool) -> list[str]:
    """The hosts that somebody named. Raise USAGE where he named none, or both some and all."""
    if bool(nodes) == everyone:
        raise Gb10Error("USAGE", reason="name the nodes to back up, or --all")
    return [host.name for host in session.inventory.select(nodes)]


def _whose(hosts: Sequence[InventoryHost], wanted: str) -> tuple[InventoryHost, ...]:
    """Of all hosts, those that a backup can be of: the one that its id names; all where it is not named."""
    match = ID.fullmatch(wanted)
    found = tuple(host for host in hosts if match is None or host.node_name == match["node"])
    if not found:
        raise Gb10Error("USAGE", f"{wanted} is of no node of the inventory: name a NODE as well")
    return found


def _asked(session: Session, names: Sequence[str], deploy: str, kwargs: dict[str, Any], view: BackupView) -> RunResult:
    """Run a deploy on the first of some hosts that can be reached."""
    for name in names:
        heard = len(view.proofs)
        result = session.runner([name]).run(deploy, kwargs=kwargs, on_event=view.hear)
        if name not in _away(result) or len(view.proofs) > heard:  # who tells of a proof is there, whoever else is not
            break
    return result


def _away(result: RunResult) -> set[str | None]:
    """The hosts that a run did not get to."""
    return {error.host for error in result.errors if error.code in ("NODE_UNREACHABLE", "SSH_HOST_KEY", "SSH_AUTH")}


def _without(result: RunResult, hosts: Sequence[str]) -> RunResult:
    """The same without what speaks of hosts that another one stands in for."""
    kept = tuple(error for error in result.errors if error.host not in hosts and error.code != "NOT_RUN")
    return replace(result, errors=kept)


def _end(session: Session, runs: Sequence[RunResult], view: BackupView) -> None:
    errors = [error for run in runs for error in run.errors]
    if not session.as_json:
        for error in errors:
            console.print_error(error)
        for node in dict.fromkeys(proof.node for proof in view.proofs):
            proofs = [proof for proof in view.proofs if proof.node == node]
            if all(proof.proven for proof in proofs):
                places = ", ".join(proof.where for proof in proofs)
                console.print_done(f"{node}: {proofs[0].id} is proven on {places}")
    document = {
        "runs": [run.to_json() for run in runs],
        "made": [made.to_json() for made in view.made],
        "kept": [kept.to_json() for kept in view.kept],
        "proofs": [proof.to_json() for proof in view.proofs],
    }
    session.finish(document, decisive(tuple(errors)))
