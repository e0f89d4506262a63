"""gb10 backup: what makes a node this node, off the node, and proven."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import click
from rich.markup import escape
from rich.progress import DownloadColumn, Progress, SpinnerColumn, TaskID, TextColumn, TransferSpeedColumn
from rich.table import Table

from gb10.cli.screen import console
from gb10.cli.screen.session import Session, command_options
from gb10.controller.backups import CONTROLLER, local_backups
from gb10.controller.cluster.asks import BACKUPS
from gb10.controller.errors import Gb10Error, decisive
from gb10.controller.inventory import InventoryHost
from gb10.controller.run.messages import Event, Reported
from gb10.controller.run.results import RunResult
from gb10.facts.reading.backups import BackupCopy
from gb10.operations.backups.reports import Kept, Made, NoKeeper, Noted, Pruned, Transferred, Tried
from gb10.operations.copying.plan import human
from gb10.programs.archive.manifest import ID
from gb10.programs.backups.evidence import Evidence

BACKUP, PROVE, FETCH = "gb10.deploys.backup", "gb10.deploys.prove_backup", "gb10.deploys.fetch_backup"
LINE_SECONDS = 10  # between two lines that say how far something is


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
    with session.lock(), _shown(session.as_json) as view:
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
    with session.lock(), _shown(session.as_json) as view:
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
    with session.lock(), _shown(session.as_json) as view:
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
        _print_list(rows)
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


def _asked(session: Session, names: Sequence[str], deploy: str, kwargs: dict[str, Any], view: _View) -> RunResult:
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


class _View:
    """Follows backups and proofs as they come."""

    def __init__(self, progress: Progress | None, quiet: bool) -> None:
        self.made: list[Made] = []
        self.kept: list[Kept] = []
        self.proofs: list[Evidence] = []
        self._progress = progress
        self._quiet = quiet
        self._tasks: dict[tuple[str, str], TaskID] = {}
        self._told: dict[str, float] = {}  # host -> when a line said how far it is

    def hear(self, event: Event) -> None:
        """Take in the next event of a run."""
        match event:
            case Reported(host, Transferred() as moved):
                self._show(host, moved)
            case Reported(host, Made() | Kept() | Tried() as report):
                self._end(host)
                self._keep(report)
                self._print(f"  {report.line}")
            case Reported(host, Noted() | NoKeeper() | Pruned() as report):
                self._print(f"  {host}: {report.line}")

    def _keep(self, report: Made | Kept | Tried) -> None:
        match report:
            case Made():
                self.made.append(report)
            case Kept():
                self.kept.append(report)
            case Tried(evidence):
                self.proofs.append(evidence)

    def _show(self, host: str, moved: Transferred) -> None:
        if self._progress is None:
            self._show_line(host, moved)
            return
        key = (host, moved.what)
        if key not in self._tasks:
            self._end(host)
            self._tasks[key] = self._progress.add_task(moved.what, total=moved.total_bytes)
        self._progress.update(self._tasks[key], completed=moved.done_bytes)

    def _show_line(self, host: str, moved: Transferred) -> None:
        """The same as a line: not many of them, for they stay."""
        now = time.monotonic()
        if moved.done_bytes and now - self._told.setdefault(host, now) < LINE_SECONDS:
            return
        self._told[host] = now
        self._print(f"  {moved.line}")

    def _end(self, host: str) -> None:
        for key in [key for key in self._tasks if key[0] == host]:
            if self._progress is not None:
                self._progress.remove_task(self._tasks.pop(key))

    def _print(self, text: str) -> None:
        if self._quiet:
            return
        if self._progress is not None:
            self._progress.console.print(text, markup=False, highlight=False)
        else:
            print(text, file=console.stderr().file, flush=True)


@contextmanager
def _shown(quiet: bool) -> Iterator[_View]:
    """Show backups: what has come so far on a terminal, lines elsewhere, nothing if `quiet`."""
    terminal = console.stderr()
    if quiet or not terminal.is_terminal or terminal.no_color:
        yield _View(None, quiet)
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
    )
    with Progress(*columns, console=terminal, transient=True) as progress:
        yield _View(progress, quiet)


def _end(session: Session, runs: Sequence[RunResult], view: _View) -> None:
    errors = [error for run in runs for error in run.errors]
    if not session.as_json:
        for error in errors:
            console.print_error(error)
        for node in dict.fromkeys(proof.node for proof in view.proofs):
            proofs = [proof for proof in view.proofs if proof.node == node]
            if all(proof.found.proven for proof in proofs):
                places = ", ".join(proof.where for proof in proofs)
                console.print_done(f"{node}: {proofs[0].id} is proven on {places}")
    document = {
        "runs": [run.to_json() for run in runs],
        "made": [made.to_json() for made in view.made],
        "kept": [kept.to_json() for kept in view.kept],
        "proofs": [proof.to_json() for proof in view.proofs],
    }
    session.finish(document, decisive(tuple(errors)))


def _print_list(rows: Sequence[tuple[str, BackupCopy]]) -> None:
    table = Table("backup", "where", "age", "size", "K3s", "proven", **console.BARE)
    for where, copy in rows:
        table.add_row(
            escape(copy.id),
            where,
            _ago(copy.created),
            human(copy.size) + (" age" if copy.encrypted else ""),
            str(copy.versions.get("k3s") or "-"),
            _verdict(where, copy),
        )
    if rows:
        console.stdout().print(table)
    else:
        console.stdout().print("There are no backups yet: gb10 backup --all")


def _verdict(where: str, copy: BackupCopy) -> str:
    """What came of the last proof of the copy that lies there."""
    if not copy.complete:
        return "[red]incomplete[/]"
    proof = next((one for one in copy.evidence if one.where == where), None)
    if proof is None:
        return "[yellow]not yet[/]"
    if not proof.proven or proof.sha256 != copy.sha256:
        return f"[red]no[/]: {escape('; '.join(proof.reasons)) or 'it was exchanged since'}"
    return f"[green]yes[/], {_span(proof.age_seconds)} ago"


def _ago(created: str | None) -> str:
    try:
        made = datetime.strptime(created or "", "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    except ValueError:
        return "?"
    return _span((datetime.now(UTC) - made).total_seconds())


def _span(seconds: float) -> str:
    """A time in the unit that people would choose."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(0, seconds):.0f} s"
