"""What a node is and has before its wipe. It is recorded in the journal, because no fact can tell it afterwards."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sized
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from gb10.controller.cluster.view import ClusterView
from gb10.controller.inventory import InventoryHost
from gb10.controller.rebuild.observation import OldIdentity
from gb10.controller.rebuild.step import Evidence, count, first_names
from gb10.facts.reading.huggingface import Repository
from gb10.group_data.settings import ImageSettings, RebuildSettings
from gb10.programs.images.contents import Contents, familiar

Needs = tuple[tuple[str, ...], tuple[str, ...]]  # names of models, and tags of images


@dataclass(frozen=True)
class Revision:
    """A revision of a model: the number of its files, and their size in bytes."""

    commit: str
    files: int
    size: int
    sound: bool


@dataclass(frozen=True)
class Model:
    """The parts of a repository that show if another node has all of it."""

    name: str
    kind: str
    size: int
    revisions: tuple[Revision, ...]

    @classmethod
    def of(cls, repository: Repository) -> Model:
        """Return the model in a repository."""
        revisions = (Revision(one.commit, one.files, one.size, one.sound) for one in repository.revisions)
        return cls(repository.name, repository.kind, repository.size, tuple(revisions))

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Model:
        """Read the result of `asdict`."""
        revisions = (Revision(one["commit"], one["files"], one["size"], one["sound"]) for one in document["revisions"])
        return cls(document["name"], document["kind"], int(document["size"]), tuple(revisions))

    def is_copied(self, other: Model | None) -> bool:
        """Return True if another node has every revision of this model, whole."""
        there = {(one.commit, one.files, one.size) for one in (other.revisions if other else ()) if one.sound}
        return all((one.commit, one.files, one.size) in there for one in self.revisions)


@dataclass(frozen=True)
class Served:
    """A mode of serving, and the node that answers."""

    mode: str
    node: str | None


@dataclass(frozen=True)
class Snapshot:
    """A node as it was before its rebuild began."""

    identity: OldIdentity
    k3s: str | None  # "server", "agent", or None without K3s
    cordoned: bool  # by somebody else, before the rebuild
    operators: tuple[str, ...] = ()  # that were installed: "gpu-operator", "network-operator"
    own_device: bool | None = None  # True if /data is a device of its own
    models: dict[str, Model] = field(default_factory=dict)  # by name, whole ones only
    lost_models: tuple[str, ...] = ()  # that are not whole or not chosen, and will not come back
    images: dict[str, Contents] = field(default_factory=dict)  # by tag
    lost_images: tuple[str, ...] = ()  # that no setting names, and that will not come back
    served: Served | None = None  # what was served, if anything

    @property
    def model_bytes(self) -> int:
        """Size of the models that come back to the node."""
        return sum(model.size for model in self.models.values())

    def described(self) -> str:
        """Describe the node in words: "K3s agent, 1 model, 2 images, cordoned"."""
        k3s = f"K3s {self.k3s}" if self.k3s else "no K3s"
        parts = (k3s, count(self.models, "model"), count(self.images, "image"))
        return ", ".join((*parts, "cordoned") if self.cordoned else parts)

    def to_json(self) -> dict[str, Any]:
        return {
            "identity": self.identity.to_json(),
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
    def from_json(cls, document: Mapping[str, Any]) -> Snapshot:
        """Read the result of `to_json`, also that of an earlier version."""
        mode = document.get("serving")
        return cls(
            identity=OldIdentity.from_json(document["identity"]),
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


def take_snapshot(view: ClusterView, host: InventoryHost, needs: Needs, old: Snapshot | None = None) -> Snapshot:
    """Return what a node is and has now.

    + needs: models and images that come back even if they are not chosen
    + old: an earlier snapshot; it counts for everything that the rebuild may have changed since
    """
    repositories = view.repositories(host)
    chosen = host.settings(RebuildSettings).models
    wanted = {name: found for name, found in repositories.items() if "*" in chosen or name in (*chosen, *needs[0])}
    engine = view.engine_images(host)
    tags = tuple(dict.fromkeys(map(familiar, (*host.settings(ImageSettings).images, *needs[1]))))
    cordoned, k3s = view.is_cordoned(host), view.k3s(host)  # None: not in a cluster, and no K3s
    status = view.status()
    operators = {"gpu-operator": status.gpu_operator, "network-operator": status.network_operator}
    return Snapshot(
        identity=old.identity if old else OldIdentity.of(view.identity(host)),
        k3s=old.k3s if old else k3s.role if k3s and cordoned is not None else None,
        cordoned=old.cordoned if old else bool(cordoned),
        operators=tuple(name for name, found in operators.items() if found and found.installed),
        own_device=view.has_own_device(host),
        models={name: Model.of(found) for name, found in wanted.items() if found.sound},
        lost_models=tuple(name for name, found in repositories.items() if name not in wanted or not found.sound),
        images={tag: engine[tag] for tag in tags if tag in engine},
        lost_images=tuple(tag for tag in engine if tag not in tags),
        served=old.served if old else None,
    )


def without_lost(snapshot: Snapshot, view: ClusterView, keeper: InventoryHost, overrides: Collection[str]) -> Snapshot:
    """Return a snapshot without the models and images that the keeper lacks and that the gate does not demand.

    Otherwise the steps that copy them back after the wipe would never be done.
    """
    lost_models: list[str] = []
    lost_images: list[str] = []
    if "models" in overrides:
        lost_models = missing_models(snapshot.models, view.repositories(keeper))
    if "images" in overrides:
        lost_images = missing_images(snapshot.images, {**view.saved_images(keeper), **view.engine_images(keeper)})
    return replace(
        snapshot,
        models={name: found for name, found in snapshot.models.items() if name not in lost_models},
        lost_models=(*snapshot.lost_models, *lost_models),
        images={tag: found for tag, found in snapshot.images.items() if tag not in lost_images},
        lost_images=(*snapshot.lost_images, *lost_images),
    )


# What another node lacks of it ----------------------------------------------------------------------------------------


def missing_models(wanted: Mapping[str, Model], there: Mapping[str, Repository]) -> list[str]:
    """Return the names of the models that a node lacks, or lacks a revision of."""
    others = {name: Model.of(found) for name, found in there.items() if name in wanted}
    return [name for name, model in wanted.items() if not model.is_copied(others.get(name))]


def missing_images(wanted: Mapping[str, Contents], there: Mapping[str, Contents]) -> list[str]:
    """Return the tags of the images that a node lacks, or has with other contents."""
    return [tag for tag, contents in wanted.items() if there.get(tag) != contents]


def completeness(missing: list[str], wanted: Sized, what: str, where: str) -> Evidence:
    """Return the evidence that nothing of what is wanted is missing: "2 models whole on spark-1"."""
    if missing:
        return Evidence(False, f"not {where}: {first_names(missing)}")
    return Evidence(True, f"{count(wanted, what)} {where}")


def copy_plan(missing: list[str], wanted: Sized, source: InventoryHost, target: InventoryHost) -> str:
    """Describe what is still to be copied."""
    if not missing:
        return f"nothing: {target.name} has all {len(wanted)}"
    return f"{first_names(missing)} from {source.name} to {target.name}"
