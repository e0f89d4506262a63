"""One node and the backup that it is to get: how they differ, and what each step has to do."""

from __future__ import annotations

import functools
import json
import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pyinfra.api import Host
from pyinfra.context import state

from gb10.facts.reading.launcher import Launch
from gb10.facts.reading.reports import report
from gb10.operations.backups.accounts import AccountPlan, plan_accounts, read_accounts, read_groups
from gb10.operations.backups.reports import Remark
from gb10.operations.backups.restore_plan import (
    ACCOUNTS,
    HOST_KEYS,
    STEPS,
    Comparison,
    is_in_server,
    is_merged,
    public_texts,
    read_comparison,
    select,
    server_marks,
    wanted,
)
from gb10.operations.backups.restore_source import Backup
from gb10.operations.kit.known_hosts import public_keys
from gb10.operations.kit.operation import UnreadFactError
from gb10.operations.kit.peers import run_stream
from gb10.programs.answer import RefusedError
from gb10.programs.archive.manifest import ROOT, Member, shown
from gb10.programs.backups.store import ODD_ERRORS
from gb10.programs.confined import HOMES

FOLDER = "/var/lib/gb10/restore"
COMPARE_SECONDS = 300


def run_on_node(
    node: Host,
    function: str,
    job: Mapping[str, Any],
    seconds: int,
    give: Iterable[bytes] = (),
    paths: Iterable[str | None] = (),
) -> Any:
    """Run a function of gb10.programs.backups ("restore:put") on the node that is restored, and report its notes.

    + give: what follows the job on its standard input
    + paths: of the node, at which it works

    Return its answer. Raise RefusedError if it fails.
    """

    def told(details: Mapping[str, Any]) -> None:
        report(node, Remark(f"note: {shown(str(details.get('note')))}"))

    guarded = [HOMES, *sorted({os.path.dirname(path) for path in paths if path})]
    options: dict[str, Any] = {"seconds": seconds, "streams": True, "on_report": told, "guarded": guarded}
    launch = Launch(f"gb10.programs.backups.{function}", job, **options)
    return run_stream(node, launch, give=give, failed="RESTORE_FAILED")


@dataclass
class Restoration:
    """One node, the backup that it is to get, and how they differ. `accept`: refusals that a person overrode."""

    node: Host
    name: str  # of the node in backups
    backup: Backup
    only: tuple[str, ...] | None
    k3s_version: str
    accept: frozenset[str] = frozenset()
    stamp: str = field(default_factory=lambda: time.strftime("%Y%m%dT%H%M%SZ", time.gmtime()))
    _comparisons: dict[bool, Comparison] = field(default_factory=dict)

    @functools.cached_property
    def selection(self) -> dict[str, list[Member]]:
        """The members that each step restores."""
        return select(self.backup.manifest, self.only)

    @property
    def steps(self) -> tuple[str, ...]:
        """The steps that the backup has members for."""
        return tuple(step for step, members in self.selection.items() if members)

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
        """The paths of the backup that a diff may show."""
        return public_texts(self.backup.manifest.members)

    @property
    def host_keys(self) -> dict[str, str]:
        """The public host keys of the backup, by type."""
        found = [text for name, text in self.contents.items() if name.startswith(ROOT + HOST_KEYS)]
        return public_keys(line for text in found for line in text.decode().splitlines())

    @property
    def comparison(self) -> Comparison:
        """How the node differs; compared once to plan, and once more to act. Raise UnreadFactError."""
        if state.is_executing not in self._comparisons:
            self._comparisons[state.is_executing] = self._compare()
        return self._comparisons[state.is_executing]

    def _compare(self) -> Comparison:
        others = [m for members in self.selection.values() for m in members if not is_in_server(m)]
        compared = [*others, *server_marks(self.selection["k3s"])]
        job = {"wanted": [wanted(member, self.contents) for member in compared], "folder": FOLDER}
        paths = [member.node_path for member in compared]
        try:
            answer = run_on_node(self.node, "differences:compare", job, COMPARE_SECONDS, paths=paths)
            return read_comparison(answer)
        except RefusedError as error:
            self.node.log(error.reason)
        except ODD_ERRORS as error:
            self.node.log(f"its answer is not understood: {error!r}")
        raise UnreadFactError("what is to be restored")

    def different(self, step: str) -> list[Member]:
        """Return the members of a step that the node lacks, or has otherwise."""
        different, whole = self.comparison.different, step == "k3s" and self.server_differs
        return [m for m in self.selection[step] if m.node_path in different or (whole and is_in_server(m))]

    @property
    def server_differs(self) -> bool:
        """True if the node lacks the K3s server of the backup."""
        return any(mark.node_path in self.comparison.different for mark in server_marks(self.selection["k3s"]))

    @property
    def accounts(self) -> AccountPlan:
        """What gives the node the backup's accounts."""
        if ACCOUNTS not in self.contents or not (self.only is None or "users" in self.only):
            return AccountPlan()
        lines = json.loads(self.contents[ACCOUNTS])
        people, groups = read_accounts("\n".join(lines["passwd"])), read_groups("\n".join(lines["group"]))
        return plan_accounts(people, groups, self.comparison.accounts)

    def needs(self, step: str) -> bool:
        """Return True if a step has anything to do."""
        return bool(self.different(step)) or (step == "users" and bool(self.accounts.commands))

    @property
    def is_needed(self) -> bool:
        """True if any step has anything to do."""
        return any(map(self.needs, STEPS))
