"""gb10 lab: simulated GB10 nodes on this machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

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

    GB10_LAB chooses one of several labs by name. lab/README.md tells what is real in it and what is a stand-in.
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

    def work(found: Lab) -> None:
        state = found.up(nodes, k3s_release)
        for node in state.nodes:
            click.echo(
                f"  {node.name}  ssh -i {state.key} -o UserKnownHostsFile={state.known_hosts} "
                f"nvidia@{node.address('management')}"
            )

    _with_lab(work)


@lab.command()
@click.option("--all", "every", is_flag=True, help="All labs of this user, whatever their names.")
def down(every: bool) -> None:
    """Remove the lab, and all that it left on this machine."""

    def work(found: Lab) -> None:
        for name in {found.name, *lab_names()} if every else {found.name}:
            Lab(name, _step).down()

    _with_lab(work)


@lab.command()
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def status(as_json: bool) -> None:
    """Show the lab's nodes."""

    def work(found: Lab) -> None:
        nodes = found.status()
        if as_json:
            click.echo(status_json(require(found.name), nodes))
            return
        rows = [
            (
                node.name,
                node.role,
                node.address,
                node.state,
                node.hostname or "-",
                *(("up" if node.rails[rail] else "down") if node.rails else "-" for rail in ("a", "b")),
            )
            for node in nodes
        ]
        _print_table(f"lab {found.name}", ("node", "role", "address", "state", "hostname", "rail a", "rail b"), rows)

    _with_lab(work)


@lab.command()
@click.argument("node")
@click.option("--keep-data", is_flag=True, help="/data survives, as a partition of its own would.")
@click.option("--trust", is_flag=True, help="Put the new host keys into the lab's known_hosts.")
def wipe(node: str, keep_data: bool, trust: bool) -> None:
    """Make NODE another installation of the same machine."""
    _with_lab(lambda found: found.wipe(node, keep_data, trust))


@lab.command()
@click.argument("node")
def reboot(node: str) -> None:
    """Reboot NODE and wait until it answers."""
    _with_lab(lambda found: found.reboot(node))


@lab.command()
@click.argument("nodes", metavar="NODE...", nargs=-1, required=True)
def download(nodes: tuple[str, ...]) -> None:
    """Put vLLM's image and two models on each NODE, as people download them: here both are stand-ins."""

    def work(found: Lab) -> None:
        for node in nodes:
            found.download(node)

    _with_lab(work)


@lab.command()
@click.argument("node")
@click.argument("name", metavar="a|b", type=click.Choice(["a", "b"]))
@click.argument("state", metavar="up|down", type=click.Choice(["up", "down"]))
def rail(node: str, name: str, state: str) -> None:
    """Plug the cable of a rail in at NODE, or pull it."""
    _with_lab(lambda found: found.rail(node, name, plugged=state == "up"))


def _with_lab(work: Callable[[Lab], None]) -> None:
    """Do something with the lab that GB10_LAB names; show in two lines what went wrong."""

    try:
        work(Lab(lab_name(), _step))
    except LabError as error:
        _fail(error.what, error.cure)


@contextmanager
def _step(text: str) -> Iterator[None]:
    """One line per step: a spinner while it runs, then how long it took."""
    console = Console(stderr=True, highlight=False)
    start = time.monotonic()
    try:
        with console.status(escape(text)):
            yield
    except BaseException:
        console.print(f"[red]✗[/red] {escape(text)} [dim]{time.monotonic() - start:.1f} s[/dim]")
        raise
    console.print(f"[green]✓[/green] {escape(text)} [dim]{time.monotonic() - start:.1f} s[/dim]")


def _print_table(title: str, columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    table = Table(title=title, title_justify="left")
    for column in columns:
        table.add_column(column)
    for row in rows:
        table.add_row(*row)
    Console().print(table)


def _fail(what: str, cure: str) -> NoReturn:
    click.secho(what, fg="red", err=True)
    click.echo(cure, err=True)
    raise SystemExit(LAB_FAILED)
