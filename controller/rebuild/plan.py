"""The steps of the rebuild of one node, in the order of the table in docs/rebuild.md, and a preview of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from gb10.controller.inventory import InventoryHost
from gb10.controller.rebuild.checks import check_k3s_version, check_new_cluster, check_nodes, check_recognisable
from gb10.controller.rebuild.digests import DigestProof
from gb10.controller.rebuild.gate import Demand, Safeguard, lock_demand, room_demand
from gb10.controller.rebuild.serving import CLUSTER, SOLO
from gb10.controller.rebuild.snapshot import Snapshot
from gb10.controller.rebuild.step import Kind, Step, undo
from gb10.controller.rebuild.steps.admit import Admit
from gb10.controller.rebuild.steps.backup import Backup
from gb10.controller.rebuild.steps.drain import Drain
from gb10.controller.rebuild.steps.gate import Gate
from gb10.controller.rebuild.steps.green import Green
from gb10.controller.rebuild.steps.images import Images
from gb10.controller.rebuild.steps.models import Models
from gb10.controller.rebuild.steps.preflight import Preflight
from gb10.controller.rebuild.steps.provision import Provision
from gb10.controller.rebuild.steps.rails import Rails
from gb10.controller.rebuild.steps.rejoin import Rejoin
from gb10.controller.rebuild.steps.restore import Restore
from gb10.controller.rebuild.steps.save_images import SaveImages
from gb10.controller.rebuild.steps.serve import Serve
from gb10.controller.rebuild.steps.settle import Settle
from gb10.controller.rebuild.steps.solo import Solo
from gb10.controller.rebuild.steps.solo_watched import SoloWatched
from gb10.controller.rebuild.steps.sync_images import SyncImages
from gb10.controller.rebuild.steps.sync_models import SyncModels
from gb10.controller.rebuild.steps.validate import Validate, checks_to_skip
from gb10.controller.rebuild.steps.wipe import Wipe
from gb10.controller.rebuild.target import Target
from gb10.controller.rebuild.tools import Tools
from gb10.controller.rebuild.wipe_watch import Condition, KeeperWatch, Machine, answers


class NodePlan:
    """Decides which steps a node needs, from its condition and its snapshot."""

    def __init__(self, host: InventoryHost, tools: Tools) -> None:
        self.tools = tools
        self.target = Target(host, tools)
        self.machine = Machine(self.target, self._risks)

    def steps(self) -> list[Step]:
        """Return the steps that the node needs now, in order."""
        condition = self.machine.condition()
        if condition == "away":
            self.tools.view.absent.add(self.target.name)
        return [*self._before(condition), self._wipe(), *self._after()]

    def take_back(self) -> list[str]:
        """Undo what brought everything to safety, with or without overrides. Return what was undone."""
        return list(undo([step for is_needed, step in self._safeguards() if is_needed]))

    def _before(self, condition: Condition) -> list[Step]:
        """Return the steps before the wipe. A safeguard whose proof is overridden is left out."""
        history, safeguards = self.target.history, self._safeguards()
        needed = [step for is_needed, step in safeguards if is_needed and step.proves not in history.overrides]
        if condition == "intact":
            return [self._preflight(), *needed, self._gate([step for _, step in safeguards])]
        # While the node is away something has to answer, whatever happens to the node that stays.
        return [step for step in needed if step.name == SOLO and not history.has_begun(CLUSTER)]

    def _preflight(self) -> Step:
        checks = (check_nodes, check_k3s_version, check_recognisable)
        return Preflight(self.target, checks, whom="all nodes", describe=Snapshot.described)

    def _safeguards(self) -> list[tuple[object, Safeguard]]:
        """Return the steps that bring everything to safety, each after a value that is true if the node needs it."""
        target, snapshot = self.target, self.target.snapshot
        served = target.serving.has_to_go_on(snapshot)
        return [
            (snapshot.models, SyncModels(target)),
            (snapshot.images, SyncImages(target)),
            (snapshot.images, SaveImages(target)),
            (served, Solo(target)),
            (served, SoloWatched(target)),
            (snapshot.k3s, Drain(target)),
            (True, Backup(target)),
        ]

    def _gate(self, safeguards: list[Safeguard]) -> Gate:
        target = self.target
        return Gate(
            target.name,
            target.name,
            self.tools,
            checks=(
                partial(check_new_cluster, target),
                partial(check_k3s_version, target),
                target.record_before_wipe,
            ),
            proofs=(
                *(step.demand for step in safeguards),
                partial(lock_demand, target.inventory.hosts, self.tools),
                partial(room_demand, target),
            ),
            digests=DigestProof(target).demand,
            overrides=target.history.overrides,
            backups=[step for step in safeguards if isinstance(step, Backup)],
        )

    def _wipe(self) -> Step:
        target, keeper = self.target, self.target.keeper
        served = target.serving.has_to_go_on(target.snapshot) and "solo" not in target.history.overrides
        look = partial(target.serving.look_at, keeper.name) if served else partial(answers, keeper, target.view)
        return Wipe((self.machine,), target.name, self.tools, KeeperWatch(target, look))

    def _after(self) -> Iterator[Step]:
        target, snapshot = self.target, self.target.snapshot
        yield Settle(target)
        yield Provision(target)
        if target.history.can_restore:
            yield Restore(target, without_k3s=target.gets_new_cluster)
        if target.host.rails:
            yield Rails(target)
        if snapshot.images:
            yield Images(target)
        if snapshot.models:
            yield Models(target)
        if snapshot.k3s:
            yield Rejoin(target)
            yield Admit(target)
        yield Green(target)
        yield Validate((target.name,), target.name, checks_to_skip(target), self.tools.deploys)
        if snapshot.served and target.serving.has_to_go_on(snapshot):
            yield Serve(target, snapshot.served)

    def _risks(self) -> Iterator[str]:
        """Yield what of the node will not come back."""
        name, snapshot = self.target.name, self.target.snapshot
        belongings = self.target.view.belongings(self.target.host)
        yield from (
            f"model {model} is not whole, or not chosen, and will not come back" for model in snapshot.lost_models
        )
        if snapshot.lost_images:
            yield f"images that `images` does not name will not come back: {', '.join(snapshot.lost_images)}"
        if belongings is None:
            yield f"the volumes and containers in the Docker engine of {name} could not be listed: they are erased"
        else:
            if belongings.volumes:
                yield f"volumes of Docker are erased with all that is in them: {', '.join(belongings.volumes)}"
            if belongings.containers:
                names = ", ".join(belongings.containers)
                yield f"containers will not come back, only how they were started is kept: {names}"
        yield f"every file of {name} that no backup holds is erased, also in home folders: name more in backup_paths"
        if not snapshot.own_device:
            yield f"/data of {name} is on the system's own partition: all on it is erased, but what others keep"
        if self.target.is_head and snapshot.k3s:
            yield f"{name} runs the API server: while it is away, Kubernetes does not answer; pods go on"


@dataclass(frozen=True)
class StepPreview:
    """A step, and what it would do now."""

    name: str
    title: str
    plan: str
    kind: Kind
    destroys: bool
    seconds_last_time: float | None


@dataclass(frozen=True)
class Preview:
    """The steps of a node, what a person has to do, what is lost, and what the gate would find now."""

    node: str
    steps: tuple[StepPreview, ...]
    person: tuple[str, ...]
    risks: tuple[str, ...]
    gate: tuple[Demand, ...]

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "gate": [demand.to_json() for demand in self.gate]}


def preview(plan: NodePlan, seconds: Mapping[str, float]) -> Preview:
    """Ask the nodes what the steps would do now. `seconds` is how long each step took the last time."""
    steps = plan.steps()
    gate = next((step for step in steps if isinstance(step, Gate)), None)
    return Preview(
        node=plan.target.name,
        gate=gate.demands() if gate else (),
        risks=tuple(plan.machine.risks()),
        person=tuple(plan.machine.instructions()),
        steps=tuple(
            StepPreview(step.name, step.title, step.plan(), step.kind, step.destroys, seconds.get(step.name))
            for step in steps
        ),
    )
