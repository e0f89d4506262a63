"""Whether the nodes do what they are for: named checks, each passed, failed or skipped, which proves nothing."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Literal

from pydantic import Field

from gb10.controller.cluster.health import disagreements, rail_faults
from gb10.controller.cluster.status import cluster_status
from gb10.controller.cluster.status_model import ClusterStatus, Model, NodeStatus, OperatorStatus
from gb10.controller.errors import Gb10Error
from gb10.controller.inventory import Inventory, InventoryHost
from gb10.controller.run.messages import Event, Reported
from gb10.controller.run.results import RunResult
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
    """One check."""

    check: str = Field(description="its name")
    node: str | None = Field(description="the node that it is about; null for the whole cluster")
    outcome: Outcome = Field(description="skip: it could not be made, which proves nothing")
    reason: str = Field(description="what was found, in words")
    peer: str | None = Field(default=None, description="the other node, where there is one")
    rail: str | None = Field(default=None, description="of the inventory, where it is about one")
    measured_gbps: float | None = Field(default=None, description="what was measured, in Gb/s")
    code: str | None = Field(default=None, description="of the error (docs/troubleshooting.md); null unless it failed")
    remedy: str | None = Field(default=None, description="what to type next; null unless it failed")


class Validation(Model):
    """What came of all checks. `fail` beats `skip`, `skip` beats `pass`; without a check it is `skip`."""

    schema_version: Literal[1] = Field(default=1, description="changes when a field changes its meaning or goes")
    outcome: Outcome = Field(description="of all checks together")
    checks: tuple[Check, ...] = Field(description="every check that was wanted, also those that could not be made")


def validate(
    runner: Callable[[Iterable[str]], Runner],
    nodes: Iterable[str] = (),
    *,
    without: Collection[str] = (),
    nccl: bool = False,
    while_serving: bool = False,
    on_event: OnEvent = lambda event: None,
) -> Validation:
    """Look at the cluster, then try the nodes out: containers on their GPUs, packets on their rails.

    + runner: gives a runner for a limit
    + nodes: names, patterns or groups of the inventory; all without any
    + without: names of checks that are left out
    + nccl: do an all-reduce between the nodes as well
    + while_serving: load the rails even while a container runs that may be serving
    """
    everyone = runner(())
    inventory = everyone.inventory
    chosen = inventory.select(nodes)
    status = cluster_status(everyone)
    checks = list(judge(status, inventory, chosen))
    answering = [host.name for host in chosen if _of(status, host.name).reachable]
    pairs = ring(status, inventory, answering)
    trials = _Trials(answering, {} if _rails_left_out(without) else pairs, "gpu-container" not in without)
    trials.nccl = _together(answering, pairs, chosen) if nccl and "nccl" not in without else []
    if answering and trials.wanted:
        found = _Collector(on_event)
        result = runner([inventory.limit_pattern(host) for host in chosen if host.name in answering]).run(
            DEPLOY, kwargs=trials.kwargs(while_serving), on_event=found.hear
        )
        checks += trials.complete(found.checks, result)
    checks += _untried(chosen, answering, pairs)
    checks += [Check(check="nccl", node=None, outcome="skip", reason="it takes two nodes with rails")] * (
        nccl and not trials.nccl
    )
    return summed((_with_remedy(check, everyone) for check in checks if check.check not in without), inventory.names)


class _Trials:
    """What the nodes are to be tried for, and whether each trial was made."""

    def __init__(self, nodes: list[str], pairs: dict[str, str], containers: bool) -> None:
        self.nodes = nodes
        self.pairs = pairs
        self.containers = containers
        self.nccl: list[str] = []

    @property
    def wanted(self) -> bool:
        return bool(self.containers or self.pairs or self.nccl)

    def kwargs(self, while_serving: bool) -> dict[str, Any]:
        return {"gpu": self.containers, "pairs": self.pairs, "nccl": self.nccl, "while_serving": while_serving}

    def complete(self, told: list[Check], result: RunResult) -> Iterator[Check]:
        """Given what the nodes told, yield it, and a failed check for each of which nobody told anything."""
        yield from told
        causes = [error for error in result.errors if error.code != "VALIDATION_FAILED"]
        wanted: list[tuple[str, str, str | None]] = [
            ("gpu-container", node, None) for node in self.nodes if self.containers
        ]
        wanted += [("rail-bandwidth", node, peer) for node, peer in self.pairs.items()]
        for name, node, peer in wanted:
            if not any((check.check, check.node) == (name, node) for check in told):
                cause = next((error for error in causes if error.host == node), causes[0] if causes else None)
                yield _never_made(name, node, peer, cause)
        if self.nccl and not any(check.check == "nccl" for check in told):
            if causes:
                yield _never_made("nccl", self.nccl[0], ", ".join(self.nccl[1:]), causes[0])
            else:
                yield Check(check="nccl", node=None, outcome="skip", reason="no image is set: validate_nccl_image")


def _never_made(name: str, node: str, peer: str | None, cause: Gb10Error | None) -> Check:
    why = cause.summary if cause else "pyinfra left it out"
    code = cause.code if cause else "NOT_RUN"
    return Check(check=name, node=node, peer=peer, outcome="fail", reason=f"it was not made: {why}", code=code)


class _Collector:
    """Takes the reports about checks out of a run."""

    def __init__(self, on_event: OnEvent) -> None:
        self.checks: list[Check] = []
        self._on_event = on_event

    def hear(self, event: Event) -> None:
        match event:
            case Reported(_, reports.Check() as check):
                self.checks.append(Check.model_validate(asdict(check)))
            case _:
                self._on_event(event)


def summed(checks: Iterable[Check], nodes: Sequence[str] = ()) -> Validation:
    """Given checks, return the validation, in the order of CHECKS and of the nodes."""
    order, hosts = list(CHECKS), ["", *nodes]
    found = sorted(checks, key=lambda check: (order.index(check.check), hosts.index(check.node or "")))
    outcomes = {check.outcome for check in found}
    outcome: Outcome = "fail" if "fail" in outcomes else "pass" if outcomes == {"pass"} else "skip"
    return Validation(outcome=outcome, checks=tuple(found))


def unproven(found: Validation) -> Gb10Error | None:
    """Given a validation, return it as an error unless every check passed."""
    if found.outcome == "pass":
        return None
    code = "VALIDATION_FAILED" if found.outcome == "fail" else "VALIDATION_INCOMPLETE"
    named = (f"{c.check} on {c.node}" if c.node else c.check for c in found.checks if c.outcome == found.outcome)
    return Gb10Error(code, reason=", ".join(dict.fromkeys(named)) or "there was none to be made")


def _with_remedy(check: Check, runner: Runner) -> Check:
    if check.outcome != "fail":
        return check
    error = runner.know(Gb10Error.reported(check.code or "UNHEALTHY", check.reason, host=check.node or ""))
    return check.model_copy(update={"code": error.code, "remedy": error.remedy})


# What the status tells -----------------------------------------------------------------------------------------------


def judge(status: ClusterStatus, inventory: Inventory, chosen: Iterable[InventoryHost]) -> Iterator[Check]:
    """Given a status, yield the checks that it answers, for the chosen hosts and for the cluster."""
    wanted = [head.settings(ClusterSettings) for head in inventory.group("head")]
    asked = {
        "gpu": (status.gpu_operator, any(parts.gpu_operator_enabled for parts in wanted)),
        "network": (status.network_operator, any(parts.network_operator_enabled for parts in wanted)),
    }
    for name, (operator, is_wanted) in asked.items():
        if is_wanted or (operator and operator.installed):
            yield _operator(f"{name}-operator", status, operator)
    for host in chosen:
        node = _of(status, host.name)
        yield _reachable(node)
        yield _k3s(node, status)
        for name, (operator, is_wanted) in asked.items():
            if is_wanted or (operator and operator.installed):
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
    check = Check(check="k3s", node=node.name, outcome="fail", reason="", code="UNHEALTHY")
    if not any(other.k3s for other in status.nodes):
        return check.model_copy(update={"outcome": "skip", "reason": "K3s is not installed", "code": None})
    if node.kubernetes is None:
        said = "it is no node of the cluster" if status.gpu_operator else "no API server answers"
        return check.model_copy(update={"reason": said})
    if not node.kubernetes.ready:
        return check.model_copy(update={"reason": f"it is not Ready: {node.kubernetes.reason or 'no reason given'}"})
    reason = f"Ready, {node.kubernetes.version}"
    return check.model_copy(update={"outcome": "pass", "reason": reason, "code": None})


def _operator(name: str, status: ClusterStatus, operator: OperatorStatus | None) -> Check:
    check = Check(check=name, node=None, outcome="skip", reason="")
    if operator is None:
        return check.model_copy(update={"reason": _no_answer(status)})
    if not operator.installed:
        return check.model_copy(update={"reason": "it is not installed"})
    if not operator.ready:
        reason = "; ".join(operator.reasons)
        return check.model_copy(update={"outcome": "fail", "reason": reason, "code": "OPERATOR_NOT_READY"})
    pods = f"{operator.healthy_pods} of {operator.pods} pods well"
    return check.model_copy(update={"outcome": "pass", "reason": f"{operator.chart_version or 'ready'}, {pods}"})


def _no_answer(status: ClusterStatus) -> str:
    return "no API server answers" if any(node.k3s for node in status.nodes) else "K3s is not installed"


def _allocatable(name: str, node: NodeStatus, operator: OperatorStatus | None) -> Check:
    check = Check(check=name, node=node.name, outcome="skip", reason="")
    if operator is None or not operator.installed:
        return check.model_copy(update={"reason": "the operator that offers it is not installed"})
    amount = operator.offered.get(node.node_name, "0")
    if amount == "0":
        reason = f"it offers no {operator.resource}"
        return check.model_copy(update={"outcome": "fail", "reason": reason, "code": "RESOURCE_MISSING"})
    return check.model_copy(update={"outcome": "pass", "reason": f"{amount} {operator.resource}"})


def _rails(node: NodeStatus, host: InventoryHost, status: ClusterStatus) -> Check:
    check = Check(check="rails", node=node.name, outcome="skip", reason="")
    if node.connectx7 is None:
        return check.model_copy(update={"reason": "there is no ConnectX-7"})
    if not host.rails:
        return check.model_copy(update={"reason": "the inventory names no rails"})
    faults = list(rail_faults(node, host.rails))
    faults += [reason for name, reason in disagreements(status.nodes) if name == node.name]
    if faults:
        return check.model_copy(update={"outcome": "fail", "reason": "; ".join(faults), "code": "RAIL_FAULT"})
    halves = sorted((half.rail or "", half.mtu_bytes, half.rate_gbps) for half in node.connectx7.halves if half.rail)
    said = (f"{rail} up" + (f" with {rate:g} Gb/s" if rate else "") + f", MTU {mtu}" for rail, mtu, rate in halves)
    return check.model_copy(update={"outcome": "pass", "reason": "; ".join(said)})


# What is to be tried --------------------------------------------------------------------------------------------------


def ring(status: ClusterStatus, inventory: Inventory, answering: Collection[str]) -> dict[str, str]:
    """Given the nodes that are to be tried, return towards which other node the rails of each are measured.

    The next one of the inventory that has a ConnectX-7, whether it is to be tried itself or not.
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


def _together(answering: list[str], pairs: Mapping[str, str], chosen: Iterable[InventoryHost]) -> list[str]:
    """The nodes of the all-reduce: those that are to be tried, or the one and its peer."""
    able = [host.name for host in chosen if host.name in pairs]
    return [*able, pairs[able[0]]] if len(able) == 1 else able


def _untried(chosen: Iterable[InventoryHost], answering: Collection[str], pairs: Mapping[str, str]) -> Iterator[Check]:
    """Checks that need a node, or a pair of them, that there is not."""
    for host in chosen:
        if host.name not in answering:
            yield Check(check="gpu-container", node=host.name, outcome="skip", reason="it does not answer")
        if host.name not in pairs:
            reason = "it does not answer" if host.name not in answering else "no two nodes have rails that answer"
            yield Check(check="rail-bandwidth", node=host.name, outcome="skip", reason=reason)


def _rails_left_out(without: Collection[str]) -> bool:
    return {"rail-mtu", "rail-bandwidth"} <= set(without)
