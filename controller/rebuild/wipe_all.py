"""All nodes wiped at once: backed up to the controller first, brought back one by one, and made a new cluster.

The same machinery as a rebuild, with other steps: there is no node left that could keep anything meanwhile. So what is
not in a backup and not on a partition that survives is lost, and that is said before.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from gb10.controller.backups import CONTROLLER
from gb10.controller.cluster.sight import LOCK, sound
from gb10.controller.errors import Gb10Error
from gb10.controller.inventory import InventoryHost
from gb10.controller.rebuild.arrival import Arrived, Seen, wait_for_wipe
from gb10.controller.rebuild.backup import is_fresh
from gb10.controller.rebuild.gate import Demand, check
from gb10.controller.rebuild.hooks import Hooks
from gb10.controller.rebuild.memory import Memory, Needs, look_at, recall
from gb10.controller.rebuild.node import NodeRebuild, check_recognisable, check_works, count, welcome
from gb10.controller.rebuild.steps import Evidence, Step, Steps
from gb10.controller.rebuild.tools import Tools
from gb10.operations.copying.plan import human

KIND = "wipe-all"
ALL = "all"  # stands for the nodes together, where a step has one


@dataclass(frozen=True)
class Loss:
    """What a wipe takes from one node. `kept` is None where /data is not a device of its own, so all of it goes."""

    node: str
    models: tuple[str, ...]
    model_bytes: int
    images: tuple[str, ...]
    own_device: bool
    k3s: str | None

    def lines(self) -> tuple[str, ...]:
        """In words, one matter a line."""
        models = f"{count(self.models, 'model')} ({human(self.model_bytes)}): {', '.join(self.models)}"
        fate = "kept if the installer leaves the partition of /data alone" if self.own_device else "LOST with /data"
        cluster = {"server": "the cluster itself, with all that was deployed into it", "agent": "its place in it"}
        return (
            *([f"{models}: {fate}"] if self.models else []),
            *([f"LOST: {count(self.images, 'image')} of Docker: {', '.join(self.images)}"] if self.images else []),
            *([f"LOST: {cluster[self.k3s]} (K3s {self.k3s})"] if self.k3s else []),
            "LOST: every other file that no backup holds",
            "comes back from the backup: accounts, keys, host keys, network, Docker's and the system's settings",
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "node": self.node,
            "models": list(self.models),
            "model_bytes": self.model_bytes,
            "images": list(self.images),
            "data_has_own_device": self.own_device,
            "k3s": self.k3s,
        }


def loss_of(node: str, memory: Memory) -> Loss:
    """Given what is remembered of a node, return what its wipe takes."""
    return Loss(
        node=node,
        models=(*memory.models, *memory.lost_models),
        model_bytes=memory.bytes,
        images=(*memory.images, *memory.lost_images),
        own_device=bool(memory.own_device),
        k3s=memory.k3s,
    )


def copy_off(host: InventoryHost) -> str:
    """The command that copies a node's models to the controller, to be typed by whoever wants that."""
    shell = host.ssh.rpartition(" ")[0]
    whose = host.ssh.rpartition(" ")[2]
    return f"rsync -a --partial --info=progress2 -e '{shell}' {whose}:{host.hub}/ MODELS/{host.name}/"


class WipedNode(NodeRebuild):
    """One of the nodes that are wiped together."""

    def needs(self) -> Needs:
        """Nothing can be kept: there is no node to keep it on."""
        return (), ()

    def before(self) -> Iterator[Step]:
        """What is done while the node is still as it was."""
        yield self._written_down()
        yield self._backed_up()

    def after(self) -> Iterator[Step]:
        """What is done with the node when all of them are back."""
        yield self._settle()
        yield self._provision()
        yield self.backups.restore(without_k3s=True)

    def risks(self) -> list[str]:
        """What will not come back: here all but what is in the backup."""
        return list(self.loss().lines())

    def loss(self) -> Loss:
        """What its wipe takes, as it is now."""
        return loss_of(self.name, self.memory)

    def _written_down(self) -> Step:
        def verify() -> Evidence:
            memory = recall(self.journal, self.name)
            return Evidence(memory is not None, "; ".join(self.loss().lines()) if memory else "nothing is known yet")

        def run() -> None:
            check_recognisable(self.target, self.sight.identity(self.target))
            memory = look_at(self.sight, self.target, self.needs())
            self.tools.report("remembered", node=self.name, memory=memory.to_json())

        return Step("preflight", f"Look at {self.name}", lambda: f"write down what {self.name} is and has", verify, run)

    def proof(self) -> Evidence:
        """Whether the controller has a fresh, proven backup of the node: no node is left that could keep one."""
        found = next((one for one in self.backups.made_now() if one.where == CONTROLLER), None)
        if found is None:
            refused = [text for one in self.backups.proofs() if one.where == CONTROLLER for text in one.reasons]
            reason = f": {'; '.join(refused)}" if refused else ""
            return Evidence(False, f"the controller has no proven backup of {self.name} from this run{reason}")
        if not is_fresh(found):
            return Evidence(False, f"the proof of {found.id} is {found.age_seconds / 3600:.0f} h old")
        return Evidence(True, f"{found.id}, proven {found.age_seconds:.0f} s ago", {"backup": found.id})

    def _backed_up(self) -> Step:
        plan = "back it up to the controller, and prove that by restoring it into an empty folder"
        return Step("backup", f"Back {self.name} up", lambda: plan, self.proof, self.back_up)

    def back_up(self) -> None:
        """Back the node up, and prove that. Only the controller's copy counts: the other nodes may be wiped by now.

        Raise what keeps the controller from having one.
        """
        troubles = []
        for work in (self.backups.back_up, self.backups.prove):
            try:
                work()
            except Gb10Error as error:
                if error.code == "INTERRUPTED":
                    raise
                troubles.append(error)
        if troubles and not self.proof().holds:
            raise troubles[0]


@dataclass(frozen=True)
class _Returned:
    """What a watch has to tell: a change that it sees, an arrival, or the error that ended it."""

    node: WipedNode
    what: Seen | Arrived | BaseException


@dataclass
class WipeAll:
    """The wipe of all nodes, in this process."""

    tools: Tools
    hooks: Hooks
    download: bool = False
    _tried: bool = field(default=False, init=False)
    _passed: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        self.nodes = [WipedNode(host, self.tools) for host in self.tools.inventory.hosts]

    @property
    def names(self) -> tuple[str, ...]:
        return self.tools.inventory.names

    def carry_out(self) -> None:
        """Do all that is left to do. Raise what stops it; it may be taken up again."""
        try:
            intact = self._intact()
            if intact:
                self._prepare(intact)
            self._steps(ALL).carry_out([self._wipe(intact)])
            for node in self.nodes:
                self._steps(node.name).carry_out(node.after())
            self._steps(ALL).carry_out(self._together())
            self.tools.work("unlock_nodes", "Unlock the nodes", self.names, run=self.tools.journal.run)
        except Gb10Error as error:
            self.tools.report("stopped", node=ALL, code=error.code, where=self.whereabouts())
            self.tools.notify(f"the full wipe has stopped: {error.summary}")
            raise
        self.tools.report("finished", nodes=list(self.names), models=self.to_download())
        self.tools.notify("all nodes are back")

    def _steps(self, node: str) -> Steps:
        tools = self.tools
        return Steps(node, tools.journal, tools.report, self.hooks, tools.sight.forget)

    def _intact(self) -> list[WipedNode]:
        """The nodes that nobody has wiped yet; those that are away are not asked for anything."""
        intact = []
        for node in self.nodes:
            condition = node.condition()
            if condition == "intact":
                intact.append(node)
            if condition == "away":
                self.tools.sight.absent.add(node.name)
        return intact

    def whereabouts(self) -> list[str]:
        """What is where, as far as is written down, for a person who has to go on without us. Nobody is asked."""
        asked = [node for node in self.nodes if node.asked]
        known = [line for node in asked for line in node.last_known()]
        return [*known, f"nothing further is destroyed: {self.tools.gb10('wipe-all')} goes on"] if asked else []

    def give_up(self) -> None:
        """End the run. Raise NODE_AWAY when somebody was asked to wipe: they may have begun."""
        for node in self.nodes:
            if node.asked:
                raise Gb10Error("NODE_AWAY", host=node.name)
        self.tools.work("unlock_nodes", "Unlock the nodes", self.names, run=self.tools.journal.run)
        self.tools.report("aborted")

    # Before -----------------------------------------------------------------------------------------------------------

    def _prepare(self, intact: Sequence[WipedNode]) -> None:
        self.tools.lock(tuple(node.name for node in intact), "back up all nodes")
        self.tools.sight.forget()
        for node in intact:
            self._steps(node.name).carry_out(node.before())
        self._steps(ALL).carry_out([self._gate(intact)])

    def _gate(self, intact: Sequence[WipedNode]) -> Step:
        def verify() -> Evidence:
            return Evidence(
                self._passed, "every node can be restored" if self._passed else "it is asked anew each time"
            )

        def run() -> None:
            self.tools.sight.forget()
            demands = [demand for node in intact for demand in self._demanded(node)]
            self.tools.report("gate", node=ALL, demands=[demand.to_json() for demand in demands])
            check(demands, "all nodes")
            for node in intact:
                node.backups.remember()
            self._passed = True

        plan = "ask for the proof of every backup, and stop where one is missing"
        return Step("gate", "The gate", lambda: plan, verify, run)

    def _demanded(self, node: WipedNode) -> Iterator[Demand]:
        proof = node.proof()
        yield Demand("backup", proof.holds, proof.text, remedy="" if proof.holds else node.backups.command())
        holder = self.tools.sight.of(node.target, LOCK)
        if holder is None or holder["run"] != self.tools.journal.run:
            text = f"the lock of {node.name} is not this run's"
            yield Demand("lock", False, text, remedy=self.tools.gb10("rebuild unlock", node.name))

    # The wipe ---------------------------------------------------------------------------------------------------------

    def _wipe(self, intact: Sequence[WipedNode]) -> Step:
        def left() -> list[WipedNode]:
            return [node for node in self.nodes if not self.tools.journal.last("returned", node=node.name)]

        def verify() -> Evidence:
            names = ", ".join(node.name for node in left())
            return Evidence(not names, f"still to come: {names}" if names else "all are other installations")

        def run() -> None:
            for node in left():
                node.ask_for_wipe(again=node not in intact)
            self._await(left())
            self.tools.sight.forget()

        plan = "ask you to reinstall all of them, in any order, and wait until they are back"
        return Step("wipe", "Wait for all nodes to be wiped", lambda: plan, verify, run, kind="human", destroys=True)

    def _await(self, nodes: Sequence[WipedNode]) -> None:
        """Watch all of them at once; what is seen is told, and a host key confirmed, one at a time."""
        seen: queue.Queue[_Returned] = queue.Queue()
        for node in nodes:
            # A daemon: Ctrl-C must not wait for a person at another box.
            threading.Thread(target=_watch, args=(node, self.tools.poll_seconds, seen.put), daemon=True).start()
        waiting = {node.name for node in nodes}
        while waiting:
            told = seen.get()
            match told.what:
                case Seen():
                    told.node.seen(told.what)
                case Arrived():
                    welcome(self.tools, told.node.target, told.what)
                    waiting.discard(told.node.name)
                case error:
                    raise error

    # Together again ---------------------------------------------------------------------------------------------------

    def _together(self) -> Iterator[Step]:
        if any(node.memory.k3s for node in self.nodes):
            yield self._cluster()
        if self.download and self.lost_models():
            yield self._download()
        yield self._validate()
        yield self.nodes[0].green()

    def _cluster(self) -> Step:
        def verify() -> Evidence:
            members = {host.name: self.tools.sight.member(host) for host in self.tools.inventory.hosts}
            waiting = [name for name, member in members.items() if not member or not member["ready"]]
            return Evidence(not waiting, f"not Ready: {', '.join(waiting)}" if waiting else "all nodes are Ready")

        def run() -> None:
            self.tools.work("cluster", "Bring a new cluster up", self.names)

        plan = "a new cluster of all nodes, with its operators"
        return Step("cluster", "Bring a new cluster up", lambda: plan, verify, run, patience_seconds=120)

    def lost_models(self) -> dict[str, list[str]]:
        """Node -> the models that it had and that are not there any more."""
        lost = {}
        for node in self.nodes:
            here = self.tools.sight.repositories(node.target)
            had = (*node.memory.models, *node.memory.lost_models)
            lost[node.name] = [name for name in had if name not in here or not sound(here[name])]
        return {name: models for name, models in lost.items() if models}

    def to_download(self) -> list[str]:
        """The models that were on some node and are not any more, each once."""
        return sorted({name for names in self.lost_models().values() for name in names})

    def _download(self) -> Step:
        def verify() -> Evidence:
            lost = self.to_download()
            return Evidence(not lost, f"still to be downloaded: {', '.join(lost)}" if lost else "all models are there")

        def run() -> None:
            lost = self.lost_models()
            first = next(iter(lost))
            # From the Internet once; the rails are faster.
            self.tools.work("download_models", "Download models", (first,), names=self.to_download())
            source = self.tools.inventory.host(first)
            for node in self.nodes:
                if node.name != first and (models := lost.get(node.name)):
                    node.copy_models(source, node.target, models)

        return Step("download", "Download models", lambda: ", ".join(self.to_download()), verify, run, kind="copy")

    def _validate(self) -> Step:
        def verify() -> Evidence:
            return Evidence(
                self._tried, "GPUs, rails and cluster work" if self._tried else "it is tried anew each time"
            )

        def run() -> None:
            without = set.union(*(node.untried() for node in self.nodes))
            check_works(self.tools, without)
            self._tried = True

        return Step("validate", "Validate all nodes", lambda: "try GPUs, rails and cluster", verify, run)


def _watch(node: WipedNode, poll_seconds: float, tell: Callable[[_Returned], None]) -> None:
    try:
        on_seen = lambda seen: tell(_Returned(node, seen))  # noqa: E731 - one line, used once
        tell(_Returned(node, wait_for_wipe(node.target, node.memory.before, on_seen, poll_seconds=poll_seconds)))
    except BaseException as error:  # it is raised where somebody waits for it
        tell(_Returned(node, error))


def check_names(typed: Iterable[str], wanted: Iterable[str]) -> None:
    """Raise DECLINED unless exactly the names of the nodes were typed, in any order."""
    if sorted(typed) != sorted(wanted):
        raise Gb10Error("DECLINED")
