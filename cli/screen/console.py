"""What a person sees: progress and errors on standard error, results on standard output."""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from datetime import datetime
from typing import Any, NoReturn, Protocol

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.live import Live
from rich.markup import escape
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from gb10.controller.cluster.health import operators
from gb10.controller.cluster.status_model import ClusterStatus, GpuStatus, HalfStatus, NodeStatus, ServingStatus
from gb10.controller.cluster.validate import Check, Validation
from gb10.controller.errors import Gb10Error
from gb10.controller.run.messages import (
    Connected,
    ConnectFailed,
    Event,
    FactFailed,
    HostFailed,
    Logged,
    OperationEnded,
    OperationStarted,
    Ready,
    StageStarted,
)
from gb10.controller.run.results import RunResult

SHOWN_LINES = 8  # of what a failing host printed; the log has all of it

MARKS = {
    "ok": ("✓", "dim"),
    "changed": ("✓", "green"),
    "unchanged": ("·", "dim"),
    "failed": ("✗", "bold red"),
}
WIDTH = 200  # where there is no terminal that has one: nothing is to be wrapped for a file or a pipe
OUTCOMES = {"pass": ("✓", "green"), "fail": ("✗", "bold red"), "skip": ("-", "yellow")}
BARE: dict[str, Any] = {"box": None, "header_style": "bold", "pad_edge": False}  # how tables look
NONE = "[dim]-[/]"
STAGES = {"connect": "Connect", "prepare": "Look at the nodes", "facts": "Ask the nodes"}


def stdout() -> Console:
    """Where results go."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else WIDTH)


def stderr() -> Console:
    """Where progress and errors go."""
    return Console(stderr=True, highlight=False, width=None if sys.stderr.isatty() else WIDTH)


class View(Protocol):
    """Shows a run while it goes on."""

    def hear(self, event: Event) -> None:
        """Take in the next event."""


class _Step:
    """One line: an operation, or a part of the run like connecting."""

    def __init__(self, name: str, hosts: Sequence[str]) -> None:
        self.name = name
        self.marks: dict[str, str] = {}
        self._hosts = hosts
        self._began = time.monotonic()
        self._spinner = Spinner("dots", style="cyan")

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began

    @property
    def outcome(self) -> str:
        """The worst that any host says."""
        return next((mark for mark in ("failed", "changed", "ok") if mark in self.marks.values()), "unchanged")

    def ordered(self) -> list[tuple[str, str]]:
        return [(host, self.marks[host]) for host in self._hosts if host in self.marks]

    def line(self, running: bool) -> Table:
        """The step as one line of a terminal; what does not fit is cut, never wrapped."""
        sign, style = MARKS[self.outcome]
        marks = Text()
        for host, mark in self.ordered():
            marks.append(f"  {host} {MARKS[mark][0]}", style=MARKS[mark][1])
        grid = Table.grid(expand=True, padding=(0, 1, 0, 0))
        grid.add_column(width=1)
        grid.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
        grid.add_column(no_wrap=True)
        grid.add_column(width=8, justify="right", no_wrap=True)
        name = Text(self.name, style="" if running or self.outcome in ("changed", "failed") else "dim")
        grid.add_row(self._spinner if running else Text(sign, style), name, marks, Text(f"{self.seconds:.1f} s", "dim"))
        return grid

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield self.line(running=True)


class _Progress:
    """Follows the events; how a step and a failure are shown is up to the two below."""

    def __init__(self, hosts: Sequence[str], verbosity: int) -> None:
        self._hosts = hosts
        self._verbosity = verbosity
        self._step: _Step | None = None

    def hear(self, event: Event) -> None:
        match event:
            case StageStarted(stage):
                self.end_step()
                if stage in STAGES:
                    self._begin(STAGES[stage])
            case OperationStarted(name):
                self.end_step()
                self._begin(short_name(name))
            case OperationEnded(result):
                self._mark_all(changed=result.changed, unchanged=result.unchanged, failed=result.failed)
            case Connected(host) | Ready(host):
                self._mark(host, "ok")
            case ConnectFailed(host, _):
                self._mark(host, "failed")
            case HostFailed(host, _, output) | FactFailed(host, _, _, output):
                self._mark(host, "failed")
                self.show_lines(host, output[-SHOWN_LINES:])
            case Logged(text, str(host)) if self._verbosity:
                self.show_lines(host, [text])

    def end_step(self) -> None:
        if self._step:
            self.show_ended(self._step)
            self._step = None

    def _begin(self, name: str) -> None:
        self._step = _Step(name, self._hosts)
        self.show_running(self._step)

    def _mark(self, host: str, mark: str) -> None:
        if self._step:
            self._step.marks[host] = mark

    def _mark_all(self, **hosts: Sequence[str]) -> None:
        for mark, names in hosts.items():
            for host in names:
                self._mark(host, mark)

    def show_running(self, step: _Step) -> None:
        raise NotImplementedError

    def show_ended(self, step: _Step) -> None:
        raise NotImplementedError

    def show_lines(self, host: str, lines: Iterable[str]) -> None:
        raise NotImplementedError


class _LiveProgress(_Progress):
    """For a terminal: the running step spins, the ended ones stand above it."""

    def __init__(self, live: Live, hosts: Sequence[str], verbosity: int) -> None:
        super().__init__(hosts, verbosity)
        self._live = live

    def show_running(self, step: _Step) -> None:
        self._live.update(step, refresh=True)

    def show_ended(self, step: _Step) -> None:
        self._live.update("")
        self._live.console.print(step.line(running=False))

    def show_lines(self, host: str, lines: Iterable[str]) -> None:
        for line in lines:
            self._live.console.print(Text(f"    {host}: {line}", style="dim"))


class _PlainProgress(_Progress):
    """For a file or a pipe: a line when a step has ended."""

    def show_running(self, step: _Step) -> None:
        pass

    def show_ended(self, step: _Step) -> None:
        marks = ", ".join(f"{host} {mark}" for host, mark in step.ordered())
        _plain(f"{step.outcome:>9}  {step.name}{f' ({marks})' if marks else ''}  {step.seconds:.1f} s")

    def show_lines(self, host: str, lines: Iterable[str]) -> None:
        for line in lines:
            _plain(f"{'':>9}  {host}: {line}")


class _Silent:
    def hear(self, event: Event) -> None:
        """Nobody looks."""


@contextmanager
def progress(title: str, hosts: Sequence[str], verbosity: int = 0, *, quiet: bool = False) -> Iterator[View]:
    """Show how a run goes: live on a terminal, as plain lines elsewhere and under NO_COLOR, not at all if `quiet`."""
    if quiet:
        yield _Silent()
        return
    console = stderr()
    if not console.is_terminal or console.no_color:
        _plain(f"{title}: {', '.join(hosts)}")
        plain = _PlainProgress(hosts, verbosity)
        yield plain
        plain.end_step()
        return
    console.print(Text.assemble((title, "bold"), f"  {', '.join(hosts)}"))
    with Live(console=console, refresh_per_second=10, transient=True) as live:
        view = _LiveProgress(live, hosts, verbosity)
        yield view
        view.end_step()


@contextmanager
def waiting(text: str, *, quiet: bool = False) -> Iterator[None]:
    """Show on a terminal that something goes on."""
    console = stderr()
    if quiet or not console.is_terminal or console.no_color:
        yield
        return
    with console.status(text):
        yield


def _plain(line: str) -> None:
    print(line, file=stderr().file, flush=True)


def print_error(error: Gb10Error) -> None:
    """An error, and what to do about it, in lines that can be copied."""
    console = stderr()
    console.print(f"[bold red]✗[/] {escape(_located(error))}  [dim]{error.code}[/]", soft_wrap=True)
    console.print(f"  → {escape(error.remedy)}", soft_wrap=True)


def _located(error: Gb10Error) -> str:
    """What happened, and on which node."""
    return f"{error.host}: {error.summary}" if error.host and error.host not in error.summary else error.summary


def print_note(text: str) -> None:
    stderr().print(Text(text, style="dim"), soft_wrap=True)


def print_done(text: str) -> None:
    """Something went well."""
    stderr().print(f"[bold green]✓[/] {escape(text)}", soft_wrap=True)


def print_result(result: RunResult, diff: bool = False) -> None:
    """How a run ended: what a dry run found, or what changed; and all errors, the one that names the cause first."""
    if diff:
        print_diff(result)
    if result.dry:
        print_plan(result)
    elif result.ok and not result.changed:
        print_done(f"Nothing to change in {len(result.operations)} operations, {result.seconds:.0f} s")
    elif result.ok:
        done = f"{len(result.changed)} of {len(result.operations)} operations changed something"
        print_done(f"{done}, {result.seconds:.0f} s")
    for error in sorted(result.errors, key=lambda error: error is not result.error):
        print_error(error)


def print_diff(result: RunResult) -> None:
    """What a run changed in files, or would change."""
    for line in result.diff:
        stdout().print(Text(line, style=_diff_style(line)), soft_wrap=True)


def print_plan(result: RunResult) -> None:
    """What a dry run found: the operations that would change something, and where."""
    console = stdout()
    table = Table("operation", "would change", "if another changes", box=None, header_style="bold", pad_edge=False)
    busy = [operation for operation in result.operations if operation.changed or operation.conditional]
    for operation in busy:
        table.add_row(
            escape(short_name(operation.name)), ", ".join(operation.changed), ", ".join(operation.conditional)
        )
    if busy:
        console.print(table)
    console.print(f"{len(busy)} of {len(result.operations)} operations would change something; nothing was changed.")
    for error in result.foreseen:
        console.print(f"[yellow]![/] would be refused: {escape(_located(error))}  [dim]{error.code}[/]", soft_wrap=True)
    for remedy in dict.fromkeys(error.remedy for error in result.foreseen):
        console.print(f"  → {escape(remedy)}", soft_wrap=True)


def short_name(operation: str) -> str:
    """Given "Deploy | Operation", return the operation: which deploy runs, the person who typed it knows."""
    return operation.partition(" | ")[2] or operation


def _diff_style(line: str) -> str:
    return {"+": "green", "-": "red", "@": "cyan"}.get(line.strip()[:1], "")


def status_table(status: ClusterStatus) -> Table:
    """The nodes as a table."""
    table = Table("node", "role", "K3s", "Kubernetes", "address", "system", **BARE)
    for node in status.nodes:
        system = " ".join(part for part in (node.architecture, node.os) if part)
        table.add_row(node.name, _role(node), _k3s(node), _ready(node), _address(node), system)
    return table


def device_table(status: ClusterStatus) -> Table:
    """The GPU, memory and rails of each node that answers."""
    table = Table("node", "GPU", "driver", "CUDA", "memory free", "rails", "DGX OS", **BARE)
    for node in status.nodes:
        if node.reachable:
            gpu = node.gpu
            driver, cuda = (gpu.driver_version, gpu.cuda_version) if gpu else (None, None)
            release = node.dgx.version if node.dgx else None
            table.add_row(
                node.name, _gpu(gpu), driver or NONE, cuda or NONE, _memory(gpu), _rails(node), release or NONE
            )
    return table


def operator_table(status: ClusterStatus) -> Table:
    """NVIDIA's operators, where a cluster answers."""
    table = Table("operator", "chart", "state", "pods", "offered", **BARE)
    for name, operator in operators(status).items():
        if operator and operator.installed:
            state = "[green]ready[/]" if operator.ready else f"[red]{operator.state or 'no state yet'}[/]"
            pods = f"{operator.healthy_pods}/{operator.pods}"
            offered = ", ".join(f"{node} {amount}" for node, amount in operator.offered.items())
            chart = operator.chart_version or NONE
            table.add_row(name, chart, state, pods, f"{offered} [dim]{operator.resource}[/]")
        elif operator:
            table.add_row(name, NONE, "[dim]not installed[/]", NONE, NONE)
    return table


def status_lines(status: ClusterStatus) -> list[Text]:
    """What is wrong with the nodes, what to do about it, and the verdict."""
    lines = [Text.assemble(("✗ ", "red"), text) for text in status.reasons]
    lines += [Text(f"  → {text}") for text in status.remedies]
    lines += [Text.assemble(("! ", "yellow"), text) for text in status.warnings]
    lines += [Text(text, style="dim") for text in status.notes]
    verdict = Text("healthy", style="bold green") if status.healthy else Text("not healthy", style="bold red")
    return [*lines, verdict]


def status_tables(status: ClusterStatus) -> list[RenderableType]:
    """Nodes, their devices and operators, each table with an empty line below it."""
    tables = [status_table(status), device_table(status), operator_table(status)]
    parts: list[RenderableType] = [part for table in tables if table.row_count for part in (table, Text())]
    return [*parts, serving_line(status.serving), Text()] if status.serving else parts


def print_status(status: ClusterStatus) -> None:
    """The whole status."""
    console = stdout()
    for part in status_tables(status):
        console.print(part)
    for line in status_lines(status):
        console.print(line, soft_wrap=True)  # whole, so that a command can be copied


def serving_line(found: ServingStatus) -> Text:
    """What is served, in a line."""
    if found.healthy:
        return Text.assemble(("✓ ", "green"), "serving: ", found.summary)
    if found.mode == "off" and not found.reasons:
        return Text(f"serving: {found.summary}", style="dim")
    return Text.assemble(("! ", "yellow"), "serving: ", found.summary)


def print_serving(found: ServingStatus) -> None:
    """What is served, and what is wrong with it."""
    console = stdout()
    console.print(serving_line(found), soft_wrap=True)
    for reason in found.reasons:
        console.print(Text(f"  {reason}"), soft_wrap=True)


def print_validation(found: Validation) -> None:
    """Every check with what was found, and below a failed one what to type."""
    console = stdout()
    width = max((len(_subject(check)) for check in found.checks), default=0)
    for check, following in itertools.zip_longest(found.checks, found.checks[1:]):
        sign, style = OUTCOMES[check.outcome]
        line = Text.assemble((sign, style), f" {check.check:<17} {_subject(check):<{width}}  ", (check.reason, "dim"))
        console.print(line, soft_wrap=True)
        if check.remedy and not (following and following.remedy == check.remedy):
            console.print(f"  → {escape(check.remedy)}", soft_wrap=True)
    counts = {outcome: sum(check.outcome == outcome for check in found.checks) for outcome in OUTCOMES}
    console.print(f"\n{counts['pass']} passed, {counts['fail']} failed, {counts['skip']} could not be made")


def _subject(check: Check) -> str:
    """The nodes and the rail that a check is about."""
    where = " → ".join(name for name in (check.node, check.peer) if name)
    return f"{where} {check.rail}" if check.rail else where


def watch(look: Callable[[], ClusterStatus], seconds: float) -> NoReturn:
    """Show the status again and again until somebody interrupts; on a terminal always in the same place."""
    console = stdout()
    with Live(console=console, auto_refresh=False) if console.is_terminal else nullcontext() as live:
        while True:
            status = look()
            shown = Group(
                *status_tables(status), *status_lines(status), Text(f"{datetime.now():%H:%M:%S}", style="dim")
            )
            if live:
                live.update(shown, refresh=True)
            else:
                console.print(shown)
            time.sleep(seconds)


def _role(node: NodeStatus) -> str:
    return {"head": "head", "workers": "worker", None: ""}[node.group]


def _k3s(node: NodeStatus) -> str:
    if not node.reachable:
        return "[red]unreachable[/]"
    if node.k3s is None:
        return "[dim]none[/]"
    state = node.k3s.unit_state or "no service"
    return f"{node.k3s.version or '?'} [{'green' if state == 'active' else 'red'}]{state}[/]"


def _ready(node: NodeStatus) -> str:
    if node.kubernetes is None:
        return NONE
    ready = "[green]Ready[/]" if node.kubernetes.ready else "[red]NotReady[/]"
    return ready + (" [yellow]cordoned[/]" if node.kubernetes.cordoned else "")


def _address(node: NodeStatus) -> str:
    return ", ".join(node.kubernetes.addresses.get("InternalIP", [])) if node.kubernetes else ""


def _gpu(gpu: GpuStatus | None) -> str:
    if gpu is None:
        return "[dim]none[/]"
    if gpu.trouble or not gpu.count:
        return "[red]no answer[/]"
    return f"{gpu.name}" + (f" x {gpu.count}" if gpu.count > 1 else "")


def _memory(gpu: GpuStatus | None) -> str:
    if gpu is None or gpu.memory_total_mib is None:
        return NONE
    return f"{(gpu.memory_available_mib or 0) / 1024:.0f} of {gpu.memory_total_mib / 1024:.0f} GiB"


def _rails(node: NodeStatus) -> str:
    """The rails of the inventory; where it names none, the halves that are up."""
    if node.connectx7 is None:
        return "[dim]no ConnectX-7[/]"
    halves = [half for half in node.connectx7.halves if half.rail]
    shown = sorted(halves, key=lambda half: half.rail or "") or [half for half in node.connectx7.halves if half.up]
    return "  ".join(map(_half, shown)) or "[red]down[/]"


def _half(half: HalfStatus) -> str:
    name = half.rail or half.interface or half.device or "?"
    if not half.up:
        return f"{name} [red]down[/]"
    rate = f"{half.rate_gbps:.0f} Gb/s" if half.rate_gbps else "up"
    return f"{name} [green]{rate}[/] [dim]mtu {half.mtu_bytes or '?'}[/]"
