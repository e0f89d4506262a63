"""The backups of one node during a rebuild, and when there are enough of them."""

from __future__ import annotations

from typing import Protocol

from gb10.controller.backups import CONTROLLER, evidence_for
from gb10.controller.cluster.sight import Sight
from gb10.controller.errors import Gb10Error
from gb10.controller.journal import moment
from gb10.controller.rebuild.gate import Demand
from gb10.controller.rebuild.history import NodeHistory
from gb10.controller.rebuild.reporting import Report
from gb10.controller.rebuild.roles import Roles
from gb10.controller.rebuild.step import Evidence
from gb10.controller.rebuild.tools import Person, Work
from gb10.facts.reading.backups import BackupProof

FRESH_SECONDS = 3600.0  # a backup with an older proof is made anew: the node may have changed since
KEEPERS = 2  # that must have it: one may be lost together with the node


class Backups:
    """The newest backup of a node: made, proven, and looked at."""

    def __init__(
        self, roles: Roles, history: NodeHistory, sight: Sight, work: Work, report: Report, person: Person
    ) -> None:
        self.name = roles.name
        self._roles = roles
        self._history = history
        self._sight = sight
        self._work = work
        self._report = report
        self._person = person

    def back_up(self) -> None:
        """Make a backup on the controller and on other nodes. Raise if one of them did not get it."""
        self._work("backup", f"Back {self.name} up", (self.name,))

    def prove(self) -> None:
        """Prove every copy of the newest backup. Raise if one of them is not proven."""
        self._work("prove_backup", f"Prove the backup of {self.name}", (self.name,))

    def command(self) -> str:
        """What a person types to make a backup by hand, and to prove it."""
        return f"{self._person.command('backup', self.name)} && {self._person.command('backup prove', self.name)}"

    def proofs(self) -> list[BackupProof]:
        """The proofs of the newest backup, one for each place that has it."""
        return evidence_for(self._roles.target.node_name)

    def made_now(self) -> list[BackupProof]:
        """The proofs that hold, of a backup that was made in this run."""
        began = self._history.began
        if began is None:
            return []
        found = [proof for proof in self.proofs() if proof.proven and proof.created]
        return [proof for proof in found if moment(str(proof.created)).timestamp() >= int(began)]

    def fresh(self) -> list[BackupProof]:
        """Those of them that were made lately, of copies that are still there."""
        return [proof for proof in self.made_now() if is_fresh(proof) and self.is_kept(proof)]

    def is_kept(self, proof: BackupProof) -> bool:
        """Return True if the proven copy is still there. A node that is away is not asked, and counts for nothing."""
        if proof.where == CONTROLLER:  # of these only what is there is listed
            return True
        present = (host for host in self._roles.inventory.hosts if host.name not in self._sight.absent)
        keeper = next((host for host in present if host.name == proof.where), None)
        return keeper is not None and self._sight.keeps(keeper, proof.id, proof.sha256)

    def remember(self) -> None:
        """Write down which backup is to be restored."""
        if found := self.fresh():
            places = [one.where for one in found]
            self._report("backed-up", node=self.name, backup=found[0].id, places=places)


class Keeping(Protocol):
    """When there are enough backups of a node, and how they are made."""

    @property
    def name(self) -> str: ...

    def look(self) -> Evidence:
        """Look whether there are enough proven backups."""

    def make(self) -> None:
        """Make and prove them. Raise if there are not enough then."""

    def demand(self) -> Demand:
        """What the gate asks for."""


class TwoKeepers:
    """A backup counts once it is proven in two places, so that one of them may be lost with the node."""

    def __init__(self, backups: Backups) -> None:
        self.name = backups.name
        self._backups = backups

    def look(self) -> Evidence:
        found = self._backups.fresh()
        if len(found) < KEEPERS:
            return Evidence(False, self._lacking())
        return Evidence(True, f"{found[0].id} is proven on {_places(found)}", {"backup": found[0].id})

    def make(self) -> None:
        self._backups.back_up()
        self._backups.prove()

    def demand(self) -> Demand:
        found = self._backups.fresh()
        holds = len(found) >= KEEPERS
        age = max((proof.age_seconds for proof in found), default=0.0)
        text = f"{found[0].id} on {_places(found)}" if holds else self._lacking()
        return Demand("backup", holds, text, age, "" if holds else self._backups.command())

    def _lacking(self) -> str:
        proofs = self._backups.proofs()
        refused = [f"{proof.where}: {'; '.join(proof.reasons)}" for proof in proofs if not proof.proven]
        if refused:
            return f"not proven on {', '.join(refused)}"
        made = self._backups.made_now()
        if old := [proof for proof in made if not is_fresh(proof)]:
            return _too_old(old[0])
        if gone := [proof for proof in made if not self._backups.is_kept(proof)]:
            return f"the proven copy on {_places(gone)} is gone, or another"
        places = _places(self._backups.fresh()) or "no keeper"
        return f"proven on {places} since this began; {KEEPERS} keepers are wanted"


class ControllerAlone:
    """Only the controller's copy counts: all nodes are wiped, so none of them can keep a backup."""

    def __init__(self, backups: Backups) -> None:
        self.name = backups.name
        self._backups = backups

    def look(self) -> Evidence:
        found = next((one for one in self._backups.made_now() if one.where == CONTROLLER), None)
        if found is None:
            refused = [text for one in self._backups.proofs() if one.where == CONTROLLER for text in one.reasons]
            reason = f": {'; '.join(refused)}" if refused else ""
            return Evidence(False, f"the controller has no proven backup of {self.name} from this run{reason}")
        if not is_fresh(found):
            return Evidence(False, _too_old(found))
        return Evidence(True, f"{found.id}, proven {found.age_seconds:.0f} s ago", {"backup": found.id})

    def make(self) -> None:
        """Back the node up, and prove that. Raise if the controller has no proven backup then.

        That another node did not get its copy is no matter: it may be wiped by now.
        """
        troubles = []
        for work in (self._backups.back_up, self._backups.prove):
            try:
                work()
            except Gb10Error as error:
                if error.code == "INTERRUPTED":
                    raise
                troubles.append(error)
        if troubles and not self.look().holds:
            raise troubles[0]

    def demand(self) -> Demand:
        found = self.look()
        return Demand("backup", found.holds, found.text, remedy="" if found.holds else self._backups.command())


def is_fresh(proof: BackupProof) -> bool:
    """Return True if a proof is young enough to rely on."""
    return proof.age_seconds <= FRESH_SECONDS


def _too_old(proof: BackupProof) -> str:
    return f"the proof of {proof.id} is {proof.age_seconds / 3600:.0f} h old"


def _places(proofs: list[BackupProof]) -> str:
    return " and ".join(proof.where for proof in proofs)
