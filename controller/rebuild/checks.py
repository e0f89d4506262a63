"""What has to be so before a rebuild begins."""

from __future__ import annotations

from gb10.controller.cluster.sight import Sight
from gb10.controller.cluster.status_model import ClusterStatus
from gb10.controller.errors import Gb10Error
from gb10.controller.inventory import InventoryHost
from gb10.controller.rebuild.arrival import Before
from gb10.controller.rebuild.roles import Roles
from gb10.group_data.settings import NodeNetwork


def check_well(roles: Roles, sight: Sight) -> None:
    """Raise REBUILD_IMPOSSIBLE, NODES_UNWELL or RAIL_FAULT unless all nodes are there, well, and fit each other."""
    roles.keeper  # noqa: B018 - raises if there is none
    for host in roles.inventory.hosts:
        sight.identity(host)
    status = sight.status()
    if not status.healthy:
        raise Gb10Error("NODES_UNWELL", reason="; ".join(status.reasons), cure="; ".join(status.remedies))
    _check_rails(roles.target, status)


def _check_rails(target: InventoryHost, status: ClusterStatus) -> None:
    """Raise RAIL_FAULT if the rails of another node would not fit those with which the target comes back."""
    network = target.settings(NodeNetwork)
    if not network.rails:
        return
    for node in status.nodes:
        halves = node.connectx7.halves if node.connectx7 and node.name != target.name else ()
        for half in halves:
            if half.rail in target.rails and half.mtu_bytes != network.rails_mtu:
                found = f"rail {half.rail} of {node.name} has MTU {half.mtu_bytes}"
                text = f"{found}, {target.name} comes back with {network.rails_mtu}"
                raise Gb10Error("RAIL_FAULT", text, host=node.name)


def check_recognisable(host: InventoryHost, sight: Sight) -> None:
    """Raise REBUILD_IMPOSSIBLE unless something will tell that the node that comes back is the one that was wiped."""
    before = Before.of(sight.identity(host))
    lacking = [*(["machine-id"] if not before.machine_id else []), *(["MAC"] if not before.macs else [])]
    if lacking:
        text = f"{host.name} tells no {' and no '.join(lacking)}: nobody could recognise it after its wipe"
        raise Gb10Error("REBUILD_IMPOSSIBLE", text, host=host.name)
