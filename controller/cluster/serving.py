"""What is served, on which nodes, whether it answers, and what each mode needs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

from gb10.controller.cluster.queries import serving_of
from gb10.controller.cluster.status_model import NodeServingStatus, ServingStatus
from gb10.controller.inventory import Inventory, InventoryHost
from gb10.controller.run.messages import FactQuery
from gb10.controller.run.results import FactsResult
from gb10.controller.run.runner import Runner
from gb10.facts.reading.serving import NodeServing
from gb10.group_data.settings import CLUSTER, SOLO, ServingSettings

DEPLOY = "gb10.deploys.serving"


def described(inventory: Inventory) -> bool:
    """Return True if the inventory describes a serving mode. Otherwise gb10 does not manage serving."""
    return any(host.settings(ServingSettings).modes for host in inventory.hosts)


def needs(inventory: Inventory, modes: Iterable[str] = (CLUSTER, SOLO)) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the models and the images that nodes need to serve in these modes."""
    wanted = tuple(modes)
    found = [host.settings(ServingSettings).needs(wanted) for host in inventory.hosts] if described(inventory) else []
    models = dict.fromkeys(name for names, _ in found for name in names)
    images = dict.fromkeys(tag for _, tags in found for tag in tags)
    return tuple(models), tuple(images)


def load_seconds(inventory: Inventory, mode: Literal["cluster", "solo"]) -> int:
    """Return how long a mode may take from its start to its first answer."""
    return max(host.settings(ServingSettings).load_seconds_of(mode) for host in inventory.hosts)


def address(host: InventoryHost) -> str:
    """Return the base URL of the API on a host."""
    return f"http://{host.node_ip}:{host.settings(ServingSettings).port}/v1"


def serving_status(runner: Runner, *, complete: bool = True) -> ServingStatus:
    """Read what the runner's hosts serve. See `serving_of` for `complete`."""
    return build_serving(runner.inventory, runner.facts([serving_of(runner.inventory, complete)]), complete)


def build_serving(inventory: Inventory, facts: FactsResult, complete: bool) -> ServingStatus:
    """Return the serving status that the facts show. A host without facts may serve anything."""
    ask = serving_of(inventory, complete)
    nodes = tuple(_node(host, facts, ask) for host in inventory.hosts if host.name in facts.hosts)
    members = [node for node in nodes if node.mode in (CLUSTER, SOLO)]
    reasons = _undecided(nodes)
    if reasons:
        return ServingStatus(mode="undecided", healthy=False, reasons=reasons, nodes=nodes)
    if not members:
        ended = tuple(f"{node.node}: {node.trouble}" for node in nodes if node.mode == "off" and node.trouble)
        return ServingStatus(mode="off", healthy=False, reasons=ended, nodes=nodes)
    first = _answering(inventory, members)
    wrong = (*_idle(first, nodes), *_wrong(inventory.host(first.node), facts.of(first.node, ask), complete))
    return ServingStatus(
        mode=first.mode or "undecided",
        node=first.node,
        address=address(inventory.host(first.node)),
        healthy=not wrong,
        loading=first.health == "none",
        models=first.models,
        reasons=wrong,
        warnings=tuple(_warnings(inventory, facts, ask)),
        nodes=nodes,
    )


def _node(host: InventoryHost, facts: FactsResult, ask: FactQuery[NodeServing]) -> NodeServingStatus:
    found = facts.of(host.name, ask)
    if found is None:
        why = next((error.summary for error in facts.errors if error.host == host.name), f"{host.name} was not read")
        return NodeServingStatus(node=host.name, mode=None, trouble=why)
    engines = found.engines
    ended = "; ".join(container.end for container in found.ours if container.end)
    return NodeServingStatus(
        node=host.name,
        # A process that works for an engine on another node is judged together with that engine.
        mode="cluster" if found.helps else found.mode,
        engines=len(engines),
        youngest_seconds=min((engine.age_seconds for engine in engines), default=None),
        containers=tuple(dict.fromkeys(engine.container for engine in engines if engine.container)),
        health=found.health,
        models=found.models,
        completion=found.completion,
        trouble=found.trouble or "; ".join(() if found.helps else found.reasons) or ended or None,
    )


def _undecided(nodes: Sequence[NodeServingStatus]) -> tuple[str, ...]:
    """Return why it is unclear what is served; nothing if it is clear."""
    unclear = [f"{node.node}: {node.trouble}" for node in nodes if node.mode == "undecided"]
    by_mode = {mode: [node.node for node in nodes if node.mode == mode] for mode in (CLUSTER, SOLO)}
    if by_mode[CLUSTER] and by_mode[SOLO]:
        unclear.append(f"{', '.join(by_mode[CLUSTER])} serves for a cluster, {', '.join(by_mode[SOLO])} alone")
    if len(by_mode[SOLO]) > 1:
        unclear.append(f"each of {', '.join(by_mode[SOLO])} serves alone")
    if not by_mode[CLUSTER] and not by_mode[SOLO]:
        unclear += [f"{node.node}: {node.trouble}" for node in nodes if node.mode is None]
    return tuple(unclear)


def _answering(inventory: Inventory, members: Sequence[NodeServingStatus]) -> NodeServingStatus:
    """Return the node that answers, else the head."""
    heads = {host.name for host in inventory.group("head")}
    return sorted(members, key=lambda node: (node.health in (None, "none"), node.node not in heads))[0]


def _wrong(host: InventoryHost, found: NodeServing | None, complete: bool) -> Iterable[str]:
    """Return the reasons why serving on a host is not healthy."""
    own = found and host.settings(ServingSettings).described(found.mode)
    return found.wrong(host.name, own.name if own else None, complete=complete) if found else ()


def _warnings(inventory: Inventory, facts: FactsResult, ask: FactQuery[NodeServing]) -> Iterator[str]:
    """Yield who may use the API without a key, and which containers may change the models for all who serve them."""
    for host in inventory.hosts:
        found = facts.of(host.name, ask) if host.name in facts.hosts else None
        if found and found.open_at:
            place = host.node_ip if found.open_at in ("0.0.0.0", "::") else found.open_at  # noqa: S104 - compared only
            port = host.settings(ServingSettings).port
            yield f"open: anybody who reaches {place}:{port} may use it"
        for container in found.containers if found else ():
            if container.running and container.writes_models:
                yield f"{container.name} on {host.name} may write the models: {host.hub} is mounted read-write"


def _idle(first: NodeServingStatus, nodes: Sequence[NodeServingStatus]) -> Iterator[str]:
    """Yield the nodes on which nothing serves although the whole cluster should serve."""
    if first.mode == CLUSTER:
        yield from (
            f"nothing serves on {node.node}" + (f": {node.trouble}" if node.trouble else "")
            for node in nodes
            if node.mode == "off"
        )
        yield from (f"{node.node}: {node.trouble}" for node in nodes if node.mode is None)
