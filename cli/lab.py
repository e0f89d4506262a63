"""gb10 lab: simulated GB10 nodes on this machine."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from gb10.lab.lab import Lab, status_json
from gb10.lab.paths import lab_name, lab_names
from gb10.lab.problem import LabError
from gb10.lab.state import require

LAB_FAILED = 1


@click.group()
def lab() -> None:
    """Two or more simulated GB10 nodes on this machine, to try everything on.

    GB10_LAB chooses one of several labs by name. lab/README.md says what is real in it and what is a stand-in.
    """


@lab.command()
@click.option("--nodes", default=2, show_default=True, help="How many nodes; the first is the head.")
@click.option(
    "--k3s-release",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    envvar="GB10_LAB_K3S_RELEASE",
    help="Folder with real K3s releases (one folder per version) to serve instead of the stand-in.",
)
def up(nodes: int, k3s_release: Path | None) -> None:
    """Bring the lab up. What is up already stays as it is."""
    with _current_lab() as current:
        state = current.up(nodes, k3s_release)
        for node in state.nodes:
            login = f"-o UserKnownHostsFile={state.known_hosts} nvidia@{node.address('management')}"
            click.echo(f"  {node.name}  ssh -i {state.key} {login}")


@lab.command()
@click.option("--all", "every", is_flag=True, help="All labs of this user, whatever their names.")
def down(every: bool) -> None:
    """Remove the lab, and all that it left on this machine."""
    with _current_lab() as current:
        for name in {current.name, *lab_names()} if every else {current.name}:
            Lab(name, _step).down()


@lab.command()
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def status(as_json: bool) -> None:
    """Show the lab's nodes."""
    with _current_lab() as current:
        nodes = current.status()
        if as_json:
            click.echo(status_json(require(current.name), nodes))
            return
        columns = ("node", "role", "address", "state", "hostname", "rail a", "rail b")
        table = Table(*columns, title=f"lab {current.name}", title_justify="left")
        for node in nodes:
            rails = [("up" if node.rails[rail] else "down") if node.rails else "-" for rail in ("a", "b")]
            table.add_row(node.name, node.role, node.address, node.state, node.hostname or "-", *rails)
        Console().print(table)


@lab.command()
@click.argument("node")
@click.option("--keep-data", is_flag=True, help="/data survives, like a partition of its own.")
@click.option("--trust", is_flag=True, help="Put the new host keys into the lab's known_hosts.")
def wipe(node: str, keep_data: bool, trust: bool) -> None:
    """Make NODE another installation of the same machine."""
    with _current_lab() as current:
        current.wipe(node, keep_data, trust)


@lab.command()
@click.argument("node")
def reboot(node: str) -> None:
    """Reboot NODE and wait until it answers."""
    with _current_lab() as current:
        current.reboot(node)


@lab.command()
@click.argument("nodes", metavar="NODE...", nargs=-1, required=True)
def download(nodes: tuple[str, ...]) -> None:
    """Put vLLM's image and two models on each NODE, as people download them. Here they are stand-ins."""
    with _current_lab() as current:
        for node in nodes:
            current.download(node)


@lab.command()
@click.argument("node")
@click.argument("name", metavar="a|b", type=click.Choice(["a", "b"]))
@click.argument("state", metavar="up|down", type=click.Choice(["up", "down"]))
def rail(node: str, name: str, state: str) -> None:
    """Plug in the cable of a rail at NODE, or pull it."""
    with _current_lab() as current:
        current.rail(node, name, plugged=state == "up")


@contextmanager
def _current_lab() -> Iterator[Lab]:
    """Yield the lab that GB10_LAB names. A LabError ends the command with two lines: the problem and its cure."""
    try:
        yield Lab(lab_name(), _step)
    except LabError as error:
        click.secho(error.what, fg="red", err=True)
        click.echo(error.cure, err=True)
        raise SystemExit(LAB_FAILED) from error


@contextmanager
def _step(text: str) -> Iterator[None]:
    """Show one line: a spinner while the step runs, then how long it took."""
    console = Console(stderr=True, highlight=False)
    start = time.monotonic()
    try:
        with console.status(escape(text)):
            yield
    except BaseException:
        console.print(f"[red]✗[/red] {escape(text)} [dim]{time.monotonic() - start:.1f} s[/dim]")
        raise
    console.print(f"[green]✓[/green] {escape(text)} [dim]{time.monotonic() - start:.1f} s[/dim]")
