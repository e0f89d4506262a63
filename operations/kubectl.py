"""Kubernetes objects, changed by kubectl on the head. Nodes are called by their names in Kubernetes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pyinfra.api import Host, StringCommand
from pyinfra.api.command import QuoteString
from pyinfra.context import host

from gb10.facts.cluster import ClusterNodes, ManifestDrift, NodePasswords
from gb10.facts.k3s import K3sInstall
from gb10.facts.reading.cluster import ClusterNode
from gb10.facts.reading.k3s import BINARY, KUBECTL
from gb10.facts.reading.launcher import Launch
from gb10.operations.kit.operation import Commands, await_condition, known, operation
from gb10.operations.kit.peers import peer_fact
from gb10.operations.kit.scripts import run_script
from gb10.programs.answer import RefusedError

DRAIN_SECONDS = 300
UNDO_SECONDS = 45


@operation()
def apply(manifest: str) -> Commands:
    """Keep the objects of a manifest, YAML documents without secrets, since a diff would show them."""
    if known(ManifestDrift, manifest=manifest) is False:
        host.noop("the objects are as the manifest says")
        return
    yield StringCommand(f"{KUBECTL} apply -f -", _stdin=manifest)


@operation()
def label(node: str, labels: Mapping[str, str | None]) -> Commands:
    """Keep labels on a node; a label whose value is None is removed."""
    found = _node(node)
    current = found.labels if found else {}
    missing = {key: value for key, value in labels.items() if current.get(key) != value}
    if not missing:
        host.noop(f"{node} is labelled as wanted")
        return
    words = (f"{key}-" if value is None else f"{key}={value}" for key, value in missing.items())
    yield StringCommand(KUBECTL, "label --overwrite node", QuoteString(node), *map(QuoteString, words))


@operation()
def cordon(node: str) -> Commands:
    """Keep new pods off a node."""
    found = _node(node)
    if found and found.cordoned:
        host.noop(f"{node} is cordoned")
        return
    yield StringCommand(KUBECTL, "cordon", QuoteString(node))


@operation()
def uncordon(node: str) -> Commands:
    """Let new pods onto a node again."""
    found = _node(node)
    if found and not found.cordoned:
        host.noop(f"{node} is not cordoned")
        return
    yield StringCommand(KUBECTL, "uncordon", QuoteString(node))


@operation(is_idempotent=False)
def drain(node: str, seconds: int = DRAIN_SECONDS) -> Commands:
    """Cordon a node and evict its pods, except those of DaemonSets.

    After so many seconds the node is uncordoned, unless it was cordoned before.
    """
    found = _node(node)
    yield drain_command(node, seconds, stays_cordoned=bool(found and found.cordoned))


def drain_command(node: str, seconds: int, *, stays_cordoned: bool) -> Launch:
    """Return the command that drains a node, or leaves it as it was and fails with DRAIN_FAILED."""
    undo = "" if stays_cordoned else KUBECTL
    return run_script("drain.sh", node, str(seconds), BINARY, undo, seconds=seconds + UNDO_SECONDS)


@operation()
def delete_node(node: str) -> Commands:
    """Remove a node from the cluster, with the password Secret that would prevent its return under its name."""
    nodes, passwords = known(ClusterNodes), known(NodePasswords)
    if nodes is None or passwords is None:
        install = known(K3sInstall)
        if install and install.role == "server":
            raise RefusedError("SERVER_UNREACHABLE", f"the API server on {host.name} does not answer: {node} stays")
        host.noop(f"there is no cluster that could know {node}")
        return
    if node not in (*(found.name for found in nodes), *passwords):
        host.noop(f"the cluster does not know {node}")
        return
    yield delete_node_command(node)


def delete_node_command(node: str) -> StringCommand:
    """Return the command that deletes the Node object and the node-password Secret of a node."""
    secret = QuoteString(f"{node}.node-password.k3s")
    return StringCommand(
        StringCommand(KUBECTL, "delete node --ignore-not-found --timeout=60s", QuoteString(node)),
        StringCommand(KUBECTL, "-n kube-system delete secret --ignore-not-found", secret),
        _separator=" && ",
    )


def _node(name: str) -> ClusterNode | None:
    return _find(known(ClusterNodes), name)


def _find(nodes: Iterable[ClusterNode] | None, name: str) -> ClusterNode | None:
    return next((node for node in nodes or () if node.name == name), None)


def member(head: Host, node: str) -> ClusterNode | None:
    """Return a node of the head's cluster, or None if there is none of this name or the head does not answer."""
    return _find(peer_fact(head, ClusterNodes), node)


def why_not_ready(head: Host, node: str) -> str:
    """Return the reason why a node of the head's cluster is not Ready, or not of the wanted version."""
    nodes = peer_fact(head, ClusterNodes)
    if nodes is None:
        return f"the API server on {head.name} does not answer"
    found = _find(nodes, node)
    return (found.reason or f"its kubelet reports {found.version}") if found else "it has not joined"


def await_node(head: Host, node: str, version: str, seconds: int) -> bool:
    """Wait until a node is Ready and its kubelet reports a version. Return False if the time is over before."""

    def is_up() -> bool:
        found = member(head, node)
        return found is not None and found.ready and found.version == version

    return await_condition(is_up, seconds)
