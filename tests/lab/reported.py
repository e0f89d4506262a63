"""Run the pyinfra CLI and also write every report to a file, for tests that need more than the printed lines.

    python -m tests.lab.reported FILE ARGUMENTS...      ARGUMENTS are those of the pyinfra CLI

Each line of FILE is JSON: {"report": NAME OF THE CLASS, "host": ..., and the report's own fields}.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any


def run(path: Path) -> None:
    """Run the pyinfra CLI. Write every report to the file before it is printed."""
    from pyinfra_cli.main import main  # noqa: PLC0415 # first: it patches the standard library

    from gb10.facts.reading import reports  # noqa: PLC0415

    print_report = reports._reporter

    def write(host: Any, what: Any) -> None:
        with path.open("a") as file:
            file.write(json.dumps({"report": type(what).__name__, "host": host.name, **_fields(what)}) + "\n")
        print_report(host, what)

    reports.set_reporter(write)
    main()


def read(path: Path, name: str) -> list[dict[str, Any]]:
    """Return the complete reports of one class in a file that may still be written."""
    whole = path.read_text().rpartition("\n")[0] if path.exists() else ""
    found = [json.loads(line) for line in whole.splitlines()]
    return [report for report in found if report["report"] == name]


def _fields(what: Any) -> dict[str, Any]:
    values = {field.name: getattr(what, field.name) for field in fields(what)}
    return {**asdict(what), **{name: value.to_json() for name, value in values.items() if hasattr(value, "to_json")}}


if __name__ == "__main__":
    run(Path(sys.argv.pop(1)))
