"""gb10 restore."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import click

from gb10.cli.screen import console
from gb10.cli.screen.session import Command, Session, command_options, run_options, run_status
from gb10.controller.errors import Gb10Error
from gb10.controller.inventory import InventoryHost
from gb10.controller.restore import ACCEPTABLE, k3s_deploy, know_host
from gb10.controller.run.messages import Event, Reported
from gb10.controller.run.results import RunResult
from gb10.operations.backups.parts import RESTORABLE
from gb10.operations.backups.reports import Remark, Sent, ToRestore, ToRun

# Reports of a run that are for people: of a dry run, and of every run.
PLANNED = (ToRestore, ToRun)
TOLD = (Remark, Sent)


def _parts(ctx: click.Context, parameter: click.Parameter, text: str | None) -> list[str] | None:
    parts = text.split(",") if text else None
    unknown = [part for part in parts or () if part not in RESTORABLE]
    if unknown:
        raise click.BadParameter(f"{', '.join(unknown)}: choose from {', '.join(RESTORABLE)}")
    return parts


def accept_option(text: str) -> Callable[[Command], Command]:
    """Given its help, return the option by which a person agrees to what speaks against a restore."""
    return click.option("--accept", multiple=True, type=click.Choice(ACCEPTABLE), help=text)


@click.command()
@click.argument("node", metavar="NODE")
@click.option("--from", "backup", metavar="ID", help="Which backup; without it the newest of this node.")
@click.option("--only", metavar="PART,...", callback=_parts, help=f"Only these parts: {', '.join(RESTORABLE)}.")
@accept_option("Go on in spite of this; repeatable.")
@command_options(limit=False)
@run_options
def restore(
    session: Session,
    node: str,
    backup: str | None,
    only: list[str] | None,
    accept: tuple[str, ...],
    dry_run: bool,
    diff: bool,
    detailed_exitcode: bool,
) -> None:
    """Put a backup of the controller back onto NODE, which has been installed anew.

    What differs is replaced, and kept beside; what the node has beyond the backup stays. The SSH host keys come last,
    and known_hosts follows. If K3s is in it, it is installed and started with the restored state: a head comes up with
    its old cluster, a worker rejoins. Of secrets nothing is shown but digests.
    """
    (host,) = _one(session, node)
    kwargs = {name: value for name, value in (("backup", backup), ("only", only)) if value is not None}
    with nullcontext() if dry_run else session.lock():
        know_host(host, backup)
        result = _restored(session, host, kwargs, list(accept), dry=dry_run, diff=diff)
        results = [result]
        if not dry_run and result.ok:
            know_host(host, backup)
            results += _started(session, host, result)
    if not session.as_json:
        for result in results:
            console.print_result(result, diff)
    error = next((result.error for result in results if result.error), None)
    session.finish({"runs": [r.to_json() for r in results]}, error, run_status(results, detailed_exitcode))


def _one(session: Session, node: str) -> tuple[InventoryHost, ...]:
    hosts = session.inventory.select([node])
    if len(hosts) != 1:
        raise Gb10Error("USAGE", f"{node} means {len(hosts)} nodes: restore one after the other")
    return hosts


def _restored(
    session: Session, host: InventoryHost, kwargs: dict[str, Any], accept: list[str], *, dry: bool, diff: bool
) -> RunResult:
    """Restore; where a person can agree to what speaks against it, ask, and go on if they do."""
    title = "Dry run of restore" if dry else "Restore"
    told = () if session.as_json else PLANNED + TOLD if dry else TOLD
    runner = session.runner([session.inventory.limit_pattern(host)])
    with console.progress(title, [host.name], session.verbosity, quiet=session.as_json) as view:

        def hear(event: Event) -> None:
            view.hear(event)
            if isinstance(event, Reported) and isinstance(event.report, told):
                console.print_note(f"  {event.report.line}")

        agreed = {**kwargs, "accept": accept or None}
        result = runner.run("gb10.deploys.restore", dry=dry, diff=diff, kwargs=agreed, on_event=hear)
    error = result.error
    if dry or not error or error.code not in ACCEPTABLE or not sys.stdin.isatty() or session.as_json:
        return result
    console.print_error(error)
    if not click.confirm("Restore nevertheless?", err=True):
        raise Gb10Error("DECLINED")
    return _restored(session, host, kwargs, [*accept, error.code], dry=dry, diff=diff)


def _started(session: Session, host: InventoryHost, result: RunResult) -> list[RunResult]:
    deploy = k3s_deploy(host, result)
    if deploy is None:
        return []
    return [session.run(deploy, "Start K3s", limit=[session.inventory.limit_pattern(host)])]
