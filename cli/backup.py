"""gb10 backup: back nodes up, off the node, and prove the backups."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import click

from gb10.cli.screen import console
from gb10.cli.screen.backup_view import BackupView, print_backups, shown_backups
from gb10.cli.screen.session import Session, command_options
from gb10.controller.backups import CONTROLLER, local_backups
from gb10.controller.cluster.queries import BACKUPS
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
    gb10 backup --all           make a backup of every node
    gb10 backup list            show all backups, where they are, and if they are proven
    gb10 backup prove spark-2   prove the newest backup of a node again
    gb10 backup fetch spark-2   fetch it from the node that keeps it

    A backup holds what makes a node this node: host keys, accounts and keys, network, Docker's and K3s' configuration,
    a head's database with its token and certificates, and backup_paths. It holds no models, images or logs.
    """


@backup.command(hidden=True)
@click.argument("nodes", metavar="[NODE]...", nargs=-1)
@click.option("--all", "everyone", is_flag=True, help="All nodes of the inventory.")
@click.option("--no-prove", is_flag=True, help="Do not prove the backup.")
@click.option("--dry-run", is_flag=True, help="Only show what would be backed up, and to where.")
@command_options(limit=False)
def make(session: Session, nodes: tuple[str, ...], everyone: bool, no_prove: bool) -> None:
    """Make a backup of each NODE, keep it off the node, and prove every copy."""
    chosen = [host.name for host in session.named_hosts(nodes, everyone)]
    if session.options.dry_run:
        result = session.run(BACKUP, "Backup", limit=chosen)
        session.print_result(result)
        session.finish({"run": result.to_json()}, result.error)
    with session.lock(), shown_backups() as view:
        runs = [session.runner(chosen).run(BACKUP, kwargs={"progress_seconds": 0.5}, on_event=view.hear)]
        if not no_prove and view.made:
            ids = {made.summary["node"] for made in view.made}
            hosts = [host.name for host in session.inventory.select(chosen) if host.node_name in ids]
            runs.append(session.runner(hosts or chosen).run(PROVE, on_event=view.hear))
    _end(session, runs, view)


@backup.command()
@click.argument("nodes", metavar="[NODE]...", nargs=-1)
@click.option("--from", "wanted", metavar="ID", default="latest", show_default=True, help="Which backup.")
@click.option("--any-age", is_flag=True, help="Also one that is older than backup_fresh_hours, or than a wipe.")
@command_options(limit=False)
def prove(session: Session, nodes: tuple[str, ...], wanted: str, any_age: bool) -> None:
    """Prove the newest backup of each NODE (without one: of all nodes) wherever a copy is.

    Each copy is unpacked as for a restore, and every file is compared with the manifest. A head's database is opened:
    it must be sound, hold the cluster's nodes and Helm releases, and belong to the token beside it. If a node is away,
    another node proves its backup.
    """
    hosts = session.inventory.select(nodes) if nodes else _owners(session.inventory.hosts, wanted)
    arguments = {"backup": wanted, "any_age": any_age}
    with session.lock(), shown_backups() as view:
        result = session.runner([host.name for host in hosts]).run(PROVE, kwargs=arguments, on_event=view.hear)
        runs = [result]
        away = _away(result)
        proven = {proof.node for proof in view.proofs}
        others = [host.name for host in session.inventory.hosts if host.name not in away]
        missing = [host.name for host in hosts if host.name in away and host.node_name not in proven]
        if missing and others:
            # The errors of nodes that others stand in for do not count.
            kept = tuple(error for error in result.errors if error.host not in missing and error.code != "NOT_RUN")
            runs = [replace(result, errors=kept)]
            runs += [_run_on_first(session, others, PROVE, view, **arguments, node=name) for name in missing]
    _end(session, runs, view)


@backup.command()
@click.argument("node", metavar="NODE")
@click.option("--from", "wanted", metavar="ID", default="latest", show_default=True, help="Which backup.")
@command_options(limit=False)
def fetch(session: Session, node: str, wanted: str) -> None:
    """Fetch the newest backup of NODE from another node that keeps it.

    For a new controller, or one that lost its own copies. NODE itself may be away.
    """
    (host,) = session.inventory.select([node])
    others = [other.name for other in session.inventory.hosts if other.name != host.name]
    if not others:
        raise Gb10Error("BACKUP_MISSING", f"the inventory has no other node that could keep a backup of {host.name}")
    with session.lock(), shown_backups() as view:
        result = _run_on_first(session, others, FETCH, view, node=host.name, backup=wanted)
    _end(session, [result], view)


@backup.command("list")
@click.argument("nodes", metavar="[NODE]...", nargs=-1)
@command_options(limit=False)
def list_(session: Session, nodes: tuple[str, ...]) -> None:
    """Show the backups of each NODE (without one: of all nodes), on this controller and on the nodes that answer."""
    names = {host.node_name for host in session.inventory.select(nodes)}
    with console.waiting("Look at the nodes"):
        found = session.runner(()).facts([BACKUPS])
    places = {CONTROLLER: local_backups()}
    places |= {host: copies for host in found.hosts if (copies := found.of(host, BACKUPS))}
    rows = [(where, copy) for where, copies in places.items() for copy in copies if not nodes or copy.node in names]
    rows.sort(key=lambda row: (row[1].node, row[1].id, row[0] != CONTROLLER, row[0]))
    for error in found.errors:
        console.print_error(error)
    print_backups(rows)
    document = {"backups": [{"where": where, **copy.to_json()} for where, copy in rows]}
    session.finish({**document, "unread": [error.to_json() for error in found.errors]})


def _owners(hosts: Sequence[InventoryHost], wanted: str) -> tuple[InventoryHost, ...]:
    """Return the host that the ID of a backup names, or all hosts for "latest". Raise USAGE for an unknown node."""
    match = ID.fullmatch(wanted)
    found = tuple(host for host in hosts if match is None or host.node_name == match["node"])
    if not found:
        raise Gb10Error("USAGE", f"{wanted} is of no node of the inventory: name a NODE as well")
    return found


def _run_on_first(session: Session, names: Sequence[str], deploy: str, view: BackupView, **arguments: Any) -> RunResult:
    """Run a deploy on the first of these hosts that can be reached."""
    for name in names:
        before = len(view.proofs)
        result = session.runner([name]).run(deploy, kwargs=arguments, on_event=view.hear)
        if name not in _away(result) or len(view.proofs) > before:  # a host that reports a proof was reached
            break
    return result


def _away(result: RunResult) -> set[str | None]:
    """Return the hosts that a run could not reach."""
    return {error.host for error in result.errors if error.code in ("NODE_UNREACHABLE", "SSH_HOST_KEY", "SSH_AUTH")}


def _end(session: Session, runs: Sequence[RunResult], view: BackupView) -> None:
    """Print the errors, and the nodes whose copies are all proven; end the command."""
    errors = tuple(error for run in runs for error in run.errors)
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
    session.finish(document, decisive(errors))
