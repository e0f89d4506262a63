"""The state of a running lab: a JSON file that the inventory and the tests read."""

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
    """A lab's state. `docker_host` is the engine's DOCKER_HOST, or "" for the client's default."""

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
        """Return the private key for the nodes' user."""
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
        """Return the node with this name. Raise LabError if the lab has none."""
        for node in self.nodes:
            if node.name == name:
                return node
        names = ", ".join(node.name for node in self.nodes)
        raise LabError(f"Lab {self.name} has no node {name}.", f"It has {names or 'none: gb10 lab up'}.")

    def save(self) -> None:
        """Write the file in one step."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        unfinished = self.folder / "lab.json.new"
        unfinished.write_text(json.dumps(asdict(self), indent=1) + "\n")
        os.replace(unfinished, self.folder / "lab.json")


def lab_folder(name: str) -> Path:
    """Return the folder of one lab: keys, known_hosts, mirror, state."""
    return labs_folder() / name


def load(name: str) -> LabState | None:
    """Return the state of a lab, or None if it is not up. Raise LabError if the file is invalid."""
    path = lab_folder(name) / "lab.json"
    try:
        content: dict[str, Any] = json.loads(path.read_text())
        return LabState(**content)
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
        raise LabError(f"{path} is invalid: {error}.", "Remove it with: gb10 lab down") from error


def require(name: str) -> LabState:
    """Return the state of a lab. Raise LabError if it is not up."""
    state = load(name)
    if state is None:
        raise LabError(f"The lab {name!r} is not up.", "Bring it up: gb10 lab up")
    return state


def all_labs() -> list[LabState]:
    """Return all labs of this user that are up or half up."""
    names = sorted(path.parent.name for path in labs_folder().glob("*/lab.json"))
    return [state for name in names if (state := load(name))]


def forget(name: str) -> None:
    """Remove a lab's folder."""
    shutil.rmtree(lab_folder(name), ignore_errors=True)
