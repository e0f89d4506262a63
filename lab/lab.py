"""The lab as a whole: bring nodes, networks and mirror up, change them, take them down."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

from filelock import FileLock

from gb10.lab import node as nodes
from gb10.lab import serving
from gb10.lab import state as states
from gb10.lab.clients import clients_folder
from gb10.lab.engine import ensure_engine, own_engine, start_own_engine, stop_own_engine
from gb10.lab.mirror import MirrorControl
from gb10.lab.node_image import ensure_image, remove_image
from gb10.lab.paths import labs_folder, locks_folder, state_root
from gb10.lab.plan import (
    INTERFACES,
    MIRROR_PORT,
    MOST_NODES,
    NodePlan,
    bridge_address,
    free_index,
    routed_networks,
)
from gb10.lab.problem import LabError
from gb10.lab.releases import publish
from gb10.lab.shell import Docker, ended, run
from gb10.lab.state import LabState

MIRROR_SECONDS = 15
RAILS = ("a", "b")
# Shows a named step while it runs.
Step = Callable[[str], AbstractContextManager[None]]


@dataclass(frozen=True)
class NodeStatus:
    """The current state of a node: "running", "stopped" or "missing". The fields below it are None unless it runs.

    `rails` is True for each rail whose interface has a carrier.
    """

    name: str
    role: str
    address: str
    state: str
    hostname: str | None = None
    machine_id: str | None = None
    rails: dict[str, bool] | None = None


class Lab:
    """One lab. `step` shows progress."""

    def __init__(self, name: str, step: Step = lambda _: nullcontext()) -> None:
        self.name = name
        self._step = step

    def up(self, count: int, k3s_release: Path | None = None) -> LabState:
        """Bring the lab up with at least `count` nodes and return its state. Running nodes stay as they are."""
        if not 1 <= count <= MOST_NODES:
            raise LabError(f"A lab cannot have {count} nodes.", f"Choose 1 to {MOST_NODES}.")
        with self._locked():
            state = self._register(k3s_release)
            docker = Docker(state.docker_host)
            with self._step("node image"):
                state.image = ensure_image(docker)
            with self._step("kubectl and helm"):
                clients = clients_folder()
            with self._step("mirror"):
                state.k3s_version = publish(state.mirror_folder, Path(state.k3s_release) if state.k3s_release else None)
                state.mirror_control = _start_mirror(state)
            _make_key(state)
            state.numbers = sorted({*state.numbers, *range(1, count + 1)})
            state.save()
            with self._step(f"{len(state.numbers)} nodes"):
                self._start_nodes(docker, state, clients)
        return state

    def down(self) -> None:
        """Remove the lab, and our own engine if no other lab uses it. Do nothing if there is no lab."""
        with self._locked():
            try:
                state = states.load(self.name)
            except LabError:
                state = None  # remove an unreadable state file, too
            with self._step("mirror"):
                _stop_mirror(states.lab_folder(self.name))
            docker = Docker(state.docker_host) if state else own_engine() if own_engine().answers() else Docker("")
            if docker.answers():
                with self._step("nodes and networks"):
                    _remove_everything(docker, self.name)
            with _registry_locked():
                states.forget(self.name)
                others = states.all_labs()
                if docker.answers() and not docker.listed("container", "gb10.lab") and not others:
                    with self._step("node image (its archive stays in the cache)"):
                        remove_image(docker)
                if not any(other.docker_host == own_engine().host for other in others):
                    with self._step("Docker engine"):
                        stop_own_engine()
                if not others:
                    _remove_empty_folders()

    def status(self) -> list[NodeStatus]:
        """Return the status of each node. Raise LabError if the lab is not up."""
        state = states.require(self.name)
        docker = Docker(state.docker_host)
        present = docker.listed("container", f"gb10.lab={self.name}")
        return _in_parallel(lambda node: _status(docker, node, node.container in present), state.nodes)

    def wipe(self, name: str, keep_data: bool = False, trust: bool = False) -> None:
        """Reinstall a node on the same machine, with an empty Docker and an empty /data (unless kept).

        `trust` puts its new host keys into the lab's known_hosts. Otherwise the old keys stay there, as on a real
        controller.
        """
        with self._locked():
            state = states.require(self.name)
            node, docker = state.node(name), Docker(state.docker_host)
            with self._step(f"{name} removed" + (", /data kept" if keep_data else "")):
                nodes.remove(docker, node, keep_data)
            with self._step(f"{name} reinstalled"):
                self._create(docker, state, node, clients_folder())
                nodes.wait_until_ready(docker, node)
            self._pull_again(docker, state, node)
            if trust:
                _trust(docker, state, [node])

    def reboot(self, name: str) -> None:
        """Shut a node down, boot it, and wait until it answers."""
        with self._locked():
            state = states.require(self.name)
            node, docker = state.node(name), Docker(state.docker_host)
            with self._step(f"{name} reboots"):
                nodes.restart(docker, node)
                nodes.wait_until_ready(docker, node)
            self._pull_again(docker, state, node)

    def rail(self, name: str, rail: str, plugged: bool) -> None:
        """Pull the cable of a rail at a node, or plug it in."""
        with self._locked():
            state = states.require(self.name)
            node = state.node(name)
            with self._step(f"{name}: rail {rail} {'up' if plugged else 'down'}"):
                nodes.set_cable(Docker(state.docker_host), node, state.image, rail, plugged)
            pulled = [entry for entry in state.pulled_rails if entry != [name, rail]]
            state.pulled_rails = pulled if plugged else [*pulled, [name, rail]]
            state.save()

    def download(self, name: str) -> None:
        """Put vLLM's image and two models on a node, which people download before they serve."""
        with self._locked():
            state = states.require(self.name)
            with self._step(f"{name} downloads vLLM and two models"):
                serving.download(Docker(state.docker_host), state.node(name))

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with FileLock(locks_folder() / f"lab-{self.name}.lock"):
            yield

    def _register(self, k3s_release: Path | None) -> LabState:
        """Return the lab's state, with a running engine and an index of its own."""
        with _registry_locked():
            state = states.load(self.name)
            with self._step("Docker engine"):
                docker = _engine_of(state) if state else ensure_engine()
            if state is None:
                taken = {other.index for other in states.all_labs()}
                index = free_index(taken, routed_networks(Path("/proc/net/route").read_text()))
                if index is None:
                    raise LabError("All networks for labs are in use.", "Take another lab down: gb10 lab down")
                state = LabState(self.name, index, docker.host)
            state.save()
            # Under the lock, before another lab looks for free addresses.
            with self._step("networks"):
                nodes.create_networks(docker, self.name, state.index)
            if k3s_release:
                state.k3s_release = str(k3s_release.resolve())
            state.save()
        return state

    def _start_nodes(self, docker: Docker, state: LabState, clients: Path) -> None:
        present = docker.listed("container", f"gb10.lab={self.name}")
        missing = [node for node in state.nodes if node.container not in present]

        def start(node: NodePlan) -> None:
            if node in missing:
                nodes.remove(docker, node, keep_data=False)  # volumes of an interrupted `up`
                self._create(docker, state, node, clients)
            elif not nodes.is_running(docker, node):
                nodes.start(docker, node)
            nodes.wait_until_ready(docker, node)

        _in_parallel(start, state.nodes)
        _trust(docker, state, missing)

    def _create(self, docker: Docker, state: LabState, node: NodePlan, clients: Path) -> None:
        public_key = state.key.with_suffix(".pub").read_text()
        nodes.create(docker, node, state.image, clients, public_key, default_route=state.k3s_release is not None)

    def _pull_again(self, docker: Docker, state: LabState, node: NodePlan) -> None:
        """Pull the node's pulled cables again, because a boot creates new interfaces."""
        for name, rail in state.pulled_rails:
            if name == node.name:
                nodes.set_cable(docker, node, state.image, rail, plugged=False)


def _engine_of(state: LabState) -> Docker:
    """Return the engine of a lab. Start it again if it is ours, as this machine may have rebooted."""
    docker = Docker(state.docker_host)
    if not docker.answers():
        if docker != own_engine():
            raise LabError(
                f"The lab's Docker engine ({docker.host or 'the default'}) does not answer.",
                "Start it, or remove the lab: gb10 lab down",
            )
        start_own_engine()
    return docker


def _status(docker: Docker, node: NodePlan, present: bool) -> NodeStatus:
    role = "head" if node.number == 1 else "worker"
    address = node.address("management")
    if not present:
        return NodeStatus(node.name, role, address, "missing")
    if not nodes.is_running(docker, node):
        return NodeStatus(node.name, role, address, "stopped")
    carriers = " ".join(f"/sys/class/net/{INTERFACES[rail]}/operstate" for rail in RAILS)
    hostname, machine_id, *links = docker.inside(node.container, f"hostname; cat /etc/machine-id {carriers}").split()
    rails = {rail: link == "up" for rail, link in zip(RAILS, links, strict=True)}
    return NodeStatus(node.name, role, address, "running", hostname, machine_id, rails)


def status_json(state: LabState, found: list[NodeStatus]) -> str:
    """Return the lab's state and its nodes' status as JSON."""
    lab = {**asdict(state), "ssh_user": nodes.USER, "ssh_key": str(state.key), "mirror": state.mirror_url}
    return json.dumps({"lab": lab, "nodes": [asdict(node) for node in found]}, indent=1)


T = TypeVar("T")
R = TypeVar("R")


def _in_parallel(work: Callable[[T], R], items: Iterable[T]) -> list[R]:
    with ThreadPoolExecutor(max_workers=8) as pool:
        return list(pool.map(work, items))


def _make_key(state: LabState) -> None:
    if not state.key.exists():
        run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", f"gb10-lab-{state.name}", "-f", str(state.key)])


def _trust(docker: Docker, state: LabState, trusted: list[NodePlan]) -> None:
    """Replace the host keys of these nodes in the lab's known_hosts by their current ones."""
    before = state.known_hosts.read_text().splitlines() if state.known_hosts.exists() else []
    names = tuple(f"{node.name}," for node in trusted)
    kept = [line for line in before if not line.startswith(names)]
    added = [line for node in trusted for line in nodes.host_keys(docker, node)]
    state.known_hosts.write_text("".join(f"{line}\n" for line in kept + added))


def _start_mirror(state: LabState) -> str:
    """Start the mirror unless it answers. Return the address of its control endpoint."""
    if state.mirror_control and MirrorControl(state.mirror_control, state.mirror_folder).answers():
        return state.mirror_control
    ready = state.folder / "mirror.json"
    ready.unlink(missing_ok=True)
    address = bridge_address(state.index, "management")
    command = [sys.executable, "-m", "gb10.lab.mirror", str(state.mirror_folder), address, str(MIRROR_PORT), str(ready)]
    with (state.folder / "mirror.log").open("ab") as log:
        # Forked by setsid, so that it outlives this process.
        subprocess.run(
            ["setsid", "--fork", *command], stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=True, cwd="/"
        )
    deadline = time.monotonic() + MIRROR_SECONDS
    while not ready.exists():
        if time.monotonic() > deadline:
            log_end = (state.folder / "mirror.log").read_text()[-500:]
            raise LabError(f"The mirror did not start: {log_end}", f"Is port {MIRROR_PORT} of {address} in use?")
        time.sleep(0.05)
    return str(json.loads(ready.read_text())["control"])


def _stop_mirror(folder: Path) -> None:
    """Stop the mirror if it runs. Check the command line first, because its id may belong to another process by now."""
    try:
        pid = int(json.loads((folder / "mirror.json").read_text())["pid"])
        command = Path(f"/proc/{pid}/cmdline").read_bytes().decode()
    except (OSError, ValueError, KeyError):
        return
    if str(folder / "mirror") in command:
        os.kill(pid, signal.SIGTERM)
        while not ended(pid):
            time.sleep(0.02)


def _remove_everything(docker: Docker, lab: str) -> None:
    """Remove all containers, volumes and networks with the lab's label."""
    label = f"gb10.lab={lab}"
    for container in docker.listed("container", label):
        with nodes.one_by_one():
            docker("container", "rm", "--force", "--volumes", container)
    for volume in docker.listed("volume", label):
        docker("volume", "rm", "--force", volume)
    for network in docker.listed("network", label):
        _remove_network(docker, network)


def _remove_network(docker: Docker, network: str) -> None:
    try:
        docker("network", "rm", network)
    except LabError as error:
        if "active endpoints" not in error.what:
            raise
        # Docker has lost count of the endpoints. Our own engine's networks go when it stops with the last lab.
        if docker != own_engine():
            raise LabError(error.what, "Restart Docker (systemctl restart docker), then: gb10 lab down") from error


def _registry_locked() -> FileLock:
    return FileLock(locks_folder() / "registry.lock")


def _remove_empty_folders() -> None:
    for folder in (labs_folder(), state_root()):
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
