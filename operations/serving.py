"""Serving: what runs is stopped and its memory freed before anything else is started; a start ends with an answer.

The contract: what somebody else started is never stopped, unless the inventory describes how. Nothing is stopped until
everything that the new mode needs is there. `plan` is what is to serve, `site` what this node knows of all nodes.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from pyinfra.api import FunctionCommand, Host, State, StringCommand
from pyinfra.api.operation import OperationMeta
from pyinfra.context import host, state

from gb10.facts.file import SecretFile
from gb10.facts.huggingface import HuggingFaceModels
from gb10.facts.images import DockerImages
from gb10.facts.rdma import RdmaLinks
from gb10.facts.reading.docker import with_tag
from gb10.facts.reading.huggingface import HuggingFaceCache
from gb10.facts.reading.launcher import Launch
from gb10.facts.reading.reports import Refused
from gb10.facts.reading.serving import Engine, NodeServing
from gb10.facts.serving import ServingState
from gb10.group_data.settings import CLUSTER, ServingSettings
from gb10.operations.kit.operation import Commands, changes, known, operation, refuse, say
from gb10.operations.kit.peers import last_words, peer_run, read_facts
from gb10.operations.kit.scripts import run_script, run_text
from gb10.operations.kit.serving import (
    Plan,
    Seat,
    Verdict,
    container_name,
    fits,
    launch_lines,
    role_of,
    run_words,
    verdict,
)
from gb10.operations.kit.waiting import wait_until
from gb10.operations.models import split_name
from gb10.programs.answer import RefusedError
from gb10.programs.images.contents import EngineImage, familiar

SETTLE_SECONDS = 30  # for memory to come back after a stop
START_SECONDS = 120  # for `docker run` itself
SPARE_SECONDS = 60
UNLIMITED_BYTES = 1 << 50  # for commands of the inventory, which may start an engine without a container
TELL_SECONDS = 30.0
GRACE_SECONDS = 30  # in which somebody's launcher must have its engine running


@dataclass(frozen=True)
class Site:
    """What a node needs to know of itself and the others. `seats` are its places, by the modes that give it one."""

    nodes: tuple[Host, ...]  # the hosts of this run
    members: tuple[Host, ...]  # those that are to serve, in their order
    patterns: tuple[str, ...]  # names of containers that may be serving
    home: str  # of Hugging Face
    interfaces: tuple[str, ...]  # of the rails
    seats: Mapping[str, Seat]


@operation()
def can_serve(plan: Plan, site: Site) -> Commands:
    """Refuse what cannot be served, or cannot be stopped, before anything is stopped."""
    states = states_of(plan, site, site.nodes)
    if verdict(plan, states) is not Verdict.WRONG:
        host.noop("nothing has to be started")
        return
    mine = states[host.name]
    for refusal in (*(in_the_way(plan, mine) if mine else ()), *lacking(plan, site)):
        yield from refuse(refusal.code, f"{host.name}: {refusal.text}")


@operation()
def stopped(plan: Plan, site: Site) -> Commands:
    """Stop what serves on this node, unless the nodes serve as they should already; return when it is gone."""
    states = states_of(plan, site, site.nodes)
    mine = states[host.name]
    ours = [one.name for one in mine.ours if one.running or not plan.members] if mine else []
    wrong = verdict(plan, states) is Verdict.WRONG or (not plan.members and bool(ours))
    if mine is None or not wrong or not (ours or mine.engines):
        host.noop("nothing has to be stopped here")
        return
    failed = sorted(lost.name for lost in state.failed_hosts if lost in site.nodes)
    if failed and state.is_executing:
        raise RefusedError("SERVING_NOT_READY", f"{host.name} goes on as it is: {', '.join(failed)} cannot serve")
    seconds = plan.settings.stop_seconds
    if ours:
        yield run_script("serving-stop.sh", str(seconds), *ours, seconds=seconds + SPARE_SECONDS)
    if mine.foreign:
        for mode, own in plan.settings.modes.items():
            seat = site.seats.get(mode)
            if mode == mine.mode and seat and (command := own.stop.get(role_of(seat.rank))):
                yield launched(launch_lines(plan.settings, mode, site.home, seat), command, seconds + SPARE_SECONDS)
        yield FunctionCommand(_gone, (plan, site), {})


@operation()
def started(plan: Plan, site: Site, after: OperationMeta) -> Commands:
    """Start on this node what is to serve there, unless it runs. `after` is the operation `stopped`."""
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
    key_file = plan.settings.api_key_file or ""
    arguments = (container_name(mode), str(memory_kib), str(SETTLE_SECONDS), key_file, *words)
    yield run_script("serving-start.sh", *arguments, seconds=START_SECONDS + SETTLE_SECONDS)


@operation()
def answers(plan: Plan, site: Site, after: OperationMeta, address: str) -> Commands:
    """Wait until the model is offered at `address` and completes a prompt. `after` is the operation `started`."""
    if plan.rank(host.name) != 0:
        host.noop("another node answers, if any")
        return
    if not changes(after) and verdict(plan, states_of(plan, site, site.members)) is Verdict.SERVES:
        host.noop(f"{address} answers")
        return
    yield FunctionCommand(_answered, (plan, site, address), {})


def launched(lines: str, command: str, seconds: int) -> Launch:
    """Return what runs a start or stop command of the inventory, after the lines that describe the mode to it."""
    text = f"set -e\nexport PATH=$PATH:/snap/bin\n{lines}\n{command}\n"
    return run_text(text, seconds=seconds, memory_bytes=UNLIMITED_BYTES, outlives=True)


def _devices(site: Site) -> tuple[str, ...]:
    """Return the RDMA devices of this node's rails."""
    found = known(RdmaLinks)
    links = found.links if found else ()
    return tuple(link.device for link in links if link.device and link.netdev in site.interfaces)


States = Mapping[str, NodeServing | None]


def states_of(plan: Plan, site: Site, nodes: Sequence[Host]) -> States:
    """Return what serves on nodes, None for each that cannot be reached."""
    arguments = {
        "port": plan.settings.port,
        "marks": plan.settings.marks,
        "patterns": site.patterns,
        "complete_seconds": plan.settings.completion_seconds,
        "hub": f"{site.home}/hub",
    }
    if [node.name for node in nodes] == [host.name]:
        return {host.name: known(ServingState, **arguments)}
    found = read_facts(*((node, ServingState, arguments) for node in nodes))
    return {node.name: value for node, value in zip(nodes, found, strict=True)}


# What prevents a change --------------------------------------------------------------------------------------------


def in_the_way(plan: Plan, mine: NodeServing) -> Iterator[Refused]:
    """Yield the reasons why what runs here may not be stopped."""
    own = plan.settings.described(mine.mode)
    if mine.engines and not mine.docker:
        yield Refused("DOCKER_STOPPED", "an engine runs, and no Docker engine answers that could stop it")
    elif mine.mode == "undecided" and {engine.mode for engine in mine.engines} != {"member"}:
        yield Refused("SERVING_UNDECIDED", "; ".join(mine.reasons))
    elif mine.foreign and not (own and own.stop):
        names = ", ".join(dict.fromkeys(one.container or f"process {one.pid}" for one in mine.foreign))
        yield Refused("SERVING_FOREIGN", f"{names} serves ({mine.mode}), and gb10 did not start it")


def lacking(plan: Plan, site: Site) -> Iterator[Refused]:
    """Yield what this node lacks to serve."""
    if plan.mode is None or plan.rank(host.name) is None:
        return
    models, tags = plan.settings.needs([plan.mode])
    if plan.own and not plan.own.start:
        yield from _lacking_secrets(plan.settings)
    if tags:
        head = site.members[0]
        mine = known(DockerImages)
        heads = read_facts((head, DockerImages, {}))[0] if head.name != host.name else mine
        yield from _lacking_images([familiar(tag) for tag in tags], mine, heads, head.name)
    if models:
        hub = f"{site.home}/hub"
        cache = known(HuggingFaceModels, hub=hub)
        yield from _lacking_models(models, cache, hub)


def _lacking_secrets(settings: ServingSettings) -> Iterator[Refused]:
    for setting in ("env_file", "api_key_file"):
        if not (path := getattr(settings, setting)):
            continue
        found = known(SecretFile, path=path)
        if found is None:
            yield Refused("SERVING_NOT_READY", f"it has no {path}, which serving_{setting} names")
        elif found.mode not in ("600", "400"):
            yield Refused("SERVING_NOT_READY", f"others may read {path}: chmod 600 it")


def _lacking_images(
    tags: Sequence[str],
    mine: Sequence[EngineImage] | None,
    heads: Sequence[EngineImage] | None,
    head: str,
) -> Iterator[Refused]:
    if mine is None:
        yield Refused("DOCKER_STOPPED", "no Docker engine answers")
        return
    for tag in tags:
        image, other = with_tag(mine, tag), with_tag(heads or (), tag)
        if image is None:
            yield Refused("SERVING_NOT_READY", f"it has no image {tag}")
        elif other and image.contents != other.contents:
            yield Refused("SERVING_NOT_READY", f"its image {tag} is not that of {head}")


def _lacking_models(names: Sequence[str], cache: HuggingFaceCache | None, hub: str) -> Iterator[Refused]:
    for name in names:
        found = cache.repository(*split_name(name)) if cache else None
        if found is None:
            yield Refused("SERVING_NOT_READY", f"it has no {name} in {hub}")
        elif not found.sound:
            yield Refused("SERVING_NOT_READY", f"its {name} is incomplete")


# Waits ---------------------------------------------------------------------------------------------------------------


def _gone(state: State, host: Host, plan: Plan, site: Site) -> bool:
    """Wait until nothing serves on this node any more."""
    seconds = plan.settings.stop_seconds
    left = wait_until(lambda: _engines(plan, site, host), lambda engines: not engines, seconds=seconds)
    if left:
        names = ", ".join(dict.fromkeys(one.container or f"process {one.pid}" for one in left))
        say(host, "SERVING_STUCK", f"{host.name}: {names} does not end in {seconds} s")
    return not left


def _engines(plan: Plan, site: Site, host: Host) -> tuple[Engine, ...]:
    mine = states_of(plan, site, (host,))[host.name]
    return mine.engines if mine else ()


def _answered(state: State, host: Host, plan: Plan, site: Site, address: str) -> bool:
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
    """Return which part of the server has ended and why, or None."""
    for member in site.members:
        mine = states[member.name]
        if mine is None:
            return f"{member.name} cannot be reached any more"
        own = mine.container(plan.label)
        if own and own.end:
            _, log = peer_run(member, StringCommand(f"timeout 20 docker logs --tail 20 {own.name} 2>&1"))
            return f"{member.name}: {own.end}: {last_words(log) or 'its log is empty'}"
    first = states[site.members[0].name]
    if first and first.health == "dead":
        return f"the engine on {site.members[0].name} is dead"
    if first and not first.engines and waited > GRACE_SECONDS:
        return f"nothing that serves runs on {site.members[0].name}"
    return None


def _why(plan: Plan, node: str, mine: NodeServing | None) -> str:
    """Return the reason why a server does not serve yet."""
    if mine is None:
        return f"{node} cannot be reached"
    return "; ".join(mine.wrong(node, plan.model)) or "not all nodes of it serve"
