"""Waiting until what serves has ended, and until what was started answers."""

from __future__ import annotations

import time

from pyinfra.api import Host, State, StringCommand

from gb10.facts.reading.serving import Engine, NodeServing, ServingContainer
from gb10.operations.kit.failures import say
from gb10.operations.kit.output import last_words
from gb10.operations.kit.peers import peer_run
from gb10.operations.kit.serving_plan import Plan, Verdict, verdict
from gb10.operations.kit.serving_site import Site, States, states_of
from gb10.operations.kit.waiting import wait_until

TELL_SECONDS = 30.0
GRACE_SECONDS = 30  # in which somebody's launcher must have its engine running


def gone(state: State, host: Host, plan: Plan, site: Site) -> bool:
    """Wait until nothing serves here any more; return False if it does not end in time."""
    seconds = plan.settings.stop_seconds
    left = wait_until(lambda: _engines(plan, site, host), lambda engines: not engines, seconds=seconds)
    if left:
        names = ", ".join(dict.fromkeys(one.container or f"process {one.pid}" for one in left))
        say(host, "SERVING_STUCK", f"{host.name}: {names} does not end in {seconds} s")
    return not left


def _engines(plan: Plan, site: Site, host: Host) -> tuple[Engine, ...]:
    mine = states_of(plan, site, (host,))[host.name]
    return mine.engines if mine else ()


def answered(state: State, host: Host, plan: Plan, site: Site, address: str) -> bool:
    """Wait for the first completion; give up at once if what should load has ended."""
    assert plan.mode is not None  # noqa: S101 - for mypy: without a mode nothing is waited for
    began = told = time.monotonic()
    seconds = plan.settings.load_seconds_of(plan.mode)

    def waited() -> float:
        return time.monotonic() - began

    def look() -> tuple[bool, str | None, str]:
        nonlocal told
        states = states_of(plan, site, site.members)
        serves, why = verdict(plan, states) is Verdict.SERVES, _why(plan, host.name, states[host.name])
        ended = None if serves else _ended(plan, site, states, waited())
        if not (serves or ended) and time.monotonic() - told > TELL_SECONDS:
            told = time.monotonic()
            host.log(f"it loads, {waited():.0f} of at most {seconds} s: {why}")
        return serves, ended, why

    serves, ended, why = wait_until(look, lambda seen: seen[0] or seen[1], seconds=seconds)
    if serves:
        host.log(f"{address} answers, {waited():.0f} s after its start")
    else:
        say(host, "SERVING_FAILED", ended or f"{address} does not answer within {seconds} s: {why}")
    return serves


def _ended(plan: Plan, site: Site, states: States, waited: float) -> str | None:
    """Return what of the server has ended, or None."""
    for member in site.members:
        mine = states[member.name]
        if mine is None:
            return f"{member.name} cannot be reached any more"
        own = mine.container(plan.label)
        if own and own.end:
            return f"{member.name}: {own.end}: {_said(member, own)}"
    first = states[site.members[0].name]
    if first and first.health == "dead":
        return f"the engine on {site.members[0].name} is dead"
    if first and not first.engines and waited > GRACE_SECONDS:
        return f"nothing that serves runs on {site.members[0].name}"
    return None


def _said(member: Host, container: ServingContainer) -> str:
    """Return the last words of a container."""
    _, output = peer_run(member, StringCommand(f"timeout 20 docker logs --tail 20 {container.name} 2>&1"))
    return last_words(output) or "it said nothing"


def _why(plan: Plan, node: str, mine: NodeServing | None) -> str:
    """Say why a server does not serve yet."""
    if mine is None:
        return f"{node} cannot be reached"
    return "; ".join(mine.wrong(node, plan.model)) or "not all nodes of it serve"
