"""Checks before a copy: both nodes, the ways between them, free space. Nothing is changed."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pyinfra.api import Host

from gb10.facts.copy import FileTree
from gb10.facts.network import Interface, Interfaces
from gb10.facts.reading.copy import UNFINISHED, Tree
from gb10.facts.reading.reports import Refused
from gb10.operations.copying.options import CopyOptions
from gb10.operations.copying.plan import CopyPlan, conflicts, human, named, plan_copy
from gb10.operations.kit.inventory import node_ip, rails_of
from gb10.operations.kit.peers import read_facts
from gb10.programs.room import is_short


@dataclass(frozen=True, kw_only=True)
class Wanted(CopyOptions):
    """What to copy, and how."""

    src_path: str
    dest_path: str
    paths: tuple[str, ...] | None = None
    also: tuple[str, ...] = ()
    exclude: tuple[str, ...] = UNFINISHED
    delete: bool = False


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
    """The result of the checks before a copy."""

    refusals: tuple[Refused, ...] = ()
    notes: tuple[str, ...] = ()
    source: Tree = field(default_factory=lambda: Tree("", 0))
    target: Tree = field(default_factory=lambda: Tree("", 0))
    plan: CopyPlan = field(default_factory=CopyPlan)
    extra: tuple[str, ...] = ()  # paths on the target alone, which the copy deletes
    ways: tuple[Way, ...] = ()

    @property
    def is_done(self) -> bool:
        return self.plan.is_empty and not self.extra


def look(source: Host, target: Host, wanted: Wanted) -> Survey:
    """Look at both nodes and the ways between them; change nothing."""
    if mistakes := wanted.mistakes():
        return Survey(tuple(Refused("SETTINGS_INVALID", text) for text in mistakes))
    for path in (wanted.src_path, wanted.dest_path):
        if not path.startswith("/") or any(char in path for char in "%\n\r") or path.rstrip("/") == "":
            text = f"{path!r} is no folder for a copy: absolute, not /, no % and no line break"
            return Survey((Refused("COPY_PATH", text),))
    if source.name == target.name:
        return Survey((Refused("COPY_SAME_NODE", f"{source.name} is both source and target"),))
    ours, theirs, *ends = read_facts(
        (source, FileTree, selection(wanted, wanted.src_path)),
        (target, FileTree, {"root": wanted.dest_path, "exclude": wanted.exclude}),
        *((node, Interfaces, {}) for node in (source, target) if wanted.network == "rails"),
    )
    for node, tree in ((source, ours), (target, theirs)):
        if tree is None:
            return Survey((Refused("NODE_UNREACHABLE", f"{node.name} cannot be reached"),))
    if refused := _impossible(source, target, wanted, ours, theirs):
        return Survey((refused,))
    plan = plan_copy(ours, theirs, by_rsync=wanted.transport == "ssh")  # our own streams are not encrypted
    ways, lost = find_ways(source, target, ends)
    refusals, notes = judge(source, target, wanted, ours, theirs, plan, ways)
    if ways and lost:
        notes += (f"{lost[0]}: only {ways[0].name} carries the copy",)
    extra = extras(ours, theirs, wanted.paths) if wanted.delete else ()
    return Survey(refusals, notes, ours, theirs, plan, extra, ways)


def selection(wanted: Wanted, root: str) -> dict[str, Any]:
    """Return the arguments of FileTree that list what is copied, below one of the two roots."""
    chosen = {"paths": wanted.paths, "also": wanted.also, "exclude": wanted.exclude}
    return {"root": root, "copied_to": wanted.dest_path, **chosen}


def _impossible(source: Host, target: Host, wanted: Wanted, ours: Tree, theirs: Tree) -> Refused | None:
    if ours.machine == theirs.machine:
        return Refused("COPY_SAME_NODE", f"{source.name} and {target.name} are one machine")
    place = theirs.root or os.path.normpath(wanted.dest_path)
    if f"{place}/".startswith(("/tmp/", "/var/tmp/")):  # noqa: S108 - nothing is written there
        return Refused("COPY_PATH", f"{target.name}:{place}: the receiver of a copy has a /tmp of its own")
    if ours.absent:
        return Refused("COPY_SOURCE_MISSING", f"there is no folder {wanted.src_path} on {source.name}")
    if ours.missing:
        return Refused("COPY_SOURCE_MISSING", f"{source.name}:{wanted.src_path} has no {named(ours.missing)}")
    return None


def find_ways(
    source: Host, target: Host, interfaces: Sequence[Mapping[str, Interface]]
) -> tuple[tuple[Way, ...], tuple[str, ...]]:
    """Return the rails from one node to another that are up, and what is wrong with the others.

    + interfaces: those of both nodes; empty for a copy over the management network
    """
    if not interfaces:
        return (Way("management", None, None, management_address(target), None),), ()
    ends = [rails_of(node) for node in (source, target)]
    ways, lost = [], []
    for name in sorted(ends[0].keys() & ends[1].keys()):
        rails = [end[name] for end in ends]
        faults = [
            fault
            for node, rail, found in zip((source, target), rails, interfaces, strict=True)
            for fault in _rail_faults(node.name, rail.interface, rail.ip, found)
        ]
        if faults:
            lost.append(f"rail {name}: {', '.join(faults)}")
        else:
            ours, theirs = rails
            ways.append(Way(name, ours.interface, ours.ip, theirs.ip, theirs.interface))
    return tuple(ways), tuple(lost)


def management_address(node: Host) -> str:
    """Return the address of a node on the management network."""
    return numeric(node_ip(node))


def numeric(name: str) -> str:
    """Given the name of a node, return its address as this machine resolves it, or the name if it cannot.

    Nodes compare addresses: they may know each other, or themselves, by other names.
    """
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except OSError:
        return name
    return str(min(found, key=lambda one: one[0] != socket.AF_INET)[4][0])


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
) -> tuple[tuple[Refused, ...], tuple[str, ...]]:
    """Return why a copy is refused, and notes about it."""
    refusals, notes = [], []
    if ours.broken:
        text = f"{len(ours.broken)} links on {source.name} lead nowhere, or out of {wanted.src_path}: "
        text += named(ours.broken)
        if wanted.dangling == "refuse":
            refusals.append(Refused("COPY_DANGLING", text))
        else:
            notes.append(text)
    if found := conflicts(ours, theirs):
        text = f"{target.name}:{wanted.dest_path}: a folder on one node, and none on the other: {named(found)}"
        refusals.append(Refused("COPY_CONFLICT", text))
    if left_out := [entry.path for entry in ours.entries if entry.type == "o"]:
        notes.append(f"left out, since neither file, folder nor link: {named(left_out)}")
    if is_short(theirs.free, plan.room):
        where = f"below {wanted.dest_path} on {target.name}"
        need = f"{human(plan.room)} are needed {where}, and {human(theirs.free)} are free"
        refusals.append(Refused("DISK_FULL", need))
    if not ways and not plan.is_empty:
        refusals.append(Refused("RAIL_DOWN", f"no rail between {source.name} and {target.name} is up"))
    if wanted.network == "management" and not plan.is_empty:
        notes.append("over the management network, as asked for: the rails are not used")
    return tuple(refusals), tuple(notes)


def extras(source: Tree, target: Tree, paths: Sequence[str] | None) -> tuple[str, ...]:
    """Return what only the target has, below the chosen paths, the deepest paths first."""
    ours = source.by_path()
    chosen = None if paths is None else tuple(f"{path.rstrip('/')}/" for path in paths)
    found = [
        entry.path
        for entry in target.entries
        if entry.path not in ours and (chosen is None or entry.path.startswith(chosen))
    ]
    return tuple(sorted(found, key=lambda path: (-path.count("/"), path)))
