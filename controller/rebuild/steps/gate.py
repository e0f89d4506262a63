"""gate: demand every proof at once, and stop if one is missing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from gb10.controller.rebuild.gate import Demand, check_demands, overridden
from gb10.controller.rebuild.step import Evidence, Step
from gb10.controller.rebuild.steps.backup import Backup
from gb10.controller.rebuild.tools import Tools


class Gate(Step):
    """Demand every proof that nodes can come back.

    + node: its name in the journal; `whom` is the same in words
    + checks: each raises an error or records something before the proofs are demanded
    + proofs: each returns a demand, or None if there is nothing to prove
    + digests: the same for the demand that may take long
    + overrides: proofs that a person does without, and why
    + backups: that are to be restored
    """

    name = "gate"
    title = "The gate"

    def __init__(
        self,
        node: str,
        whom: str,
        tools: Tools,
        *,
        checks: Sequence[Callable[[], None]],
        proofs: Sequence[Callable[[], Demand | None]],
        digests: Callable[[], Demand | None],
        overrides: Mapping[str, str],
        backups: Sequence[Backup],
    ) -> None:
        self._node, self._whom = node, whom
        self._tools = tools
        self._checks = checks
        self._proofs = proofs
        self._digests = digests
        self._overrides = overrides
        self._backups = backups
        self._passed: tuple[Demand, ...] | None = None  # in this process

    def plan(self) -> str:
        return f"demand every proof that {self._whom} can come back, and stop if one is missing"

    def verify(self) -> Evidence:
        if self._passed is None:
            return Evidence(False, "every run has to pass it again")
        done = [demand.name for demand in self._passed if demand.override]
        without = f", without {', '.join(done)}" if done else ""
        return Evidence(True, f"all that brings {self._whom} back is proven{without}")

    def demands(self) -> tuple[Demand, ...]:
        """Return the demands with what is found now, without the digests."""
        return tuple(demand for proof in self._proofs if (demand := proof()))

    def run(self) -> None:
        self._tools.view.forget()
        for check in self._checks:
            check()
        demands = overridden(self.demands(), self._overrides)
        if all(demand.passes for demand in demands) and (last := self._last_demand()):
            self._tools.view.forget()  # the others have to hold after hours, too
            demands = overridden((*self.demands(), last), self._overrides)
        self._tools.report("gate", node=self._node, demands=[demand.to_json() for demand in demands])
        check_demands(demands, self._whom)
        for backup in self._backups:
            backup.record()
        self._passed = demands

    def _last_demand(self) -> Demand | None:
        """Compare the digests, unless a person does without."""
        if "digests" in self._overrides:
            return Demand("digests", False, "nothing was compared")
        return self._digests()
