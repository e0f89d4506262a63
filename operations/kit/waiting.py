"""Waiting for the cluster, with a deadline and a reason."""

from __future__ import annotations

import time
from collections.abc import Callable

from pyinfra.api import Host

from gb10.facts.cluster import ClusterNodes
from gb10.facts.reading.cluster import ClusterNode
from gb10.operations.kit.peers import peer_fact

POLL_SECONDS = 1.0


def member(head: Host, node: str) -> ClusterNode | None:
    """Given the head, return its cluster's node of a name, or None where it has none or does not answer."""
    return next((found for found in peer_fact(head, ClusterNodes) or () if found.name == node), None)


def reason(head: Host, node: str) -> str:
    """Given the head, say why a node is not as it was waited for."""
    nodes = peer_fact(head, ClusterNodes)
    if nodes is None:
        return f"the API server on {head.name} does not answer"
    found = next((found for found in nodes if found.name == node), None)
    return (found.reason or f"its kubelet reports {found.version}") if found else "it has not joined"


def await_node(head: Host, node: str, version: str, seconds: int) -> bool:
    """Wait until a node is Ready and its kubelet reports a version; return whether that came true in time."""

    def is_up() -> bool:
        found = member(head, node)
        return found is not None and found.ready and found.version == version

    return await_condition(is_up, seconds)


def await_condition(condition: Callable[[], bool], seconds: int) -> bool:
    """Poll a condition until it holds or the time is over; pyinfra's sleep lets other hosts go on meanwhile."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True
