"""Why what should run does not: the pods that wait, and the warnings about them."""

from __future__ import annotations

from pyinfra.context import host

from gb10.facts.operators import OperatorPods, OperatorWarnings
from gb10.facts.reading import operators

MOST_EVENTS = 2
LONGEST = 200


def why_waiting(namespace: str) -> list[str]:
    """Given a namespace, say which of its pods wait and for what, and which warnings came last."""
    pods = host.get_fact(OperatorPods, namespace=namespace) or ()
    events = host.get_fact(OperatorWarnings, namespace=namespace) or ()
    # A warning about a pod that is gone, or well by now, explains nothing.
    about = {f"Pod/{pod.name}" for pod in operators.waiting(pods)}
    recent = [event for event in events if event.about in about or not event.about.startswith("Pod/")]
    warnings = [f"{event.about}: {event.reason}: {event.message[:LONGEST]}" for event in recent[-MOST_EVENTS:]]
    return operators.why_waiting(pods) + warnings
