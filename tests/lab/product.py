"""The product as a user runs it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import textwrap
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent


@dataclass
class Done:
    """The result of a finished command."""

    status: int
    output: str  # standard output and error
    stdout: str
    log: str = field(default="", repr=False)  # content of the log file that the output names

    @property
    def json(self) -> Any:
        return json.loads(self.stdout)


@dataclass
class Product:
    """Runs the gb10 and pyinfra commands with one inventory."""

    inventory: Path
    folder: Path  # working directory of the commands
    environment: dict[str, str]

    def gb10(self, *arguments: str, seconds: int = 300, stdin: str | None = None) -> Done:
        """Run gb10 without a terminal."""
        return self.run_command([*self.command("gb10"), *arguments], seconds, stdin)

    def pyinfra(self, *arguments: str, seconds: int = 300) -> Done:
        """Run the pyinfra CLI on the inventory."""
        command = [*self.command("pyinfra"), *_options(arguments), str(self.inventory), *_operands(arguments)]
        return self.run_command(command, seconds)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start gb10 in the background, in its own process group."""
        return subprocess.Popen(
            [*self.command("gb10"), *arguments],
            cwd=self.folder,
            env=self.full_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def with_data(self, **more: Any) -> Product:
        """Return the product with additional host data. The operators are disabled unless `more` enables them."""
        data = {"gpu_operator_enabled": False, "network_operator_enabled": False, **more}
        path = self.folder / f"inventory_{abs(hash(json.dumps(data, sort_keys=True))):x}.py"
        path.write_text(
            textwrap.dedent(f"""\
                from gb10.lab.hosts import groups

                more = {data!r}
                head, workers = ([(name, {{**known, **more}}) for name, known in group] for group in groups())
                """)
        )
        return Product(path, self.folder, self.environment)

    def plan(self, deploy: str = "gb10.deploys.cluster") -> set[tuple[str, str]]:
        """Dry-run a deploy and return its changes as pairs of operation and host."""
        done = self.pyinfra("--json", "--dry", deploy)
        assert done.status == 0, done.output
        return {
            (operation["name"], host)
            for operation in done.json["plan"]
            for host in (*operation["hosts_with_change"], *operation["hosts_with_conditional_change"])
        }

    def run(self, deploy: str = "gb10.deploys.cluster") -> set[tuple[str, str]]:
        """Run a deploy and return its changes as pairs of operation and host."""
        done = self.pyinfra("--json", "-y", "--fail-percent", "0", deploy)
        assert done.status == 0, done.output
        operations = done.json["results"]["operations"]
        return {(operation["name"], host) for operation in operations for host in operation["success"]}

    def full_environment(self) -> dict[str, str]:
        """Return the environment of the commands."""
        ours = {"GB10_INVENTORY": str(self.inventory), "NO_COLOR": "1", "PYTHONPATH": str(CHECKOUT)}
        return {**os.environ, **self.environment, **ours}

    def command(self, name: str) -> list[str]:
        """Return the start of the command line of an installed program."""
        return [str(BIN / name)]

    def run_command(self, command: list[str], seconds: int = 300, stdin: str | None = None) -> Done:
        """Run any command in the folder and environment of the product."""
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self.full_environment(),
            input=stdin if stdin is not None else "",
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        output = done.stdout + done.stderr
        log = re.search(r"(/\S+\.log)\b", output)
        text = Path(log[1]).read_text() if log and Path(log[1]).exists() else ""
        return Done(done.returncode, output, done.stdout, text)


def _options(arguments: tuple[str, ...]) -> list[str]:
    return [word for word in arguments if word.startswith("-") or word.isdigit()]


def _operands(arguments: tuple[str, ...]) -> list[str]:
    return [word for word in arguments if not (word.startswith("-") or word.isdigit())]
