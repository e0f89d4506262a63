"""gb10 lock: the pins of downloads, and how a changed download is accepted."""

from __future__ import annotations

import click
from rich.table import Table
from rich.text import Text

from gb10.cli.screen import console
from gb10.cli.screen.session import Session, command_options
from gb10.controller.errors import Gb10Error
from gb10.controller.pins import PinStatus, forget, lock_path, pins


@click.command()
@click.argument("names", metavar="[NAME]...", nargs=-1)
@click.option("--update", is_flag=True, help="Forget each NAME, so that its next download is pinned anew.")
@command_options(limit=False)
def lock(session: Session, names: tuple[str, ...], update: bool) -> None:
    """Show the pins of downloads, or accept changed ones.

    gb10.lock, beside the inventory, has the digest of every download from its first use; a later difference is refused.
    Put the file under version control. A pin in group_data/ takes precedence.
    """
    if update != bool(names):
        raise Gb10Error("USAGE", reason="--update and the names to update belong together: gb10 lock --update NAME...")
    if update:
        forget(session.inventory, names)
    path, found = lock_path(session.inventory), pins(session.inventory)
    for name in names:
        console.print_done(f"{name} is forgotten: its next download is pinned anew")
    if not update:
        _print(found)
        console.print_note(f"The lock file: {path}")
    session.finish({"file": str(path), "forgotten": list(names), "pins": [pin.to_json() for pin in found]})


def _print(found: list[PinStatus]) -> None:
    table = Table("name", "sha256", "pinned by", "from", **console.BARE)
    for pin in found:
        by = "group data" if pin.in_group_data else "gb10.lock"
        table.add_row(*map(Text, (pin.name, pin.sha256, by, pin.source or "-")))
    console.stdout.print(table if found else "Nothing is pinned yet: the first download of each file pins it")
