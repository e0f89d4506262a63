"""Measure the rails before a large copy: nothing else reveals a throttled NIC."""

from __future__ import annotations

from pyinfra.api import Host
from pyinfra.context import host

from gb10.facts.rdma import RailBandwidth, Verdict
from gb10.facts.reading.reports import report
from gb10.group_data.settings import ServingCare
from gb10.operations.copying.survey import Survey, Wanted
from gb10.operations.kit.inventory import read_settings
from gb10.operations.kit.reports import Note
from gb10.operations.validate import measured, serving_on
from gb10.programs.answer import RefusedError

MEASURE_FROM_BYTES = 8 << 30  # for a smaller copy a measurement takes too long
MEASURE_SECONDS = 1


def check_rails(source: Host, target: Host, wanted: Wanted, survey: Survey) -> None:
    """Measure the rails before a large copy. Raise RefusedError if one is throttled.

    They are not measured while something is served: a measurement takes all of their bandwidth.
    """
    if survey.plan.size < MEASURE_FROM_BYTES or wanted.force or wanted.network != "rails":
        return
    for node in (source, target):
        if busy := serving_on([node], read_settings(ServingCare, node).serving_containers):
            report(host, Note(f"the rails are not measured: {busy}"))
            return
    throttled = []
    for way in survey.ways:
        found = measured(source, target, way, MEASURE_SECONDS)
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
        return False, f"what {way} carries is not known: {found}"
    if found.measured_gbps is None:
        return False, f"what {way} carries is not known: {found.trouble or 'nothing was measured'}"
    rate = f"{way} carries {found.measured_gbps:.1f} Gb/s"
    if found.verdict is Verdict.THROTTLED:
        return True, f"{rate}, and its link says {found.link_gbps:.0f} Gb/s"
    return False, f"{rate}: {found.verdict}"
