"""Checks before a rebuild begins and before a wipe. Each raises an error."""

from __future__ import annotations

from gb10.controller.errors import Gb10Error
from gb10.controller.rebuild.observation import OldIdentity
from gb10.controller.rebuild.target import Target
from gb10.group_data.settings import NodeNetwork


def check_nodes(target: Target) -> None:
    """Raise REBUILD_IMPOSSIBLE, NODES_UNWELL or RAIL_FAULT unless all nodes answer, are well, and fit each other."""
    target.keeper  # noqa: B018 - raises if there is none
    for host in target.inventory.hosts:
        target.view.identity(host)
    status = target.view.status()
    if not status.healthy:
        raise Gb10Error("NODES_UNWELL", reason="; ".join(status.reasons), cure="; ".join(status.remedies))
    network = target.host.settings(NodeNetwork)
    for node in status.nodes if network.rails else ():
        halves = node.connectx7.halves if node.connectx7 and node.name != target.name else ()
        for half in halves:
            if half.rail in target.host.rails and half.mtu_bytes != network.rails_mtu:
                found = f"rail {half.rail} of {node.name} has MTU {half.mtu_bytes}"
                text = f"{found}, {target.name} comes back with {network.rails_mtu}"
                raise Gb10Error("RAIL_FAULT", text, host=node.name)


def check_recognisable(target: Target) -> None:
    """Raise REBUILD_IMPOSSIBLE unless the node can be recognised when it comes back after its wipe."""
    identity = OldIdentity.of(target.view.identity(target.host))
    lacking = [*(["machine-id"] if not identity.machine_id else []), *(["MAC"] if not identity.macs else [])]
    if lacking:
        text = f"{target.name} has no {' and no '.join(lacking)}: it could not be recognised after its wipe"
        raise Gb10Error("REBUILD_IMPOSSIBLE", text, host=target.name)


def check_k3s_version(target: Target) -> None:
    """Raise REBUILD_K3S_VERSION if the K3s state would be refused: the inventory has another version."""
    install, wanted = target.view.k3s(target.host), target.host.wanted_k3s
    restored = not target.gets_new_cluster and "backup" not in target.history.overrides
    if restored and wanted and install and install.version not in (None, wanted):
        text = f"{target.name} has K3s {install.version}, and would come back with {wanted}"
        raise Gb10Error("REBUILD_K3S_VERSION", text, host=target.name)


def check_new_cluster(target: Target) -> None:
    """Raise REBUILD_IMPOSSIBLE for a head without a backup, unless a person has asked for a new cluster."""
    without = target.is_head and "backup" in target.history.overrides
    if without and not target.history.rebootstrap and target.snapshot.k3s:
        text = f"without a backup {target.name} comes back with another cluster: say so with --rebootstrap"
        raise Gb10Error("REBUILD_IMPOSSIBLE", text, host=target.name)
