"""The model that is served: over all nodes together, on one of them, or not at all."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel
from pyinfra.api import Host, deploy
from pyinfra.api.exceptions import DeployError
from pyinfra.context import host, state

from gb10.deploys.settings import HEAD, checked, node_ip, value
from gb10.group_data import all as defaults
from gb10.operations import serving as operations
from gb10.operations.kit.serving_modes import CLUSTER, OFF, SOLO, Seat, ServingSettings
from gb10.operations.kit.serving_plan import Plan
from gb10.operations.serving import Site


class ServingChoice(BaseModel):
    """What is to be served, and for "solo" on which node."""

    serving_mode: Literal["cluster", "solo", "off"]
    serving_node: str | None


@deploy("Serving")
def serving(mode: str | None = None, node: str | None = None) -> None:
    """
    Have a model served in one mode; what serves in another one is stopped first.

    + mode: instead of `serving_mode` of group_data/all.py: "cluster", "solo" or "off"
    + node: instead of `serving_node`: name of the host that serves in mode "solo"; without either, the head

    Nothing is stopped unless all that the new mode needs is there. Run it on all nodes that are up: one that is left
    out goes on as it is.
    """
    chosen = {"serving_mode": mode or value("serving_mode"), "serving_node": node or value("serving_node")}
    plan, members = _plan(checked(ServingChoice, chosen))
    site = _site(members)
    operations.can_serve(name=f"Can be served: {plan.label}", plan=plan, site=site)
    stop = operations.stopped(name=f"Stop what serves otherwise than {plan.label}", plan=plan, site=site)
    if not members:
        return
    start = operations.started(name=f"Start {plan.label}", plan=plan, site=site, after=stop)
    operations.answers(
        name=f"Wait for {plan.label} to answer",
        plan=plan,
        site=site,
        after=start,
        address=address(members[0], plan.settings.port),
    )


def serving_settings() -> ServingSettings:
    """Return how models are served. Raise DeployError for what cannot be."""
    return checked(ServingSettings, {name: value(f"serving_{name}") for name in ServingSettings.model_fields})


def address(node: Host, port: int) -> str:
    """Given a host, return the base URL of what is served on it."""
    return f"http://{node_ip(node)}:{port}/v1"


def _plan(choice: ServingChoice) -> tuple[Plan, tuple[Host, ...]]:
    settings = serving_settings()
    mode = None if choice.serving_mode == OFF else choice.serving_mode
    if mode and mode not in settings.modes:
        raise DeployError(f"gb10: SERVING_UNDESCRIBED: serving_modes does not describe the mode {mode!r}")
    members = _members(mode, choice.serving_node)
    if left_out := [member.name for member in members if not state.is_host_in_limit(member)]:
        raise DeployError(f"gb10: SETTINGS_INVALID: {mode} needs {', '.join(left_out)}, left out by --limit")
    return Plan(mode, tuple(member.name for member in members), settings), members


def _members(mode: str | None, node: str | None) -> tuple[Host, ...]:
    """The nodes that are to serve, the one that answers first."""
    if mode is None:
        return ()
    if mode == CLUSTER:
        every = sorted(host.inventory, key=lambda one: HEAD not in one.groups)
        if len(every) < 2:
            raise DeployError("gb10: SETTINGS_INVALID: it takes two nodes to serve over the cluster")
        return tuple(every)
    wanted = node or next((one.name for one in host.inventory.groups.get(HEAD, ())), None)
    found = [one for one in host.inventory if one.name == wanted]
    if not found:
        raise DeployError(f"gb10: SETTINGS_INVALID: the inventory has no host {wanted!r} to serve on")
    return tuple(found)


def _site(members: tuple[Host, ...]) -> Site:
    rails = host.data.get("rails") or {}
    every = _members(CLUSTER, None) if len(list(host.inventory)) > 1 else ()
    seats = {SOLO: _seat(0, (host,))}
    if every:
        seats[CLUSTER] = _seat(every.index(host), every)
    return Site(
        nodes=tuple(one for one in host.inventory if state.is_host_in_limit(one)),
        members=members,
        patterns=tuple(value("node_serving_containers")),
        home=str(host.data.get("node_huggingface_home") or defaults.node_huggingface_home),
        interfaces=tuple(str(rail["interface"]) for _, rail in sorted(rails.items())),
        seats=seats,
    )


def _seat(rank: int, members: tuple[Host, ...]) -> Seat:
    rails: dict[str, Any] = members[rank].data.get("rails") or {}
    interface = str(rails[min(rails)]["interface"]) if rails else None
    return Seat(rank, len(members), _meeting(members[rank]), _meeting(members[0]), interface, ())


def _meeting(node: Host) -> str:
    """Where the others meet a node: on its first rail, or on the management network where it has none."""
    rails = node.data.get("rails") or {}
    return str(rails[min(rails)]["address"]).partition("/")[0] if rails else node_ip(node)
