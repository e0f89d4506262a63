"""Answers of nodes about their models, images, disks and serving."""

from __future__ import annotations

from typing import Any

from gb10.facts.reading.backups import BackupCopy
from gb10.facts.reading.docker import SavedImage, SavedStore
from gb10.facts.reading.huggingface import HuggingFaceCache, Repository, Revision
from gb10.facts.reading.node import DataPlace, SettledState
from gb10.facts.reading.serving import Engine, Mode, NodeServing
from gb10.programs.images.contents import Contents, EngineImage, Record

SETTLED = SettledState("boot-1", 60.0, "running", ())
PLACE = DataPlace("/data", "directory", "/data", "/dev/sda", "ext4", True, 10**12, 10**12, {}, None)


def repository(name: str) -> Repository:
    return Repository(name, "model", f"models--{name}", 9, 0, 0, (Revision("c", ("main",), 2, 9, (), (), None),), 0)


def cache(*names: str) -> HuggingFaceCache:
    return HuggingFaceCache("/hub", False, tuple(map(repository, names)))


def contents(built: str = "as built") -> Contents:
    return Contents("arm64", (built,), "0")


def image(tag: str, built: str = "as built") -> EngineImage:
    return EngineImage("sha256:0", (tag,), contents(built), 9, ())


def engine(*tags: str) -> tuple[EngineImage, ...]:
    return tuple(map(image, tags))


def store(*tags: str) -> SavedStore:
    records = (Record(tag, contents(), 9, (), "sha256:c", ("sha256:l",), (), {}) for tag in tags)
    return SavedStore(tuple(SavedImage(record, (), ()) for record in records), {}, (), 0, 10**12)


def serving(mode: Mode, *, age_seconds: float = 1.0, **other: Any) -> NodeServing:
    """Return what serves on a node; at most one engine."""
    engines = (Engine(1, "c", mode, "so", age_seconds),) if mode in ("cluster", "solo") else ()
    found: dict[str, Any] = {
        "reasons": (),
        "engines": engines,
        "containers": (),
        "health": "none",
        "models": (),
        "completion": None,
        "trouble": None,
        "memory_available_kib": None,
        "docker": True,
    }
    return NodeServing(mode=mode, **{**found, **other})


def backup_copy(node: str, backup: str, sha256: str) -> BackupCopy:
    return BackupCopy(
        node=node, id=backup, complete=True, size=3, created=None, sha256=sha256, encrypted=False, parts=()
    )
