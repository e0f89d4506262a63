"""What is remembered of a node before its wipe, in the journal: no fact can tell it afterwards."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from gb10.controller.cluster.sight import Sight
from gb10.controller.inventory import InventoryHost
from gb10.controller.journal import Journal
from gb10.controller.rebuild.arrival import Before
from gb10.controller.rebuild.words import count
from gb10.facts.reading.huggingface import Repository
from gb10.group_data.settings import ImageSettings, RebuildSettings
from gb10.programs.images.contents import Contents, familiar

Needs = tuple[tuple[str, ...], tuple[str, ...]]  # names of models, and tags of images


@dataclass(frozen=True)
class Revision:
    """A revision of a model: as many files, of that size in bytes."""

    commit: str
    files: int
    size: int
    sound: bool


@dataclass(frozen=True)
class Model:
    """What of a repository tells whether another node has all of it."""

    name: str
    kind: str
    size: int
    revisions: tuple[Revision, ...]

    @classmethod
    def of(cls, repository: Repository) -> Model:
        """Return what counts here of a repository."""
        revisions = (Revision(one.commit, one.files, one.size, one.sound) for one in repository.revisions)
        return cls(repository.name, repository.kind, repository.size, tuple(revisions))

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Model:
        """Read what `asdict` returned."""
        revisions = (Revision(one["commit"], one["files"], one["size"], one["sound"]) for one in document["revisions"])
        return cls(document["name"], document["kind"], int(document["size"]), tuple(revisions))

    def is_copied(self, other: Model | None) -> bool:
        """Return True if another node's repository has every revision of this one, whole."""
        there = {(one.commit, one.files, one.size) for one in (other.revisions if other else ()) if one.sound}
        return all((one.commit, one.files, one.size) in there for one in self.revisions)


@dataclass(frozen=True)
class Served:
    """A mode of serving, and the node that answers."""

    mode: str
    node: str | None


@dataclass(frozen=True)
class Memory:
    """A node as it was before its rebuild began."""

    before: Before  # what tells the wiped node from others
    k3s: str | None  # "server", "agent", or None without K3s
    cordoned: bool  # by somebody else, before we began
    operators: tuple[str, ...] = ()  # that were installed: "gpu-operator", "network-operator"
    own_device: bool | None = None  # whether its place for data is a device of its own
    models: dict[str, Model] = field(default_factory=dict)  # by name, whole ones only
    lost_models: tuple[str, ...] = ()  # that are not whole, and will not come back
    images: dict[str, Contents] = field(default_factory=dict)  # tag -> what makes it what it is
    lost_images: tuple[str, ...] = ()  # that nobody declared, and that will not come back
    served: Served | None = None  # what was served, if anything

    @property
    def bytes(self) -> int:
        """How many bytes of models come back to it."""
        return sum(model.size for model in self.models.values())

    def described(self) -> str:
        """In words: "K3s agent, 1 model, 2 images, cordoned"."""
        k3s = f"K3s {self.k3s}" if self.k3s else "no K3s"
        parts = (k3s, count(self.models, "model"), count(self.images, "image"))
        return ", ".join((*parts, "cordoned") if self.cordoned else parts)

    def to_json(self) -> dict[str, Any]:
        return {
            "identity": self.before.to_json(),
            "k3s": self.k3s,
            "cordoned": self.cordoned,
            "operators": list(self.operators),
            "own_device": self.own_device,
            "models": {name: asdict(model) for name, model in self.models.items()},
            "lost_models": list(self.lost_models),
            "images": {tag: asdict(contents) for tag, contents in self.images.items()},
            "lost_images": list(self.lost_images),
            "serving": self.served.mode if self.served else None,
            "serving_node": self.served.node if self.served else None,
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Memory:
        """Read what `to_json` returned."""
        mode = document.get("serving")
        return cls(
            before=Before.from_json(document["identity"]),
            k3s=document["k3s"],
            cordoned=document["cordoned"],
            operators=tuple(document.get("operators", ())),
            own_device=document.get("own_device"),
            models={name: Model.from_json(found) for name, found in document.get("models", {}).items()},
            lost_models=tuple(document.get("lost_models", ())),
            images={tag: Contents.from_json(found) for tag, found in document.get("images", {}).items()},
            lost_images=tuple(document.get("lost_images", ())),
            served=Served(mode, document.get("serving_node")) if mode else None,
        )


def recall(journal: Journal, node: str) -> Memory | None:
    """Return what a journal remembers of a node, or None."""
    record = journal.last("remembered", node=node)
    return Memory.from_json(record["memory"]) if record else None


def look_at(sight: Sight, host: InventoryHost, needs: Needs, old: Memory | None = None) -> Memory:
    """Look at a node, and return what is to be remembered of it.

    + needs: models and images that come back even if they are not chosen
    + old: what is remembered already; it counts for everything that we may have changed since
    """
    repositories = sight.repositories(host)
    chosen = host.settings(RebuildSettings).models
    wanted = {name: found for name, found in repositories.items() if "*" in chosen or name in (*chosen, *needs[0])}
    engine = sight.engine_images(host)
    tags = tuple(dict.fromkeys(map(familiar, (*host.settings(ImageSettings).images, *needs[1]))))
    cordoned, k3s = sight.is_cordoned(host), sight.k3s(host)  # None: no member of a cluster, and no K3s
    status = sight.status()
    operators = {"gpu-operator": status.gpu_operator, "network-operator": status.network_operator}
    return Memory(
        before=old.before if old else Before.of(sight.identity(host)),
        k3s=old.k3s if old else k3s.role if k3s and cordoned is not None else None,
        cordoned=old.cordoned if old else bool(cordoned),
        operators=tuple(name for name, found in operators.items() if found and found.installed),
        own_device=sight.has_own_device(host),
        models={name: Model.of(found) for name, found in wanted.items() if found.sound},
        lost_models=tuple(name for name, found in repositories.items() if name not in wanted or not found.sound),
        images={tag: engine[tag] for tag in tags if tag in engine},
        lost_images=tuple(tag for tag in engine if tag not in tags),
        served=old.served if old else None,
    )


def kept(memory: Memory, sight: Sight, keeper: InventoryHost, overrides: Collection[str]) -> Memory:
    """Return what of a node comes back.

    What the gate does without comes back only if the keeper has it: otherwise the steps after the wipe would never end.
    """
    lost_models: list[str] = []
    lost_images: list[str] = []
    if "models" in overrides:
        lost_models = missing_models(memory.models, sight.repositories(keeper))
    if "images" in overrides:
        lost_images = missing_images(memory.images, {**sight.saved_images(keeper), **sight.engine_images(keeper)})
    return replace(
        memory,
        models={name: found for name, found in memory.models.items() if name not in lost_models},
        lost_models=(*memory.lost_models, *lost_models),
        images={tag: found for tag, found in memory.images.items() if tag not in lost_images},
        lost_images=(*memory.lost_images, *lost_images),
    )


def missing_models(wanted: Mapping[str, Model], there: Mapping[str, Repository]) -> list[str]:
    """Return the names of models of which another node lacks a revision."""
    others = {name: Model.of(found) for name, found in there.items() if name in wanted}
    return [name for name, model in wanted.items() if not model.is_copied(others.get(name))]


def missing_images(wanted: Mapping[str, Contents], there: Mapping[str, Contents]) -> list[str]:
    """Return the tags of images that another node lacks, or has with other contents."""
    return [tag for tag, contents in wanted.items() if there.get(tag) != contents]
