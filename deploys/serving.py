"""The model that is served: over all nodes together, on one of them, or not at all."""

from __future__ import annotations

from pyinfra.api import Host
from pyinfra.context import host, state

from gb10.group_data.settings import CLUSTER, OFF, SOLO, NodeWorkplace, ServingChoice, ServingSettings
from gb10.operations import serving as operations
from gb10.operations.kit.inventory import (
    HEAD,
    deploy,
    invalid,
    is_address,
    meeting_address,
    node_ip,
    rails_of,
    read_settings,
)
from gb10.operations.kit.operation import RefusedDeploy
from gb10.operations.kit.serving import EVERYWHERE, Plan, Seat
from gb10.operations.serving import Site


@deploy("Serving")
def serving(mode: str | None = None, node: str | None = None) -> None:
    """
    Have a model served in one mode; what serves in another one is stopped first.

    + mode: instead of `serving_mode` of group_data/all.py: "cluster", "solo" or "off"
    + node: instead of `serving_node`: name of the host that serves in mode "solo"; without either, the head

    Nothing is stopped unless all that the new mode needs is there. Run it on all nodes that are up: one that is left
    out goes on as it is.
    """
    plan, members = _plan(read_settings(ServingChoice, mode=mode or None, node=node or None))
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


def address(node: Host, port: int) -> str:
    """Given a host, return the base URL of what is served on it."""
    return f"http://{node_ip(node)}:{port}/v1"


def _plan(choice: ServingChoice) -> tuple[Plan, tuple[Host, ...]]:
    settings = read_settings(ServingSettings)
    if choice.mode is None:
        raise invalid(f"{host.name}: serving_mode says neither cluster, solo nor off")
    mode = None if choice.mode == OFF else choice.mode
    if mode and mode not in settings.modes:
        raise RefusedDeploy("SERVING_UNDESCRIBED", f"serving_modes does not describe the mode {mode!r}")
    members = _members(mode, choice.node)
    if left_out := [member.name for member in members if not state.is_host_in_limit(member)]:
        raise invalid(f"{mode} needs {', '.join(left_out)}, left out by --limit")
    return Plan(mode, tuple(member.name for member in members), settings), members


def _members(mode: str | None, node: str | None) -> tuple[Host, ...]:
    """The nodes that are to serve, the one that answers first."""
    if mode is None:
        return ()
    if mode == CLUSTER:
        every = sorted(host.inventory, key=lambda one: HEAD not in one.groups)
        if len(every) < 2:
            raise invalid("it takes two nodes to serve over the cluster")
        return tuple(every)
    wanted = node or next((one.name for one in host.inventory.groups.get(HEAD, ())), None)
    found = [one for one in host.inventory if one.name == wanted]
    if not found:
        raise invalid(f"the inventory has no host {wanted!r} to serve on")
    return tuple(found)


def _site(members: tuple[Host, ...]) -> Site:
    workplace = read_settings(NodeWorkplace)
    every = _members(CLUSTER, None) if len(list(host.inventory)) > 1 else ()
    seats = {SOLO: _seat(0, (host,))}
    if every:
        seats[CLUSTER] = _seat(every.index(host), every)
    return Site(
        nodes=tuple(one for one in host.inventory if state.is_host_in_limit(one)),
        members=members,
        patterns=tuple(workplace.serving_containers),
        home=workplace.huggingface_home,
        interfaces=tuple(rail.interface for _, rail in sorted(rails_of(host).items())),
        seats=seats,
    )


def _seat(rank: int, members: tuple[Host, ...]) -> Seat:
    rails = rails_of(members[rank])
    interface = rails[min(rails)].interface if rails else None
    own = node_ip(members[rank])
    return Seat(
        rank,
        len(members),
        meeting_address(members[rank]),
        meeting_address(members[0]),
        interface,
        (),
        own if is_address(own) else EVERYWHERE,
    )
