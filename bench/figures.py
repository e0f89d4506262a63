"""A table of what was measured beside what was promised."""

from __future__ import annotations

from dataclasses import dataclass, field

from rich.console import Console
from rich.table import Table


@dataclass
class Figures:
    """Rows of a measurement. A row with a promise is held against it; the others are there to compare with."""

    title: str
    rows: list[tuple[str, str, str, bool | None]] = field(default_factory=list)

    def note(self, what: str, measured: str) -> None:
        """Add what was measured, and nobody promised."""
        self.rows.append((what, measured, "", None))

    def hold(self, what: str, measured: str, promise: str, kept: bool) -> None:
        """Add what was measured beside what was promised."""
        self.rows.append((what, measured, promise, kept))

    def print(self) -> bool:
        """Print the table; return whether all promises are kept."""
        table = Table("what", "measured", "promised", "", title=self.title, title_justify="left")
        for what, measured, promise, kept in self.rows:
            mark = "" if kept is None else "[green]✓[/]" if kept else "[red]✗ missed[/]"
            table.add_row(what, measured, promise, mark)
        Console(width=120).print(table)
        return all(kept is not False for *_, kept in self.rows)
