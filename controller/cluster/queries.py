"""The facts that the controller reads, each with the type of its value."""

from __future__ import annotations

from collections.abc import Iterable

from gb10.controller.inventory import Inventory, InventoryHost
from gb10.controller.run.messages import FactQuery
from gb10.facts.reading.backups import BackupCopy
from gb10.facts.reading.docker import Belongings, SavedStore
from gb10.facts.reading.huggingface import Content, HuggingFaceCache
from gb10.facts.reading.node import DataPlace, LockHolder, SettledState
from gb10.facts.reading.overview import Overview
from gb10.facts.reading.serving import NodeServing
from gb10.group_data.settings import NodeWorkplace, ServingCare, ServingSettings
from gb10.programs.images.contents import EngineImage

OVERVIEW: FactQuery[Overview] = FactQuery("gb10.facts.overview.NodeOverview")
LOCK: FactQuery[LockHolder | None] = FactQuery("gb10.facts.node.NodeLock")
JOURNAL: FactQuery[str | None] = FactQuery("gb10.facts.node.KeptJournal")
PODS: FactQuery[dict[str, tuple[str, ...]] | None] = FactQuery("gb10.facts.cluster.EvictablePods")
SETTLED: FactQuery[SettledState] = FactQuery("gb10.facts.node.Settled")
ENGINE: FactQuery[tuple[EngineImage, ...] | None] = FactQuery("gb10.facts.images.DockerImages")
STORE: FactQuery[SavedStore | None] = FactQuery("gb10.facts.images.SavedImages")
BACKUPS: FactQuery[tuple[BackupCopy, ...] | None] = FactQuery("gb10.facts.backups.Backups")
BELONGINGS: FactQuery[Belongings | None] = FactQuery("gb10.facts.docker.DockerBelongings")
MODELS: FactQuery[HuggingFaceCache | None] = FactQuery("gb10.facts.huggingface.HuggingFaceModels")
CONTENTS: FactQuery[dict[str, Content]] = FactQuery("gb10.facts.huggingface.ModelContents")
CHECKED_STORE: FactQuery[SavedStore | None] = STORE.with_arguments(remembered=True)
DATA: FactQuery[DataPlace] = FactQuery("gb10.facts.data_mount.DataMount")
SERVING: FactQuery[NodeServing] = FactQuery("gb10.facts.serving.ServingState")


def models_of(host: InventoryHost) -> FactQuery[HuggingFaceCache | None]:
    """Return the query for the models of a host."""
    return MODELS.with_arguments(hub=host.hub)


def contents_of(host: InventoryHost, folders: Iterable[str]) -> FactQuery[dict[str, Content]]:
    """Return the query for the content of these repositories in the hub of a host."""
    return CONTENTS.with_arguments(hub=host.hub, folders=sorted(folders))


def data_of(host: InventoryHost) -> FactQuery[DataPlace]:
    """Return the query for the data folder of a host."""
    return DATA.with_arguments(path=host.settings(NodeWorkplace).data_path)


def serving_of(inventory: Inventory, complete: bool) -> FactQuery[NodeServing]:
    """Return the query for what serves on a node.

    + complete: also request a completion of one token; otherwise an engine that hangs may look healthy
    """
    first = inventory.hosts[0]
    settings = first.settings(ServingSettings)
    return SERVING.with_arguments(
        complete_seconds=settings.completion_seconds if complete else 0,
        hub=first.hub,
        marks=settings.marks,
        patterns=first.settings(ServingCare).serving_containers,
        port=settings.port,
    )
