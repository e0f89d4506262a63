"""gb10 rebuild: wipe one node after the other, while something keeps answering."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from rich.text import Text

from gb10.cli.restore import accept_option
from gb10.cli.screen import console, rebuild_view
from gb10.cli.screen.session import Session, command_options, options
from gb10.cli.screen.transfer import transfer
from gb10.controller.errors import Gb10Error
from gb10.controller.journal import Journal, now
from gb10.controller.rebuild import adoption, runs
from gb10.controller.rebuild.gate import DEMANDS, check_overrides
from gb10.controller.rebuild.plan import NodePlan, preview
from gb10.controller.rebuild.rebuild import Rebuild
from gb10.controller.rebuild.tools import Listener, Tools, check_events, make_tools
from gb10.controller.run.runner import OnEvent

LAST = "last"  # stands for the newest run
NONE_YET = "No node was rebuilt from here yet"

_NAMES = "\n".join(f"  {name:<14}{text}" for name, text in DEMANDS.items())
_GATE = f"\b\nThe gate demands:\n{_NAMES}"


@click.group()
def rebuild() -> None:
    """Take the cluster through the wipe of its nodes, one after the other.

    Everything that a node needs to come back is saved and proven; then you wipe it; then it is brought back as it was.
    A rebuild that is killed continues where it stopped.
    """


nodes_options = options(
    click.argument("nodes", metavar="NODE...", nargs=-1),
    click.option("--all", "every", is_flag=True, help="All nodes, the workers first."),
)
run_options = options(
    click.option(
        "--accept-host-key", "keys", metavar="KEY", multiple=True, help="Fingerprint of a wiped node's new host key."
    ),
    click.option(
        "--override",
        "overrides",
        metavar="NAME",
        multiple=True,
        help="A demand of the gate that the next node goes without.",
    ),
    click.option("--reason", help="The reason for --override, for the journal."),
    accept_option("Restore in spite of this after a refusal; repeatable."),
    click.option("--rebootstrap", is_flag=True, help="A wiped head comes back with a new cluster, not the old one."),
    click.option("--events", type=click.Path(dir_okay=False, path_type=Path), help="Append all events as JSON lines."),
)


@rebuild.command()
@nodes_options
@command_options(limit=False)
def plan(session: Session, nodes: tuple[str, ...], every: bool) -> None:
    """Show every step, what it would do now, and what is at risk. Nothing is written."""
    found = []
    for host in runs.in_order(session.named_hosts(nodes, every)):
        tools = tools_for(session, runs.unwritten(runs.unfinished(session.inventory)), lambda record: None)
        last = runs.seconds_last_time(runs.runs(session.inventory, runs.REBUILD), host.name)
        found.append(preview(NodePlan(host, tools), last))
        rebuild_view.print_preview(found[-1])
    session.finish({"plan": [one.to_json() for one in found]})


@rebuild.command(epilog=_GATE)
@nodes_options
@run_options
@command_options(limit=False)
def run(session: Session, nodes: tuple[str, ...], every: bool, **given: Any) -> None:
    """Rebuild nodes, one after the other; the next one only when all is green.

    If a run with the same nodes was interrupted, it continues.
    """
    chosen = [host.name for host in runs.in_order(session.named_hosts(nodes, every))]
    _check(given)
    with session.lock():
        _carry_out(session, runs.begin_or_resume(session.inventory, chosen, given["accept"]), **given)


@rebuild.command(epilog=_GATE)
@run_options
@command_options(limit=False)
def resume(session: Session, **given: Any) -> None:
    """Continue an interrupted rebuild. What is done already is not done again."""
    _check(given)
    with session.lock():
        _carry_out(session, runs.unfinished_rebuild(session.inventory).journal, **given)


@rebuild.command()
@command_options(limit=False)
def abort(session: Session) -> None:
    """Give a rebuild up and undo what it did, as long as no node was wiped."""
    with session.lock():
        tools = tools_for(session, runs.unfinished_rebuild(session.inventory).journal, rebuild_view.RebuildView())
        undone = Rebuild(tools).give_up()
    for line in (*undone, "The rebuild is given up; the nodes are unlocked"):
        console.print_done(line)
    session.finish({"undone": undone})


@rebuild.command()
@command_options(limit=False)
def status(session: Session) -> None:
    """Show the progress of a rebuild or a full wipe, and who has locked the nodes. It works from any terminal."""
    found = _runs(session)
    alive = runs.at_work(session.inventory)
    held, silent = runs.lock_holders(session.runner(()))
    if found:
        rebuild_view.print_progress(found[-1], alive, _resume_command(session, found[-1]))
    else:
        console.print_note(NONE_YET)
    for name, holder in held.items():
        console.stdout.print(Text(f"{name} is held by {holder}, run {holder.run}, since {holder.since}"))
    for error in silent:
        console.stdout.print(Text(f"Nobody can tell who holds {error.host or 'the nodes'}: {error.summary}"))
    document = {
        "run": found[-1].to_json(alive) if found else None,
        "locks": {name: holder.to_json() for name, holder in held.items()},
        "unanswered": [error.to_json() for error in silent],
    }
    session.finish(document)


@rebuild.command()
@click.argument("nodes", metavar="[NODE]...", nargs=-1)
@click.option("--yes", is_flag=True, help="Do not ask.")
@command_options(limit=False)
def unlock(session: Session, nodes: tuple[str, ...], yes: bool) -> None:
    """Remove the locks of a rebuild from the nodes, when it is gone for good."""
    with session.lock():
        names = [host.name for host in session.inventory.select(nodes)]
        found, errors = runs.lock_holders(session.runner(()))
        held = {name: holder for name, holder in found.items() if name in names}
        for name, holder in held.items():
            console.print_note(f"{name} is held by {holder}, run {holder.run}, since {holder.since}")
        if held and not yes:
            session.confirm("Is that rebuild gone for good? Remove the locks?")
        if held:
            session.run("gb10.deploys.unlock_nodes", "Unlock", limit=list(held)).check()
    silent = next((error for error in errors if error.host in (None, *names)), None)
    if held or not silent:
        console.print_done(f"Unlocked {', '.join(held)}" if held else "No node is locked")
    if silent:  # that node may still be locked
        raise silent
    session.finish({"unlocked": list(held)})


@rebuild.command()
@click.option("--from", "node", metavar="NODE", help="The node whose copy of the journal counts; else the newest one.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@command_options(limit=False)
def adopt(session: Session, node: str | None, yes: bool) -> None:
    """Take over a rebuild or a full wipe whose controller is lost, from the journal that the nodes keep."""
    with session.lock():
        lost = adoption.find_lost(session.inventory, session.runner([node] if node else ()))
        rebuild_view.print_lost(lost)
        if not yes:
            session.confirm("Is that controller gone for good? Two at once would undo each other's work. Take it over?")
        name = runs.new_name(lost.progress.kind)
        holder = {"run": name, "since": now(), "step": "adopt", **runs.this_controller()}
        instead_of = lost.holder.run if lost.holder else None
        session.run(
            "gb10.deploys.lock_nodes", "Lock", limit=lost.answering, holder=holder, instead_of=instead_of
        ).check()
        progress = runs.Progress(runs.adopt(lost.progress, name, lost.node))
    fetch = [f"gb10 backup fetch{session.known['options']} {host}" for host in lost.to_fetch]
    rebuild_view.print_lines("The lost controller had the backups. Fetch them before a restore", fetch)
    console.print_done(f"Taken over as {name}. Continue: {_resume_command(session, progress)}")
    session.finish({"run": progress.to_json(), "fetch": fetch})


@rebuild.command()
@click.argument("name", metavar="[RUN]", required=False)
@command_options(limit=False)
def history(session: Session, name: str | None) -> None:
    """Show the rebuilds and full wipes of these nodes; of one RUN, or the last, all records and the time they took."""
    found = [run for run in _runs(session) if name in (None, LAST, run.journal.run)]
    if name == LAST:
        found = found[-1:]
    if name and not found:
        raise Gb10Error("USAGE", reason=f"there is no run {name} of these nodes")
    if not found:
        console.print_note(NONE_YET)
    alive = runs.at_work(session.inventory)
    for progress in found:
        if name:
            rebuild_view.print_journal(progress.journal)
        else:
            rebuild_view.print_progress(progress, alive, _resume_command(session, progress))
    session.finish({"runs": [{**run.to_json(), "records": run.journal.records if name else []} for run in found]})


def _runs(session: Session) -> list[runs.Progress]:
    """Return the rebuilds and full wipes, oldest first."""
    return list(runs.runs(session.inventory, runs.REBUILD, runs.WIPE_ALL))


def _resume_command(session: Session, run: runs.Progress) -> str:
    command = "wipe-all" if run.kind == runs.WIPE_ALL else "rebuild resume"
    return f"gb10 {command}{session.known['options']}"


def _check(given: Mapping[str, Any]) -> None:
    """Raise USAGE for a wrong option, before anything begins."""
    check_overrides(given["overrides"], given["reason"])
    check_events(given["events"])


def _carry_out(
    session: Session,
    journal: Journal,
    *,
    keys: tuple[str, ...],
    overrides: tuple[str, ...],
    reason: str | None,
    accept: tuple[str, ...],
    rebootstrap: bool,
    events: Path | None,
) -> None:
    """Carry out a run, and end the command."""
    tools = tools_for(session, journal, rebuild_view.RebuildView(), events, keys)
    runs.record_accepted(journal, tools.report, accept)
    runs.record_decisions(journal, tools.report, check_overrides(overrides, reason), rebootstrap=rebootstrap)
    work = Rebuild(tools)
    work.run()
    console.print_done(f"{', '.join(work.progress.nodes)}: rebuilt, and all is green")
    session.finish({"run": work.progress.to_json()})


def tools_for(
    session: Session, journal: Journal, listener: Listener, events: Path | None = None, keys: tuple[str, ...] = ()
) -> Tools:
    """Return the tools of a rebuild or a full wipe for this session's terminal."""

    @contextmanager
    def watch(title: str, hosts: tuple[str, ...], *, copies: bool) -> Iterator[OnEvent]:
        """Show a run of a deploy while the context lasts."""
        if copies:
            with transfer(session.options.verbosity) as view:
                yield view.hear
        else:
            with console.progress(title, hosts, session.options.verbosity) as on_event:
                yield on_event

    return make_tools(
        session.inventory,
        session.runner,
        journal,
        listener=listener,
        watch=watch,
        ask=functools.partial(click.confirm, err=True) if session.interactive else None,
        note=functools.partial(click.secho, dim=True, err=True),
        keys=keys,
        options=session.known["options"],
        events=events,
    )
