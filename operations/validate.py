"""Proofs that need a node's help: a container on its GPU, packets on its rails, NCCL between nodes.

The contract: what is started is a throw-away container or a listener, bounded on the node itself and gone afterwards,
also when the connection is lost. Each check is told in one line that starts with CHECK and is JSON; none fails its
operation, so that all of them are made. `verdict` does that, at the end.
"""

from __future__ import annotations

import json
import secrets
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.resources import files

import gevent
from gevent.event import Event
from pyinfra.api import FunctionCommand, Host, State, StringCommand
from pyinfra.context import ctx_host, ctx_state

from gb10.facts.docker import Container, RunningContainers, serving
from gb10.facts.network import Interface, Interfaces
from gb10.facts.rdma import RailBandwidth, RdmaBandwidth, RdmaLinks, Verdict, listen
from gb10.facts.reading.launcher import Launch, run_script
from gb10.facts.reading.reports import report
from gb10.operations.copying.survey import Way, find_ways
from gb10.operations.kit.inventory import meeting_address, rails_of
from gb10.operations.kit.operation import Commands, UnreadFactError, operation, say
from gb10.operations.kit.peers import peer_fact, peer_run, read_fact
from gb10.operations.kit.reports import Check

PORT = 8880  # and the one above it, on the rails
NCCL_PORT = 29555
LONGEST = 300  # of what a failed command said
START_SECONDS = 10  # for a listener
STOP_SECONDS = 10  # for a container that is to end
SPARE_SECONDS = 30
SLOWED = ", and would be slowed down (--while-serving)"


@operation(is_idempotent=False)
def gpu_container(image: str, options: Sequence[str], command: Sequence[str], seconds: int) -> Commands:
    """
    Prove that a container can use this node's GPU.

    + image: what it runs
    + options: more arguments of `docker run`
    + command: what must succeed in it, and print something
    + seconds: how long it may take, with its image's pull
    """
    yield FunctionCommand(_gpu_container, (image, tuple(options), tuple(command), seconds), {})


@operation(is_idempotent=False)
def rail_bandwidth(
    peer: str, seconds: int, mtu: int | None, patterns: Sequence[str], while_serving: bool = False
) -> Commands:
    """
    Measure what this node's rails carry towards another node, one after the other.

    + peer: name of the other node in the inventory
    + seconds: how long each rail is measured
    + mtu: what the rails must let through; None: whatever they are set to
    + patterns: names of containers that count as serving
    + while_serving: measure even while one of them runs, and take the rails away from it
    """
    yield FunctionCommand(_rail_bandwidth, (peer, seconds, mtu, tuple(patterns), while_serving), {})


@dataclass(frozen=True)
class AllReduce:
    """How the all-reduce is run. Without a command, our own program is."""

    image: str
    options: tuple[str, ...]
    command: tuple[str, ...] | None
    megabytes: int
    floor_gbps: float
    seconds: int


@operation(is_idempotent=False)
def all_reduce(
    nodes: Sequence[str], settings: AllReduce, patterns: Sequence[str], while_serving: bool = False
) -> Commands:
    """
    Prove that NCCL works between nodes, and how fast it is.

    + nodes: names in the inventory, this one first
    + settings: how
    + patterns: names of containers that count as serving
    + while_serving: run even while one of them runs
    """
    yield FunctionCommand(_all_reduce, (tuple(nodes), settings, tuple(patterns), while_serving), {})


@operation(is_idempotent=False)
def verdict() -> Commands:
    """Fail on this host if one of its checks failed in this run."""
    yield FunctionCommand(_verdict, (), {})


def tell(where: Host, check: Check) -> None:
    """Report what came of a check."""
    report(where, check)
    if check.outcome == "fail":
        where.data.gb10_failed_checks = [*(where.data.get("gb10_failed_checks") or ()), check.check]


def _verdict(state: State, host: Host) -> bool:
    failed = host.data.get("gb10_failed_checks")
    if failed:
        say(host, "VALIDATION_FAILED", f"{host.name}: {', '.join(dict.fromkeys(failed))}: see the lines above")
    return not failed


# Containers ----------------------------------------------------------------------------------------------------------


def container_run(
    name: str,
    image: str,
    options: Sequence[str],
    command: Sequence[str],
    seconds: int,
    environment: Mapping[str, str] | None = None,
    program: str = "",
) -> Launch:
    """Given a container, return the command that runs it to its end, for at most so many seconds.

    + program: what its command reads on standard input

    It is in a unit of its own, which removes it when the time is over, whether somebody still listens or not.
    """
    variables = [part for key, value in (environment or {}).items() for part in ("--env", f"{key}={value}")]
    run = [
        "docker",
        "run",
        "--rm",
        *(["--interactive"] if program else []),
        "--name",
        name,
        *variables,
        *options,
        "--entrypoint",
        command[0],
        image,
        *command[1:],
    ]
    # systemd would expand variables
    text = shlex.join(word.replace("$", "$$") for word in run)
    after = f'ExecStopPost=-/bin/sh -c "docker rm -f {name} >/dev/null 2>&1"'
    properties = f"-p RuntimeMaxSec={seconds} -p TimeoutStopSec={STOP_SECONDS} -p {shlex.quote(after)}"
    unit = f"systemd-run --quiet --wait --pipe --collect --unit={name} {properties}"
    absent = "{ echo 'there is no Docker on this node'; exit 127; }"
    script = f'command -v docker >/dev/null || {absent}; printf %s "$program" | {unit} {text} 2>&1'
    return run_script(script, seconds=seconds + SPARE_SECONDS, variables={"program": program})


def _gpu_container(
    state: State, host: Host, image: str, options: Sequence[str], command: Sequence[str], seconds: int
) -> bool:
    done, said = peer_run(host, container_run(_unique(), image, options, command, seconds))
    check = Check("gpu-container", host.name, "pass", last_words(said, lines=1))
    if not done or not check.reason:
        why = last_words(said) or "it ended without a word"
        check = replace(check, outcome="fail", reason=f"{image}: {why}", code="GPU_CONTAINER_FAILED")
    tell(host, check)
    return True


def _unique() -> str:
    return f"gb10-validate-{secrets.token_hex(4)}"


def last_words(said: str, lines: int = 3) -> str:
    """Given what a command printed, return its last lines as one, and no more than can be read."""
    kept = [line.strip() for line in said.splitlines() if line.strip()]
    return "; ".join(kept[-lines:])[-LONGEST:]


# Rails ---------------------------------------------------------------------------------------------------------------


def _rail_bandwidth(
    state: State,
    host: Host,
    peer: str,
    seconds: int,
    mtu: int | None,
    patterns: Sequence[str],
    while_serving: bool,
) -> bool:
    target = host.inventory.get_host(peer)
    check = Check("rail-bandwidth", host.name, "skip", "", peer=peer)
    if not while_serving and (busy := serving_on([host, target], patterns)):
        tell(host, replace(check, reason=f"{busy}{SLOWED}"))
        return True
    ways, lost = find_ways(host, target, [_interfaces(host), _interfaces(target)])
    for text in lost:
        rail, _, why = text.removeprefix("rail ").partition(": ")
        tell(host, replace(check, outcome="fail", reason=why, rail=rail, code="RAIL_FAULT"))
    if not ways and not lost:
        tell(host, replace(check, reason=f"the inventory names no rail that {host.name} and {peer} share"))
    for way in ways:
        tell(host, _packet(host, way, replace(check, check="rail-mtu", rail=way.name), mtu))
        tell(host, judged(measured(host, target, way, seconds), replace(check, rail=way.name)))
    return True


def serving_on(nodes: Sequence[Host], patterns: Sequence[str]) -> str | None:
    """What may be serving on nodes, so that nothing may be measured now, or None."""
    for node in nodes:
        running: tuple[Container, ...] | None = peer_fact(node, RunningContainers)
        if names := serving(running or (), patterns):
            return f"{', '.join(names)} may be serving on {node.name}"
    return None


def _interfaces(node: Host) -> dict[str, Interface]:
    found: dict[str, Interface] | None = peer_fact(node, Interfaces)
    return found or {}


def _packet(where: Host, way: Way, check: Check, mtu: int | None) -> Check:
    """Send packets of full size that nobody may cut into pieces."""
    own = _interfaces(where)[str(way.interface)].mtu_bytes
    wanted = mtu or own
    if own < wanted:
        reason = f"{way.interface} of {where.name} has MTU {own}, not {wanted}"
        return replace(check, outcome="fail", reason=reason, code="RAIL_FAULT")
    headers = 28 if "." in way.peer else 48
    ping = f"ping -c 2 -i 0.2 -W 2 -M do -s {wanted - headers} -I {way.interface} {way.peer}"
    done, said = peer_run(where, run_script(f"{ping} 2>&1", seconds=15))
    if done:
        return replace(check, outcome="pass", reason=f"packets of {wanted} bytes arrive")
    reason = f"packets of {wanted} bytes do not arrive: {last_words(said, lines=2)}"
    return replace(check, outcome="fail", reason=reason, code="RAIL_FAULT")


def measured(source: Host, target: Host, way: Way, seconds: int) -> RailBandwidth | str:
    """Return what a way carries, or why that could not be measured. The listener is gone afterwards."""
    with _listening(target, way, seconds) as trouble:
        if trouble:
            return f"nobody listens on {target.name}: {trouble}"
        try:
            found: Sequence[RailBandwidth] = read_fact(
                source, RdmaBandwidth, peers={way.interface: (way.peer, PORT)}, seconds=seconds
            )
        except UnreadFactError:
            return "what was measured could not be read: see the lines above"
        return found[0] if found else f"{source.name} cannot be reached"


@contextmanager
def _listening(target: Host, way: Way, seconds: int) -> Iterator[str | None]:
    """Have a node answer a measurement while the block runs; yield why it does not, or None."""
    begun = Event()
    launch = listen(
        str(way.peer_interface),
        way.peer,
        PORT,
        str(way.local),
        lifetime_seconds=seconds + SPARE_SECONDS,
        seconds=seconds,
        told=lambda details: begun.set(),
    )
    running = _beside(target, launch)
    running.link(lambda ended: begun.set())
    try:
        begun.wait(START_SECONDS)
        yield last_words(running.value[1]) if running.ready() else None if begun.is_set() else "it does not begin"
    finally:
        running.kill()


def judged(found: RailBandwidth | str, check: Check) -> Check:
    """Given a measurement, or why there is none, return what came of the check."""
    if isinstance(found, str):
        return replace(check, outcome="fail", reason=found, code="RAIL_SLOW")
    if found.measured_gbps is None:
        return replace(check, outcome="fail", reason=found.trouble or "nothing was measured", code="RAIL_SLOW")
    link = f"the link says {found.link_gbps:g}" if found.link_gbps else "the link does not say its rate"
    note = f" ({found.note})" if found.note else ""
    reason = f"{found.measured_gbps:.1f} Gb/s by {found.method}{note}, {link}"
    check = replace(check, measured_gbps=round(found.measured_gbps, 2))
    match found.verdict:
        case Verdict.AS_EXPECTED:
            return replace(check, outcome="pass", reason=reason)
        case Verdict.UNKNOWN:
            return replace(check, outcome="skip", reason=f"{reason}: nothing to compare with")
        case Verdict.THROTTLED:
            return replace(check, outcome="fail", reason=f"{reason}: throttled", code="RAIL_THROTTLED")
    return replace(check, outcome="fail", reason=f"{reason}: too slow", code="RAIL_SLOW")


# NCCL ----------------------------------------------------------------------------------------------------------------


def _all_reduce(
    state: State, host: Host, nodes: Sequence[str], settings: AllReduce, patterns: Sequence[str], while_serving: bool
) -> bool:
    members = [host.inventory.get_host(name) for name in nodes]
    check = Check("nccl", host.name, "skip", "", peer=", ".join(nodes[1:]))
    if not while_serving and (busy := serving_on(members, patterns)):
        tell(host, replace(check, reason=f"{busy}{SLOWED}"))
        return True
    program = "" if settings.command else files("gb10.programs").joinpath("all_reduce.py").read_text()
    runs = [
        container_run(
            _unique(),
            settings.image,
            ["--network", "host", *settings.options],
            settings.command or ("python3", "-"),
            settings.seconds,
            _environment(members, rank, settings),
            program,
        )
        for rank in range(len(members))
    ]
    tell(host, reduced(nodes, _all_at_once(members, runs), settings.floor_gbps, check))
    return True


def _all_at_once(members: Sequence[Host], runs: Sequence[StringCommand]) -> list[tuple[bool, str]]:
    """Run a command on each host, all at the same time."""
    spawned = [_beside(member, command) for member, command in zip(members, runs, strict=True)]
    gevent.joinall(spawned, raise_error=True)
    return [greenlet.value for greenlet in spawned]


def _beside(member: Host, command: StringCommand) -> gevent.Greenlet:
    """Run a command on another node in a greenlet, which would have no context of its own."""
    state, host = ctx_state.get(), ctx_host.get()

    def run() -> tuple[bool, str]:
        with ctx_state.use(state), ctx_host.use(host):
            return peer_run(member, command)

    return gevent.spawn(run)


def _environment(members: Sequence[Host], rank: int, settings: AllReduce) -> dict[str, str]:
    """What NCCL needs to know on a node: who is who, and by which interfaces."""
    interfaces = [rail.interface for _, rail in sorted(rails_of(members[rank]).items())]
    found = peer_fact(members[rank], RdmaLinks)
    devices = [link.device for link in (found.links if found else ()) if link.netdev in interfaces and link.device]
    environment = {
        "RANK": str(rank),
        "LOCAL_RANK": "0",
        "WORLD_SIZE": str(len(members)),
        "MASTER_ADDR": meeting_address(members[0]),
        "MASTER_PORT": str(NCCL_PORT),
        "GB10_MEGABYTES": str(settings.megabytes),
    }
    chosen = {"NCCL_SOCKET_IFNAME": interfaces, "NCCL_IB_HCA": devices}
    return {**environment, **{name: ",".join(values) for name, values in chosen.items() if values}}


def reduced(nodes: Sequence[str], done: Sequence[tuple[bool, str]], floor_gbps: float, check: Check) -> Check:
    """Given how each container ended, the first one's with the result, return what came of the check."""
    failed = [f"{node}: {last_words(said)}" for node, (well, said) in zip(nodes, done, strict=True) if not well]
    if failed:
        return replace(check, outcome="fail", reason="; ".join(failed), code="NCCL_FAILED")
    try:
        rate = float(json.loads(done[0][1].strip().splitlines()[-1])["busbw_gbps"])
    except (ValueError, KeyError, IndexError, TypeError):
        reason = f"the container did not tell a rate: {last_words(done[0][1])}"
        return replace(check, outcome="fail", reason=reason, code="NCCL_FAILED")
    reason = f"{rate:.1f} Gb/s of bus bandwidth, at least {floor_gbps:g} are expected"
    check = replace(check, reason=reason, measured_gbps=round(rate, 2))
    return replace(check, outcome="pass") if rate >= floor_gbps else replace(check, outcome="fail", code="NCCL_FAILED")
