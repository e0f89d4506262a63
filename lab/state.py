"""What is known of a lab that is up: one JSON file, which the inventory and the tests read."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from gb10.lab.paths import labs_folder
from gb10.lab.plan import MIRROR_PORT, NodePlan, bridge_address
from gb10.lab.problem import LabError


@dataclass
class LabState:
    """A lab's facts. `docker_host` is the engine's DOCKER_HOST, "" for the client's default."""

    name: str
    index: int
    docker_host: str
    image: str = ""
    numbers: list[int] = field(default_factory=list)
    pulled_rails: list[list[str]] = field(default_factory=list)
    k3s_release: str | None = None
    k3s_version: str = ""
    mirror_control: str = ""

    @property
    def folder(self) -> Path:
        return lab_folder(self.name)

    @property
    def key(self) -> Path:
        """The private key that the nodes' user accepts."""
        return self.folder / "id_ed25519"

    @property
    def known_hosts(self) -> Path:
        return self.folder / "known_hosts"

    @property
    def mirror_folder(self) -> Path:
        return self.folder / "mirror"

    @property
    def mirror_url(self) -> str:
        return f"http://{bridge_address(self.index, 'management')}:{MIRROR_PORT}"

    @property
    def nodes(self) -> list[NodePlan]:
        return [NodePlan(self.name, self.index, number) for number in self.numbers]

    def node(self, name: str) -> NodePlan:
        """Return the node of this name. Raise LabError if the lab has none."""
        for node in self.nodes:
            if node.name == name:
                return node
        names = ", ".join(node.name for node in self.nodes)
        raise LabError(f"Lab {self.name} has no node {name}.", f"It has {names or 'none: gb10 lab up'}.")

    def save(self) -> None:
        """Write the file, whole or not at all."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        unfinished = self.folder / "lab.json.new"
        unfinished.write_text(json.dumps(asdict(self), indent=1) + "\n")
        os.replace(unfinished, self.folder / "lab.json")


def lab_folder(name: str) -> Path:
    """The folder of one lab: keys, known hosts, mirror, state."""
    return labs_folder() / name


def load(name: str) -> LabState | None:
    """Return what is known of a lab, or None if it is not up. Raise LabError if its file is not understood."""
    path = lab_folder(name) / "lab.json"
    try:
        content: dict[str, Any] = json.loads(path.read_text())
        return LabState(**content)
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
        raise LabError(f"{path} is not understood: {error}.", "gb10 lab down removes it.") from error


def require(name: str) -> LabState:
    """Return what is known of a lab. Raise LabError if it is not up."""
    state = load(name)
    if state is None:
        raise LabError(f"The lab {name!r} is not up.", "Bring it up: gb10 lab up")
    return state


def all_labs() -> list[LabState]:
    """Every lab that this user has up, or half up."""
    names = sorted(path.parent.name for path in labs_folder().glob("*/lab.json"))
    return [state for name in names if (state := load(name))]


def forget(name: str) -> None:
    """Remove a lab's folder."""
    shutil.rmtree(lab_folder(name), ignore_errors=True)
