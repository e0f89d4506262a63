"""Serving: the plan, how far the nodes are from it, and the command lines that serve."""

from __future__ import annotations

import hashlib
import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from gb10.facts.reading.serving import NodeServing
from gb10.group_data.settings import CLUSTER, OFF, ModeName, ModeSettings, Role, ServingSettings

LABEL, SPEC_LABEL = "gb10.serving", "gb10.serving.spec"
EVERYWHERE = "0.0.0.0"  # noqa: S104 - in the container's own network, or where the inventory has no address
MASTER_PORT = 29501  # where the engines of a cluster meet


@dataclass(frozen=True)
class Seat:
    """A node's place among those that serve together. `interface` and `devices` are of its rails."""

    rank: int
    nodes: int
    address: str
    head_address: str
    interface: str | None
    devices: tuple[str, ...]
    own_address: str = EVERYWHERE  # at which clients reach it


def container_name(mode: str) -> str:
    """Return the name of the container that serves in a mode."""
    return f"gb10-serving-{mode}"


def spec_of(settings: ServingSettings, mode: ModeName, members: Sequence[str]) -> str:
    """Return a digest of how a mode is served on nodes: if it changes, the mode must be restarted."""
    waits = {"load_seconds", "stop_seconds", "completion_seconds"}
    # What an earlier version started has a digest without them.
    waits |= {name for name in ("listen", "api_key_file") if getattr(settings, name) is None}
    own = settings.modes[mode].model_dump(mode="json", exclude={"load_seconds", "memory_gib", "recognise"})
    common = settings.model_dump(mode="json", exclude={"modes", *waits})
    text = json.dumps([mode, list(members), own, common], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def run_words(settings: ServingSettings, mode: ModeName, home: str, seat: Seat, spec: str) -> list[str]:
    """Return the `docker run` that serves a mode on a node.

    + home: of Hugging Face on the node. Its hub is mounted whole under the same path, since links lead from one model
      to others, and only to be read; the token beside it is not mounted
    """
    own = settings.modes[mode]
    options = [*settings.options, *(settings.rdma_options if mode == CLUSTER else ()), *own.options]
    environment = {"HF_HOME": home, **rail_environment(mode, seat), **settings.environment, **own.environment}
    return [
        *("docker", "run", "--detach", "--pull", "never", "--name", container_name(mode)),
        *("--label", f"{LABEL}={mode}", "--label", f"{SPEC_LABEL}={spec}"),
        *options,
        *(() if mounts(options, home) else ("--volume", f"{home}/hub:{home}/hub:ro")),
        *(word for name, value in environment.items() for word in ("--env", f"{name}={value}")),
        *(("--env-file", settings.env_file) if settings.env_file else ()),
        *(("--env-file", "/dev/stdin") if settings.api_key_file else ()),  # serving-start.sh writes the key to it
        own.image or settings.image,
        *serve_words(settings, mode, seat),
    ]


def mounts(options: Sequence[str], home: str) -> bool:
    """Return True if options of `docker run` mount the cache themselves: then theirs count."""
    given = re.findall(r"(?:^| )(?:-v|--volume|--mount)[ =]?(\S+)", " ".join(options))
    places = {part for mount in given for part in re.split("[:,=]", mount)}
    return bool(places & {home, f"{home}/hub"})


def listens_on(settings: ServingSettings, mode: ModeName, seat: Seat) -> str:
    """Return the address that the API listens on: in a network of its own, the container's published ports decide."""
    options = " ".join([*settings.options, *settings.modes[mode].options])
    own = seat.own_address if re.search(r"--net(work)?[ =]host\b", options) else EVERYWHERE
    return settings.listen or own


def serve_words(settings: ServingSettings, mode: ModeName, seat: Seat) -> list[str]:
    """Return vLLM's command line for a mode on a node."""
    own = settings.modes[mode]
    words = ["vllm", "serve", own.models[0], "--host", listens_on(settings, mode, seat), "--port", str(settings.port)]
    if own.served:
        words += ["--served-model-name", own.served]
    if mode == CLUSTER:
        words += ["--tensor-parallel-size", str(seat.nodes), "--nnodes", str(seat.nodes)]
        words += ["--node-rank", str(seat.rank), "--master-addr", seat.head_address, "--master-port", str(MASTER_PORT)]
        words += ["--headless"] if seat.rank else []
    return [*words, *settings.arguments, *own.arguments]


def rail_environment(mode: str, seat: Seat) -> Mapping[str, str]:
    """Return the variables by which NCCL and its like use a node's rails."""
    if mode != CLUSTER:
        return {}
    names = ("NCCL_SOCKET_IFNAME", "GLOO_SOCKET_IFNAME", "TP_SOCKET_IFNAME", "UCX_NET_DEVICES")
    sockets = dict.fromkeys(names, seat.interface) if seat.interface else {}
    devices = {"NCCL_IB_HCA": ",".join(seat.devices)} if seat.devices else {}
    return {"VLLM_HOST_IP": seat.address, **sockets, **devices}


def launch_lines(settings: ServingSettings, mode: ModeName, home: str, seat: Seat) -> str:
    """Return the shell lines that describe a mode to a start or stop command of the inventory."""
    own = settings.modes[mode]
    known = {
        "HF_HOME": home,
        **rail_environment(mode, seat),
        "GB10_MODE": mode,
        "GB10_MODEL": own.models[0] if own.models else "",
        "GB10_PORT": str(settings.port),
        "GB10_RANK": str(seat.rank),
        "GB10_NODES": str(seat.nodes),
        "GB10_ADDRESS": seat.address,
        "GB10_HEAD_ADDRESS": seat.head_address,
        **settings.environment,
        **own.environment,
    }
    return "\n".join(f"export {name}={shlex.quote(value)}" for name, value in known.items())


class Verdict(Enum):
    """How far the nodes are from a plan."""

    SERVES = "it serves as it should"
    STARTING = "it was started as it should be, and loads"
    WRONG = "it has to be started anew"


@dataclass(frozen=True)
class Plan:
    """What is to serve. `members` are the nodes that do, the one that answers first; none without a mode."""

    mode: ModeName | None  # None: nothing is to serve
    members: tuple[str, ...]
    settings: ServingSettings

    @property
    def label(self) -> str:
        return self.mode or OFF

    @property
    def own(self) -> ModeSettings | None:
        return self.settings.modes[self.mode] if self.mode else None

    @property
    def model(self) -> str | None:
        """Served model name, or None if only the launcher knows it."""
        return self.own.name if self.own else None

    @property
    def spec(self) -> str | None:
        return spec_of(self.settings, self.mode, self.members) if self.mode else None

    def rank(self, node: str) -> int | None:
        """Return the rank of a node among those that serve, or None."""
        return self.members.index(node) if node in self.members else None


def role_of(rank: int) -> Role:
    """Return the role of a rank: the first node answers."""
    return "worker" if rank else "head"


def verdict(plan: Plan, states: Mapping[str, NodeServing | None]) -> Verdict:
    """Return how far nodes are from a plan, given what serves on each, None if unknown."""
    others = (state for name, state in states.items() if name not in plan.members and state)
    if any(state.mode != "off" or any(one.running for one in state.ours) for state in others):
        return Verdict.WRONG
    found = [states.get(name) for name in plan.members]
    placed = [state for state in found if state is not None and fits(plan, state)]
    if len(placed) < len(found):
        return Verdict.WRONG
    return _answering(plan, placed[0]) if placed else Verdict.SERVES


def fits(plan: Plan, state: NodeServing) -> bool:
    """Return True if a member runs what it should, even if that does not answer yet."""
    if plan.mode is None or state.mode not in (plan.mode, "undecided"):
        return False
    if state.mode == "undecided" and not (plan.mode == CLUSTER and state.helps):
        return False
    if any(one.running and one.mode != plan.mode for one in state.ours):
        return False
    own = state.container(plan.mode)
    # What somebody else started in this mode is as good, as long as it answers for the wanted model.
    return own is None or not own.running or own.spec == plan.spec


def _answering(plan: Plan, state: NodeServing) -> Verdict:
    if not state.wrong(plan.members[0], plan.model):
        return Verdict.SERVES
    if state.health != "none" or not plan.mode:
        return Verdict.WRONG
    age = max((engine.age_seconds for engine in state.engines), default=0.0)
    return Verdict.STARTING if age < plan.settings.load_seconds_of(plan.mode) else Verdict.WRONG
