"""A copy of a folder from node to node: check, refuse or run, prove.

Nothing is sent before both nodes, the ways between them and the free space are checked. A copy that is not proven has
failed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from paramiko import SSHException
from pyinfra.api import Host
from pyinfra.context import host, state

from gb10.facts.copy import FileTree
from gb10.facts.rdma import RailBandwidth, Verdict
from gb10.facts.reading.copy import CopyProof, Tree, prove_copy
from gb10.facts.reading.reports import report
from gb10.group_data.settings import ServingCare
from gb10.operations.copying.options import CopyRequest
from gb10.operations.copying.plan import changed, describe, human, named, plan_copy
from gb10.operations.copying.reports import CopyPlanned, CopyProven
from gb10.operations.copying.survey import Survey, survey_copy
from gb10.operations.copying.transfer import delete, transfer
from gb10.operations.kit.inventory import read_settings
from gb10.operations.kit.operation import Commands, UnreadFactError, call, refuse
from gb10.operations.kit.peers import read_facts
from gb10.operations.kit.reports import Note
from gb10.operations.validate import measure_rail, serving_on
from gb10.programs.answer import RefusedError

MEASURE_FROM_BYTES = 8 << 30  # for a smaller copy a measurement takes too long
MEASURE_SECONDS = 1


def copy_commands(source: Host, target: Host, request: CopyRequest) -> Commands:
    """Yield the command that copies from one node to another; none if everything is there already."""
    survey = survey_copy(source, target, request)
    for note in survey.notes:
        report(host, Note(note))
    for refusal in survey.refusals:
        yield from refuse(refusal.code, refusal.text)
    if survey.refusals:
        return
    to = f"{target.name}:{request.dest_path}"
    if survey.is_done:
        host.noop(f"{to} has all of {source.name}:{request.src_path}")
        if not state.is_executing:
            return
        proof = prove(source, target, request)
        if proof and proof.holds:
            report_proof(proof)
        else:
            yield call(run_copy, source, target, request)
        return
    deleted = f", {len(survey.extra)} to be deleted: {named(survey.extra)}" if survey.extra else ""
    verb = "copying" if state.is_executing else "would copy"
    text = f"{verb} from {source.name}:{request.src_path} to {to}: {describe(survey.plan)}{deleted}"
    report(host, Note(text))
    report(host, _planned(source, target, request, survey))
    yield call(run_copy, source, target, request, survey)


def _planned(source: Host, target: Host, request: CopyRequest, survey: Survey) -> CopyPlanned:
    return CopyPlanned(
        source=source.name,
        target=target.name,
        src_path=request.src_path,
        dest_path=request.dest_path,
        files=survey.plan.count,
        bytes=survey.plan.size,
        arrived=survey.plan.arrived,
        delete=len(survey.extra),
        ways=tuple(way.name for way in survey.ways),
    )


def run_copy(source: Host, target: Host, request: CopyRequest, survey: Survey | None = None) -> None:
    """Copy what is missing and prove it; without a survey, make one first. Raise RefusedError if anything fails."""
    try:
        _copy(source, target, request, survey or survey_copy(source, target, request))
    except UnreadFactError as error:
        text = f"{target.name}:{request.dest_path}: {error} could not be read: see the lines above"
        raise RefusedError("COPY_UNPROVEN", text) from error
    except (OSError, EOFError, SSHException) as error:
        text = f"the connection to {source.name} or {target.name} broke: {error}"
        raise RefusedError("NODE_UNREACHABLE", text) from error


def _copy(source: Host, target: Host, request: CopyRequest, survey: Survey) -> None:
    check_rails(source, target, request, survey)
    transfer(source, target, request, survey)
    if survey.extra:
        delete(target, request, survey.extra)
    proof = prove(source, target, request, survey.source.version)
    if proof and proof.different and request.verify == "hash":
        report(host, Note(f"sent again, since the content differs: {', '.join(proof.different[:5])}"))
        transfer(source, target, request, _plan_again(source, target, request, survey, proof.different))
        proof = prove(source, target, request, survey.source.version)
    if proof is None:
        (now,) = _listings((source, request.listing(request.src_path)))
        paths = named(changed(survey.source, now))
        raise RefusedError("SOURCE_CHANGED", f"{source.name}: changed during the copy: {paths}")
    report_proof(proof)


def _plan_again(source: Host, target: Host, request: CopyRequest, survey: Survey, different: Sequence[str]) -> Survey:
    ours, theirs = _listings(
        (source, request.listing(request.src_path)),
        (target, {"root": request.dest_path, "exclude": request.exclude}),
    )
    plan = plan_copy(ours, theirs, frozenset(different), request.is_encrypted)
    return replace(survey, source=ours, target=theirs, plan=plan)


# Rails: nothing but a measurement reveals a throttled NIC -------------------------------------------------------------


def check_rails(source: Host, target: Host, request: CopyRequest, survey: Survey) -> None:
    """Measure the rails before a large copy. Raise RefusedError if one is throttled.

    They are not measured while something is served: a measurement takes all of their bandwidth.
    """
    if survey.plan.size < MEASURE_FROM_BYTES or request.force or request.network != "rails":
        return
    for node in (source, target):
        if busy := serving_on([node], read_settings(ServingCare, node).serving_containers):
            report(host, Note(f"the rails are not measured: {busy}"))
            return
    throttled = []
    for way in survey.ways:
        found = measure_rail(source, target, way, MEASURE_SECONDS)
        fault, text = judge_rate(found, f"{way.interface} from {source.name} to {target.name}")
        if fault:
            throttled.append(text)
        else:
            report(host, Note(text))
    if throttled:
        raise RefusedError("LINK_THROTTLED", "; ".join(throttled))


def judge_rate(found: RailBandwidth | str, way: str) -> tuple[bool, str]:
    """Given a measurement, or the reason why there is none, return True if the rail is throttled, and a text."""
    if isinstance(found, str):
        return False, f"the bandwidth of {way} is not known: {found}"
    if found.measured_gbps is None:
        return False, f"the bandwidth of {way} is not known: {found.trouble or 'nothing was measured'}"
    rate = f"{way} carries {found.measured_gbps:.1f} Gb/s"
    if found.verdict is Verdict.THROTTLED:
        return True, f"{rate}, and its link says {found.link_gbps:.0f} Gb/s"
    return False, f"{rate}: {found.verdict}"


# Proof ----------------------------------------------------------------------------------------------------------------


def prove(source: Host, target: Host, request: CopyRequest, version: str = "") -> CopyProof | None:
    """List both nodes at the same time and compare. Return None if the source has another version than `version`.

    Raise UnreadFactError if one cannot be listed.
    """
    hashed = request.verify == "hash"
    for brief in (False,) if hashed else (True, False):
        ours, theirs = _listings(
            (source, {**request.listing(request.src_path), "hashed": hashed, "brief": brief}),
            (target, {**request.listing(request.dest_path), "hashed": hashed, "brief": brief}),
        )
        if version and ours.version != version:
            return None
        proof = prove_copy(ours, theirs, (source.name, target.name), hashed, request.dangling == "list")
        if proof:
            return proof
    return None


def report_proof(proof: CopyProof) -> None:
    """Report a proof. Raise RefusedError if it does not hold."""
    report(host, CopyProven(proof))
    if proof.damaged:
        text = f"{proof.source}: content that is not what its name says: {', '.join(proof.damaged[:5])}"
        raise RefusedError("MODEL_BROKEN", text)
    if not proof.holds:
        text = f"{proof.target} differs from {proof.source}: {'; '.join(proof.faults)}"
        raise RefusedError("COPY_UNPROVEN", text)
    how = "sha256 of both sides compared" if proof.hashed else "sizes compared"
    text = f"proven: {proof.files} files, {human(proof.bytes)}, {proof.links} links that resolve, {how}"
    report(host, Note(text))


def _listings(*wanted: tuple[Host, Mapping[str, Any]]) -> list[Tree]:
    """List folders of several nodes at the same time. Raise UnreadFactError if one cannot be listed."""
    found = read_facts(*((node, FileTree, arguments) for node, arguments in wanted))
    for (node, _), tree in zip(wanted, found, strict=True):
        if tree is None:
            raise UnreadFactError(f"{node.name} cannot be reached, and FileTree")
    return found
