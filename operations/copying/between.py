"""A copy from node to node, seen from the controller: looked at, refused or run, and proven.

The contract: nothing is sent unless both nodes, the way between them and the room have been looked at; and a copy that
has not been proven has failed.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from paramiko import SSHException
from pyinfra.api import FunctionCommand, Host, State
from pyinfra.context import host, state

from gb10.facts.reading.copy import CopyProof, prove_copy
from gb10.facts.reading.tree import Tree
from gb10.facts.tree import FileTree
from gb10.operations.copying.plan import changed, describe, human, named, plan_copy
from gb10.operations.copying.run import carries_enough, delete, transfer
from gb10.operations.copying.survey import Survey, Wanted, look, read_facts, selection
from gb10.operations.kit.failures import UnreadFactError, refuse, say

Commands = Generator[FunctionCommand, None, None]

PROGRESS = "gb10-copy-"  # how lines begin that programs read


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


def copy(state: State, host: Host, source: Host, target: Host, wanted: Wanted, survey: Survey) -> bool:
    """Copy what a survey found to be missing, and prove it; return whether all went well, and say what did not."""
    try:
        return _copy(host, source, target, wanted, survey)
    except UnreadFactError as error:
        say(host, "COPY_UNPROVEN", f"{target.name}:{wanted.dest_path}: {error} could not be read: see the lines above")
    except (OSError, EOFError, SSHException) as error:
        say(host, "NODE_UNREACHABLE", f"the connection to {source.name} or {target.name} broke: {error}")
    return False


def _copy(host: Host, source: Host, target: Host, wanted: Wanted, survey: Survey) -> bool:
    if not carries_enough(source, target, wanted, survey):
        return False
    if not transfer(source, target, wanted, survey):
        return False
    if survey.extra and not delete(target, wanted, survey.extra):
        return False
    proof = prove(source, target, wanted, survey.source.version)
    if proof is not None and proof.different and wanted.verify == "hash":
        host.log(f"sent again, since the content differs: {', '.join(proof.different[:5])}")
        if not transfer(source, target, wanted, _plan_again(source, target, wanted, survey, proof.different)):
            return False
        proof = prove(source, target, wanted, survey.source.version)
    if proof is None:
        (now,) = _listings((source, selection(wanted, wanted.src_path)))
        say(host, "SOURCE_CHANGED", f"{source.name}: changed during the copy: {named(changed(survey.source, now))}")
        return False
    return accept(host, proof)


def accept(where: Host, proof: CopyProof) -> bool:
    """Say what a proof proves; return whether it holds."""
    where.log(f"{PROGRESS}proof: {json.dumps(proof.to_json())}")
    if proof.damaged:
        text = f"{proof.source}: content that is not what its name says: {', '.join(proof.damaged[:5])}"
        say(where, "MODEL_BROKEN", text)
        return False
    if not proof.holds:
        say(where, "COPY_UNPROVEN", f"{proof.target} is not what {proof.source} is: {'; '.join(proof.faults)}")
        return False
    how = "sha256 of both sides compared" if proof.hashed else "sizes compared"
    where.log(f"proven: {proof.files} files, {human(proof.bytes)}, {proof.links} links that resolve, {how}")
    return True


def _plan_again(source: Host, target: Host, wanted: Wanted, survey: Survey, different: Sequence[str]) -> Survey:
    ours, theirs = _listings(
        (source, selection(wanted, wanted.src_path)),
        (target, {"root": wanted.dest_path, "exclude": wanted.exclude}),
    )
    return replace(
        survey,
        source=ours,
        target=theirs,
        plan=plan_copy(ours, theirs, frozenset(different), wanted.transport == "ssh"),
    )


def _listings(*wanted: tuple[Host, Mapping[str, Any]]) -> list[Tree]:
    """Given nodes and what to list on each, list it at the same time. Raise UnreadFactError where that fails."""
    found = read_facts(*((node, FileTree, arguments) for node, arguments in wanted))
    for (node, _), tree in zip(wanted, found, strict=True):
        if tree is None:
            raise UnreadFactError(f"{node.name} cannot be reached, and FileTree")
    return found


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
        ours, theirs = _listings(
            (source, {**selection(wanted, wanted.src_path), "hashed": hashed, "brief": brief}),
            (target, {**selection(wanted, wanted.dest_path), "hashed": hashed, "brief": brief}),
        )
        if version and ours.version != version:
            return None
        proof = prove_copy(ours, theirs, (source.name, target.name), hashed, wanted.dangling == "list")
        if proof:
            return proof
    return None
