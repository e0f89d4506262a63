"""Why what should run does not: the pods that wait, and the warnings about them, in one line."""

from __future__ import annotations

from pyinfra.context import host

from gb10.facts.operators import OperatorPods, OperatorWarnings
from gb10.facts.reading.operators import OperatorPod

MOST_PODS = 4
MOST_EVENTS = 2
LONGEST = 200
IN_TURN = ("PodInitializing", "ContainerCreating")


def why_waiting(namespace: str) -> list[str]:
    """Given a namespace, say which of its pods wait and for what, and which warnings came last."""
    pods = [pod for pod in host.get_fact(OperatorPods, namespace=namespace) or () if not pod.healthy]
    events = host.get_fact(OperatorWarnings, namespace=namespace) or ()
    said = [_pod(pod) for pod in pods[:MOST_PODS]]
    if len(pods) > MOST_PODS:
        said.append(f"{len(pods) - MOST_PODS} more pods wait")
    # A warning about a pod that is gone, or well by now, explains nothing.
    waiting = {f"Pod/{pod.name}" for pod in pods}
    recent = [event for event in events if event.about in waiting or not event.about.startswith("Pod/")]
    return said + [f"{event.about}: {event.reason}: {event.message[:LONGEST]}" for event in recent[-MOST_EVENTS:]]


def _pod(pod: OperatorPod) -> str:
    where = f" on {pod.node}" if pod.node else ""
    # What waits only for another container of the pod explains nothing.
    causes = [why for why in pod.waiting if not why.endswith(IN_TURN)] or list(pod.waiting[:1])
    waiting = f" ({'; '.join(causes)[:LONGEST]})" if causes else ""
    return f"{pod.name}{where} is {pod.status}{waiting}"
