"""The rolling rebuild: nodes brought to safety, wiped by a person, and brought back, one after the other."""

from __future__ import annotations

from collections.abc import Sequence

from gb10.controller.errors import Gb10Error
from gb10.controller.rebuild.engine import Engine
from gb10.controller.rebuild.plan import NodePlan
from gb10.controller.rebuild.runs import Progress
from gb10.controller.rebuild.step import Step
from gb10.controller.rebuild.steps.preflight import Preflight
from gb10.controller.rebuild.tools import Tools
from gb10.facts.reading.docker import STORE


class Rebuild:
    """One run of it, in this process."""

    def __init__(self, tools: Tools) -> None:
        self.tools = tools
        self.progress = Progress(tools.journal)

    def carry_out(self) -> None:
        """Rebuild the nodes that are left. Raise what stops that; the run may be taken up again."""
        tools = self.tools
        for plan in self._left():
            try:
                self._rebuild(plan)
            except Gb10Error as error:
                name = plan.target.name
                tools.report("stopped", node=name, code=error.code, where=whereabouts(plan))
                tools.person.notify(f"the rebuild of {name} has stopped: {error.summary}")
                if error.code == "NODE_LOCKED" and not tools.journal.last("remembered"):
                    self._leave()  # somebody else was first, and nothing was begun
                raise
        tools.locks.release()
        tools.report("finished", nodes=list(self.progress.nodes))
        tools.person.notify(f"{', '.join(self.progress.nodes)}: rebuilt, all is green")

    def give_up(self) -> list[str]:
        """Undo what can be, and end the run; return what was undone. Raise NODE_AWAY for a node that is wiped."""
        said: list[str] = []
        for plan in self._left():
            if plan.box.condition() != "intact":
                raise Gb10Error("NODE_AWAY", host=plan.target.name)
            if plan.parts.history.memory:
                said += plan.take_back()
        self._leave(said)
        return said

    def _left(self) -> list[NodePlan]:
        return [NodePlan(self.tools.inventory.host(name), self.tools) for name in self.progress.left]

    def _rebuild(self, plan: NodePlan) -> None:
        name, tools = plan.target.name, self.tools
        engine = Engine(name, tools.journal, tools.report, tools.hooks, tools.sight.forget)
        condition = plan.box.condition()
        tools.report("node-began", node=name, condition=condition)
        present = tuple(other for other in tools.inventory.names if condition != "away" or other != name)
        if condition != "wiped":  # a wiped node is locked with the others once it has settled
            tools.locks.take(present, f"prepare {name}")
            tools.sight.forget()
        if plan.parts.history.memory:
            plan.parts.services.wake(present, whole=condition == "intact")
        # Which steps there are is known only after the first has written down what the node has, and after its wipe.
        if condition == "intact":
            engine.carry_out(step for step in plan.steps() if step.name == Preflight.name)
        if condition != "wiped":
            engine.carry_out(_until_wipe(plan.steps()))
        engine.carry_out(plan.steps())
        tools.report("node-done", node=name)
        tools.sight.forget()

    def _leave(self, undone: Sequence[str] = ()) -> None:
        """End the run without a result."""
        self.tools.locks.release()
        self.tools.report("aborted", undone=list(undone))


def _until_wipe(steps: Sequence[Step]) -> list[Step]:
    """The steps up to the wipe, but for the first look."""
    end = next(number for number, step in enumerate(steps, start=1) if step.destroys)
    return [step for step in steps[:end] if step.name != Preflight.name]


def whereabouts(plan: NodePlan) -> list[str]:
    """Where everything of a node is, for a person who has to go on without us. No node is asked."""
    history, roles = plan.parts.history, plan.parts.roles
    memory, keeper = history.memory, roles.keeper
    if memory is None or not history.asked:
        return []
    return [
        *plan.box.whereabouts(),
        *([f"its models ({len(memory.models)}) are on {keeper.name}, in {keeper.hub}"] if memory.models else []),
        *([f"its images ({len(memory.images)}) are on {keeper.name}, in {STORE}"] if memory.images else []),
        "nothing further is destroyed: once the other nodes answer, "
        f"{plan.tools.person.command('rebuild resume')} brings it back",
    ]
