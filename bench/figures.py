"""A table of measurements and their targets."""

from __future__ import annotations

from dataclasses import dataclass, field

from rich.console import Console
from rich.table import Table


@dataclass
class Figures:
    """The rows of one table. Some rows have a target; the others are for comparison."""

    title: str
    rows: list[tuple[str, str, str, bool | None]] = field(default_factory=list)

    def add(self, what: str, measured: str) -> None:
        """Add a row without a target."""
        self.rows.append((what, measured, "", None))

    def add_target(self, what: str, measured: str, target: str, met: bool) -> None:
        """Add a row with a target."""
        self.rows.append((what, measured, target, met))

    def print(self) -> bool:
        """Print the table. Return True if all targets are met."""
        table = Table("what", "measured", "target", "", title=self.title, title_justify="left")
        for what, measured, target, met in self.rows:
            mark = "" if met is None else "[green]✓[/]" if met else "[red]✗ missed[/]"
            table.add_row(what, measured, target, mark)
        Console(width=120).print(table)
        return all(met is not False for *_, met in self.rows)
