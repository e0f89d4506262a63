"""A copy from node to node, seen from the controller: looked at, refused or run, and proven.

The contract: nothing is sent unless both nodes, the way between them and the room have been looked at; and a copy that
has not been proven has failed.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

import gevent  # type: ignore[import-untyped] # pyinfra brings it, and there are no stubs
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519
from pyinfra.api import FunctionCommand, Host, State, StringCommand
from pyinfra.api.command import QuoteString
from pyinfra.api.exceptions import FactProcessError
from pyinfra.context import host, state

from gb10.facts.bandwidth import RailBandwidth, RdmaBandwidth, Verdict, listen_command
from gb10.facts.copy import CopyProof, prove_copy
from gb10.facts.interfaces import Interface, Interfaces
from gb10.facts.program import program_text, run_program
from gb10.facts.tree import UNFINISHED, FileTree, Tree
from gb10.operations.copy_plan import (
    CopyPlan,
    changed,
    describe,
    human,
    large_jobs,
    named,
    owner_options,
    plan_copy,
    spread,
)
from gb10.operations.peer import peer_fact, peer_run, reached
from gb10.operations.trouble import UnreadFactError, refuse, say

Commands = Generator[FunctionCommand, None, None]

STREAMS = 4  # for each rail
MEASURE_FROM_BYTES = 8 << 30  # a smaller copy is over before a measurement pays
MEASURE_SECONDS = 1
MEASURE_PORT = 8860
START_SECONDS = 60
SLOWEST = 20e6  # bytes per second: a copy that is slower than that is stopped, and may be resumed
PROGRESS = "gb10-copy-"  # how lines begin that programs read


@dataclass(frozen=True)
class Wanted:
    """What is to be copied, and how."""

    src_path: str
    dest_path: str
    paths: tuple[str, ...] | None = None
    also: tuple[str, ...] = ()
    exclude: tuple[str, ...] = UNFINISHED
    transport: Literal["rsyncd", "ssh"] = "rsyncd"
    network: Literal["rails", "management"] = "rails"
    verify: Literal["size", "hash"] = "size"
    dangling: Literal["refuse", "list"] = "refuse"
    delete: bool = False
    force: bool = False
    streams: int = STREAMS
    progress_seconds: float = 10.0


class Refusal(NamedTuple):
    """Why a copy is refused: a code of the catalogue, and what happened."""

    code: str
    message: str


@dataclass(frozen=True)
class Way:
    """One way from the source to the target. Addresses are without prefix length."""

    name: str  # of the rail, or "management"
    interface: str | None  # the source's, to which its streams are bound
    local: str | None
    peer: str
    peer_interface: str | None


@dataclass(frozen=True)
class Survey:
    """What was found out before a copy."""

    refusals: tuple[Refusal, ...] = ()
    notes: tuple[str, ...] = ()
    source: Tree = field(default_factory=lambda: Tree("", 0))
    target: Tree = field(default_factory=lambda: Tree("", 0))
    plan: CopyPlan = field(default_factory=CopyPlan)
    extra: tuple[str, ...] = ()  # what is on the target alone, and is to be deleted
    ways: tuple[Way, ...] = ()

    @property
    def is_done(self) -> bool:
        return self.plan.is_empty and not self.extra


def node(name: str) -> Host | None:
    """Given a name, return that node of the inventory, or None where it has none."""
    found: Host | None = host.inventory.get_host(name, default=None)
    return found


def this_node() -> Host:
    """The node of the running operation itself: pyinfra's `host` is another one in another greenlet."""
    return host.inventory.get_host(host.name)


def copy_commands(source: Host, target: Host, wanted: Wanted) -> Commands:
    """Yield what copies from one node to another: nothing where all is there already."""
    survey = look(source, target, wanted)
    for note in survey.notes:
        host.log(note)
    for refusal in survey.refusals:
        yield from refuse(refusal.code, refusal.message)
    if survey.refusals:
        return
    to = f"{target.name}:{wanted.dest_path}"
    if survey.is_done:
        host.noop(f"{to} has all of {source.name}:{wanted.src_path}")
        if state.is_executing:
            yield from _prove_in_place(source, target, wanted)
        return
    deleted = f", {len(survey.extra)} to be deleted: {named(survey.extra)}" if survey.extra else ""
    verb = "copying" if state.is_executing else "would copy"
    host.log(f"{verb} from {source.name}:{wanted.src_path} to {to}: {describe(survey.plan)}{deleted}")
    tell("plan", plan_document(source, target, wanted, survey))
    yield FunctionCommand(copy, (source, target, wanted, survey), {})


def plan_document(source: Host, target: Host, wanted: Wanted, survey: Survey) -> dict[str, Any]:
    """What a program wants to know of a plan."""
    return {
        "source": source.name,
        "target": target.name,
        "src_path": wanted.src_path,
        "dest_path": wanted.dest_path,
        "files": survey.plan.count,
        "bytes": survey.plan.size,
        "arrived": survey.plan.arrived,
        "delete": len(survey.extra),
        "ways": [way.name for way in survey.ways],
    }


def tell(kind: str, document: Mapping[str, Any]) -> None:
    """Log a line for the gb10 command."""
    host.log(f"{PROGRESS}{kind}: {json.dumps(document)}")


# -- before ------------------------------------------------------------------------------------------------------------


def look(source: Host, target: Host, wanted: Wanted) -> Survey:
    """Look at both nodes and the way between them; change nothing."""
    for path in (wanted.src_path, wanted.dest_path):
        if not path.startswith("/") or any(char in path for char in "%\n\r") or path.rstrip("/") == "":
            text = f"{path!r} is no folder for a copy: absolute, not /, no % and no line break"
            return Survey((Refusal("COPY_PATH", text),))
    if source.name == target.name:
        return Survey((Refusal("COPY_SAME_NODE", f"{source.name} is both source and target"),))
    ours, theirs, *ends = read_facts(
        (source, FileTree, _selection(wanted, wanted.src_path)),
        (target, FileTree, {"root": wanted.dest_path, "exclude": wanted.exclude}),
        *((node, Interfaces, {}) for node in (source, target) if wanted.network == "rails"),
    )
    for node, tree in ((source, ours), (target, theirs)):
        if tree is None:
            return Survey((Refusal("NODE_UNREACHABLE", f"{node.name} cannot be reached"),))
    if refused := _impossible(source, target, wanted, ours, theirs):
        return Survey((refused,))
    plan = plan_copy(ours, theirs)
    ways, lost = find_ways(source, target, ends)
    refusals, notes = judge(source, target, wanted, ours, theirs, plan, ways)
    if ways and lost:
        notes += (f"{lost[0]}: only {ways[0].name} carries the copy",)
    extra = extras(ours, theirs, wanted.paths) if wanted.delete else ()
    return Survey(refusals, notes, ours, theirs, plan, extra, ways)


def _selection(wanted: Wanted, root: str) -> dict[str, Any]:
    return {"root": root, "paths": wanted.paths, "also": wanted.also, "exclude": wanted.exclude}


def _impossible(source: Host, target: Host, wanted: Wanted, ours: Tree, theirs: Tree) -> Refusal | None:
    if ours.machine == theirs.machine:
        return Refusal("COPY_SAME_NODE", f"{source.name} and {target.name} are one machine")
    if ours.absent:
        return Refusal("COPY_SOURCE_MISSING", f"there is no folder {wanted.src_path} on {source.name}")
    if ours.missing:
        return Refusal("COPY_SOURCE_MISSING", f"{source.name}:{wanted.src_path} has no {named(ours.missing)}")
    return None


def read_fact(node: Host, fact: Any, **arguments: Any) -> Any:
    """A fact of any node; None where it cannot be reached. Raise UnreadFactError where it could not be read."""
    value = peer_fact(node, fact, **arguments)
    if node in state.failed_hosts:
        raise UnreadFactError(fact.__name__)
    return value


def read_facts(*wanted: tuple[Host, Any, Mapping[str, Any]]) -> list[Any]:
    """Facts of several nodes, read at the same time; None for each whose node cannot be reached.

    Raise UnreadFactError where one could not be read.
    """
    nodes = {found.name: reached(found) for found, _, _ in wanted}
    sudo = _sudo()
    runs = [
        gevent.spawn(_run, found, fact().command(**arguments), sudo) if nodes[found.name] else None
        for found, fact, arguments in wanted
    ]
    gevent.joinall([run for run in runs if run], raise_error=True)
    values: list[Any] = []
    for (found, fact, _), run in zip(wanted, runs, strict=True):
        if run is None:
            values.append(None)
            continue
        done, output = run.value
        if not done:
            host.log(f"{found.name}: {output[-500:]}")
            raise UnreadFactError(fact.__name__)
        try:
            values.append(fact().process(output.splitlines()))
        except FactProcessError as error:
            host.log(f"{found.name}: {error}")
            raise UnreadFactError(fact.__name__) from error
    return values


def find_ways(
    source: Host, target: Host, interfaces: Sequence[Mapping[str, Interface]]
) -> tuple[tuple[Way, ...], tuple[str, ...]]:
    """Return the rails from one node to another that are up, and what speaks against the others.

    + interfaces: those of both nodes; none for the management network
    """
    if not interfaces:
        return (Way("management", None, None, management_address(target), None),), ()
    ends = [node.data.get("rails") or {} for node in (source, target)]
    ways, lost = [], []
    for name in sorted(ends[0].keys() & ends[1].keys()):
        rails = [end[name] for end in ends]
        faults = [
            fault
            for node, rail, found in zip((source, target), rails, interfaces, strict=True)
            for fault in _rail_faults(node.name, rail["interface"], _address(rail), found)
        ]
        if faults:
            lost.append(f"rail {name}: {', '.join(faults)}")
        else:
            ours, theirs = rails
            ways.append(Way(name, ours["interface"], _address(ours), _address(theirs), theirs["interface"]))
    return tuple(ways), tuple(lost)


def management_address(node: Host) -> str:
    """The address of a node on the management network."""
    return str(node.data.get("node_ip") or node.data.get("ssh_hostname") or node.name)


def _address(rail: Mapping[str, Any]) -> str:
    return str(rail["address"]).partition("/")[0]


def _rail_faults(node: str, interface: str, address: str, found: Mapping[str, Interface]) -> list[str]:
    if interface not in found:
        return [f"{node} has no {interface}"]
    if not found[interface].up:
        return [f"{interface} of {node} is down"]
    if address not in [cidr.partition("/")[0] for cidr in found[interface].addresses]:
        return [f"{interface} of {node} does not have {address}"]
    return []


def judge(
    source: Host, target: Host, wanted: Wanted, ours: Tree, theirs: Tree, plan: CopyPlan, ways: Sequence[Way]
) -> tuple[tuple[Refusal, ...], tuple[str, ...]]:
    """Return what speaks against a copy, and what is to be said about it."""
    refusals, notes = [], []
    if ours.broken:
        text = f"{len(ours.broken)} links on {source.name} lead nowhere, or out of {wanted.src_path}: "
        text += named(ours.broken)
        if wanted.dangling == "refuse":
            refusals.append(Refusal("COPY_DANGLING", text))
        else:
            notes.append(text)
    if left_out := [entry.path for entry in ours.entries if entry.type == "o"]:
        notes.append(f"left out, since neither file, folder nor link: {named(left_out)}")
    if plan.room > theirs.free:
        where = f"below {wanted.dest_path} on {target.name}"
        need = f"{human(plan.room)} are needed {where}, and {human(theirs.free)} are free"
        refusals.append(Refusal("DISK_FULL", need))
    if not ways and not plan.is_empty:
        refusals.append(Refusal("RAIL_DOWN", f"no rail between {source.name} and {target.name} is up"))
    if wanted.network == "management" and not plan.is_empty:
        notes.append("over the management network, as asked for: the rails are not used")
    return tuple(refusals), tuple(notes)


def extras(source: Tree, target: Tree, paths: Sequence[str] | None) -> tuple[str, ...]:
    """Return what the target has and the source has not, below the chosen paths; what lies deepest comes first."""
    ours = source.by_path()
    chosen = None if paths is None else tuple(f"{path.rstrip('/')}/" for path in paths)
    found = [
        entry.path
        for entry in target.entries
        if entry.path not in ours and (chosen is None or entry.path.startswith(chosen))
    ]
    return tuple(sorted(found, key=lambda path: (-path.count("/"), path)))


# -- the copy ----------------------------------------------------------------------------------------------------------


def copy(state: State, host: Host, source: Host, target: Host, wanted: Wanted, survey: Survey) -> bool:
    """Copy what a survey found to be missing, and prove it; return whether all went well, and say what did not."""
    if not _carries_enough(source, target, wanted, survey):
        return False
    if not _transfer(source, target, wanted, survey):
        return False
    if survey.extra and not _delete(target, wanted, survey.extra):
        return False
    proof = prove(source, target, wanted, survey.source.version)
    if proof is not None and proof.different and wanted.verify == "hash":
        host.log(f"sent again, since the content differs: {', '.join(proof.different[:5])}")
        if not _transfer(source, target, wanted, _plan_again(source, target, wanted, survey, proof.different)):
            return False
        proof = prove(source, target, wanted, survey.source.version)
    if proof is None:
        (now,) = read_facts((source, FileTree, _selection(wanted, wanted.src_path)))
        say(host, "SOURCE_CHANGED", f"{source.name}: changed during the copy: {named(changed(survey.source, now))}")
        return False
    return accept(host, proof)


def accept(where: Host, proof: CopyProof) -> bool:
    """Say what a proof proves; return whether it holds."""
    where.log(f"{PROGRESS}proof: {json.dumps(proof.to_json())}")
    if not proof.holds:
        say(where, "COPY_UNPROVEN", f"{proof.target} is not what {proof.source} is: {'; '.join(proof.faults)}")
        return False
    how = "sha256 of both sides compared" if proof.hashed else "sizes compared"
    where.log(f"proven: {proof.files} files, {human(proof.bytes)}, {proof.links} links that resolve, {how}")
    return True


def _plan_again(source: Host, target: Host, wanted: Wanted, survey: Survey, different: Sequence[str]) -> Survey:
    ours, theirs = read_facts(
        (source, FileTree, _selection(wanted, wanted.src_path)),
        (target, FileTree, {"root": wanted.dest_path, "exclude": wanted.exclude}),
    )
    return replace(survey, source=ours, target=theirs, plan=plan_copy(ours, theirs, frozenset(different)))


def _prove_in_place(source: Host, target: Host, wanted: Wanted) -> Commands:
    """Prove a copy that needs nothing to be sent; yield only what mends it."""
    proof = prove(source, target, wanted)
    if proof is None or not proof.holds:
        yield FunctionCommand(_mend, (source, target, wanted), {})
    else:
        accept(host, proof)


def _mend(state: State, host: Host, source: Host, target: Host, wanted: Wanted) -> bool:
    return copy(state, host, source, target, wanted, look(source, target, wanted))


def prove(source: Host, target: Host, wanted: Wanted, version: str = "") -> CopyProof | None:
    """List both nodes at the same time, and compare; None where the source is not `version` any more.

    Raise UnreadFactError where one cannot be listed.
    """
    hashed = wanted.verify == "hash"
    for brief in (False,) if hashed else (True, False):
        ours, theirs = read_facts(
            (source, FileTree, {**_selection(wanted, wanted.src_path), "hashed": hashed, "brief": brief}),
            (target, FileTree, {**_selection(wanted, wanted.dest_path), "hashed": hashed, "brief": brief}),
        )
        if ours is None or theirs is None:
            raise UnreadFactError(f"{(source if ours is None else target).name} cannot be reached, and FileTree")
        if version and ours.version != version:
            return None
        proof = prove_copy(ours, theirs, (source.name, target.name), hashed, wanted.dangling == "list")
        if proof:
            return proof
    return None


def _transfer(source: Host, target: Host, wanted: Wanted, survey: Survey) -> bool:
    if survey.plan.is_empty:
        return True
    copy_id, secret = secrets.token_hex(6), secrets.token_hex(32)
    lifetime = START_SECONDS + int(3600 + survey.plan.size / SLOWEST)
    if wanted.transport == "ssh":  # pieces are not encrypted
        plan = replace(survey.plan, large=(), small=(*survey.plan.large, *survey.plan.small))
        survey = replace(survey, plan=plan)
    user = str(target.data.get("ssh_user") or "root")
    key = ed25519.Ed25519PrivateKey.generate() if wanted.transport == "ssh" else None
    ready = _start_receiver(source, target, wanted, survey, copy_id, secret, lifetime, user, key)
    if ready is None:
        return False
    sent = False
    ssh = {"user": user, "key": _private(key), "host_keys": ready["host_keys"]} if key else None
    try:
        sent = _send(source, target, wanted, survey, ready["ports"], secret, lifetime, ssh)
    finally:
        if not sent:  # it would end by itself, but the reason for this may be that it does not
            stop = f"timeout 30 systemctl stop gb10-copy-{copy_id}.service 2>/dev/null || true"
            peer_run(target, StringCommand(stop))
    return sent


def _start_receiver(
    source: Host,
    target: Host,
    wanted: Wanted,
    survey: Survey,
    copy_id: str,
    secret: str,
    lifetime: int,
    user: str,
    key: ed25519.Ed25519PrivateKey | None,
) -> dict[str, Any] | None:
    job = {
        "user": user,
        "ssh": _public(key) if key else "",
        "id": copy_id,
        "secret": secret,
        "root": wanted.dest_path,
        "rails": {way.name: {"address": way.peer, "peers": _addresses(source, way)} for way in survey.ways},
        "large": large_jobs(survey.plan, survey.source, survey.target),
        "references": survey.plan.references,
        "stale": survey.plan.stale,
        "lifetime": lifetime,
    }
    text = program_text(__package__, "copy_receiver.py")
    done, output = peer_run(target, run_program(text, "begin", job, START_SECONDS))
    if not done:
        _quote(host, target, output)
        return None
    ready: dict[str, Any] = json.loads(output.splitlines()[-1])
    return ready


def _public(key: ed25519.Ed25519PrivateKey) -> str:
    openssh = serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    return key.public_key().public_bytes(*openssh).decode()


def _private(key: ed25519.Ed25519PrivateKey) -> str:
    openssh = serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH
    return key.private_bytes(*openssh, serialization.NoEncryption()).decode()


def _addresses(source: Host, way: Way) -> list[str]:
    if way.local:
        return [way.local]
    return [management_address(source)]


def _send(
    source: Host,
    target: Host,
    wanted: Wanted,
    survey: Survey,
    ports: Mapping[str, int],
    secret: str,
    lifetime: int,
    ssh: Mapping[str, Any] | None,
) -> bool:
    plan = survey.plan
    job = {
        "ssh": ssh,
        "secret": secret,
        "root": survey.source.root,
        "peer": target.name,
        "rails": [
            {"name": w.name, "interface": w.interface, "local": w.local, "peer": w.peer, "port": ports[w.name]}
            for w in survey.ways
        ],
        "large": large_jobs(plan, survey.source, survey.target),
        "small": [[e.path for e in found] for found in spread(plan.small, wanted.streams * len(survey.ways))],
        "finish": plan.finish,
        "references": bool(plan.references),
        "hard_links": any(entry.inode for entry in survey.source.files),
        "sparse": any(entry.sparse for entry in plan.small),
        "owners": owner_options(survey.source, survey.target),
        "streams": wanted.streams,
        "total": plan.size,
        "every": wanted.progress_seconds,
    }
    text = program_text(__package__, "copy_sender.py")
    done, output = _run(source, run_program(text, "main", job, lifetime), _sudo(), shown=True)
    if not done:
        _quote(host, source, output)
        return False
    return True


def _sudo() -> bool:
    arguments = host.current_op_global_arguments
    return bool(arguments and arguments.get("_sudo"))


def _run(node: Host, command: StringCommand, sudo: bool, shown: bool = False) -> tuple[bool, str]:
    """Run a command; unlike `peer_run` also beside others, and with its output shown as it comes."""
    status, output = node.run_shell_command(
        command, print_output=shown, print_input=False, **{"_sudo": sudo, **command.connector_arguments}
    )
    return status, output.output


def _quote(where: Host, node: Host, output: str) -> None:
    """Say what a program said before it failed."""
    lines = [line for line in output.splitlines() if line.strip()]
    known = next((line for line in reversed(lines) if line.startswith("gb10: ")), None)
    if known:
        _, code, reason = known.split(": ", 2)
        say(where, code, reason)
    else:
        say(where, "COPY_FAILED", f"the copy on {node.name} ended: {lines[-1] if lines else 'without a word'}")


def _delete(target: Host, wanted: Wanted, paths: Sequence[str]) -> bool:
    text = program_text(__package__, "copy_delete.py")
    done, output = peer_run(target, run_program(text, "main", {"root": wanted.dest_path, "paths": paths}, 3600))
    if not done:
        _quote(host, target, output)
    return done


# -- the rails' speed --------------------------------------------------------------------------------------------------


def _carries_enough(source: Host, target: Host, wanted: Wanted, survey: Survey) -> bool:
    if survey.plan.size < MEASURE_FROM_BYTES or wanted.force or wanted.network != "rails":
        return True
    throttled = [_is_throttled(found, source, target) for found in measure(source, target, survey.ways)]
    return not any(throttled)


def measure(source: Host, target: Host, ways: Sequence[Way]) -> tuple[RailBandwidth, ...]:
    """Measure what each way carries, one after the other."""
    lifetime, peers = 20 + 5 * len(ways), {}
    for number, way in enumerate(ways):
        port = MEASURE_PORT + 2 * number
        listen = listen_command(way.peer_interface or "", way.peer, port, way.local or "", lifetime, MEASURE_SECONDS)
        unit = f"gb10-bandwidth-{secrets.token_hex(4)}"
        transient = f"systemd-run --quiet --collect --unit={unit} sh -c"
        peer_run(target, StringCommand(transient, QuoteString(listen)))
        peers[way.interface or ""] = (way.peer, port)
    found: tuple[RailBandwidth, ...] = read_fact(source, RdmaBandwidth, peers=peers, seconds=MEASURE_SECONDS) or ()
    return found


def _is_throttled(found: RailBandwidth, source: Host, target: Host) -> bool:
    rate = "nothing" if found.measured_gbps is None else f"{found.measured_gbps:.1f} Gb/s"
    way = f"{found.netdev} from {source.name} to {target.name}"
    if found.verdict is Verdict.THROTTLED:
        say(host, "LINK_THROTTLED", f"{way} carries {rate}, and its link says {found.link_gbps:.0f} Gb/s")
        return True
    host.log(f"{way} carries {rate}: {found.verdict}{f' ({found.trouble})' if found.trouble else ''}")
    return False
