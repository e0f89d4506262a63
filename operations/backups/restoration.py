"""One node and the backup that it is to get: what of it differs, and what each step has to do."""

from __future__ import annotations

import functools
import json
import time
from dataclasses import dataclass, field

from pyinfra.api import Host
from pyinfra.context import state

from gb10.operations.backups.accounts import AccountPlan, plan_accounts, read_accounts, read_groups
from gb10.operations.backups.node_program import FOLDER, run_on_node
from gb10.operations.backups.parts import ACCOUNTS, HOST_KEYS, STEPS
from gb10.operations.backups.restore_plan import (
    ODD_ERRORS,
    NodeLook,
    Selection,
    in_server,
    is_merged,
    read_look,
    select,
    server_marks,
    wanted,
)
from gb10.operations.backups.restore_source import Backup
from gb10.operations.backups.shown_texts import public_texts
from gb10.operations.kit.known_hosts import public_keys
from gb10.operations.kit.operation import UnreadFactError
from gb10.programs.answer import RefusedError
from gb10.programs.archive.manifest import ROOT, Member

LOOK_SECONDS = 300


@dataclass
class Restoration:
    """One node, the backup that it is to get, and what was seen of it. `accept`: refusals that a person overrode."""

    node: Host
    name: str  # by which backups know the node
    backup: Backup
    only: tuple[str, ...] | None
    k3s_version: str
    accept: frozenset[str] = frozenset()
    stamp: str = field(default_factory=lambda: time.strftime("%Y%m%dT%H%M%SZ", time.gmtime()))
    _looks: dict[bool, NodeLook] = field(default_factory=dict)

    @functools.cached_property
    def selection(self) -> Selection:
        """The members that are to be restored."""
        return select(self.backup.manifest, self.only)

    @property
    def steps(self) -> tuple[str, ...]:
        """The steps for which the backup has anything."""
        return tuple(step for step in STEPS if self.selection[step])

    @property
    def vain(self) -> tuple[str, ...]:
        """The parts that somebody wants, and that the backup does not have."""
        return tuple(part for part in self.only or () if part not in self.backup.manifest.parts)

    @functools.cached_property
    def contents(self) -> dict[str, bytes]:
        """The small files of the backup that the plan depends on: none of them leaves this process."""
        return self.backup.contents(
            lambda member: (
                is_merged(member)
                or member.path == ACCOUNTS
                or (str(member.node_path).startswith(HOST_KEYS) and member.path.endswith(".pub"))
                or (state.config.DIFF and member.node_path in self.public)
            )
        )

    @functools.cached_property
    def public(self) -> frozenset[str]:
        """The paths whose text a diff may show, as far as the backup is concerned."""
        return public_texts(self.backup.manifest.members)

    @property
    def host_keys(self) -> dict[str, str]:
        """The public host keys of the backup, by type."""
        found = [text for name, text in self.contents.items() if name.startswith(ROOT + HOST_KEYS)]
        return public_keys(line for text in found for line in text.decode().splitlines())

    @property
    def look(self) -> NodeLook:
        """What the node has; looked at once to plan, and once more to act. Raise UnreadFactError."""
        if state.is_executing not in self._looks:
            self._looks[state.is_executing] = self._look()
        return self._looks[state.is_executing]

    def different(self, step: str) -> list[Member]:
        """Return the members of a step that the node does not have as the backup has them."""
        whole = step == "k3s" and self.server_differs
        return [m for m in self.selection[step] if m.node_path in self.look.different or (whole and in_server(m))]

    @property
    def server_differs(self) -> bool:
        """True if the node lacks the K3s server of the backup."""
        return any(mark.node_path in self.look.different for mark in server_marks(self.selection["k3s"]))

    @property
    def accounts(self) -> AccountPlan:
        """What makes the backup's accounts exist on the node."""
        if ACCOUNTS not in self.contents or not (self.only is None or "users" in self.only):
            return AccountPlan()
        lines = json.loads(self.contents[ACCOUNTS])
        people, groups = read_accounts("\n".join(lines["passwd"])), read_groups("\n".join(lines["group"]))
        return plan_accounts(people, groups, self.look.accounts)

    def needs(self, step: str) -> bool:
        """Return True if a step has anything to do."""
        return bool(self.different(step)) or (step == "users" and bool(self.accounts.commands))

    @property
    def is_needed(self) -> bool:
        """True if any step has anything to do."""
        return any(map(self.needs, STEPS))

    def _look(self) -> NodeLook:
        others = [member for member in self.selection.members if not in_server(member)]
        compared = [*others, *server_marks(self.selection["k3s"])]
        job = {"wanted": [wanted(member, self.contents) for member in compared], "folder": FOLDER}
        try:
            return read_look(run_on_node(self.node, "differences:compare", job, LOOK_SECONDS))
        except RefusedError as error:
            self.node.log(error.reason)
        except ODD_ERRORS as error:
            self.node.log(f"its answer is not understood: {error!r}")
        raise UnreadFactError("what is to be restored")
