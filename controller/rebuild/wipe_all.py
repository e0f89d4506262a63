"""All nodes wiped at once: backed up to the controller first, brought back one by one, and made a new cluster.

No node is left that could keep anything meanwhile. So what is not in a backup and not on a partition that survives is
lost, and the person is told before.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from gb10.controller.errors import Gb10Error
from gb10.controller.inventory import InventoryHost
from gb10.controller.rebuild.checks import check_recognisable
from gb10.controller.rebuild.gate import lock_demand
from gb10.controller.rebuild.snapshot import Snapshot
from gb10.controller.rebuild.step import ALL, Step, StepRunner, count
from gb10.controller.rebuild.steps.backup import Backup
from gb10.controller.rebuild.steps.download import Download
from gb10.controller.rebuild.steps.gate import Gate
from gb10.controller.rebuild.steps.green import Green
from gb10.controller.rebuild.steps.new_cluster import NewCluster
from gb10.controller.rebuild.steps.preflight import Preflight
from gb10.controller.rebuild.steps.provision import Provision
from gb10.controller.rebuild.steps.restore import Restore
from gb10.controller.rebuild.steps.settle import Settle
from gb10.controller.rebuild.steps.validate import Validate, checks_to_skip
from gb10.controller.rebuild.steps.wipe import Wipe
from gb10.controller.rebuild.target import Target
from gb10.controller.rebuild.tools import Tools
from gb10.controller.rebuild.wipe_watch import Machine
from gb10.operations.copying.plan import human

WHOM = "all nodes"  # the same in words
CLUSTERS = {"server": "the cluster itself, with all that was deployed into it", "agent": "its place in it"}


@dataclass(frozen=True)
class Loss:
    """What a wipe takes from one node. Models are kept only if /data is a device of its own."""

    node: str
    snapshot: Snapshot

    @property
    def models(self) -> tuple[str, ...]:
        return (*self.snapshot.models, *self.snapshot.lost_models)

    @property
    def images(self) -> tuple[str, ...]:
        return (*self.snapshot.images, *self.snapshot.lost_images)

    def lines(self) -> tuple[str, ...]:
        """Return the losses in words, one a line."""
        k3s, size = self.snapshot.k3s, human(self.snapshot.model_bytes)
        models = f"{count(self.models, 'model')} ({size}): {', '.join(self.models)}"
        kept = "kept if the installer leaves the partition of /data alone"
        fate = kept if self.snapshot.own_device else "LOST with /data"
        return (
            *([f"{models}: {fate}"] if self.models else []),
            *([f"LOST: {count(self.images, 'image')} of Docker: {', '.join(self.images)}"] if self.images else []),
            *([f"LOST: {CLUSTERS[k3s]} (K3s {k3s})"] if k3s else []),
            "LOST: every other file that no backup holds",
            "comes back from the backup: accounts, keys, host keys, network, Docker's and the system's settings",
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "node": self.node,
            "models": list(self.models),
            "model_bytes": self.snapshot.model_bytes,
            "images": list(self.images),
            "data_has_own_device": bool(self.snapshot.own_device),
            "k3s": self.snapshot.k3s,
        }


class WipedNode:
    """One of the nodes that are wiped together."""

    def __init__(self, host: InventoryHost, tools: Tools) -> None:
        self.name = host.name
        self.host = host
        self.target = Target(host, tools, served=False)
        self.machine = Machine(self.target, lambda: self.loss().lines())
        self.backup = Backup(self.target, controller_alone=True)

    def before(self) -> list[Step]:
        """Return the steps while the node is still as it was."""

        def describe(snapshot: Snapshot) -> str:
            return "; ".join(Loss(self.name, snapshot).lines())

        return [Preflight(self.target, (check_recognisable,), whom=self.name, describe=describe), self.backup]

    def after(self) -> list[Step]:
        """Return the steps of the node when all nodes are back."""
        return [Settle(self.target), Provision(self.target), Restore(self.target, without_k3s=True)]

    def loss(self) -> Loss:
        """Return what the wipe takes from the node."""
        return Loss(self.name, self.target.snapshot)

    def lost_models(self) -> list[str]:
        """Return the models that the node had before and that are not whole on it now."""
        here = self.target.view.repositories(self.host)
        return [name for name in self.loss().models if name not in here or not here[name].sound]


class WipeAll:
    """The wipe of all nodes, in this process."""

    def __init__(self, tools: Tools, *, download: bool = False) -> None:
        self.tools = tools
        self.nodes = [WipedNode(host, tools) for host in tools.inventory.hosts]
        self._download = download

    def run(self) -> None:
        """Do all that is left to do. Raise the error that stops it; the run can be resumed."""
        try:
            if intact := self._intact():
                self._prepare(intact)
            StepRunner(ALL, self.tools).run([self.wipe()])
            for node in self.nodes:
                StepRunner(node.name, self.tools).run(node.after())
            StepRunner(ALL, self.tools).run(self.together())
            self.tools.locks.release()
        except Gb10Error as error:
            self.tools.report("stopped", node=ALL, code=error.code, where=self.whereabouts())
            self.tools.person.notify(f"the full wipe has stopped: {error.summary}")
            raise
        lost = sorted({name for _, names in self.lost_models() for name in names})
        self.tools.report("finished", nodes=list(self.tools.inventory.names), models=lost)
        self.tools.person.notify("all nodes are back")

    def give_up(self) -> None:
        """End the run. Raise NODE_AWAY if a person was asked to wipe: they may have begun."""
        for node in self.nodes:
            if node.target.history.asked:
                raise Gb10Error("NODE_AWAY", host=node.name)
        self.tools.locks.release()
        self.tools.report("aborted")

    def whereabouts(self) -> list[str]:
        """Return where everything is, for a person who has to go on without us. No node is asked."""
        asked = [node.machine for node in self.nodes if node.target.history.asked]
        known = [line for machine in asked for line in machine.whereabouts()]
        again = f"nothing further is destroyed: {self.tools.person.command('wipe-all')} goes on"
        return [*known, again] if asked else []

    def lost_models(self) -> list[tuple[InventoryHost, list[str]]]:
        """Return the models that each host had before and lacks now; only hosts that lack one."""
        lost = ((node.host, node.lost_models()) for node in self.nodes)
        return [(host, names) for host, names in lost if names]

    def gate(self, intact: list[WipedNode]) -> Gate:
        """Return the gate for the nodes that nobody has wiped yet."""
        hosts, backups = [node.host for node in intact], [node.backup for node in intact]
        return Gate(
            ALL,
            WHOM,
            self.tools,
            checks=(),
            proofs=(*(backup.demand for backup in backups), partial(lock_demand, hosts, self.tools)),
            digests=lambda: None,  # no node stays that could keep models or images
            overrides={},
            backups=backups,
        )

    def wipe(self) -> Step:
        """Return the step that waits for all of them."""
        return Wipe([node.machine for node in self.nodes], WHOM, self.tools)

    def together(self) -> Iterator[Step]:
        """Yield the steps after each node by itself is as it was."""
        targets = [node.target for node in self.nodes]
        if any(target.snapshot.k3s for target in targets):
            yield NewCluster(self.tools)
        if self._download and self.lost_models():
            yield Download(targets[0], self.lost_models)
        yield Validate((), WHOM, set().union(*map(checks_to_skip, targets)), self.tools.deploys)
        yield Green(targets[0])

    def _intact(self) -> list[WipedNode]:
        """Return the nodes that nobody has wiped yet. Nodes that are away are not asked for anything from here on."""
        intact = []
        for node in self.nodes:
            condition = node.machine.condition()
            if condition == "intact":
                intact.append(node)
            if condition == "away":
                self.tools.view.absent.add(node.name)
        return intact

    def _prepare(self, intact: list[WipedNode]) -> None:
        self.tools.locks.take(tuple(node.name for node in intact), "back up all nodes")
        self.tools.view.forget()
        for node in intact:
            StepRunner(node.name, self.tools).run(node.before())
        StepRunner(ALL, self.tools).run([self.gate(intact)])


def copy_off_command(host: InventoryHost) -> str:
    """Return the command that copies a node's models to the controller, for a person to type."""
    shell, _, login = host.ssh.rpartition(" ")
    return f"rsync -a --partial --info=progress2 -e '{shell}' {login}:{host.hub}/ MODELS/{host.name}/"


def check_names(typed: Iterable[str], wanted: Iterable[str]) -> None:
    """Raise DECLINED unless exactly the names of the nodes were typed, in any order."""
    if sorted(typed) != sorted(wanted):
        raise Gb10Error("DECLINED")
