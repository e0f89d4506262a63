"""What is written down about one node before its wipe, and what of it is there now."""

from __future__ import annotations

from dataclasses import replace

from gb10.controller.cluster.sight import Sight
from gb10.controller.rebuild.history import NodeHistory
from gb10.controller.rebuild.memory import Memory, Needs, kept, look_at
from gb10.controller.rebuild.reporting import Report
from gb10.controller.rebuild.roles import Roles
from gb10.controller.rebuild.serving import Serving


class Notebook:
    """The memory of one node: written down in the journal, or looked up now.

    `serving` is None if nothing is served during the wipe, so that no node needs models and images for it.
    """

    def __init__(
        self, roles: Roles, history: NodeHistory, sight: Sight, report: Report, serving: Serving | None
    ) -> None:
        self._roles = roles
        self._history = history
        self._sight = sight
        self._report = report
        self._serving = serving

    @property
    def memory(self) -> Memory:
        """The node as it was before; as it is now, if nothing was written down yet."""
        return self._history.memory or self.first_look()

    def now(self) -> Memory:
        """What the node has now. What we may have changed since is as it was written down first."""
        return look_at(self._sight, self._roles.target, self._needs(), self._history.memory)

    def first_look(self) -> Memory:
        """The node as it is before anything is changed."""
        found = look_at(self._sight, self._roles.target, self._needs())
        return replace(found, served=self._serving.now()) if self._serving else found

    def begin(self) -> None:
        """Write down the node as it is before anything is changed."""
        self._write(self.first_look())

    def revise(self) -> None:
        """Write down what the node has right before its wipe and gets back. Report what it does not get back."""
        now = self.now()
        wanted = kept(now, self._sight, self._roles.keeper, self._history.overrides)
        if lost := [name for name in (*now.models, *now.images) if name not in {**wanted.models, **wanted.images}]:
            self._report("left-behind", node=self._roles.name, keeper=self._roles.keeper.name, names=lost)
        if wanted != self._history.memory:
            self._write(wanted)

    def _needs(self) -> Needs:
        return self._serving.needs() if self._serving else ((), ())

    def _write(self, memory: Memory) -> None:
        self._report("remembered", node=self._roles.name, memory=memory.to_json())
