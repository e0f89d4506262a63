"""gb10 rebuild: the wipe of one node after the other, while something keeps answering."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from gb10.cli.restore import accept_option
from gb10.cli.screen import console, rebuild_view
from gb10.cli.screen.session import Command, Session, command_options
from gb10.cli.screen.transfer import transfer
from gb10.controller.errors import Gb10Error
from gb10.controller.inventory import InventoryHost
from gb10.controller.journal import Journal
from gb10.controller.lock import cluster_lock
from gb10.controller.rebuild import runs
from gb10.controller.rebuild.gate import DEMANDS, check_overrides
from gb10.controller.rebuild.locks import at_work, holders
from gb10.controller.rebuild.plan import NodePlan
from gb10.controller.rebuild.preview import preview
from gb10.controller.rebuild.rebuild import Rebuild
from gb10.controller.rebuild.reporting import Listener
from gb10.controller.rebuild.tools import Tools
from gb10.controller.rebuild.wiring import Front, check_events, make_tools
from gb10.controller.run.runner import OnEvent

LAST = "last"  # stands for the newest run
NONE_YET = "No node was rebuilt from here yet"

_NAMES = "\n".join(f"  {name:<14}{what}" for name, what in DEMANDS.items())
_GATE = f"\b\nWhat the gate asks for:\n{_NAMES}"


@click.group()
def rebuild() -> None:
    """Take the cluster through the wipe of its nodes, one after the other.

    All that a node needs to come back is brought to safety and proven; then you wipe it; then it is brought back as it
    was. Killed anywhere, it goes on where it stopped.
    """


def going_on(command: Command) -> Command:
    """The options of commands that carry a rebuild out."""
    options: tuple[Callable[[Command], Command], ...] = (
        click.option(
            "--accept-host-key",
            "keys",
            metavar="KEY",
            multiple=True,
            help="Fingerprint of a wiped node's new host key.",
        ),
        click.option(
            "--override",
            "overrides",
            metavar="NAME",
            multiple=True,
            help="A proof that the gate is to do without, for the node that is next.",
        ),
        click.option("--reason", help="Why; it stands in the journal."),
        accept_option("Go on in spite of this with a restore that was refused; repeatable."),
        click.option(
            "--rebootstrap", is_flag=True, help="A wiped head comes back with a new cluster, not the old one."
        ),
        click.option(
            "--events", type=click.Path(dir_okay=False, path_type=Path), help="Append what goes on as JSON lines."
        ),
    )
    return functools.reduce(lambda wrapped, option: option(wrapped), reversed(options), command)


@rebuild.command()
@click.argument("nodes", metavar="NODE...", nargs=-1)
@click.option("--all", "every", is_flag=True, help="All nodes, the workers first.")
@command_options(limit=False)
def plan(session: Session, nodes: tuple[str, ...], every: bool) -> None:
    """Show every step, what it would do now, and what is at risk. Nothing is written."""
    found = []
    for host in _chosen(session, nodes, every):
        tools = tools_for(session, runs.unwritten(runs.unfinished(session.inventory)), lambda record: None)
        last = runs.seconds_last_time(runs.runs(session.inventory, runs.REBUILD), host.name)
        found.append(preview(NodePlan(host, tools), last))
        if not session.as_json:
            rebuild_view.print_preview(found[-1])
    session.finish({"plan": [one.to_json() for one in found]}, None)


@rebuild.command(epilog=_GATE)
@click.argument("nodes", metavar="NODE...", nargs=-1)
@click.option("--all", "every", is_flag=True, help="All nodes, the workers first.")
@going_on
@command_options(limit=False)
def run(session: Session, nodes: tuple[str, ...], every: bool, **options: Any) -> None:
    """Rebuild nodes, one after the other; the next one only when all is green.

    A run that was interrupted with the same nodes is taken up again.
    """
    chosen = [host.name for host in _chosen(session, nodes, every)]
    _check(options)
    with _locked(session):
        journal = runs.begin_or_go_on(session.inventory, chosen, options["accept"])
        _carry_out(session, journal, **options)


@rebuild.command(epilog=_GATE)
@going_on
@command_options(limit=False)
def resume(session: Session, **options: Any) -> None:
    """Go on with a rebuild that was interrupted. What holds already is not done again."""
    _check(options)
    with _locked(session):
        _carry_out(session, runs.to_go_on(session.inventory).journal, **options)


@rebuild.command()
@command_options(limit=False)
def abort(session: Session) -> None:
    """Give a rebuild up, and take back what it did, as long as no node was wiped."""
    with _locked(session):
        found = runs.to_go_on(session.inventory)
        tools = tools_for(session, found.journal, rebuild_view.RebuildView(quiet=session.as_json))
        said = Rebuild(tools).give_up()
    if not session.as_json:
        for line in said:
            console.print_done(line)
        console.print_done("The rebuild is given up; nobody holds the nodes any more")
    session.finish({"undone": said}, None)


@rebuild.command()
@command_options(limit=False)
def status(session: Session) -> None:
    """Show how far a rebuild or a wipe of all nodes is, from any terminal, and who holds the nodes."""
    found = _runs(session)
    alive = at_work(session.inventory)
    held, silent = holders(session.runner(()))
    document = {
        "run": found[-1].to_json(alive) if found else None,
        "locks": {name: holder.to_json() for name, holder in held.items()},
        "unanswered": [error.to_json() for error in silent],
    }
    if not session.as_json:
        if found:
            rebuild_view.print_progress(found[-1], alive, _resume(session, found[-1]))
        else:
            console.print_note(NONE_YET)
        for name, holder in held.items():
            console.stdout().print(f"{name} is held by {holder}, run {holder.run}, since {holder.since}")
        for error in silent:
            console.stdout().print(f"Nobody can tell who holds {error.host or 'the nodes'}: {error.summary}")
    session.finish(document, None)


@rebuild.command()
@click.argument("nodes", metavar="[NODE]...", nargs=-1)
@click.option("--yes", is_flag=True, help="Do not ask.")
@command_options(limit=False)
def unlock(session: Session, nodes: tuple[str, ...], yes: bool) -> None:
    """Remove the locks that a rebuild left on nodes, when it is gone for good."""
    with _locked(session):
        names = [host.name for host in session.inventory.select(nodes)]
        found, errors = holders(session.runner(()))
        held = {name: holder for name, holder in found.items() if name in names}
        for name, holder in held.items():
            console.print_note(f"{name} is held by {holder}, run {holder.run}, since {holder.since}")
        if held and not yes:
            _ask(session, "Is that rebuild gone for good? Remove the locks?")
        if held:
            session.run("gb10.deploys.unlock_nodes", "Unlock", limit=list(held)).check()
    silent = next((error for error in errors if error.host in (None, *names)), None)
    if not session.as_json and (held or not silent):
        console.print_done(f"Unlocked {', '.join(held)}" if held else "No node is locked")
    if silent:  # what it is locked by stays
        raise silent
    session.finish({"unlocked": list(held)}, None)


@rebuild.command()
@click.argument("name", metavar="[RUN]", required=False)
@command_options(limit=False)
def history(session: Session, name: str | None) -> None:
    """Show the rebuilds and full wipes of these nodes; of one RUN, or the last, all that was done, and what it took."""
    found = [run for run in _runs(session) if name in (None, LAST, run.journal.run)]
    if name == LAST:
        found = found[-1:]
    if name and not found:
        raise Gb10Error("USAGE", reason=f"there is no run {name} of these nodes")
    if not session.as_json:
        alive = at_work(session.inventory)
        if not found:
            console.print_note(NONE_YET)
        for progress in found:
            if name:
                rebuild_view.print_story(progress.journal)
            else:
                rebuild_view.print_progress(progress, alive, _resume(session, progress))
    session.finish({"runs": [{**run.to_json(), "records": run.journal.records if name else []} for run in found]}, None)


# What they have in common ---------------------------------------------------------------------------------------------


def _chosen(session: Session, nodes: tuple[str, ...], every: bool) -> list[InventoryHost]:
    """Return the chosen nodes in the order of their rebuild. Raise USAGE for names and --all together, or neither."""
    if bool(nodes) == every:
        raise Gb10Error("USAGE", reason="name the nodes, or say --all")
    return runs.in_order(session.inventory.select(nodes))


@contextmanager
def _locked(session: Session) -> Iterator[None]:
    with cluster_lock((host.endpoint for host in session.inventory.hosts), f"gb10 rebuild {session.command}"):
        yield


def _check(options: Mapping[str, Any]) -> None:
    """Raise USAGE if an option is wrong, before anything is begun."""
    check_overrides(options["overrides"], options["reason"])
    check_events(options["events"])


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
    """Carry a run out to its end, and end the command."""
    tools = tools_for(session, journal, rebuild_view.RebuildView(quiet=session.as_json), events, keys)
    runs.accept(journal, tools.report, accept)
    runs.decide(journal, tools.report, check_overrides(overrides, reason), rebootstrap=rebootstrap)
    work = Rebuild(tools)
    work.carry_out()
    if not session.as_json:
        console.print_done(f"{', '.join(work.progress.nodes)}: rebuilt, and all is green")
    session.finish({"run": work.progress.to_json()}, None)


def tools_for(
    session: Session, journal: Journal, listener: Listener, events: Path | None = None, keys: tuple[str, ...] = ()
) -> Tools:
    """Return what a rebuild or a full wipe works with on this session's terminal."""

    def ask(question: str) -> bool:
        return click.confirm(question, err=True)

    front = Front(
        listener=listener,
        watch=functools.partial(_watch, session),
        ask=None if session.as_json or not sys.stdin.isatty() else ask,
        note=console.print_note,
        keys=keys,
        options=session.known["options"],
    )
    return make_tools(session.inventory, session.runner, journal, front, events)


@contextmanager
def _watch(session: Session, title: str, hosts: tuple[str, ...], *, copies: bool) -> Iterator[OnEvent]:
    """Show the run of a deploy while it goes on."""
    if copies:
        with transfer(quiet=session.as_json, verbosity=session.verbosity) as view:
            yield view.hear
    else:
        with console.progress(title, hosts, session.verbosity, quiet=session.as_json) as shown:
            yield shown.hear


def _ask(session: Session, question: str) -> None:
    if session.as_json or not sys.stdin.isatty():
        raise Gb10Error("CONFIRM_NEEDED")
    if not click.confirm(question, err=True):
        raise Gb10Error("DECLINED")


def _runs(session: Session) -> list[runs.Progress]:
    """Return the runs of both kinds, oldest first."""
    return list(runs.runs(session.inventory, runs.REBUILD, runs.WIPE_ALL))


def _resume(session: Session, run: runs.Progress) -> str:
    """Return the command that goes on with a run."""
    command = "wipe-all" if run.kind == runs.WIPE_ALL else "rebuild resume"
    return f"gb10 {command}{session.known['options']}"
