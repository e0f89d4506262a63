"""gate: ask for every proof at once, and stop if one is missing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from gb10.controller.cluster.sight import Sight
from gb10.controller.rebuild.backups import Backups
from gb10.controller.rebuild.gate import Demand, Proof, check, overridden
from gb10.controller.rebuild.reporting import Report
from gb10.controller.rebuild.step import Evidence, Step


class Gate(Step):
    """Ask for every proof that nodes can come back.

    + node: what stands in the journal; `whom` is the same in words
    + checks: what is refused or written down before the proofs are asked for
    + overrides: proofs that a person does without, and why
    """

    name = "gate"
    title = "The gate"

    def __init__(
        self,
        node: str,
        whom: str,
        sight: Sight,
        report: Report,
        *,
        checks: Sequence[Callable[[], None]],
        proofs: Sequence[Proof],
        overrides: Mapping[str, str],
        backups: Sequence[Backups],
    ) -> None:
        self._node, self._whom = node, whom
        self._sight = sight
        self._report = report
        self._checks = checks
        self._proofs = proofs
        self._overrides = overrides
        self._backups = backups
        self._passed: tuple[Demand, ...] | None = None  # in this very process

    def plan(self) -> str:
        return f"ask for every proof that {self._whom} can come back, and stop where one is missing"

    def verify(self) -> Evidence:
        if self._passed is None:
            return Evidence(False, "it is asked anew each time")
        done = [demand.name for demand in self._passed if demand.override]
        without = f", without {', '.join(done)}" if done else ""
        return Evidence(True, f"all that brings {self._whom} back is proven{without}")

    def demands(self) -> tuple[Demand, ...]:
        """Everything that has to be proven, as it is now."""
        return tuple(demand for proof in self._proofs if (demand := proof.demand()))

    def run(self) -> None:
        self._sight.forget()
        for each in self._checks:
            each()
        demands = overridden(self.demands(), self._overrides)
        self._report("gate", node=self._node, demands=[demand.to_json() for demand in demands])
        check(demands, self._whom)
        for backups in self._backups:
            backups.remember()
        self._passed = demands
