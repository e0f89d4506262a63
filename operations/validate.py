"""Checks of nodes: a container on the GPU, the rails to another node, NCCL between nodes.

The contract: only throw-away containers and listeners are started, bounded on the node itself and gone afterwards, also
when the connection is lost. Each check is reported; a failed one does not fail its operation, so that all of them are
made. `verdict` does that at the end.
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
from pyinfra.api import FunctionCommand, Host, State

from gb10.facts.docker import Container, RunningContainers, serving
from gb10.facts.network import Interface, Interfaces
from gb10.facts.rdma import RailBandwidth, RdmaBandwidth, RdmaLinks, Verdict, listen
from gb10.facts.reading.launcher import Launch, run_script
from gb10.facts.reading.reports import report
from gb10.operations.copying.survey import Way, find_ways
from gb10.operations.kit.inventory import meeting_address, rails_of
from gb10.operations.kit.operation import Commands, UnreadFactError, operation, say
from gb10.operations.kit.peers import last_words, peer_fact, peer_run, read_fact, start_run
from gb10.operations.kit.pulls import have_image
from gb10.operations.kit.reports import Check
from gb10.programs.answer import RefusedError

PORT = 8880  # and the one above it, on the rails
NCCL_PORT = 29555
START_SECONDS = 10  # for a listener
STOP_SECONDS = 10  # for a container that is to end
SPARE_SECONDS = 30
SLOWED = ", and would be slowed down (--while-serving)"


@operation(is_idempotent=False)
def verdict() -> Commands:
    """Fail on this host if one of its checks failed in this run."""
    yield FunctionCommand(_verdict, (), {})


def report_check(where: Host, check: Check) -> None:
    """Report the result of a check."""
    report(where, check)
    if check.outcome == "fail":
        where.data.gb10_failed_checks = [*(where.data.get("gb10_failed_checks") or ()), check.check]


def _verdict(state: State, host: Host) -> bool:
    failed = host.data.get("gb10_failed_checks")
    if failed:
        say(host, "VALIDATION_FAILED", f"{host.name}: {', '.join(dict.fromkeys(failed))}: see the lines above")
    return not failed


def serving_on(nodes: Sequence[Host], patterns: Sequence[str]) -> str | None:
    """Return which containers may be serving on nodes, where measuring would slow them down, or None."""
    for node in nodes:
        running: tuple[Container, ...] | None = peer_fact(node, RunningContainers)
        if names := serving(running or (), patterns):
            return f"{', '.join(names)} may be serving on {node.name}"
    return None


# Containers -----------------------------------------------------------------------------------------------------------


@operation(is_idempotent=False)
def gpu_container(image: str, options: Sequence[str], command: Sequence[str], seconds: int) -> Commands:
    """
    Prove that a container can use this node's GPU.

    + options: more arguments of `docker run`
    + command: it must succeed in the container, and print something
    + seconds: how long it may take, with its image's pull
    """
    yield FunctionCommand(_gpu_container, (image, tuple(options), tuple(command), seconds), {})


def container_run(
    name: str,
    image: str,
    options: Sequence[str],
    command: Sequence[str],
    seconds: int,
    environment: Mapping[str, str] | None = None,
    program: str = "",
) -> Launch:
    """Return the command that runs a container to its end, for at most so many seconds.

    + program: what its command reads on standard input

    A unit of its own removes it when the time is over, even if the connection is lost.
    """
    variables = [part for key, value in (environment or {}).items() for part in ("--env", f"{key}={value}")]
    interactive = ["--interactive"] if program else []
    run = ["docker", "run", "--rm", *interactive, "--name", name, *variables, *options]
    run += ["--entrypoint", command[0], image, *command[1:]]
    text = shlex.join(word.replace("$", "$$") for word in run)  # systemd would expand variables
    after = f'ExecStopPost=-/bin/sh -c "docker rm -f {name} >/dev/null 2>&1"'
    properties = f"-p RuntimeMaxSec={seconds} -p TimeoutStopSec={STOP_SECONDS} -p {shlex.quote(after)}"
    unit = f"systemd-run --quiet --wait --pipe --collect --unit={name} {properties}"
    absent = "{ echo 'there is no Docker on this node'; exit 127; }"
    script = f'command -v docker >/dev/null || {absent}; printf %s "$program" | {unit} {text} 2>&1'
    return run_script(script, seconds=seconds + SPARE_SECONDS, variables={"program": program})


def _gpu_container(
    state: State, host: Host, image: str, options: Sequence[str], command: Sequence[str], seconds: int
) -> bool:
    check = Check("gpu-container", host.name, "pass", "")
    try:
        done, said = have_image(host, image, "validate_gpu_image", seconds)
    except RefusedError as error:
        report_check(host, check.failed(error.code, error.reason))
        return True
    if done:
        done, said = peer_run(host, container_run(_unique(), image, options, command, seconds))
    check = replace(check, reason=last_words(said, lines=1))
    if not done or not check.reason:
        check = check.failed("GPU_CONTAINER_FAILED", f"{image}: {last_words(said) or 'it ended without output'}")
    report_check(host, check)
    return True


def _unique() -> str:
    return f"gb10-validate-{secrets.token_hex(4)}"


# NCCL -----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class AllReduce:
    """How the all-reduce is run. Without a command, our own program runs."""

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
    + patterns: names of containers that count as serving
    + while_serving: run even while one of them runs
    """
    yield FunctionCommand(_all_reduce, (tuple(nodes), settings, tuple(patterns), while_serving), {})


def _all_reduce(
    state: State, host: Host, nodes: Sequence[str], settings: AllReduce, patterns: Sequence[str], while_serving: bool
) -> bool:
    members = [host.inventory.get_host(name) for name in nodes]
    check = Check("nccl", host.name, "skip", "", peer=", ".join(nodes[1:]))
    if not while_serving and (busy := serving_on(members, patterns)):
        report_check(host, replace(check, reason=f"{busy}{SLOWED}"))
        return True
    try:
        pulls = [have_image(member, settings.image, "validate_nccl_image", settings.seconds) for member in members]
    except RefusedError as error:
        report_check(host, check.failed(error.code, error.reason))
        return True
    if not all(done for done, _ in pulls):
        report_check(host, reduced(nodes, pulls, settings.floor_gbps, check))
        return True
    program = "" if settings.command else files("gb10.programs").joinpath("all_reduce.py").read_text()
    commands = [
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
    runs = [start_run(member, command) for member, command in zip(members, commands, strict=True)]
    gevent.joinall(runs, raise_error=True)
    report_check(host, reduced(nodes, [run.value for run in runs], settings.floor_gbps, check))
    return True


def _environment(members: Sequence[Host], rank: int, settings: AllReduce) -> dict[str, str]:
    """Return NCCL's variables for a node: the ranks, and the interfaces to use."""
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
    """Return the result of the check, given how each container ended; the first one printed the rate."""
    failed = [f"{node}: {last_words(said)}" for node, (well, said) in zip(nodes, done, strict=True) if not well]
    if failed:
        return check.failed("NCCL_FAILED", "; ".join(failed))
    try:
        rate = float(json.loads(done[0][1].strip().splitlines()[-1])["busbw_gbps"])
    except (ValueError, KeyError, IndexError, TypeError):
        return check.failed("NCCL_FAILED", f"the container printed no rate: {last_words(done[0][1])}")
    reason = f"{rate:.1f} Gb/s of bus bandwidth, at least {floor_gbps:g} are expected"
    check = replace(check, outcome="pass", reason=reason, measured_gbps=round(rate, 2))
    return check if rate >= floor_gbps else check.failed("NCCL_FAILED", reason)


# Rails ----------------------------------------------------------------------------------------------------------------


@operation(is_idempotent=False)
def rail_bandwidth(
    peer: str, seconds: int, mtu: int | None, patterns: Sequence[str], while_serving: bool = False
) -> Commands:
    """
    Measure the bandwidth of this node's rails to another node, one after the other.

    + peer: name of the other node in the inventory
    + seconds: how long each rail is measured
    + mtu: size of packets that the rails must carry, in bytes; None: their own MTU
    + patterns: names of containers that count as serving
    + while_serving: measure even while one of them runs, and slow it down
    """
    yield FunctionCommand(_rail_bandwidth, (peer, seconds, mtu, tuple(patterns), while_serving), {})


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
        report_check(host, replace(check, reason=f"{busy}{SLOWED}"))
        return True
    ways, lost = find_ways(host, target, [_interfaces(host), _interfaces(target)])
    for rail, faults in lost.items():
        report_check(host, replace(check, rail=rail).failed("RAIL_FAULT", faults))
    if not ways and not lost:
        report_check(host, replace(check, reason=f"the inventory names no rail that {host.name} and {peer} share"))
    for way in ways:
        report_check(host, _send_packets(host, way, replace(check, check="rail-mtu", rail=way.name), mtu))
        report_check(host, judged(measure_rail(host, target, way, seconds), replace(check, rail=way.name)))
    return True


def _interfaces(node: Host) -> dict[str, Interface]:
    found: dict[str, Interface] | None = peer_fact(node, Interfaces)
    return found or {}


def _send_packets(where: Host, way: Way, check: Check, mtu: int | None) -> Check:
    """Send packets of full size, which must not be fragmented, over a rail; return the result of the check."""
    own = _interfaces(where)[str(way.interface)].mtu_bytes
    wanted = mtu or own
    if own < wanted:
        return check.failed("RAIL_FAULT", f"{way.interface} of {where.name} has MTU {own}, not {wanted}")
    headers = 28 if "." in way.peer else 48
    ping = f"ping -c 2 -i 0.2 -W 2 -M do -s {wanted - headers} -I {way.interface} {way.peer}"
    done, said = peer_run(where, run_script(f"{ping} 2>&1", seconds=15))
    if done:
        return replace(check, outcome="pass", reason=f"packets of {wanted} bytes arrive")
    return check.failed("RAIL_FAULT", f"packets of {wanted} bytes do not arrive: {last_words(said, lines=2)}")


def measure_rail(source: Host, target: Host, way: Way, seconds: int) -> RailBandwidth | str:
    """Return the bandwidth of a rail, or the reason why it could not be measured. The listener ends afterwards."""
    with _listening(target, way, seconds) as trouble:
        if trouble:
            return f"nobody listens on {target.name}: {trouble}"
        try:
            found: Sequence[RailBandwidth] = read_fact(
                source, RdmaBandwidth, peers={way.interface: (way.peer, PORT)}, seconds=seconds
            )
        except UnreadFactError:
            return "the measurement could not be read: see the lines above"
        return found[0] if found else f"{source.name} cannot be reached"


@contextmanager
def _listening(target: Host, way: Way, seconds: int) -> Iterator[str | None]:
    """Have a node answer a measurement while the block runs; yield the reason if it does not, else None."""
    begun = Event()
    launch = listen(
        str(way.peer_interface),
        way.peer,
        PORT,
        str(way.local),
        lifetime_seconds=seconds + SPARE_SECONDS,
        seconds=seconds,
        on_report=lambda details: begun.set(),
    )
    running = start_run(target, launch)
    running.link(lambda ended: begun.set())
    try:
        begun.wait(START_SECONDS)
        yield last_words(running.value[1]) if running.ready() else None if begun.is_set() else "it does not begin"
    finally:
        running.kill()


def judged(found: RailBandwidth | str, check: Check) -> Check:
    """Return the result of the check, given a measurement or the reason why there is none."""
    if isinstance(found, str):
        return check.failed("RAIL_SLOW", found)
    if found.measured_gbps is None:
        return check.failed("RAIL_SLOW", found.trouble or "nothing was measured")
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
            return check.failed("RAIL_THROTTLED", f"{reason}: throttled")
    return check.failed("RAIL_SLOW", f"{reason}: too slow")
