"""gb10 wipe-all: every node reinstalled at once, and a new cluster made of them."""

from __future__ import annotations

from pathlib import Path

import click

from gb10.cli.rebuild import tools_for
from gb10.cli.restore import accept_option
from gb10.cli.screen import console
from gb10.cli.screen.rebuild_view import RebuildView, print_lines
from gb10.cli.screen.session import Session, command_options
from gb10.controller.cluster.view import download_command
from gb10.controller.errors import Gb10Error
from gb10.controller.journal import Journal
from gb10.controller.rebuild import runs
from gb10.controller.rebuild.tools import Tools, check_events
from gb10.controller.rebuild.wipe_all import Loss, WipeAll, check_names, copy_off_command


@click.command()
@click.option("--dry-run", is_flag=True, help="Only show what would be lost, and what is kept.")
@click.option("--names", metavar="NAMES", help="The names of all nodes, comma-separated, instead of typing them.")
@click.option("--download", is_flag=True, help="Download the lost models again at the end.")
@click.option("--accept-host-key", "keys", metavar="KEY", multiple=True, help="Fingerprint of a node's new host key.")
@accept_option("Restore in spite of this after a refusal; repeatable.")
@click.option("--events", type=click.Path(dir_okay=False, path_type=Path), help="Append all events as JSON lines.")
@click.option("--abort", is_flag=True, help="Give an unfinished one up, as long as nobody was asked to wipe.")
@command_options(limit=False)
def wipe_all(
    session: Session,
    names: str | None,
    download: bool,
    keys: tuple[str, ...],
    accept: tuple[str, ...],
    events: Path | None,
    abort: bool,
) -> None:
    """Make a new cluster after all nodes are reinstalled.

    First every node is backed up to this controller, and the backup is proven. Then you reinstall all of them, in any
    order. Then each is provisioned and gets its accounts, keys and settings back, and K3s is set up anew. Models and
    images are not in a backup. If it is interrupted, the same command continues.
    """
    session.known["resume"] = "gb10 wipe-all"
    inventory = session.inventory
    with session.lock():
        found = runs.unfinished(inventory, runs.WIPE_ALL)
        if session.options.dry_run:
            _finish_plan(session, _losses(session, runs.unwritten(found)))
        if abort:
            _abort(session, found)
        check_events(events)
        if accept:
            runs.refused_restore(found, accept)
        if not found:
            _begin(session, names)
        journal = found.journal if found else runs.begin(inventory, inventory.names, runs.WIPE_ALL)
        tools = tools_for(session, journal, RebuildView(), events, keys)
        runs.record_accepted(journal, tools.report, accept)
        _carry_out(session, tools, download)


def _begin(session: Session, names: str | None) -> None:
    """Show what is lost, and ask for the names of all nodes. Raise REBUILD_UNFINISHED, NAMES_NEEDED or DECLINED."""
    if other := runs.unfinished(session.inventory):
        text = f"the rebuild of {', '.join(other.nodes)} is not finished"
        raise Gb10Error("REBUILD_UNFINISHED", text, resume="gb10 rebuild resume")
    wanted = session.inventory.names
    if names is not None:
        check_names((name.strip() for name in names.split(",")), wanted)
    elif not session.interactive:
        raise Gb10Error("NAMES_NEEDED", known=list(wanted))
    if not session.options.as_json:
        _print(session, _losses(session, runs.unwritten(None)))
    if names is None:
        question = f"All of this is lost. Type the names of the nodes to go on ({len(wanted)} of them)"
        typed = click.prompt(question, default="", show_default=False, err=True)
        check_names(typed.replace(",", " ").split(), wanted)


def _losses(session: Session, journal: Journal) -> list[Loss]:
    work = WipeAll(tools_for(session, journal, lambda record: None))
    return [node.loss() for node in work.nodes]


def _print(session: Session, losses: list[Loss]) -> None:
    for loss in losses:
        print_lines(f"A wipe of {loss.node}", loss.lines())
    with_models = [host for host in session.inventory.hosts if any(x.node == host.name and x.models for x in losses)]
    print_lines("To copy the models off first, in another terminal", map(copy_off_command, with_models))


def _finish_plan(session: Session, losses: list[Loss]) -> None:
    _print(session, losses)
    offers = {host.name: copy_off_command(host) for host in session.inventory.hosts}
    session.finish({"losses": [loss.to_json() for loss in losses], "copy_models_off": offers})


def _carry_out(session: Session, tools: Tools, download: bool) -> None:
    work = WipeAll(tools, download=download)
    work.run()
    lost = work.lost_models()
    console.print_done(f"{', '.join(session.inventory.names)}: reinstalled, and all is green")
    print_lines("Models to download again", (download_command(host, name) for host, names in lost for name in names))
    to_download = {host.name: names for host, names in lost}
    session.finish({"run": tools.journal.run, "models_to_download": to_download})


def _abort(session: Session, found: runs.Progress | None) -> None:
    if found is None:
        raise Gb10Error("REBUILD_NONE", "there is no unfinished wipe of all nodes")
    WipeAll(tools_for(session, found.journal, RebuildView())).give_up()
    console.print_done("The wipe is given up; the nodes are unlocked")
    session.finish({"aborted": found.journal.run})
