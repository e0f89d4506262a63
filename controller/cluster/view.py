"""Everything that a rebuild needs to know about the nodes: read in one run, kept until something changes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any, cast

from gb10.controller.cluster.queries import (
    BACKUPS,
    BELONGINGS,
    ENGINE,
    LOCK,
    OVERVIEW,
    PODS,
    SETTLED,
    STORE,
    data_of,
    models_of,
    serving_of,
)
from gb10.controller.cluster.serving import described
from gb10.controller.cluster.status import build_status
from gb10.controller.cluster.status_model import ClusterStatus
from gb10.controller.errors import Gb10Error
from gb10.controller.inventory import Inventory, InventoryHost
from gb10.controller.run.messages import FactQuery, Value
from gb10.controller.run.results import FactsResult
from gb10.controller.run.runner import Runner
from gb10.facts.reading.cluster import ClusterNode
from gb10.facts.reading.docker import Belongings
from gb10.facts.reading.huggingface import Repository
from gb10.facts.reading.k3s import K3sInstallation
from gb10.facts.reading.node import Identity, LockHolder
from gb10.facts.reading.overview import Overview
from gb10.programs.images.contents import Contents


class ClusterView:
    """The facts of all nodes. Hosts in `absent` are known to be away and are not read."""

    def __init__(self, runner: Callable[[Iterable[str]], Runner], inventory: Inventory) -> None:
        self._runner = runner
        self.inventory = inventory
        self.absent: set[str] = set()
        self._found: FactsResult | None = None
        self._at = 0.0

    def forget(self) -> None:
        """Read the facts again at the next use."""
        self._found = None

    @property
    def age_seconds(self) -> float:
        """Age of the present facts."""
        return time.monotonic() - self._at

    @property
    def found(self) -> FactsResult:
        """The present facts."""
        if self._found is None:
            hosts = [host for host in self.inventory.hosts if host.name not in self.absent]
            runner = self._runner([self.inventory.limit_pattern(host) for host in hosts])
            self._at = time.monotonic()
            self._found = runner.facts(self._asks())
        return self._found

    def _asks(self) -> list[FactQuery[Any]]:
        hubs = dict.fromkeys(models_of(host) for host in self.inventory.hosts)
        places = dict.fromkeys(data_of(host) for host in self.inventory.hosts)
        serving = [serving_of(self.inventory, complete=False)] if described(self.inventory) else []
        return [OVERVIEW, LOCK, PODS, SETTLED, ENGINE, STORE, BACKUPS, *hubs, *places, *serving]

    def answers(self, host: InventoryHost) -> bool:
        """Return True if the host could be read."""
        return host.name not in self.absent and self.found.has(host.name, OVERVIEW)

    def of(self, host: InventoryHost, ask: FactQuery[Value]) -> Value:
        """Return a fact of a host. Raise the error that kept it from being read."""
        found = self.found
        if not found.has(host.name, ask):
            error = next((error for error in found.errors if error.host == host.name), None)
            raise error or Gb10Error("NODE_UNREACHABLE", host=host.name, reason="its state could not be read")
        return cast("Value", found.of(host.name, ask))  # it may be None itself

    def overview(self, host: InventoryHost) -> Overview:
        return self.of(host, OVERVIEW)

    def identity(self, host: InventoryHost) -> Identity:
        """Return the identity of the host. Raise FACT_UNREADABLE if it is unknown."""
        identity = self.overview(host).identity
        if identity is None:
            raise Gb10Error("FACT_UNREADABLE", host=host.name)
        return identity

    def status(self) -> ClusterStatus:
        """Return the status of all nodes that are present."""
        return build_status(self.inventory, self.found, self._runner(()).know)

    def member(self, host: InventoryHost) -> ClusterNode | None:
        """Return the host as a node of the cluster; None if it is no member, or no API server answers."""
        for other in self.inventory.hosts:
            if self.answers(other) and (nodes := self.overview(other).nodes) is not None:
                return next((node for node in nodes if node.name == host.node_name), None)
        return None

    def is_ready(self, host: InventoryHost) -> bool:
        """Return True if the cluster has the host, and it is Ready."""
        member = self.member(host)
        return bool(member and member.ready)

    def is_cordoned(self, host: InventoryHost) -> bool | None:
        """Return True if the host is cordoned; None if it is no member, or no API server answers."""
        member = self.member(host)
        return member.cordoned if member else None

    def k3s(self, host: InventoryHost) -> K3sInstallation | None:
        """The K3s installation of the host, or None."""
        return self.overview(host).k3s

    def lock(self, host: InventoryHost) -> LockHolder | None:
        """Return the holder of the host's lock, or None."""
        return self.of(host, LOCK)

    def waits_for(self, host: InventoryHost) -> tuple[str, ...]:
        """Return the jobs that still run after the installation of the host."""
        return self.of(host, SETTLED).waits_for

    def evictable(self, host: InventoryHost) -> tuple[str, ...] | None:
        """Return the pods that a drain of the host would move; None if no API server answers."""
        for other in self.inventory.hosts:
            if self.answers(other) and (pods := self.of(other, PODS)) is not None:
                return tuple(pods.get(host.node_name, ()))
        return None

    def repositories(self, host: InventoryHost) -> dict[str, Repository]:
        """Return the repositories in the host's Hugging Face cache by the names that people type."""
        cache = self.of(host, models_of(host))
        return {typed_name(repository): repository for repository in (cache.repositories if cache else ())}

    def engine_images(self, host: InventoryHost) -> dict[str, Contents]:
        """Return tag -> contents of the images in the host's Docker engine; empty if none answers."""
        return {tag: image.contents for image in self.of(host, ENGINE) or () for tag in image.tags}

    def saved_images(self, host: InventoryHost) -> dict[str, Contents]:
        """Return tag -> contents of the intact images in the host's store."""
        store = self.of(host, STORE)
        return store.contents if store else {}

    def keeps(self, host: InventoryHost, backup: str, sha256: str | None) -> bool:
        """Return True if the host keeps a complete backup with this digest."""
        kept = self.of(host, BACKUPS) or ()
        return any(copy.complete and (copy.id, copy.sha256) == (backup, sha256) for copy in kept)

    def data_bytes(self, host: InventoryHost) -> int:
        """Return the size of the disk that holds the host's data."""
        return self.of(host, data_of(host)).size_bytes

    def has_own_device(self, host: InventoryHost) -> bool:
        """Return True if the host keeps its data on a device of its own."""
        return self.of(host, data_of(host)).own_device

    def belongings(self, host: InventoryHost) -> Belongings | None:
        """Read the volumes and containers of the host's Docker engine now; None if they cannot be read."""
        return self._ask(host, BELONGINGS).of(host.name, BELONGINGS)

    def trouble(self, host: InventoryHost) -> str | None:
        """Check now if the host answers; return the reason why it does not, or None."""
        found = self._ask(host, LOCK)
        if found.has(host.name, LOCK):
            return None
        return next((error.summary for error in found.errors), f"{host.name} does not answer")

    def _ask(self, host: InventoryHost, ask: FactQuery[Any]) -> FactsResult:
        return self._runner([self.inventory.limit_pattern(host)]).facts([ask])


def typed_name(repository: Repository) -> str:
    """Return the name of a repository as people type it: "org/name", "datasets/org/name"."""
    return repository.name if repository.kind == "model" else f"{repository.kind}s/{repository.name}"


def download_command(host: InventoryHost, name: str) -> str:
    """Return the command with which a person downloads a repository to a host."""
    kind, _, rest = name.partition("/")
    what = f"--repo-type {kind[:-1]} {rest}" if kind in ("datasets", "spaces") else name
    return f"{host.ssh} hf download {what}"
