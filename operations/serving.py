"""Serving: what runs is stopped and its memory freed before anything else is started; a start ends with an answer.

The contract: what somebody else started is never stopped, unless the inventory describes how. Nothing is stopped until
everything that the new mode needs is there.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import replace

from pyinfra.api import FunctionCommand, StringCommand, operation
from pyinfra.api.operation import OperationMeta
from pyinfra.context import host, state

from gb10.facts.rdma import RdmaLinks
from gb10.facts.reading.serving import NodeServing
from gb10.group_data.settings import CLUSTER
from gb10.operations.kit.earlier import changes
from gb10.operations.kit.failures import guarded, known, refuse
from gb10.operations.kit.scripts import run_script
from gb10.operations.kit.serving_checks import in_the_way, lacking
from gb10.operations.kit.serving_modes import container_name, launch_lines, run_words
from gb10.operations.kit.serving_plan import Plan, Verdict, fits, role_of, verdict
from gb10.operations.kit.serving_site import Site, states_of
from gb10.operations.kit.serving_waits import answered, gone

Commands = Generator[StringCommand | FunctionCommand, None, None]

SETTLE_SECONDS = 30  # for memory to come back after a stop
START_SECONDS = 120  # for `docker run` itself
SPARE_SECONDS = 60


@operation()
@guarded
def can_serve(plan: Plan, site: Site) -> Commands:
    """
    Refuse what cannot be served, or cannot be stopped, before anything is stopped.

    + plan: what is to serve
    + site: what this node needs to know
    """
    states = states_of(plan, site, site.nodes)
    if verdict(plan, states) is not Verdict.WRONG:
        host.noop("nothing has to be started")
        return
    mine = states[host.name]
    for refusal in (*(in_the_way(plan, mine) if mine else ()), *lacking(plan, site)):
        yield from refuse(refusal.code, f"{host.name}: {refusal.text}")


@operation()
@guarded
def stopped(plan: Plan, site: Site) -> Commands:
    """
    Stop what serves on this node, unless the nodes serve as they should already; return when it is gone.

    + plan: what is to serve
    + site: what this node needs to know
    """
    states = states_of(plan, site, site.nodes)
    mine = states[host.name]
    ours = [one.name for one in mine.ours if one.running or not plan.members] if mine else []
    wrong = verdict(plan, states) is Verdict.WRONG or (not plan.members and bool(ours))
    if mine is None or not wrong or not (ours or mine.engines):
        host.noop("nothing has to be stopped here")
        return
    failed = sorted(lost.name for lost in state.failed_hosts if lost in site.nodes)
    if failed and state.is_executing:
        yield from refuse("SERVING_NOT_READY", f"{host.name} goes on as it is: {', '.join(failed)} cannot serve")
        return
    seconds = plan.settings.stop_seconds
    if ours:
        yield run_script("serving-stop.sh", str(seconds), *ours, seconds=seconds + SPARE_SECONDS)
    if mine.foreign:
        yield from _told_to_stop(plan, site, mine)
        yield FunctionCommand(gone, (plan, site), {})


def _told_to_stop(plan: Plan, site: Site, mine: NodeServing) -> Iterator[StringCommand]:
    """Yield the inventory's stop command for what somebody else started here, if this node has one."""
    for mode, own in plan.settings.modes.items():
        seat = site.seats.get(mode)
        if mode == mine.mode and seat and (command := own.stop.get(role_of(seat.rank))):
            lines = launch_lines(plan.settings, mode, site.home, seat)
            yield launched(lines, command, plan.settings.stop_seconds + SPARE_SECONDS)


@operation()
@guarded
def started(plan: Plan, site: Site, after: OperationMeta) -> Commands:
    """
    Start on this node what is to serve there, unless it runs.

    + plan: what is to serve
    + site: what this node needs to know
    + after: the operation that stopped what served before
    """
    rank, own, mode = plan.rank(host.name), plan.own, plan.mode
    if rank is None or own is None or mode is None:
        host.noop("nothing is to serve here")
        return
    # After a stop nothing runs, and every look prolongs the time in which nothing answers.
    mine = None if changes(after) else states_of(plan, site, (host,))[host.name]
    if mine is not None and fits(plan, mine):
        host.noop("it runs")
        return
    seat = replace(site.seats[mode], devices=_devices(site) if mode == CLUSTER else ())
    if own.start:
        command = own.start.get(role_of(rank))
        if command:
            seconds = plan.settings.load_seconds_of(mode)
            yield launched(launch_lines(plan.settings, mode, site.home, seat), command, seconds)
        return
    memory_kib = int(own.memory_gib * 1024 * 1024)
    words = run_words(plan.settings, mode, site.home, seat, plan.spec or "")
    arguments = (container_name(mode), str(memory_kib), str(SETTLE_SECONDS), *words)
    yield run_script("serving-start.sh", *arguments, seconds=START_SECONDS + SETTLE_SECONDS)


@operation()
@guarded
def answers(plan: Plan, site: Site, after: OperationMeta, address: str) -> Commands:
    """
    Wait until the model is served: the server is up, offers it, and completes a prompt.

    + plan: what is to serve
    + site: what this node needs to know
    + after: the operation that started it
    + address: where it answers
    """
    if plan.rank(host.name) != 0:
        host.noop("another node answers, if any")
        return
    if not changes(after) and verdict(plan, states_of(plan, site, site.members)) is Verdict.SERVES:
        host.noop(f"{address} answers")
        return
    yield FunctionCommand(answered, (plan, site, address), {})


def launched(lines: str, command: str, seconds: int) -> StringCommand:
    """Return what runs a command of the inventory, after some assignments, for at most so many seconds."""
    return StringCommand(f"timeout {seconds} sh -s", _stdin=f"set -e\n{lines}\n{command}\n")


def _devices(site: Site) -> tuple[str, ...]:
    """Return the RDMA devices of this node's rails."""
    found = known(RdmaLinks)
    links = found.links if found else ()
    return tuple(link.device for link in links if link.device and link.netdev in site.interfaces)
