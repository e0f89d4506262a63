"""Checks before a copy: both nodes, the ways between them, free space. Nothing is changed."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from pyinfra.api import Host

from gb10.facts.copy import FileTree
from gb10.facts.network import Interface, Interfaces
from gb10.facts.reading.copy import Tree
from gb10.facts.reading.reports import Refused
from gb10.operations.copying.options import CopyRequest
from gb10.operations.copying.plan import CopyPlan, conflicts, human, named, plan_copy
from gb10.operations.kit.inventory import node_ip, rails_of
from gb10.operations.kit.peers import read_facts
from gb10.programs.answer import RefusedError


@dataclass(frozen=True)
class Way:
    """One way from the source to the target. Addresses are without prefix length."""

    name: str  # of the rail, or "management"
    interface: str | None  # on the source; its streams are bound to it
    local: str | None
    peer: str
    peer_interface: str | None


@dataclass(frozen=True)
class Survey:
    """The result of the checks before a copy."""

    source: Tree
    target: Tree
    plan: CopyPlan
    ways: tuple[Way, ...]
    extra: tuple[str, ...] = ()  # paths on the target alone, which the copy deletes
    refusals: tuple[Refused, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def is_done(self) -> bool:
        return self.plan.is_empty and not self.extra


def survey_copy(source: Host, target: Host, request: CopyRequest) -> Survey:
    """Check both nodes and the ways between them. Raise RefusedError for a copy that cannot even be planned."""
    request.check()
    for path in (request.src_path, request.dest_path):
        if not path.startswith("/") or any(char in path for char in "%\n\r") or path.rstrip("/") == "":
            raise RefusedError(
                "COPY_PATH", f"{path!r} is no folder for a copy: absolute, not /, no % and no line break"
            )
    if source.name == target.name:
        raise RefusedError("COPY_SAME_NODE", f"{source.name} is both source and target")
    ours, theirs, *interfaces = read_facts(
        (source, FileTree, request.listing(request.src_path)),
        (target, FileTree, {"root": request.dest_path, "exclude": request.exclude}),
        *((node, Interfaces, {}) for node in (source, target) if request.network == "rails"),
    )
    for node, tree in ((source, ours), (target, theirs)):
        if tree is None:
            raise RefusedError("NODE_UNREACHABLE", f"{node.name} cannot be reached")
    _check_folders(source, target, request, ours, theirs)
    plan = plan_copy(ours, theirs, by_rsync=request.is_encrypted)  # our own streams are not encrypted
    ways, lost = find_ways(source, target, interfaces)
    extra = extras(ours, theirs, request.paths) if request.delete else ()
    return _judged(source, target, request, Survey(ours, theirs, plan, ways, extra), lost)


def _check_folders(source: Host, target: Host, request: CopyRequest, ours: Tree, theirs: Tree) -> None:
    if ours.machine == theirs.machine:
        raise RefusedError("COPY_SAME_NODE", f"{source.name} and {target.name} are one machine")
    place = theirs.root or os.path.normpath(request.dest_path)
    if f"{place}/".startswith(("/tmp/", "/var/tmp/")):  # noqa: S108 - nothing is written there
        raise RefusedError("COPY_PATH", f"{target.name}:{place}: the receiver of a copy has a /tmp of its own")
    if ours.absent:
        raise RefusedError("COPY_SOURCE_MISSING", f"there is no folder {request.src_path} on {source.name}")
    if ours.missing:
        text = f"{source.name}:{request.src_path} has no {named(ours.missing)}"
        raise RefusedError("COPY_SOURCE_MISSING", text)


def find_ways(
    source: Host, target: Host, interfaces: Sequence[Mapping[str, Interface]]
) -> tuple[tuple[Way, ...], dict[str, str]]:
    """Return the rails between two nodes that are up, and the faults of the others by name.

    + interfaces: those of both nodes; empty for a copy over the management network
    """
    if not interfaces:
        return (Way("management", None, None, management_address(target), None),), {}
    ends = [rails_of(node) for node in (source, target)]
    ways, lost = [], {}
    for name in sorted(ends[0].keys() & ends[1].keys()):
        rails = [end[name] for end in ends]
        faults = [
            fault
            for node, rail, found in zip((source, target), rails, interfaces, strict=True)
            for fault in _rail_faults(node.name, rail.interface, rail.ip, found)
        ]
        if faults:
            lost[name] = ", ".join(faults)
        else:
            ours, theirs = rails
            ways.append(Way(name, ours.interface, ours.ip, theirs.ip, theirs.interface))
    return tuple(ways), lost


def _rail_faults(node: str, interface: str, address: str, found: Mapping[str, Interface]) -> list[str]:
    if interface not in found:
        return [f"{node} has no {interface}"]
    if not found[interface].up:
        return [f"{interface} of {node} is down"]
    if address not in [cidr.partition("/")[0] for cidr in found[interface].addresses]:
        return [f"{interface} of {node} does not have {address}"]
    return []


def management_address(node: Host) -> str:
    """Return the address of a node on the management network."""
    return resolved(node_ip(node))


def resolved(name: str) -> str:
    """Return the address of a node as this machine resolves it, or its name if it cannot.

    Nodes compare addresses: they may know each other, or themselves, by other names.
    """
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except OSError:
        return name
    return str(min(found, key=lambda one: one[0] != socket.AF_INET)[4][0])


def _judged(source: Host, target: Host, request: CopyRequest, survey: Survey, lost: Mapping[str, str]) -> Survey:
    """Return the survey with the reasons to refuse the copy, and with notes."""
    ours, theirs, plan, ways = survey.source, survey.target, survey.plan, survey.ways
    refusals, notes = [], []
    if ours.broken:
        text = f"{len(ours.broken)} links on {source.name} lead nowhere, or out of {request.src_path}: "
        text += named(ours.broken)
        if request.dangling == "refuse":
            refusals.append(Refused("COPY_DANGLING", text))
        else:
            notes.append(text)
    if found := conflicts(ours, theirs):
        text = f"{target.name}:{request.dest_path}: a folder on one node, and none on the other: {named(found)}"
        refusals.append(Refused("COPY_CONFLICT", text))
    if left_out := [entry.path for entry in ours.entries if entry.type == "o"]:
        notes.append(f"left out, since neither file, folder nor link: {named(left_out)}")
    if theirs.free < plan.room:
        where = f"below {request.dest_path} on {target.name}"
        need = f"{human(plan.room)} are needed {where}, and {human(theirs.free)} are free"
        refusals.append(Refused("DISK_FULL", need))
    if not ways and not plan.is_empty:
        refusals.append(Refused("RAIL_DOWN", f"no rail between {source.name} and {target.name} is up"))
    if request.network == "management" and not plan.is_empty:
        how = "by ssh" if request.is_encrypted else "in clear text"
        notes.append(f"over the management network, as asked for, {how}: the rails are not used")
    if ways and lost:
        name = min(lost)
        notes.append(f"rail {name}: {lost[name]}: only {ways[0].name} carries the copy")
    return replace(survey, refusals=tuple(refusals), notes=tuple(notes))


def extras(source: Tree, target: Tree, paths: Sequence[str] | None) -> tuple[str, ...]:
    """Return the paths that only the target has, below the chosen ones, the deepest first."""
    ours = source.by_path()
    chosen = None if paths is None else tuple(f"{path.rstrip('/')}/" for path in paths)
    found = [
        entry.path
        for entry in target.entries
        if entry.path not in ours and (chosen is None or entry.path.startswith(chosen))
    ]
    return tuple(sorted(found, key=lambda path: (-path.count("/"), path)))
