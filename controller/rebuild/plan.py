"""The steps of the rebuild of one node, in the order of the table in docs/rebuild.md."""

from __future__ import annotations

from collections.abc import Iterator

from gb10.controller.inventory import InventoryHost
from gb10.controller.rebuild.backups import TwoKeepers
from gb10.controller.rebuild.box import Box, Condition
from gb10.controller.rebuild.checks import check_recognisable, check_well
from gb10.controller.rebuild.gate import Safeguard
from gb10.controller.rebuild.memory import Memory
from gb10.controller.rebuild.parts import Parts
from gb10.controller.rebuild.proofs import LockProof, RoomProof
from gb10.controller.rebuild.risks import risks
from gb10.controller.rebuild.services import Cordon
from gb10.controller.rebuild.serving import CLUSTER, SOLO
from gb10.controller.rebuild.step import Step, undo
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
from gb10.controller.rebuild.steps.validate import Validate, untried
from gb10.controller.rebuild.steps.wipe import Wipe
from gb10.controller.rebuild.survivor import Survivor, answers
from gb10.controller.rebuild.tools import Tools


class NodePlan:
    """Decides which steps a node needs, by its condition and by what is remembered of it."""

    def __init__(self, target: InventoryHost, tools: Tools) -> None:
        self.target = target
        self.tools = tools
        self.parts = parts = Parts(target, tools, served=True)
        self.box = Box(parts.roles, parts.history, parts.notebook, tools, self._risks)
        self._cordon = Cordon(parts.roles, parts.notebook, tools.work, tools.sight)

    @property
    def memory(self) -> Memory:
        return self.parts.notebook.memory

    def steps(self) -> list[Step]:
        """The steps that the node needs now, in order."""
        condition = self.box.condition()
        if condition == "away":
            self.tools.sight.absent.add(self.target.name)
        return [*self._before(condition), self._wipe(), *self._after()]

    def take_back(self) -> list[str]:
        """Undo what brought everything to safety, with or without overrides; return what was taken back."""
        return list(undo([step for is_needed, step in self._safety() if is_needed]))

    def _before(self, condition: Condition) -> list[Step]:
        """The steps before the wipe. What the gate does without, nobody has to bring about."""
        history, safety = self.parts.history, self._safety()
        needed = [step for is_needed, step in safety if is_needed and step.proves not in history.overrides]
        if condition == "intact":
            return [self._preflight(), *needed, self._gate([step for _, step in safety])]
        # While the node is away something has to answer, whatever happens to the node that stays.
        return [step for step in needed if step.name == SOLO and not history.has_begun(CLUSTER)]

    def _preflight(self) -> Step:
        roles, sight = self.parts.roles, self.tools.sight
        checks = (
            lambda: check_well(roles, sight),
            self.parts.cluster.check_version,
            lambda: check_recognisable(self.target, sight),
        )
        return Preflight(self.parts.history, self.parts.notebook, checks, whom="all nodes", describe=Memory.described)

    def _safety(self) -> list[tuple[object, Safeguard]]:
        """What brings everything to safety: whether the node needs it, and the step."""
        p, t, memory = self.parts, self.tools, self.memory
        served = p.serving.is_served(memory)
        return [
            (memory.models, SyncModels(p.roles, p.notebook, t.sight, p.serving, p.copies, t.person)),
            (memory.images, SyncImages(p.roles, p.notebook, t.sight, p.serving, p.copies, t.person)),
            (memory.images, SaveImages(p.roles, p.notebook, t.sight, t.work, t.person)),
            (served, Solo(p.roles, p.history, p.serving)),
            (served, SoloWatched(p.roles, p.notebook, p.serving, t.person)),
            (memory.k3s, Drain(p.roles, p.notebook, t.sight, t.work, self._cordon)),
            (True, Backup(TwoKeepers(p.backups))),
        ]

    def _gate(self, safety: list[Safeguard]) -> Gate:
        p, t = self.parts, self.tools
        return Gate(
            self.target.name,
            self.target.name,
            t.sight,
            t.report,
            checks=(p.cluster.check_said, p.cluster.check_version, p.notebook.revise),
            proofs=(
                *safety,
                LockProof(t.inventory.hosts, t.journal.run, t.sight, t.person),
                RoomProof(self.target, p.notebook, t.sight),
            ),
            overrides=p.history.overrides,
            backups=(p.backups,),
        )

    def _wipe(self) -> Step:
        return Wipe((self.box,), self.target.name, self.tools.sight, self.tools.poll_seconds, self._survivor())

    def _after(self) -> Iterator[Step]:
        p, t, memory = self.parts, self.tools, self.memory
        yield Settle(p.roles, t.journal.run, t.sight, t.locks, p.patience)
        yield Provision(self.target.name, t.work)
        if p.history.can_restore:
            yield Restore(self.target, p.history, t.work, without_k3s=p.cluster.is_new)
        if self.target.rails:
            yield Rails(p.roles, t.sight)
        if memory.images:
            yield Images(p.roles, p.notebook, t.sight, p.copies)
        if memory.models:
            yield Models(p.roles, p.notebook, t.sight, p.copies)
        if memory.k3s:
            yield Rejoin(p.roles, p.cluster, t.sight, t.work, p.services)
            yield Admit(p.roles, t.sight, self._cordon)
        yield Green(p.roles, t.sight, p.services)
        yield Validate((self.target,), self.target.name, untried(self.target, memory), t.work)
        if memory.served and p.serving.is_served(memory):
            yield Serve(t.inventory, memory.served, p.serving)

    def _survivor(self) -> Survivor:
        served = self.parts.serving.is_served(self.memory) and "solo" not in self.parts.history.overrides
        look = self.parts.serving.alone if served else lambda: answers(self.parts.roles.keeper, self.tools.sight)
        return Survivor(self.parts.roles, look, self.tools.report, self.tools.person.notify)

    def _risks(self) -> Iterator[str]:
        return risks(self.target, self.memory, self.tools.sight.belongings(self.target))
