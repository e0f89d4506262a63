"""gb10 restore: put a backup back onto a node."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from gb10.cli.screen import console
from gb10.cli.screen.session import Command, Session, command_options, run_options
from gb10.controller.backups import ACCEPTABLE, k3s_deploy, know_host
from gb10.controller.errors import Gb10Error
from gb10.controller.inventory import InventoryHost
from gb10.controller.run.messages import Event, Reported
from gb10.controller.run.results import RunResult
from gb10.operations.backups.reports import Remark, Restoring, ToRestore, Transferred
from gb10.operations.backups.restore_plan import RESTORABLE

SHOWN_REPORTS = (Remark, Transferred)
SHOWN_IN_DRY_RUN = (ToRestore, Remark, Transferred)


def _parts(ctx: click.Context, parameter: click.Parameter, text: str | None) -> list[str] | None:
    parts = text.split(",") if text else None
    unknown = [part for part in parts or () if part not in RESTORABLE]
    if unknown:
        raise click.BadParameter(f"{', '.join(unknown)}: choose from {', '.join(RESTORABLE)}")
    return parts


def accept_option(text: str) -> Callable[[Command], Command]:
    """Return the option to restore in spite of an objection. `text` is its help."""
    return click.option("--accept", multiple=True, type=click.Choice(ACCEPTABLE), help=text)


@click.command()
@click.argument("node", metavar="NODE")
@click.option("--from", "backup", metavar="ID", help="Which backup. Default: the newest of this node.")
@click.option("--only", metavar="PART,...", callback=_parts, help=f"Only these parts: {', '.join(RESTORABLE)}.")
@accept_option("Restore in spite of this; repeatable.")
@command_options(limit=False)
@run_options
def restore(session: Session, node: str, backup: str | None, only: list[str] | None, accept: tuple[str, ...]) -> None:
    """Put a backup from the controller back onto NODE, which has been reinstalled.

    Files that differ are replaced, and kept beside the new ones; what is only on the node stays. The SSH host keys come
    last, and known_hosts follows. If the backup holds K3s, it is installed and started with the restored state: a head
    comes up with its old cluster, a worker rejoins. Of secrets only digests are shown.
    """
    hosts = session.inventory.select([node])
    if len(hosts) != 1:
        raise Gb10Error("USAGE", f"{node} means {len(hosts)} nodes: restore one after the other")
    (host,) = hosts
    arguments = {name: value for name, value in (("backup", backup), ("only", only)) if value is not None}
    with session.lock():
        know_host(host, backup)
        result, steps = _restore(session, host, arguments, list(accept))
        results = [result]
        if not session.options.dry_run and result.ok:
            know_host(host, backup)
            deploy = k3s_deploy(host, steps)
            if deploy:
                results.append(session.run(deploy, "Start K3s", limit=[session.inventory.limit_pattern(host)]))
    for result in results:
        session.print_result(result)
    session.finish({"runs": [result.to_json() for result in results]}, results=results)


def _restore(
    session: Session, host: InventoryHost, arguments: dict[str, Any], accept: list[str]
) -> tuple[RunResult, tuple[str, ...]]:
    """Restore; return the result and the steps. After a refusal that a person may overrule, ask, and go on."""
    steps: tuple[str, ...] = ()
    options = session.options
    shown = SHOWN_IN_DRY_RUN if options.dry_run else SHOWN_REPORTS
    runner = session.runner([session.inventory.limit_pattern(host)])
    title = "Restore, dry run" if options.dry_run else "Restore"
    with console.progress(title, [host.name], options.verbosity) as on_event:

        def hear(event: Event) -> None:
            nonlocal steps
            on_event(event)
            if isinstance(event, Reported) and isinstance(event.report, Restoring):
                steps = event.report.steps
            if isinstance(event, Reported) and isinstance(event.report, shown):
                console.print_note(f"  {event.report.line}")

        kwargs = {**arguments, "accept": accept or None}
        result = runner.run(
            "gb10.deploys.restore", dry=options.dry_run, diff=options.diff, kwargs=kwargs, on_event=hear
        )
    error = result.error
    if options.dry_run or not error or error.code not in ACCEPTABLE or not session.interactive:
        return result, steps
    console.print_error(error)
    session.confirm("Restore nevertheless?")
    return _restore(session, host, arguments, [*accept, error.code])
