"""Validation of the nodes: named checks that pass, fail or are skipped. A skipped check proves nothing."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Literal

from pydantic import Field

from gb10.controller.cluster.health import disagreements, rail_faults
from gb10.controller.cluster.status import cluster_status
from gb10.controller.cluster.status_model import ClusterStatus, Model, NodeStatus, OperatorStatus
from gb10.controller.errors import Gb10Error
from gb10.controller.inventory import Inventory, InventoryHost
from gb10.controller.run.messages import Event, Reported
from gb10.controller.run.runner import OnEvent, Runner
from gb10.group_data.settings import ClusterSettings
from gb10.operations.kit import reports

DEPLOY = "gb10.deploys.validate"

# Name, and what it proves.
CHECKS = {
    "reachable": "the node answers",
    "k3s": "K3s runs on it, and it is Ready",
    "gpu-operator": "the GPU Operator's policy is ready",
    "network-operator": "the Network Operator's policy is ready",
    "gpu-allocatable": "pods may have the node's GPU",
    "rdma-allocatable": "pods may have its RDMA devices",
    "gpu-container": "a container can use its GPU",
    "rails": "its rails are up, each in a subnet of its own, with equal MTU, and fit those of the others",
    "rail-mtu": "packets of full size reach the next node over a rail",
    "rail-bandwidth": "a rail carries to the next node what its link should",
    "nccl": "an all-reduce between the nodes is fast enough; only with --nccl",
}

Outcome = Literal["pass", "fail", "skip"]


class Check(Model):
    """The result of one check."""

    check: str = Field(description="name of the check")
    node: str | None = Field(description="the node that was checked; null for the whole cluster")
    outcome: Outcome = Field(description="skip: it could not run, which proves nothing")
    reason: str = Field(description="what was found")
    peer: str | None = Field(default=None, description="the other node, if there is one")
    rail: str | None = Field(default=None, description="the rail, if one was checked")
    measured_gbps: float | None = Field(default=None, description="measured rate in Gb/s")
    code: str | None = Field(default=None, description="error code (docs/troubleshooting.md); null unless it failed")
    remedy: str | None = Field(default=None, description="what to do; null unless it failed")


class Validation(Model):
    """The result of all checks. `fail` beats `skip`, and `skip` beats `pass`; without a check it is `skip`."""

    schema_version: Literal[1] = Field(default=1, description="changes when a field is removed or changes its meaning")
    outcome: Outcome = Field(description="result of all checks together")
    checks: tuple[Check, ...] = Field(description="all wanted checks, including those that could not run")


def validate(
    runner: Callable[[Iterable[str]], Runner],
    nodes: Iterable[str] = (),
    *,
    without: Collection[str] = (),
    nccl: bool = False,
    while_serving: bool = False,
    on_event: OnEvent = lambda event: None,
) -> Validation:
    """Check the status of the cluster, then run trials on the nodes: containers on GPUs, packets on rails.

    + runner: returns a runner for a limit
    + nodes: names, patterns or groups of the inventory; all nodes if empty
    + without: names of checks to leave out
    + nccl: also run an all-reduce between the nodes
    + while_serving: load the rails even while a container runs that may be serving
    """
    everyone = runner(())
    inventory = everyone.inventory
    chosen = inventory.select(nodes)
    status = cluster_status(everyone)
    checks = list(judge(status, inventory, chosen))
    answering = [host.name for host in chosen if _of(status, host.name).reachable]
    pairs = ring(status, inventory, answering)
    trials = _Trials(
        gpu=answering if "gpu-container" not in without else [],
        pairs={} if {"rail-mtu", "rail-bandwidth"} <= set(without) else pairs,
        nccl=_nccl_nodes(pairs, chosen) if nccl and "nccl" not in without else [],
    )
    if trials.gpu or trials.pairs or trials.nccl:
        limit = [inventory.limit_pattern(host) for host in chosen if host.name in answering]
        checks += trials.run(runner(limit), while_serving, on_event)
    checks += _untried(chosen, answering, pairs)
    if nccl and not trials.nccl:
        checks.append(Check(check="nccl", node=None, outcome="skip", reason="it takes two nodes with rails"))
    return summed((_with_remedy(check, everyone) for check in checks if check.check not in without), inventory.names)


@dataclass(frozen=True)
class _Trials:
    """The trials to run: nodes that start a GPU container, node -> peer for the rails, nodes of the all-reduce."""

    gpu: list[str]
    pairs: dict[str, str]
    nccl: list[str]

    def run(self, runner: Runner, while_serving: bool, on_event: OnEvent) -> Iterator[Check]:
        """Run the trials; yield the reported checks, and a failed check for each trial that reported none."""
        checks: list[Check] = []

        def hear(event: Event) -> None:
            if isinstance(event, Reported) and isinstance(event.report, reports.Check):
                checks.append(Check.model_validate(asdict(event.report)))
            else:
                on_event(event)

        kwargs = {"gpu": bool(self.gpu), "pairs": self.pairs, "nccl": self.nccl, "while_serving": while_serving}
        result = runner.run(DEPLOY, kwargs=kwargs, on_event=hear)
        yield from checks
        causes = [error for error in result.errors if error.code != "VALIDATION_FAILED"]
        reported = {(check.check, check.node) for check in checks}
        wanted: list[tuple[str, str, str | None]] = [("gpu-container", node, None) for node in self.gpu]
        wanted += [("rail-bandwidth", node, peer) for node, peer in self.pairs.items()]
        for name, node, peer in wanted:
            if (name, node) not in reported:
                cause = next((error for error in causes if error.host == node), causes[0] if causes else None)
                yield _not_run(name, node, peer, cause)
        if self.nccl and not any(name == "nccl" for name, _ in reported):
            if causes:
                yield _not_run("nccl", self.nccl[0], ", ".join(self.nccl[1:]), causes[0])
            else:
                yield Check(check="nccl", node=None, outcome="skip", reason="no image is set: validate_nccl_image")


def _not_run(name: str, node: str, peer: str | None, cause: Gb10Error | None) -> Check:
    why = cause.summary if cause else "pyinfra left it out"
    code = cause.code if cause else "NOT_RUN"
    return Check(check=name, node=node, peer=peer, outcome="fail", reason=f"it did not run: {why}", code=code)


def summed(checks: Iterable[Check], nodes: Sequence[str] = ()) -> Validation:
    """Return the validation of all checks, in the order of CHECKS and of the nodes."""
    order, hosts = list(CHECKS), ["", *nodes]
    found = sorted(checks, key=lambda check: (order.index(check.check), hosts.index(check.node or "")))
    outcomes = {check.outcome for check in found}
    outcome: Outcome = "fail" if "fail" in outcomes else "pass" if outcomes == {"pass"} else "skip"
    return Validation(outcome=outcome, checks=tuple(found))


def unproven(found: Validation) -> Gb10Error | None:
    """Return a validation as an error, or None if every check passed."""
    if found.outcome == "pass":
        return None
    code = "VALIDATION_FAILED" if found.outcome == "fail" else "VALIDATION_INCOMPLETE"
    named = (f"{c.check} on {c.node}" if c.node else c.check for c in found.checks if c.outcome == found.outcome)
    return Gb10Error(code, reason=", ".join(dict.fromkeys(named)) or "there is no check to run")


def _with_remedy(check: Check, runner: Runner) -> Check:
    if check.outcome != "fail":
        return check
    error = runner.know(Gb10Error.reported(check.code or "UNHEALTHY", check.reason, host=check.node or ""))
    return check.model_copy(update={"code": error.code, "remedy": error.remedy})


# Checks that the status answers --------------------------------------------------------------------------------------


def judge(status: ClusterStatus, inventory: Inventory, chosen: Iterable[InventoryHost]) -> Iterator[Check]:
    """Yield the checks that a status answers, of the chosen hosts and of the cluster."""
    wanted = [head.settings(ClusterSettings) for head in inventory.group("head")]
    operators = {}
    if any(parts.gpu_operator_enabled for parts in wanted) or (status.gpu_operator and status.gpu_operator.installed):
        operators["gpu"] = status.gpu_operator
    network = status.network_operator
    if any(parts.network_operator_enabled for parts in wanted) or (network and network.installed):
        operators["network"] = network
    for name, operator in operators.items():
        yield _operator(f"{name}-operator", status, operator)
    for host in chosen:
        node = _of(status, host.name)
        yield _reachable(node)
        yield _k3s(node, status)
        for name, operator in operators.items():
            yield _allocatable("gpu-allocatable" if name == "gpu" else "rdma-allocatable", node, operator)
        if node.reachable:
            yield _rails(node, host, status)


def _of(status: ClusterStatus, name: str) -> NodeStatus:
    return next(node for node in status.nodes if node.name == name)


def _reachable(node: NodeStatus) -> Check:
    if node.reachable and not node.problem:
        return Check(check="reachable", node=node.name, outcome="pass", reason="it answers")
    reason = node.problem or "it does not answer"
    code = "FACT_UNREADABLE" if node.reachable else "NODE_UNREACHABLE"
    return Check(check="reachable", node=node.name, outcome="fail", reason=reason, code=code)


def _k3s(node: NodeStatus, status: ClusterStatus) -> Check:
    check = partial(Check, check="k3s", node=node.name)
    failed = partial(check, outcome="fail", code="UNHEALTHY")
    if not any(other.k3s for other in status.nodes):
        return check(outcome="skip", reason="K3s is not installed")
    if node.kubernetes is None:
        return failed(reason="it is no node of the cluster" if status.gpu_operator else "no API server answers")
    if not node.kubernetes.ready:
        return failed(reason=f"it is not Ready: {node.kubernetes.reason or 'no reason given'}")
    return check(outcome="pass", reason=f"Ready, {node.kubernetes.version}")


def _operator(name: str, status: ClusterStatus, operator: OperatorStatus | None) -> Check:
    check = partial(Check, check=name, node=None)
    if operator is None:
        installed = any(node.k3s for node in status.nodes)
        return check(outcome="skip", reason="no API server answers" if installed else "K3s is not installed")
    if not operator.installed:
        return check(outcome="skip", reason="it is not installed")
    if not operator.ready:
        return check(outcome="fail", reason="; ".join(operator.reasons), code="OPERATOR_NOT_READY")
    pods = f"{operator.healthy_pods} of {operator.pods} pods well"
    return check(outcome="pass", reason=f"{operator.chart_version or 'ready'}, {pods}")


def _allocatable(name: str, node: NodeStatus, operator: OperatorStatus | None) -> Check:
    check = partial(Check, check=name, node=node.name)
    if operator is None or not operator.installed:
        return check(outcome="skip", reason="the operator that offers it is not installed")
    amount = operator.offered.get(node.node_name, "0")
    if amount == "0":
        return check(outcome="fail", reason=f"it offers no {operator.resource}", code="RESOURCE_MISSING")
    return check(outcome="pass", reason=f"{amount} {operator.resource}")


def _rails(node: NodeStatus, host: InventoryHost, status: ClusterStatus) -> Check:
    check = partial(Check, check="rails", node=node.name)
    if node.connectx7 is None:
        return check(outcome="skip", reason="there is no ConnectX-7")
    if not host.rails:
        return check(outcome="skip", reason="the inventory names no rails")
    faults = list(rail_faults(node, host.rails))
    faults += [reason for name, reason in disagreements(status.nodes) if name == node.name]
    if faults:
        return check(outcome="fail", reason="; ".join(faults), code="RAIL_FAULT")
    halves = sorted((half.rail or "", half.mtu_bytes, half.rate_gbps) for half in node.connectx7.halves if half.rail)
    rails = (f"{rail} up" + (f" with {rate:g} Gb/s" if rate else "") + f", MTU {mtu}" for rail, mtu, rate in halves)
    return check(outcome="pass", reason="; ".join(rails))


# Trials --------------------------------------------------------------------------------------------------------------


def ring(status: ClusterStatus, inventory: Inventory, answering: Collection[str]) -> dict[str, str]:
    """Return the peer to which each answering node measures its rails.

    That is the next node of the inventory with a ConnectX-7, even if that node was not chosen itself.
    """
    able = [
        node.name
        for node in status.nodes
        if node.reachable and node.connectx7 is not None and inventory.host(node.name).rails
    ]
    if len(able) < 2:
        return {}
    following = dict(zip(able, [*able[1:], able[0]], strict=True))
    return {name: following[name] for name in able if name in answering}


def _nccl_nodes(pairs: Mapping[str, str], chosen: Iterable[InventoryHost]) -> list[str]:
    """Return the nodes of the all-reduce: the chosen ones, or a single one and its peer."""
    able = [host.name for host in chosen if host.name in pairs]
    return [*able, pairs[able[0]]] if len(able) == 1 else able


def _untried(chosen: Iterable[InventoryHost], answering: Collection[str], pairs: Mapping[str, str]) -> Iterator[Check]:
    """Yield the trials that cannot run because a node or its peer is missing."""
    for host in chosen:
        if host.name not in answering:
            yield Check(check="gpu-container", node=host.name, outcome="skip", reason="it does not answer")
        if host.name not in pairs:
            reason = "it does not answer" if host.name not in answering else "no two nodes have rails that answer"
            yield Check(check="rail-bandwidth", node=host.name, outcome="skip", reason=reason)
