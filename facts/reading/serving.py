"""Model servers of a node."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from gb10.facts.reading.values import FactValue

Mode = Literal["cluster", "solo", "off", "undecided"]
PORT = 8000


@dataclass(frozen=True)
class Engine(FactValue):
    """A process that serves, or works for one that does."""

    pid: int
    container: str | None  # None: it runs on the node itself
    mode: str  # cluster, solo, undecided; member: it works for an engine that may be on another node
    why: str  # what its mode was read from
    age_seconds: float


@dataclass(frozen=True)
class ServingContainer(FactValue):
    """A container that gb10 started to serve, or that runs and has the GPU."""

    name: str
    image: str
    mode: str | None  # that gb10 started it for; None if somebody else started it
    spec: str | None  # digest of how gb10 started it
    running: bool
    exit_code: int | None  # None while it runs
    gpu: bool  # it has one, and its name matches the serving containers
    writes_models: bool = False  # the folder of models is mounted in it, and not only to be read

    @property
    def end(self) -> str | None:
        """A text that says how it ended; None while it runs."""
        return None if self.running else f"{self.name} ended with status {self.exit_code}"


@dataclass(frozen=True, kw_only=True)
class Access(FactValue):
    """Who may use a model server."""

    open_at: str | None = None  # the address of a network at which it answers without a key


@dataclass(frozen=True)
class NodeServing(Access):
    """The model servers of a node.

    `health` is of the server on the node's port: "none" (nothing listens: nothing is there, or weights are loading),
    "up", "dead" (its engine is), "silent" (it listens and says nothing), or the status that it answered with.
    """

    mode: Mode
    reasons: tuple[str, ...]  # why the mode is undecided
    engines: tuple[Engine, ...]
    containers: tuple[ServingContainer, ...]
    health: str
    models: tuple[str, ...]  # that the server offers
    completion: bool | None  # it completed a prompt; None if none was sent
    trouble: str | None  # what the server did wrong
    memory_available_kib: int | None
    docker: bool  # a Docker engine answers

    @property
    def ours(self) -> tuple[ServingContainer, ...]:
        """The containers that gb10 started, also those that have ended."""
        return tuple(container for container in self.containers if container.mode)

    @property
    def foreign(self) -> tuple[Engine, ...]:
        """The engines that gb10 did not start."""
        names = {container.name for container in self.ours}
        return tuple(engine for engine in self.engines if engine.container not in names)

    @property
    def helps(self) -> bool:
        """Return True if its engines only work for an engine elsewhere, as Ray's workers do."""
        return {engine.mode for engine in self.engines} == {"member"}

    def wrong(self, node: str, model: str | None, *, complete: bool = True) -> list[str]:
        """Return the reasons why serving on this node is not healthy; none if it is.

        + node: the name of this node
        + model: the name that the server must offer; None: any
        + complete: the server must have completed a prompt, too
        """
        if self.health == "none":
            return [f"nothing listens on {node} yet: it loads"]
        if self.health != "up":
            return [f"the health of what serves on {node} is {self.health}"]
        wrong = []
        if model is not None and model not in self.models:
            wrong.append(f"it offers {', '.join(self.models) or 'no model'}, not {model}")
        if complete and not self.completion:
            wrong.append(f"it completes no prompt: {self.trouble or 'no reason is known'}")
        return wrong

    def container(self, mode: str) -> ServingContainer | None:
        """The container that gb10 started for a mode, or None."""
        return next((container for container in self.ours if container.mode == mode), None)


def node_serving(found: Mapping[str, Any]) -> NodeServing:
    """Read the answer of programs/serving_probe.py. Raise KeyError or TypeError if it is none."""
    containers = tuple(ServingContainer(**entry) for entry in found["containers"])
    engines = tuple(Engine(**entry) for entry in found["engines"])
    mode, reasons = _mode(engines, _puzzling(engines, containers), str(found["health"]))
    return NodeServing(
        mode=mode,
        reasons=reasons,
        engines=engines,
        containers=tuple(one for one in containers if one.mode or (one.running and one.gpu)),
        health=str(found["health"]),
        models=tuple(found["models"]),
        completion=found["completion"],
        trouble=found["trouble"],
        memory_available_kib=found["memory_available_kib"],
        docker=bool(found["docker"]),
        open_at=found.get("open_at"),
    )


def _mode(engines: Sequence[Engine], puzzling: Sequence[str], health: str) -> tuple[Mode, tuple[str, ...]]:
    modes = {engine.mode for engine in engines} - {"member"}
    if len(modes) > 1:
        return "undecided", ("its engines serve in different modes: " + "; ".join(map(_shown, engines)),)
    if "undecided" in modes or (engines and not modes):
        return "undecided", tuple(map(_shown, engines))
    if modes:
        return ("cluster" if "cluster" in modes else "solo"), ()
    if puzzling:
        return "undecided", tuple(f"container {name} has the GPU, and does not show what for" for name in puzzling)
    if health != "none":
        return "undecided", ("something answers on the port, and no engine is known to run",)
    return "off", ()


def _puzzling(engines: Sequence[Engine], containers: Sequence[ServingContainer]) -> list[str]:
    """Return the names of containers that hold the GPU without an engine in them.

    Ours are left out: one that has just been started may have no engine yet.
    """
    serving = {engine.container for engine in engines}
    busy = (one for one in containers if one.running and one.gpu and not one.mode)
    return [one.name for one in busy if one.name not in serving]


def _shown(engine: Engine) -> str:
    where = f"container {engine.container}" if engine.container else f"process {engine.pid}"
    return f"{where} ({engine.mode}: {engine.why})"
