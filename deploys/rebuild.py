"""What a rebuild asks of nodes beyond the other deploys: its lock, and a node emptied and let in again."""

from __future__ import annotations

from typing import Any

from pyinfra.context import host
from pyinfra.facts.systemd import SystemdEnabled
from pyinfra.operations import systemd

from gb10.facts.reading.node import LockHolder
from gb10.group_data.settings import K3sSettings
from gb10.operations import kubectl, node_lock
from gb10.operations.kit.inventory import HEAD, deploy, is_in, read_settings

START_SECONDS = 180  # K3s has no bound of its own


@deploy("Lock nodes", changes_nodes=False)
def lock_nodes(holder: dict[str, Any], instead_of: str | None = None) -> None:
    """
    Hold the lock of nodes, so that no other controller works on them.

    + holder: who holds it, as gb10.facts.node.LockHolder has it
    + instead_of: a run of a lost controller whose locks are taken over
    """
    node_lock.locked(name="Lock the node", holder=LockHolder.from_json(holder), instead_of=instead_of)


@deploy("Unlock nodes", changes_nodes=False)
def unlock_nodes(run: str | None = None) -> None:
    """
    Have the lock of nodes gone.

    + run: only that of this run; None: whoever holds it
    """
    node_lock.unlocked(name="Unlock the node", run=run)


@deploy("Keep journal")
def keep_journal(path: str) -> None:
    """
    Have a copy of a rebuild's journal on nodes, for another controller to go on with.

    + path: of the journal on the controller
    """
    node_lock.journal_kept(name="Keep the journal", path=path)


@deploy("Start services")
def start_services(services: list[str]) -> None:
    """
    Have services running that start with the node: whoever stopped one meanwhile did not mean it to stay so.

    + services: names of units, in the order of their start; one that is absent or disabled is left alone
    """
    enabled = host.get_fact(SystemdEnabled, services=services)
    for service in services:
        if enabled.get(f"{service}.service"):
            systemd.service(name=f"Start {service}", service=service, running=True, _timeout=START_SECONDS)


@deploy("Drain node")
def drain_node(node: str) -> None:
    """
    Have a node without pods, and keep new ones off it.

    + node: its name in Kubernetes
    """
    if is_in(HEAD):
        kubectl.drain(name=f"Drain {node}", node=node, seconds=read_settings(K3sSettings).drain_seconds)


@deploy("Admit node")
def admit_node(node: str, cordoned: bool = False) -> None:
    """
    Let pods onto a node, or keep them off it, as it was before.

    + node: its name in Kubernetes
    + cordoned: whether it is to be cordoned
    """
    if is_in(HEAD):
        if cordoned:
            kubectl.cordon(name=f"Keep pods off {node}", node=node)
        else:
            kubectl.uncordon(name=f"Let pods onto {node}", node=node)
