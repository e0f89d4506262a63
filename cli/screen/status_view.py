"""Tables and lines that show the status, what is served, and a validation."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from contextlib import nullcontext
from datetime import datetime
from typing import NoReturn

from rich.console import Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from gb10.cli.screen.console import BARE, stdout
from gb10.controller.cluster.health import operators
from gb10.controller.cluster.status_model import ClusterStatus, GpuStatus, HalfStatus, NodeStatus, ServingStatus
from gb10.controller.cluster.validate import Check, Validation

OUTCOMES = {"pass": ("✓", "green"), "fail": ("✗", "bold red"), "skip": ("-", "yellow")}
NONE = "[dim]-[/]"


def print_status(status: ClusterStatus) -> None:
    for part in status_tables(status):
        stdout.print(part)
    for line in status_lines(status):
        stdout.print(line, soft_wrap=True)  # not wrapped, so that a command can be copied


def watch(look: Callable[[], ClusterStatus], seconds: float) -> NoReturn:
    """Show the status again and again until Ctrl-C; on a terminal always in the same place."""
    with Live(console=stdout, auto_refresh=False) if stdout.is_terminal else nullcontext() as live:
        while True:
            status = look()
            clock = Text(f"{datetime.now():%H:%M:%S}", style="dim")
            shown = Group(*status_tables(status), *status_lines(status), clock)
            if live:
                live.update(shown, refresh=True)
            else:
                stdout.print(shown)
            time.sleep(seconds)


def status_tables(status: ClusterStatus) -> list[RenderableType]:
    """Return the tables of nodes, devices and operators, each with an empty line below it, and the line of serving."""
    tables = [_node_table(status), _device_table(status), _operator_table(status)]
    parts: list[RenderableType] = [part for table in tables if table.row_count for part in (table, Text())]
    return [*parts, *_serving_lines(status.serving), Text()] if status.serving else parts


def status_lines(status: ClusterStatus) -> list[Text]:
    """Return what is wrong with the nodes, the remedies, and the verdict."""
    lines = [Text.assemble(("✗ ", "red"), text) for text in status.reasons]
    lines += [Text(f"  → {text}") for text in status.remedies]
    lines += [Text.assemble(("! ", "yellow"), text) for text in status.warnings]
    lines += [Text(text, style="dim") for text in status.notes]
    verdict = Text("healthy", style="bold green") if status.healthy else Text("not healthy", style="bold red")
    return [*lines, verdict]


def _node_table(status: ClusterStatus) -> Table:
    table = Table("node", "role", "K3s", "Kubernetes", "address", "system", **BARE)
    for node in status.nodes:
        role = {"head": "head", "workers": "worker", None: ""}[node.group]
        address = ", ".join(node.kubernetes.addresses.get("InternalIP", [])) if node.kubernetes else ""
        system = " ".join(part for part in (node.architecture, node.os) if part)
        table.add_row(node.name, role, _k3s(node), _ready(node), escape(address), escape(system))
    return table


def _k3s(node: NodeStatus) -> str:
    if not node.reachable:
        return "[red]unreachable[/]"
    if node.k3s is None:
        return "[dim]none[/]"
    state = node.k3s.unit_state or "no service"
    return f"{escape(node.k3s.version or '?')} [{'green' if state == 'active' else 'red'}]{escape(state)}[/]"


def _ready(node: NodeStatus) -> str:
    if node.kubernetes is None:
        return NONE
    ready = "[green]Ready[/]" if node.kubernetes.ready else "[red]NotReady[/]"
    return ready + (" [yellow]cordoned[/]" if node.kubernetes.cordoned else "")


def _device_table(status: ClusterStatus) -> Table:
    table = Table("node", "GPU", "driver", "CUDA", "memory free", "rails", "DGX OS", **BARE)
    for node in status.nodes:
        if node.reachable:
            gpu = node.gpu
            driver, cuda = (gpu.driver_version, gpu.cuda_version) if gpu else (None, None)
            dgx_os = node.dgx.version if node.dgx else None
            versions = [escape(version) if version else NONE for version in (driver, cuda, dgx_os)]
            table.add_row(node.name, _gpu(gpu), *versions[:2], _memory(gpu), _rails(node), versions[2])
    return table


def _gpu(gpu: GpuStatus | None) -> str:
    if gpu is None:
        return "[dim]none[/]"
    if gpu.trouble or not gpu.count:
        return "[red]no answer[/]"
    return escape(f"{gpu.name}") + (f" x {gpu.count}" if gpu.count > 1 else "")


def _memory(gpu: GpuStatus | None) -> str:
    if gpu is None or gpu.memory_total_mib is None:
        return NONE
    return f"{(gpu.memory_available_mib or 0) / 1024:.0f} of {gpu.memory_total_mib / 1024:.0f} GiB"


def _rails(node: NodeStatus) -> str:
    """Return the rails of the inventory; if it names none, the halves that are up."""
    if node.connectx7 is None:
        return "[dim]no ConnectX-7[/]"
    halves = [half for half in node.connectx7.halves if half.rail]
    shown = sorted(halves, key=lambda half: half.rail or "") or [half for half in node.connectx7.halves if half.up]
    return "  ".join(map(_half, shown)) or "[red]down[/]"


def _half(half: HalfStatus) -> str:
    name = escape(half.rail or half.interface or half.device or "?")
    if not half.up:
        return f"{name} [red]down[/]"
    rate = f"{half.rate_gbps:.0f} Gb/s" if half.rate_gbps else "up"
    return f"{name} [green]{rate}[/] [dim]mtu {half.mtu_bytes or '?'}[/]"


def _operator_table(status: ClusterStatus) -> Table:
    table = Table("operator", "chart", "state", "pods", "offered", **BARE)
    for name, operator in operators(status).items():
        if operator and operator.installed:
            state = "[green]ready[/]" if operator.ready else f"[red]{escape(operator.state or 'no state yet')}[/]"
            pods = f"{operator.healthy_pods}/{operator.pods}"
            offered = ", ".join(f"{node} {amount}" for node, amount in operator.offered.items())
            chart = escape(operator.chart_version) if operator.chart_version else NONE
            table.add_row(name, chart, state, pods, f"{escape(offered)} [dim]{operator.resource}[/]")
        elif operator:
            table.add_row(name, NONE, "[dim]not installed[/]", NONE, NONE)
    return table


def _serving_lines(found: ServingStatus) -> list[Text]:
    warnings = (Text.assemble(("! ", "yellow"), "serving: ", warning) for warning in found.warnings)
    return [_serving_line(found), *warnings]


def _serving_line(found: ServingStatus) -> Text:
    if found.healthy:
        return Text.assemble(("✓ ", "green"), "serving: ", found.summary)
    if found.mode == "off" and not found.reasons:
        return Text(f"serving: {found.summary}", style="dim")
    return Text.assemble(("! ", "yellow"), "serving: ", found.summary)


def print_serving(found: ServingStatus) -> None:
    """Print what is served, and what is wrong with it."""
    for line in _serving_lines(found):
        stdout.print(line, soft_wrap=True)
    for reason in found.reasons:
        stdout.print(Text(f"  {reason}"), soft_wrap=True)


def print_validation(found: Validation) -> None:
    """Print every check with its reason, and the remedy below those that failed."""
    width = max((len(_subject(check)) for check in found.checks), default=0)
    for check, following in itertools.zip_longest(found.checks, found.checks[1:]):
        sign, style = OUTCOMES[check.outcome]
        line = Text.assemble((sign, style), f" {check.check:<17} {_subject(check):<{width}}  ", (check.reason, "dim"))
        stdout.print(line, soft_wrap=True)
        if check.remedy and not (following and following.remedy == check.remedy):
            stdout.print(f"  → {escape(check.remedy)}", soft_wrap=True)
    counts = {outcome: sum(check.outcome == outcome for check in found.checks) for outcome in OUTCOMES}
    stdout.print(f"\n{counts['pass']} passed, {counts['fail']} failed, {counts['skip']} could not run")


def _subject(check: Check) -> str:
    """Return the nodes and the rail of a check."""
    where = " → ".join(name for name in (check.node, check.peer) if name)
    return f"{where} {check.rail}" if check.rail else where
