"""The rolling rebuild: nodes brought to safety, wiped by a person, and brought back, one after the other."""

from __future__ import annotations

from collections.abc import Sequence

from gb10.controller.errors import Gb10Error
from gb10.controller.rebuild.plan import NodePlan
from gb10.controller.rebuild.runs import Progress
from gb10.controller.rebuild.step import Step, StepRunner
from gb10.controller.rebuild.steps.preflight import Preflight
from gb10.controller.rebuild.tools import Tools
from gb10.facts.reading.docker import STORE


class Rebuild:
    """One run of a rolling rebuild, in this process."""

    def __init__(self, tools: Tools) -> None:
        self.tools = tools
        self.progress = Progress(tools.journal)

    def run(self) -> None:
        """Rebuild the nodes that are left. Raise the error that stops it; the run can be resumed."""
        tools = self.tools
        for plan in self._left():
            try:
                self._rebuild(plan)
            except Gb10Error as error:
                name = plan.target.name
                tools.report("stopped", node=name, code=error.code, where=whereabouts(plan))
                tools.person.notify(f"the rebuild of {name} has stopped: {error.summary}")
                if error.code == "NODE_LOCKED" and not tools.journal.last("remembered"):
                    self._end(())  # somebody else was first, and nothing was begun
                raise
        tools.locks.release()
        tools.report("finished", nodes=list(self.progress.nodes))
        tools.person.notify(f"{', '.join(self.progress.nodes)}: rebuilt, all is green")

    def give_up(self) -> list[str]:
        """Undo what can be undone, and end the run. Return what was undone. Raise NODE_AWAY if a node is wiped."""
        undone: list[str] = []
        for plan in self._left():
            if plan.machine.condition() != "intact":
                raise Gb10Error("NODE_AWAY", host=plan.target.name)
            if plan.target.history.snapshot:
                undone += plan.take_back()
        self._end(undone)
        return undone

    def _left(self) -> list[NodePlan]:
        return [NodePlan(self.tools.inventory.host(name), self.tools) for name in self.progress.left]

    def _rebuild(self, plan: NodePlan) -> None:
        name, tools = plan.target.name, self.tools
        runner = StepRunner(name, tools)
        condition = plan.machine.condition()
        tools.report("node-began", node=name, condition=condition)
        present = tuple(other for other in tools.inventory.names if condition != "away" or other != name)
        if condition != "wiped":  # a wiped node is locked with the others once it has settled
            tools.locks.take(present, f"prepare {name}")
            tools.view.forget()
        if plan.target.history.snapshot:
            plan.target.start_services(present, whole=condition == "intact")
        # Which steps there are depends on what the first one records, and then on the wipe.
        if condition == "intact":
            runner.run(step for step in plan.steps() if isinstance(step, Preflight))
        if condition != "wiped":
            runner.run(_until_wipe(plan.steps()))
        runner.run(plan.steps())
        tools.report("node-done", node=name)
        tools.view.forget()

    def _end(self, undone: Sequence[str]) -> None:
        """End the run without a result."""
        self.tools.locks.release()
        self.tools.report("aborted", undone=list(undone))


def _until_wipe(steps: Sequence[Step]) -> list[Step]:
    """Return the steps up to the wipe, without the preflight."""
    end = next(number for number, step in enumerate(steps, start=1) if step.destroys)
    return [step for step in steps[:end] if not isinstance(step, Preflight)]


def whereabouts(plan: NodePlan) -> list[str]:
    """Return where everything of a node is, for a person who has to go on without us. No node is asked."""
    snapshot, keeper = plan.target.history.snapshot, plan.target.keeper
    if snapshot is None or not plan.target.history.asked:
        return []
    return [
        *plan.machine.whereabouts(),
        *([f"its models ({len(snapshot.models)}) are on {keeper.name}, in {keeper.hub}"] if snapshot.models else []),
        *([f"its images ({len(snapshot.images)}) are on {keeper.name}, in {STORE}"] if snapshot.images else []),
        "nothing further is destroyed: once the other nodes answer, "
        f"{plan.tools.person.command('rebuild resume')} brings it back",
    ]
