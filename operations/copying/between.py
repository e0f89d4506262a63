"""A copy from node to node: check, refuse or run, prove.

The contract: nothing is sent before both nodes, the ways between them and the free space are checked, and a copy that
is not proven has failed.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from paramiko import SSHException
from pyinfra.api import FunctionCommand, Host, State
from pyinfra.context import host, state

from gb10.facts.copy import FileTree
from gb10.facts.reading.copy import CopyProof, Tree, prove_copy
from gb10.facts.reading.reports import report
from gb10.operations.copying.measurement import check_rails
from gb10.operations.copying.plan import changed, describe, human, named, plan_copy
from gb10.operations.copying.reports import CopyPlanned, CopyProven
from gb10.operations.copying.run import delete, transfer
from gb10.operations.copying.survey import Survey, Wanted, look, selection
from gb10.operations.kit.operation import UnreadFactError, refuse, say
from gb10.operations.kit.peers import read_facts
from gb10.operations.kit.reports import Note
from gb10.programs.answer import RefusedError

Commands = Generator[FunctionCommand, None, None]


def copy_commands(source: Host, target: Host, wanted: Wanted) -> Commands:
    """Yield the commands that copy from one node to another; none if everything is there already."""
    survey = look(source, target, wanted)
    for note in survey.notes:
        report(host, Note(note))
    for refusal in survey.refusals:
        yield from refuse(refusal.code, refusal.text)
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
    text = f"{verb} from {source.name}:{wanted.src_path} to {to}: {describe(survey.plan)}{deleted}"
    report(host, Note(text))
    report(host, _planned(source, target, wanted, survey))
    yield FunctionCommand(copy, (source, target, wanted, survey), {})


def _planned(source: Host, target: Host, wanted: Wanted, survey: Survey) -> CopyPlanned:
    return CopyPlanned(
        source=source.name,
        target=target.name,
        src_path=wanted.src_path,
        dest_path=wanted.dest_path,
        files=survey.plan.count,
        bytes=survey.plan.size,
        arrived=survey.plan.arrived,
        delete=len(survey.extra),
        ways=tuple(way.name for way in survey.ways),
    )


def copy(state: State, host: Host, source: Host, target: Host, wanted: Wanted, survey: Survey) -> bool:
    """Copy what is missing and prove it. Return False after reporting a failure."""
    try:
        run_copy(source, target, wanted, survey)
    except RefusedError as error:
        say(host, error.code, error.reason)
        return False
    return True


def run_copy(source: Host, target: Host, wanted: Wanted, survey: Survey) -> None:
    """Copy what is missing and prove it. Raise RefusedError if anything goes wrong."""
    try:
        _copy(source, target, wanted, survey)
    except UnreadFactError as error:
        text = f"{target.name}:{wanted.dest_path}: {error} could not be read: see the lines above"
        raise RefusedError("COPY_UNPROVEN", text) from error
    except (OSError, EOFError, SSHException) as error:
        text = f"the connection to {source.name} or {target.name} broke: {error}"
        raise RefusedError("NODE_UNREACHABLE", text) from error


def _copy(source: Host, target: Host, wanted: Wanted, survey: Survey) -> None:
    check_rails(source, target, wanted, survey)
    transfer(source, target, wanted, survey)
    if survey.extra:
        delete(target, wanted, survey.extra)
    proof = prove(source, target, wanted, survey.source.version)
    if proof is not None and proof.different and wanted.verify == "hash":
        report(host, Note(f"sent again, since the content differs: {', '.join(proof.different[:5])}"))
        transfer(source, target, wanted, _plan_again(source, target, wanted, survey, proof.different))
        proof = prove(source, target, wanted, survey.source.version)
    if proof is None:
        (now,) = _listings((source, selection(wanted, wanted.src_path)))
        paths = named(changed(survey.source, now))
        raise RefusedError("SOURCE_CHANGED", f"{source.name}: changed during the copy: {paths}")
    accept(proof)


def accept(proof: CopyProof) -> None:
    """Report a proof. Raise RefusedError if it does not hold."""
    report(host, CopyProven(proof))
    if proof.damaged:
        text = f"{proof.source}: content that is not what its name says: {', '.join(proof.damaged[:5])}"
        raise RefusedError("MODEL_BROKEN", text)
    if not proof.holds:
        text = f"{proof.target} is not what {proof.source} is: {'; '.join(proof.faults)}"
        raise RefusedError("COPY_UNPROVEN", text)
    how = "sha256 of both sides compared" if proof.hashed else "sizes compared"
    text = f"proven: {proof.files} files, {human(proof.bytes)}, {proof.links} links that resolve, {how}"
    report(host, Note(text))


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
    """List folders of several nodes at the same time. Raise UnreadFactError if one cannot be listed."""
    found = read_facts(*((node, FileTree, arguments) for node, arguments in wanted))
    for (node, _), tree in zip(wanted, found, strict=True):
        if tree is None:
            raise UnreadFactError(f"{node.name} cannot be reached, and FileTree")
    return found


def _prove_in_place(source: Host, target: Host, wanted: Wanted) -> Commands:
    """Prove a copy for which nothing has to be sent; yield a command only to repair it."""
    proof = prove(source, target, wanted)
    if proof is None or not proof.holds:
        yield FunctionCommand(_mend, (source, target, wanted), {})
    else:
        accept(proof)


def _mend(state: State, host: Host, source: Host, target: Host, wanted: Wanted) -> bool:
    return copy(state, host, source, target, wanted, look(source, target, wanted))


def prove(source: Host, target: Host, wanted: Wanted, version: str = "") -> CopyProof | None:
    """List both nodes at the same time and compare. Return None if the source has another version than `version`.

    Raise UnreadFactError if one cannot be listed.
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
