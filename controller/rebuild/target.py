"""The node that is rebuilt or wiped (the target), with everything that its steps work with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from gb10.controller.cluster.serving import needs
from gb10.controller.errors import Gb10Error
from gb10.controller.inventory import InventoryHost
from gb10.controller.rebuild.history import NodeHistory
from gb10.controller.rebuild.serving import Serving
from gb10.controller.rebuild.snapshot import Needs, Snapshot, take_snapshot, without_lost
from gb10.controller.rebuild.step import Step, count
from gb10.controller.rebuild.tools import Tools
from gb10.controller.waiting import wait_until
from gb10.facts.reading.k3s import UNITS

COPY_BUSY_SECONDS = 90.0  # for the copy of a killed run to end


class Target:
    """The node that is rebuilt or wiped. `served`: models are served by another node meanwhile."""

    def __init__(self, host: InventoryHost, tools: Tools, *, served: bool = True) -> None:
        self.host = host
        self.name = host.name
        self.inventory = tools.inventory
        self.tools = tools
        self.view = tools.view
        self.deploys = tools.deploys
        self.history = NodeHistory(tools.journal, host.name)
        self.serving = Serving(tools, host.name)
        self._served = served

    # Which node does what

    @property
    def is_head(self) -> bool:
        return "head" in self.host.groups

    @property
    def others(self) -> list[InventoryHost]:
        """The nodes that stay, the head first."""
        others = (host for host in self.inventory.hosts if host.name != self.name)
        return sorted(others, key=lambda host: "head" not in host.groups)

    @property
    def keeper(self) -> InventoryHost:
        """The node that keeps models and images meanwhile: the head, or the first worker if the head is wiped.

        Raise REBUILD_IMPOSSIBLE if there is none.
        """
        if not self.others:
            raise Gb10Error("REBUILD_IMPOSSIBLE", f"{self.name} is alone: no other node could keep its models")
        return self.others[0]

    @property
    def gets_new_cluster(self) -> bool:
        """True for a head that comes back with a new cluster: because a person wants that, or without a backup."""
        return self.is_head and (self.history.rebootstrap or not self.history.can_restore)

    # What the node is and has

    @property
    def snapshot(self) -> Snapshot:
        """The node as it was before; as it is now if nothing was recorded yet."""
        return self.history.snapshot or self._first_snapshot()

    def now(self) -> Snapshot:
        """Return what the node has now. What the rebuild may have changed is as it was recorded first."""
        return take_snapshot(self.view, self.host, self._needs(), self.history.snapshot)

    def record(self) -> None:
        """Record the node as it is, before anything is changed."""
        self._record(self._first_snapshot())

    def record_before_wipe(self) -> None:
        """Record what the node has right before its wipe and gets back. Report what it does not get back."""
        now = self.now()
        wanted = without_lost(now, self.view, self.keeper, self.history.overrides)
        if lost := [name for name in (*now.models, *now.images) if name not in {**wanted.models, **wanted.images}]:
            self.tools.report("left-behind", node=self.name, keeper=self.keeper.name, names=lost)
        if wanted != self.history.snapshot:
            self._record(wanted)

    def _first_snapshot(self) -> Snapshot:
        found = take_snapshot(self.view, self.host, self._needs())
        return replace(found, served=self.serving.now()) if self._served else found

    def _needs(self) -> Needs:
        return needs(self.inventory) if self._served else ((), ())

    def _record(self, snapshot: Snapshot) -> None:
        self.tools.report("remembered", node=self.name, memory=snapshot.to_json())

    # What is done for it

    def retry(self, work: Callable[[], object], passing: tuple[str, ...], seconds: float) -> None:
        """Do the work again while it fails with these codes, for at most so many seconds. Raise its last error."""
        tell = self.tools.report.waits(node=self.name)
        wait_until(
            work,
            lambda done: True,
            seconds=seconds,
            poll_seconds=self.tools.poll_seconds,
            passing=passing,
            between=lambda error: tell(error.summary) if isinstance(error, Gb10Error) else None,
        )

    def copy_models(self, source: InventoryHost, to: InventoryHost, names: list[str]) -> None:
        """Copy models between two nodes."""
        self._copy("models", f"Copy {count(names, 'model')}", to, names=names, source=source.name)

    def copy_images(self, source: InventoryHost, to: InventoryHost, tags: list[str]) -> None:
        """Copy images between two nodes."""
        self._copy("sync_images", f"Copy {count(tags, 'image')}", to, tags=tags, source=source.name)

    def _copy(self, deploy: str, title: str, to: InventoryHost, **what: Any) -> None:
        def copy() -> None:
            self.deploys.run(deploy, f"{title} to {to.name}", (to.name,), copies=True, **what)

        self.retry(copy, ("COPY_BUSY",), COPY_BUSY_SECONDS)

    def restore_cordon(self) -> None:
        """Cordon the node, or let pods onto it, as before the rebuild."""
        cordoned = self.snapshot.cordoned
        title = f"Cordon {self.name} as before" if cordoned else f"Let pods onto {self.name}"
        head = (self.inventory.head.name,)
        self.deploys.run("admit_node", title, head, node=self.host.node_name, cordoned=cordoned)
        self.view.forget()

    def start_services(self, names: tuple[str, ...], *, whole: bool) -> None:
        """Start Docker and K3s on nodes where somebody stopped them during the rebuild.

        Unless the cluster is `whole`, with the target in it, K3s is not started on the target; and if the target is
        the head, on no node: an agent that finds no server does not come up.
        """
        k3s, head = self.snapshot.k3s, self.inventory.head.name
        for name in sorted(names, key=lambda name: name != head):  # no agent starts without its server
            joins = k3s and (whole or not (self.is_head or name == self.name))
            services = ["docker", *(UNITS.values() if joins else ())]
            self.deploys.run("start_services", f"Check the services of {name}", (name,), services=services)
        self.view.forget()


class TargetStep(Step):
    """A step of one node. Its title may name attributes of the target: "Drain {target.name}"."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.title = self.title.format(target=target)
