"""What a rebuild does with backups: one is made and proven right before the wipe, and restored after it."""

from __future__ import annotations

from typing import Any

from gb10.controller.backups import CONTROLLER, evidence_for
from gb10.controller.inventory import InventoryHost
from gb10.controller.journal import moment
from gb10.controller.rebuild.arrival import settle_host_key
from gb10.controller.rebuild.gate import Demand
from gb10.controller.rebuild.steps import Evidence, Step
from gb10.controller.rebuild.tools import Tools
from gb10.facts.reading.backups import BackupProof

K3S = "k3s"
PARTS = ("identity", "users", "network", "docker", K3S, "system", "extra")
FRESH_SECONDS = 3600.0  # an older proof is made anew, of a new backup: the node may have changed since
KEEPERS = 2  # that must have it: one may be lost together with the node
RESTORE = "restore"  # the step's name
ACCEPTED = "accepted"  # the event by which the journal knows what a person has agreed to


class BackupPart:
    """The steps of one node's rebuild that concern its backup."""

    def __init__(self, target: InventoryHost, tools: Tools) -> None:
        self.target = target
        self.tools = tools

    def proofs(self) -> list[BackupProof]:
        """The proofs of the newest backup, one of each place where it is."""
        return evidence_for(self.target.node_name)

    def backup(self) -> Step:
        """The backup of the node as it is at the end, and its proof."""
        name = self.target.name

        def verify() -> Evidence:
            found = self.fresh()
            if len(found) < KEEPERS:
                return Evidence(False, self._lacking())
            return Evidence(True, f"{found[0].id} is proven on {_places(found)}", {"backup": found[0].id})

        plan = f"back {name} up to the controller and other nodes, and prove it by restoring it in each place"
        return Step("backup", f"Back {name} up, and prove it", lambda: plan, verify, self.make)

    def make(self) -> None:
        """Back the node up, and prove every copy."""
        self.back_up()
        self.prove()

    def back_up(self) -> None:
        """Make a backup on the controller and on other nodes. Raise where one of them did not get it."""
        self.tools.work("backup", f"Back {self.target.name} up", (self.target.name,))

    def prove(self) -> None:
        """Prove every copy of the newest backup. Raise where one of them is not proven."""
        self.tools.work("prove_backup", f"Prove the backup of {self.target.name}", (self.target.name,))

    def demand(self) -> Demand:
        """That a backup of this run is proven in two places."""
        found = self.fresh()
        holds = len(found) >= KEEPERS
        age = max((proof.age_seconds for proof in found), default=0.0)
        text = f"{found[0].id} on {_places(found)}" if holds else self._lacking()
        return Demand("backup", holds, text, age, "" if holds else self.command())

    def command(self) -> str:
        """What a person types to make a backup by hand, and to prove it."""
        name = self.target.name
        return f"{self.tools.gb10('backup', name)} && {self.tools.gb10('backup prove', name)}"

    def restore(self, *, without_k3s: bool) -> Step:
        """The backup put back, with the host keys of before, so that nobody sees a strange node."""
        name = self.target.name

        def arguments() -> dict[str, Any]:
            only = [part for part in PARTS if part != K3S] if without_k3s else None
            return {"backup": self._id(), "only": only, "accept": self._accepted() or None}

        def verify() -> Evidence:
            shown = settle_host_key(self.target)
            if shown not in ("known", "recalled"):
                return Evidence(False, f"{name} does not show its host key of before")
            pattern = self.tools.inventory.limit_pattern(self.target)
            found = self.tools.runner([pattern]).run("gb10.deploys.restore", dry=True, kwargs=arguments())
            found.check()
            if found.changed:
                return Evidence(False, f"not as in the backup: {', '.join(op.name for op in found.changed[:4])}")
            return Evidence(True, f"as in {self._id()}, under its host key of before")

        def run() -> None:
            self.tools.work("restore", f"Restore {name}", (name,), **arguments())
            settle_host_key(self.target)

        plan = f"what the backup of {name} holds: accounts, keys, network, settings, K3s' state, host keys last"
        return Step(RESTORE, f"Restore {name}", lambda: plan, verify, run, looks_first=False)

    def _accepted(self) -> list[str]:
        """The codes of what speaks against the restore of this node, and a person has agreed to."""
        said = self.tools.journal.of(ACCEPTED, node=self.target.name)
        return sorted({code for record in said for code in record["codes"]})

    def _id(self) -> str:
        """The backup that the gate has seen; without one, the latest there is."""
        gate = self.tools.journal.last("backed-up", node=self.target.name)
        return str(gate["backup"]) if gate else "latest"

    def remember(self) -> None:
        """Write down which backup is to be restored."""
        if found := self.fresh():
            self.tools.report(
                "backed-up", node=self.target.name, backup=found[0].id, places=[one.where for one in found]
            )

    def made_now(self) -> list[BackupProof]:
        """The proofs that hold, of a backup that was made in this run."""
        began = self.tools.journal.last("remembered", node=self.target.name)
        if began is None:
            return []
        first = next(self.tools.journal.of("remembered", node=self.target.name))
        since = moment(first["at"]).timestamp()
        found = [proof for proof in self.proofs() if proof.proven and proof.created]
        return [proof for proof in found if moment(str(proof.created)).timestamp() >= int(since)]

    def fresh(self) -> list[BackupProof]:
        """Those of them that were proven lately, and still lie where that was."""
        return [proof for proof in self.made_now() if is_fresh(proof) and self._is_kept(proof)]

    def _is_kept(self, proof: BackupProof) -> bool:
        if proof.where == CONTROLLER:  # of these only what is there is listed
            return True
        there = (host for host in self.tools.inventory.hosts if host.name not in self.tools.sight.absent)
        keeper = next((host for host in there if host.name == proof.where), None)
        return keeper is not None and self.tools.sight.keeps(keeper, proof.id, proof.sha256)

    def _lacking(self) -> str:
        proofs = self.proofs()
        refused = [f"{proof.where}: {'; '.join(proof.reasons)}" for proof in proofs if not proof.proven]
        if refused:
            return f"not proven on {', '.join(refused)}"
        old = [proof for proof in self.made_now() if not is_fresh(proof)]
        if old:
            return f"the proof of {old[0].id} is {old[0].age_seconds / 3600:.0f} h old"
        gone = [proof for proof in self.made_now() if not self._is_kept(proof)]
        if gone:
            return f"the proven copy on {_places(gone)} is gone, or another"
        return f"proven on {_places(self.fresh()) or 'no keeper'} since this began; {KEEPERS} keepers are wanted"


def is_fresh(proof: BackupProof) -> bool:
    """Whether a proof still says what may be relied on."""
    return proof.age_seconds <= FRESH_SECONDS


def _places(proofs: list[BackupProof]) -> str:
    return " and ".join(proof.where for proof in proofs)
