"""What a full wipe takes from the nodes, said before, and looked for afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gb10.controller.cluster.sight import Sight
from gb10.controller.inventory import InventoryHost
from gb10.controller.rebuild.memory import Memory
from gb10.controller.rebuild.notebook import Notebook
from gb10.controller.rebuild.words import count
from gb10.operations.copying.plan import human

CLUSTERS = {"server": "the cluster itself, with all that was deployed into it", "agent": "its place in it"}


@dataclass(frozen=True)
class Loss:
    """What a wipe takes from one node. Models are kept only if /data is a device of its own."""

    node: str
    models: tuple[str, ...]
    model_bytes: int
    images: tuple[str, ...]
    own_device: bool
    k3s: str | None

    @classmethod
    def of(cls, node: str, memory: Memory) -> Loss:
        """Return what the wipe of a node takes, by what is remembered of it."""
        return cls(
            node=node,
            models=(*memory.models, *memory.lost_models),
            model_bytes=memory.bytes,
            images=(*memory.images, *memory.lost_images),
            own_device=bool(memory.own_device),
            k3s=memory.k3s,
        )

    def lines(self) -> tuple[str, ...]:
        """In words, one matter a line."""
        models = f"{count(self.models, 'model')} ({human(self.model_bytes)}): {', '.join(self.models)}"
        fate = "kept if the installer leaves the partition of /data alone" if self.own_device else "LOST with /data"
        return (
            *([f"{models}: {fate}"] if self.models else []),
            *([f"LOST: {count(self.images, 'image')} of Docker: {', '.join(self.images)}"] if self.images else []),
            *([f"LOST: {CLUSTERS[self.k3s]} (K3s {self.k3s})"] if self.k3s else []),
            "LOST: every other file that no backup holds",
            "comes back from the backup: accounts, keys, host keys, network, Docker's and the system's settings",
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "node": self.node,
            "models": list(self.models),
            "model_bytes": self.model_bytes,
            "images": list(self.images),
            "data_has_own_device": self.own_device,
            "k3s": self.k3s,
        }


class LostModels:
    """The models that nodes had before, and that are not whole on them any more."""

    def __init__(self, before: Sequence[tuple[InventoryHost, Notebook]], sight: Sight) -> None:
        self._before = before
        self._sight = sight

    def by_host(self) -> list[tuple[InventoryHost, list[str]]]:
        """The models that each host lacks now; only hosts that lack one."""
        lost = ((host, self._of(host, notebook.memory)) for host, notebook in self._before)
        return [(host, names) for host, names in lost if names]

    def names(self) -> list[str]:
        """The models that some host lacks, each once."""
        return sorted({name for _, names in self.by_host() for name in names})

    def _of(self, host: InventoryHost, memory: Memory) -> list[str]:
        here = self._sight.repositories(host)
        had = (*memory.models, *memory.lost_models)
        return [name for name in had if name not in here or not here[name].sound]


def copy_off(host: InventoryHost) -> str:
    """The command that copies a node's models to the controller, for a person to type."""
    shell, _, login = host.ssh.rpartition(" ")
    return f"rsync -a --partial --info=progress2 -e '{shell}' {login}:{host.hub}/ MODELS/{host.name}/"
