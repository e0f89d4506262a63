"""All nodes wiped at once: backed up to the controller first, brought back one by one, and made a new cluster.

No node is left that could keep anything meanwhile. So what is not in a backup and not on a partition that survives is
lost, and that is said before.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from gb10.controller.errors import Gb10Error
from gb10.controller.inventory import InventoryHost
from gb10.controller.rebuild.backups import ControllerAlone
from gb10.controller.rebuild.box import Box
from gb10.controller.rebuild.checks import check_recognisable
from gb10.controller.rebuild.engine import Engine
from gb10.controller.rebuild.losses import Loss, LostModels
from gb10.controller.rebuild.memory import Memory
from gb10.controller.rebuild.parts import Parts
from gb10.controller.rebuild.proofs import LockProof
from gb10.controller.rebuild.step import Step
from gb10.controller.rebuild.steps.backup import Backup
from gb10.controller.rebuild.steps.download import Download
from gb10.controller.rebuild.steps.gate import Gate
from gb10.controller.rebuild.steps.green import Green
from gb10.controller.rebuild.steps.new_cluster import NewCluster
from gb10.controller.rebuild.steps.preflight import Preflight
from gb10.controller.rebuild.steps.provision import Provision
from gb10.controller.rebuild.steps.restore import Restore
from gb10.controller.rebuild.steps.settle import Settle
from gb10.controller.rebuild.steps.validate import Validate, untried
from gb10.controller.rebuild.steps.wipe import Wipe
from gb10.controller.rebuild.tools import Tools

ALL = "all"  # stands for the nodes together, where a step has one
WHOM = "all nodes"  # the same in words


class WipedNode:
    """One of the nodes that are wiped together."""

    def __init__(self, host: InventoryHost, tools: Tools) -> None:
        self.name = host.name
        self.host = host
        self.parts = parts = Parts(host, tools, served=False)
        self.box = Box(parts.roles, parts.history, parts.notebook, tools, lambda: self.loss().lines())
        self.keeping = ControllerAlone(parts.backups)
        self.tools = tools

    def before(self) -> list[Step]:
        """The steps while the node is still as it was."""
        parts = self.parts
        checks = (lambda: check_recognisable(self.host, self.tools.sight),)
        return [
            Preflight(parts.history, parts.notebook, checks, whom=self.name, describe=self._described),
            Backup(self.keeping),
        ]

    def after(self) -> list[Step]:
        """The steps of the node when all of them are back."""
        parts, tools = self.parts, self.tools
        return [
            Settle(parts.roles, tools.journal.run, tools.sight, tools.locks, parts.patience),
            Provision(self.name, tools.work),
            Restore(self.host, parts.history, tools.work, without_k3s=True),
        ]

    def loss(self) -> Loss:
        """What the wipe takes from the node."""
        return Loss.of(self.name, self.parts.notebook.memory)

    def _described(self, memory: Memory) -> str:
        return "; ".join(Loss.of(self.name, memory).lines())


class WipeAll:
    """The wipe of all nodes, in this process."""

    def __init__(self, tools: Tools, *, download: bool = False) -> None:
        self.tools = tools
        self.nodes = [WipedNode(host, tools) for host in tools.inventory.hosts]
        self.lost = LostModels([(node.host, node.parts.notebook) for node in self.nodes], tools.sight)
        self._download = download

    def carry_out(self) -> None:
        """Do all that is left to do. Raise what stops it; it may be taken up again."""
        try:
            if intact := self._intact():
                self._prepare(intact)
            self._engine(ALL).carry_out([self.wipe()])
            for node in self.nodes:
                self._engine(node.name).carry_out(node.after())
            self._engine(ALL).carry_out(self.together())
            self.tools.locks.release()
        except Gb10Error as error:
            self.tools.report("stopped", node=ALL, code=error.code, where=self.whereabouts())
            self.tools.person.notify(f"the full wipe has stopped: {error.summary}")
            raise
        self.tools.report("finished", nodes=list(self.tools.inventory.names), models=self.lost.names())
        self.tools.person.notify("all nodes are back")

    def give_up(self) -> None:
        """End the run. Raise NODE_AWAY if somebody was asked to wipe: they may have begun."""
        for node in self.nodes:
            if node.parts.history.asked:
                raise Gb10Error("NODE_AWAY", host=node.name)
        self.tools.locks.release()
        self.tools.report("aborted")

    def whereabouts(self) -> list[str]:
        """Where everything is, for a person who has to go on without us. No node is asked."""
        asked = [node.box for node in self.nodes if node.parts.history.asked]
        known = [line for box in asked for line in box.whereabouts()]
        again = f"nothing further is destroyed: {self.tools.person.command('wipe-all')} goes on"
        return [*known, again] if asked else []

    def gate(self, intact: list[WipedNode]) -> Gate:
        """The gate for the nodes that nobody has wiped yet."""
        tools, hosts = self.tools, [node.host for node in intact]
        return Gate(
            ALL,
            WHOM,
            tools.sight,
            tools.report,
            checks=(),
            proofs=(
                *(node.keeping for node in intact),
                LockProof(hosts, tools.journal.run, tools.sight, tools.person),
            ),
            overrides={},
            backups=[node.parts.backups for node in intact],
        )

    def wipe(self) -> Step:
        """The wait for all of them."""
        return Wipe([node.box for node in self.nodes], WHOM, self.tools.sight, self.tools.poll_seconds)

    def together(self) -> Iterator[Step]:
        """The steps when all nodes are as they were, each for itself."""
        tools, first = self.tools, self.nodes[0].parts
        memories = [node.parts.notebook.memory for node in self.nodes]
        if any(memory.k3s for memory in memories):
            yield NewCluster(tools.inventory, tools.sight, tools.work)
        if self._download and self.lost.names():
            yield Download(self.lost, tools.work, first.copies)
        without = set().union(*(untried(node.host, node.parts.notebook.memory) for node in self.nodes))
        yield Validate((), WHOM, without, tools.work)
        yield Green(first.roles, tools.sight, first.services)

    def _engine(self, node: str) -> Engine:
        tools = self.tools
        return Engine(node, tools.journal, tools.report, tools.hooks, tools.sight.forget)

    def _intact(self) -> list[WipedNode]:
        """The nodes that nobody has wiped yet. Nodes that are away are not asked for anything from here on."""
        intact = []
        for node in self.nodes:
            condition = node.box.condition()
            if condition == "intact":
                intact.append(node)
            if condition == "away":
                self.tools.sight.absent.add(node.name)
        return intact

    def _prepare(self, intact: list[WipedNode]) -> None:
        self.tools.locks.take(tuple(node.name for node in intact), "back up all nodes")
        self.tools.sight.forget()
        for node in intact:
            self._engine(node.name).carry_out(node.before())
        self._engine(ALL).carry_out([self.gate(intact)])


def check_names(typed: Iterable[str], wanted: Iterable[str]) -> None:
    """Raise DECLINED unless exactly the names of the nodes were typed, in any order."""
    if sorted(typed) != sorted(wanted):
        raise Gb10Error("DECLINED")
