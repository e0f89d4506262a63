"""A table of measured figures beside promised ones."""

from __future__ import annotations

from dataclasses import dataclass, field

from rich.console import Console
from rich.table import Table


@dataclass
class Figures:
    """Rows of a measurement. Some have a promise; the others are there for comparison."""

    title: str
    rows: list[tuple[str, str, str, bool | None]] = field(default_factory=list)

    def note(self, what: str, measured: str) -> None:
        """Add a figure without a promise."""
        self.rows.append((what, measured, "", None))

    def hold(self, what: str, measured: str, promise: str, kept: bool) -> None:
        """Add a figure and its promise."""
        self.rows.append((what, measured, promise, kept))

    def print(self) -> bool:
        """Print the table. Return True if all promises are kept."""
        table = Table("what", "measured", "promised", "", title=self.title, title_justify="left")
        for what, measured, promise, kept in self.rows:
            mark = "" if kept is None else "[green]✓[/]" if kept else "[red]✗ missed[/]"
            table.add_row(what, measured, promise, mark)
        Console(width=120).print(table)
        return all(kept is not False for *_, kept in self.rows)
