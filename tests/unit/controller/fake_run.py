"""A run whose nodes answer what a test wants. The journal and all decisions are real."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, cast

from gb10.controller.cluster.queries import (
    BACKUPS,
    ENGINE,
    LOCK,
    OVERVIEW,
    PODS,
    SETTLED,
    STORE,
    data_of,
    models_of,
)
from gb10.controller.errors import Gb10Error
from gb10.controller.inventory import Inventory, InventoryHost
from gb10.controller.journal import Journal
from gb10.controller.rebuild.observation import OldIdentity
from gb10.controller.rebuild.person import Hooks, Person
from gb10.controller.rebuild.plan import NodePlan
from gb10.controller.rebuild.runs import begin
from gb10.controller.rebuild.snapshot import Snapshot
from gb10.controller.rebuild.tools import Tools, make_tools
from gb10.controller.run.messages import FactQuery
from gb10.controller.run.results import FactsResult, RunResult
from gb10.controller.run.runner import OnEvent, Runner
from gb10.operations.backups.state_folder import backups_folder
from tests.unit.controller import node_answers
from tests.unit.controller.two_nodes import BOTH, INVENTORY, facts, node

SNAPSHOT = Snapshot(
    identity=OldIdentity("0" * 32, "boot-1", {"enP7s7": "4c:bb:47:01:02:03"}),
    k3s="agent",
    cordoned=False,
)

ACCEPTED = {"reasons": [], "codes": [], "opened": True, "nodes": None}


@dataclass
class FakeRun:
    """A run on two healthy nodes. `answers` are facts by name and host, `errors` those that pyinfra reports."""

    inventory: Inventory = INVENTORY
    answers: dict[FactQuery[Any], dict[str, Any]] = field(default_factory=dict)
    errors: tuple[Gb10Error, ...] = ()
    notified: list[str] = field(default_factory=list)  # notifications
    events: list[Mapping[str, Any]] = field(default_factory=list)
    deployed: list[tuple[str, tuple[str, ...], dict[str, Any]]] = field(default_factory=list)
    failures: dict[str, Gb10Error] = field(default_factory=dict)  # deploy -> its error
    failure_count: int = 1_000_000  # failures before it succeeds
    options: str = ""
    kind: str = "rebuild"

    def __post_init__(self) -> None:
        hosts = self.inventory.hosts
        nothing: dict[str, Any] = dict.fromkeys(self.inventory.names)
        self.journal: Journal = begin(self.inventory, self.inventory.names[::-1], self.kind)
        self.answers = {
            OVERVIEW: dict(facts(BOTH, [node("spark-1"), node("spark-2")]).values[OVERVIEW]),
            LOCK: nothing,
            PODS: nothing,
            SETTLED: {host.name: node_answers.SETTLED for host in hosts},
            ENGINE: {host.name: () for host in hosts},
            STORE: nothing,
            BACKUPS: nothing,
            **{models_of(host): dict(nothing) for host in hosts},
            **{data_of(host): {other.name: node_answers.PLACE for other in hosts} for host in hosts},
            **self.answers,
        }

    def tools(self) -> Tools:
        runner = cast("Callable[[Iterable[str]], Runner]", lambda limit: FakeRunner(self, self.inventory.select(limit)))
        tools = make_tools(
            self.inventory,
            runner,
            self.journal,
            listener=self.events.append,
            watch=_unwatched,
            ask=lambda question: True,
            note=self.notified.append,
        )
        return replace(tools, person=FakePerson(self.notified, self.options), poll_seconds=0.01)

    def change(self, host: str, **parts: Any) -> None:
        """Change parts of the overview of a host."""
        self.answers[OVERVIEW][host] = replace(self.answers[OVERVIEW][host], **parts)

    def work(self, deploy: str, hosts: tuple[str, ...], kwargs: Mapping[str, Any]) -> RunResult:
        """Return the result of a deploy."""
        self.deployed.append(
            (deploy, hosts, {key: value for key, value in kwargs.items() if key != "progress_seconds"})
        )
        failed = deploy in self.failures and self.failure_count > 0
        self.failure_count -= failed
        return RunResult(deploy, False, hosts, errors=(self.failures[deploy],) if failed else ())

    def back_up(self, node: str = "spark-2", seconds_ago: float = 0.0) -> None:
        """Put a backup of a node on the controller and the head, proven in both places that long ago."""
        at = time.time() - seconds_ago
        backup = f"{node}-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime(at))}"
        summary = {"id": backup, "size": 3, "sha256": "5ba", "created": f"{datetime.fromtimestamp(at, UTC):%FT%TZ}"}
        proof = {"node": node, "id": backup, "proven": True, "at": at, "sha256": "5ba", "created": summary["created"]}
        proofs = [{**ACCEPTED, **proof, "where": where} for where in ("controller", "Spark-1")]
        folder = backups_folder() / node
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{backup}.tar.gz").write_bytes(b"...")
        (folder / f"{backup}.json").write_text(json.dumps(summary))
        (folder / f"{backup}.proof.json").write_text(json.dumps({"copies": proofs}))
        self.answers[BACKUPS] = {"Spark-1": (node_answers.backup_copy(node, backup, "5ba"),), "spark-2": None}

    def rebuild(self, name: str = "spark-2", snapshot: Snapshot | None = SNAPSHOT) -> NodePlan:
        """Return the plan of a node's rebuild, with this snapshot in the journal."""
        if snapshot:
            self.journal.write("remembered", node=name, memory=snapshot.to_json())
        return NodePlan(self.inventory.host(name), self.tools())


class FakePerson(Person):
    """A person who says yes, and whose notifications are kept."""

    def __init__(self, notified: list[str], options: str) -> None:
        super().__init__(Hooks(), lambda question: True, notified.append, options=options)
        self._notified = notified

    def notify(self, text: str) -> None:
        self._notified.append(text)


@contextmanager
def _unwatched(title: str, hosts: tuple[str, ...], *, copies: bool) -> Iterator[OnEvent]:
    """Show nothing."""
    yield lambda event: None


@dataclass
class FakeRunner:
    """A runner that returns the answers of a fake run."""

    fake: FakeRun
    hosts: Sequence[InventoryHost]

    @property
    def inventory(self) -> Inventory:
        return self.fake.inventory

    def know(self, error: Gb10Error) -> Gb10Error:
        return error.with_details(again="gb10 rebuild run spark-2")

    def facts(
        self, asks: Iterable[FactQuery[Any]], on_event: OnEvent | None = None, *, seconds: float = 0.0
    ) -> FactsResult:
        asked = tuple(host.name for host in self.hosts)
        answers = {ask: self.fake.answers.get(ask, {}) for ask in asks}
        values = {ask: {host: value for host, value in by.items() if host in asked} for ask, by in answers.items()}
        errors = tuple(error for error in self.fake.errors if error.host in (None, *asked))
        return FactsResult(values, asked, errors)

    def run(
        self, target: str, *, kwargs: Mapping[str, Any], dry: bool = False, on_event: OnEvent | None = None
    ) -> RunResult:
        return self.fake.work(target.removeprefix("gb10.deploys."), tuple(host.name for host in self.hosts), kwargs)
