"""backup: back the node up, and prove it by restoring it on trial in each place."""

from __future__ import annotations

from gb10.controller.backups import CONTROLLER, evidence_for
from gb10.controller.errors import Gb10Error
from gb10.controller.journal import moment
from gb10.controller.rebuild.gate import Demand, Safeguard
from gb10.controller.rebuild.step import Evidence
from gb10.controller.rebuild.target import Target
from gb10.facts.reading.backups import BackupProof
from gb10.programs.backups.store import AHEAD_SECONDS

FRESH_SECONDS = 3600.0  # a backup with an older proof is made anew: the node may have changed since
KEEPERS = 2  # one may be lost together with the node


class Backup(Safeguard):
    """Back the node up. It is done when two keepers have a backup from this run with a fresh proof.

    `controller_alone`: all nodes are wiped, so only the copy of the controller counts.
    """

    name = "backup"
    title = "Back {target.name} up, and prove it"
    proves = "backup"

    def __init__(self, target: Target, *, controller_alone: bool = False) -> None:
        super().__init__(target)
        self._controller_alone = controller_alone
        self._needed = 1 if controller_alone else KEEPERS

    def plan(self) -> str:
        name = self.target.name
        return f"back {name} up to the controller and other nodes, and prove it by restoring it in each place"

    def verify(self) -> Evidence:
        found = self._counting(self._fresh())
        if len(found) < self._needed:
            return Evidence(False, self._reason())
        return Evidence(True, f"{found[0].id} is proven on {_places(found)}", {"backup": found[0].id})

    def run(self) -> None:
        """Make and prove the backup. If only the controller counts, it does not matter what other nodes did not get."""
        errors = []
        for deploy, title in (("backup", "Back {} up"), ("prove_backup", "Prove the backup of {}")):
            try:
                self.target.deploys.run(deploy, title.format(self.target.name), (self.target.name,))
            except Gb10Error as error:
                if not self._controller_alone or error.code == "INTERRUPTED":
                    raise
                errors.append(error)
        if errors and not self.verify().holds:
            raise errors[0]

    def demand(self) -> Demand:
        found, person, name = self.verify(), self.target.tools.person, self.target.name
        age = max((proof.age_seconds for proof in self._counting(self._fresh())), default=0.0)
        command = f"{person.command('backup', name)} && {person.command('backup prove', name)}"
        return Demand.of("backup", found, age, command)

    def record(self) -> None:
        """Record which backup is to be restored."""
        if found := self._fresh():
            places = [proof.where for proof in found]
            self.target.tools.report("backed-up", node=self.target.name, backup=found[0].id, places=places)

    def _proofs(self) -> list[BackupProof]:
        """Return the proofs of the newest backup, one for each place that has it."""
        return evidence_for(self.target.host.node_name)

    def _made_now(self) -> list[BackupProof]:
        """Return the valid proofs of a backup that was made in this run."""
        began = self.target.history.began
        if began is None:
            return []
        found = [proof for proof in self._proofs() if proof.proven and proof.created]
        return [proof for proof in found if moment(str(proof.created)).timestamp() >= int(began)]

    def _fresh(self) -> list[BackupProof]:
        """Return those of them that were made lately, of copies that are still there."""
        return [proof for proof in self._made_now() if _is_fresh(proof) and self._is_kept(proof)]

    def _counting(self, proofs: list[BackupProof]) -> list[BackupProof]:
        return [proof for proof in proofs if proof.where == CONTROLLER or not self._controller_alone]

    def _is_kept(self, proof: BackupProof) -> bool:
        """Return True if the proven copy is still there. A node that is away is not asked and does not count."""
        if proof.where == CONTROLLER:  # `evidence_for` lists only proofs of a copy that is there
            return True
        view = self.target.view
        keeper = next((host for host in self.target.inventory.hosts if host.name == proof.where), None)
        return keeper is not None and keeper.name not in view.absent and view.keeps(keeper, proof.id, proof.sha256)

    def _reason(self) -> str:
        """Return why there are not enough proven backups."""
        proofs = self._counting(self._proofs())
        if refused := [f"{proof.where}: {'; '.join(proof.reasons)}" for proof in proofs if not proof.proven]:
            return f"not proven on {', '.join(refused)}"
        made = self._counting(self._made_now())
        if old := [proof for proof in made if not _is_fresh(proof)]:
            return f"the proof of {old[0].id} is {old[0].age_seconds / 3600:.0f} h old"
        if gone := [proof for proof in made if not self._is_kept(proof)]:
            return f"the proven copy on {_places(gone)} is gone, or another"
        wanted = "the controller" if self._controller_alone else f"{KEEPERS} keepers"
        return f"proven on {_places(made) or 'no keeper'} since this run began; needed on {wanted}"


def _is_fresh(proof: BackupProof) -> bool:
    return -AHEAD_SECONDS <= proof.age_seconds <= FRESH_SECONDS


def _places(proofs: list[BackupProof]) -> str:
    return " and ".join(proof.where for proof in proofs)
