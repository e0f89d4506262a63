"""Nodes of the cluster as its API server has them."""

from __future__ import annotations

from pyinfra.api import Host

from gb10.facts.cluster import ClusterNodes
from gb10.facts.reading.cluster import ClusterNode
from gb10.operations.kit.peers import peer_fact
from gb10.operations.kit.waiting import await_condition


def member(head: Host, node: str) -> ClusterNode | None:
    """Given the head, return the node of its cluster with this name, or None if it has none or does not answer."""
    return next((found for found in peer_fact(head, ClusterNodes) or () if found.name == node), None)


def reason(head: Host, node: str) -> str:
    """Given the head, return why a node is not what was waited for."""
    nodes = peer_fact(head, ClusterNodes)
    if nodes is None:
        return f"the API server on {head.name} does not answer"
    found = next((found for found in nodes if found.name == node), None)
    return (found.reason or f"its kubelet reports {found.version}") if found else "it has not joined"


def await_node(head: Host, node: str, version: str, seconds: int) -> bool:
    """Wait until a node is Ready and its kubelet reports a version. Return False if the time is over before."""

    def is_up() -> bool:
        found = member(head, node)
        return found is not None and found.ready and found.version == version

    return await_condition(is_up, seconds)
