"""gb10 rebuild: the wipe of one node after the other, while something keeps answering."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from gb10.cli.restore import accept_option
from gb10.cli.screen import console, rebuild_view
from gb10.cli.screen.session import Command, Session, command_options
from gb10.cli.screen.transfer import transfer
from gb10.controller.cluster.sight import LOCK, Sight
from gb10.controller.errors import Gb10Error
from gb10.controller.inventory import InventoryHost
from gb10.controller.journal import Journal
from gb10.controller.lock import cluster_lock
from gb10.controller.rebuild import runs as work
from gb10.controller.rebuild.arrival import HostKey, confirmed, instructions
from gb10.controller.rebuild.gate import DEMANDS, Demand, check_overrides
from gb10.controller.rebuild.hooks import Hooks
from gb10.controller.rebuild.node import NodeRebuild
from gb10.controller.rebuild.steps import Step, seconds_last_time
from gb10.controller.rebuild.tools import Tools
from gb10.controller.rebuild.wipe_all import KIND as WIPE_ALL
from gb10.controller.run.results import RunResult
from gb10.facts.reading.node_lock import LockHolder
from gb10.group_data.settings import RebuildSettings

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
    documents = []
    for host in _chosen(session, nodes, every):
        journal = _unwritten(session)
        node = NodeRebuild(host, tools_for(session, journal, lambda record: None))
        memory, steps = node.memory, node.steps()
        last = seconds_last_time((run.journal for run in work.runs(session.inventory)), host.name)
        demands = node.demands()
        risks = node.risks()
        documents.append(_plan_document(node, steps, demands, last, risks))
        if not session.as_json:
            rebuild_view.print_plan(host.name, steps, last, {})
            rebuild_view.print_lines("What you will have to do", instructions(host, memory.before, memory.own_device))
            rebuild_view.print_lines("At risk", risks)
            missing = [f"{demand.name}: {demand.text}" for demand in demands if not demand.holds]
            rebuild_view.print_lines("What the gate would still ask for, if you came to it now", missing)
    session.finish({"plan": documents}, None)


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
        found = work.unfinished(session.inventory)
        if found and list(found.nodes) != chosen:
            raise Gb10Error("REBUILD_UNFINISHED", f"the rebuild of {', '.join(found.nodes)} is not finished")
        if not found:
            _check_possible(session, chosen)
        if options["accept"]:
            work.refused_restore(found, options["accept"])
        journal = found.journal if found else work.begin(session.inventory, chosen)
        _carry_out(session, journal, **options)


@rebuild.command(epilog=_GATE)
@going_on
@command_options(limit=False)
def resume(session: Session, **options: Any) -> None:
    """Go on with a rebuild that was interrupted. What holds already is not done again."""
    _check(options)
    with _locked(session):
        _carry_out(session, _unfinished(session).journal, **options)


@rebuild.command()
@command_options(limit=False)
def abort(session: Session) -> None:
    """Give a rebuild up, and take back what it did, as long as no node was wiped."""
    with _locked(session):
        found = _unfinished(session)
        view = rebuild_view.RebuildView(quiet=session.as_json)
        tools = tools_for(session, found.journal, view)
        said = work.Rebuild(tools, Hooks()).give_up()
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
    alive = _at_work(session)
    held, silent = _holders(session)
    document = {
        "run": _run_document(found[-1], alive) if found else None,
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
        holders, errors = _holders(session)
        held = {name: holder for name, holder in holders.items() if name in names}
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
        alive = _at_work(session)
        if not found:
            console.print_note(NONE_YET)
        for progress in found:
            if name:
                rebuild_view.print_story(progress.journal)
            else:
                rebuild_view.print_progress(progress, alive, _resume(session, progress))
    document = {"runs": [{**_run_document(run, None), "records": run.journal.records if name else []} for run in found]}
    session.finish(document, None)


# What they have in common ---------------------------------------------------------------------------------------------


def _chosen(session: Session, nodes: tuple[str, ...], every: bool) -> list[InventoryHost]:
    """The nodes that are meant, in the order of their rebuild."""
    if bool(nodes) == every:
        raise Gb10Error("USAGE", reason="name the nodes, or say --all")
    return work.in_order(session.inventory.select(nodes))


@contextmanager
def _locked(session: Session) -> Iterator[None]:
    with cluster_lock((host.endpoint for host in session.inventory.hosts), f"gb10 rebuild {session.command}"):
        yield


def _unfinished(session: Session) -> work.Progress:
    found = work.unfinished(session.inventory)
    if found is None:
        raise Gb10Error("REBUILD_NONE")
    return found


def _check_possible(session: Session, names: Iterable[str]) -> None:
    """Refuse what cannot work before anything is written down."""
    if work.unfinished(session.inventory, WIPE_ALL):
        raise Gb10Error("WIPE_UNFINISHED")
    if len(session.inventory.hosts) < 2:
        raise Gb10Error("REBUILD_IMPOSSIBLE", f"{', '.join(names)} is alone: no other node could keep its models")


def _check(options: Mapping[str, Any]) -> None:
    """Raise USAGE for what a person has typed wrong, before anything is begun."""
    check_overrides(options["overrides"], options["reason"])
    check_events(options["events"])


def check_events(events: Path | None) -> None:
    """Raise USAGE for a file to which events cannot be appended."""
    try:
        if events:
            events.open("a").close()
    except OSError as error:
        raise Gb10Error("USAGE", reason=f"--events {events}: {error.strerror}") from error


def _unwritten(session: Session) -> Journal:
    """The journal of the unfinished run, or one that is never written."""
    found = work.unfinished(session.inventory)
    return Journal(Path("/nonexistent/plan.jsonl"), found.journal.records if found else ())


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
    wanted = check_overrides(overrides, reason)
    view = rebuild_view.RebuildView(quiet=session.as_json)
    tools = tools_for(session, journal, view, events, keys)
    work.accept(tools, accept)
    work.write_down(tools, wanted, rebootstrap=rebootstrap)
    first = session.inventory.hosts[0]
    settings = first.settings(RebuildSettings)
    hooks = Hooks(settings.hooks, settings.notify)
    work.Rebuild(tools, hooks).carry_out()
    if not session.as_json:
        console.print_done(f"{', '.join(work.Progress(journal).nodes)}: rebuilt, and all is green")
    session.finish({"run": _run_document(work.Progress(journal), None)}, None)


def tools_for(
    session: Session,
    journal: Journal,
    view: work.Listener,
    events: Path | None = None,
    keys: tuple[str, ...] = (),
) -> Tools:
    """What a rebuild or a full wipe works with, on this session's terminal."""
    report = work.Reporter(journal, view, events)
    notify = session.inventory.hosts[0].settings(RebuildSettings).notify

    def carry(deploy: str, title: str, hosts: tuple[str, ...], /, *, copies: bool = False, **kwargs: Any) -> RunResult:
        return _run(session, deploy, title, hosts, copies, kwargs)

    def lock(hosts: tuple[str, ...], step: str) -> None:
        carry("lock_nodes", "Lock the nodes", hosts, holder=work.holder(journal, step).to_json())

    def tell(text: str) -> None:
        if trouble := Hooks(notify=notify).notify(text):
            console.print_note(f"Nobody was told: {trouble}")

    return Tools(
        inventory=session.inventory,
        sight=Sight(session.runner, session.inventory),
        journal=journal,
        report=report,
        runner=session.runner,
        work=carry,
        lock=lock,
        confirm=lambda host, key: _confirm(session, host, key, keys, tell),
        notify=tell,
        options=session.known["options"],
    )


def _run(
    session: Session, deploy: str, title: str, hosts: tuple[str, ...], copies: bool, kwargs: Mapping[str, Any]
) -> RunResult:
    """Run a deploy on some hosts and show how it goes. Raise the error that names the cause."""
    runner = session.runner([session.inventory.limit_pattern(session.inventory.host(name)) for name in hosts])
    target = f"gb10.deploys.{deploy}"
    if copies:
        with transfer(quiet=session.as_json, verbosity=session.verbosity) as view:
            result = runner.run(target, kwargs={"progress_seconds": 0.5, **kwargs}, on_event=view.hear)
    else:
        with console.progress(title, hosts, session.verbosity, quiet=session.as_json) as shown:
            result = runner.run(target, kwargs=kwargs, on_event=shown.hear)
    result.check()
    return result


def _confirm(
    session: Session, host: InventoryHost, key: HostKey, given: tuple[str, ...], tell: Callable[[str], None]
) -> None:
    """Have a person say that a host key is the right one. Raise HOST_KEY_UNCONFIRMED where nobody does."""
    if any(confirmed(key, text) for text in given):
        return
    said = f"{host.name} shows the new host key {key.fingerprint} ({key.kind})"
    if session.as_json or not sys.stdin.isatty():
        raise Gb10Error("HOST_KEY_UNCONFIRMED", said, host=host.name)
    tell(f"{said}: somebody has to confirm it")
    if not click.confirm(f"{said}. Is that what its own screen shows?", err=True):
        raise Gb10Error("HOST_KEY_UNCONFIRMED", said, host=host.name)


def _ask(session: Session, question: str) -> None:
    if session.as_json or not sys.stdin.isatty():
        raise Gb10Error("CONFIRM_NEEDED")
    if not click.confirm(question, err=True):
        raise Gb10Error("DECLINED")


def _runs(session: Session) -> list[work.Progress]:
    """The runs of both kinds, oldest first: their names begin with the time."""
    found = [*work.runs(session.inventory), *work.runs(session.inventory, WIPE_ALL)]
    return sorted(found, key=lambda run: run.journal.run)


def _resume(session: Session, run: work.Progress) -> str:
    """What a person types to go on with a run."""
    return f"gb10 {'wipe-all' if run.started['kind'] == WIPE_ALL else 'rebuild resume'}{session.known['options']}"


def _at_work(session: Session) -> str | None:
    """Who carries a rebuild out right now, from this controller; None where nobody does."""
    try:
        with cluster_lock((host.endpoint for host in session.inventory.hosts), "gb10 rebuild status"):
            return None
    except Gb10Error as error:
        return str(error.details.get("owner", "another gb10"))


def _holders(session: Session) -> tuple[dict[str, LockHolder], tuple[Gb10Error, ...]]:
    """Who holds the nodes, as those say that answer; and why the others do not."""
    found = session.runner(()).facts([LOCK])
    held = {host: found.of(host, LOCK) for host in found.hosts}
    return {host: LockHolder.from_json(value) for host, value in held.items() if value}, found.errors


def _plan_document(
    node: NodeRebuild, steps: list[Step], demands: Iterable[Demand], last: Mapping[str, float], risks: list[str]
) -> dict[str, Any]:
    shown = [
        {
            "name": step.name,
            "title": step.title,
            "plan": step.plan(),
            "kind": step.kind,
            "destroys": step.destroys,
            "seconds_last_time": last.get(step.name),
        }
        for step in steps
    ]
    memory = node.memory
    human = list(instructions(node.target, memory.before, memory.own_device))
    gate = [demand.to_json() for demand in demands]
    return {"node": node.name, "steps": shown, "person": human, "risks": risks, "gate": gate}


def _run_document(run: work.Progress, alive: str | None) -> dict[str, Any]:
    return {
        "name": run.journal.run,
        "kind": run.started["kind"],
        "nodes": list(run.nodes),
        "done": list(run.done),
        "ended": run.ended,
        "at_work": alive,
        "current": dict(run.current) if run.current else None,
        "sighted": dict(run.waits_for) if run.waits_for else None,
        "journal": str(run.journal.path),
    }
