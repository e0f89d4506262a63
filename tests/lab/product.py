"""The product as a user drives it, and nodes as they are seen without it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
# What a node writes by itself, or because somebody logs in.
VOLATILE = ("/var/log", "/var/lib/sudo", "/var/lib/systemd", "/var/cache", "/proc", "/sys", "/run", "/dev", "/tmp")


@dataclass
class Done:
    """A command that ended."""

    status: int
    output: str  # standard output and error, as a person sees them
    stdout: str
    log: str = field(default="", repr=False)

    @property
    def json(self) -> Any:
        return json.loads(self.stdout)


@dataclass
class Product:
    """The gb10 and pyinfra commands on one inventory."""

    inventory: Path
    folder: Path  # where the commands run
    environment: dict[str, str]

    def gb10(self, *arguments: str, seconds: int = 300, stdin: str | None = None) -> Done:
        """Run gb10 as a script would."""
        return self.run_command([*self.command("gb10"), *arguments], seconds, stdin)

    def pyinfra(self, *arguments: str, seconds: int = 300) -> Done:
        """Run the pyinfra CLI on the inventory."""
        words = [*_front(arguments), str(self.inventory), *_rest(arguments)]
        return self.run_command([*self.command("pyinfra"), *words], seconds)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start gb10 in the background, in a process group of its own."""
        return subprocess.Popen(
            [*self.command("gb10"), *arguments],
            cwd=self.folder,
            env=self.whole_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def with_data(self, **more: Any) -> Product:
        """The same nodes without operators, of which an inventory says more, or otherwise."""
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
        """What a dry run says that a run would change: pairs of operation and host."""
        done = self.pyinfra("--json", "--dry", deploy)
        assert done.status == 0, done.output
        return {
            (operation["name"], host)
            for operation in done.json["plan"]
            for host in (*operation["hosts_with_change"], *operation["hosts_with_conditional_change"])
        }

    def run(self, deploy: str = "gb10.deploys.cluster") -> set[tuple[str, str]]:
        """Run a deploy; return what it changed, in the same form."""
        done = self.pyinfra("--json", "-y", "--fail-percent", "0", deploy)
        assert done.status == 0, done.output
        operations = done.json["results"]["operations"]
        return {(operation["name"], host) for operation in operations for host in operation["success"]}

    def whole_environment(self) -> dict[str, str]:
        ours = {"GB10_INVENTORY": str(self.inventory), "NO_COLOR": "1", "PYTHONPATH": str(CHECKOUT)}
        return {**os.environ, **self.environment, **ours}

    def command(self, name: str) -> list[str]:
        """The command of this name, as it is installed."""
        return [str(BIN / name)]

    def run_command(self, command: list[str], seconds: int = 300, stdin: str | None = None) -> Done:
        """Run a whole command line."""
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self.whole_environment(),
            input=stdin if stdin is not None else "",
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        return _done(done.returncode, done.stdout, done.stderr)


def _done(status: int, stdout: str, stderr: str) -> Done:
    output = stdout + stderr
    log = re.search(r"(/\S+\.log)\b", output)
    text = Path(log[1]).read_text() if log and Path(log[1]).exists() else ""
    return Done(status, output, stdout, text)


def _front(arguments: tuple[str, ...]) -> list[str]:
    return [word for word in arguments if word.startswith("-") or word.isdigit()]


def _rest(arguments: tuple[str, ...]) -> list[str]:
    return [word for word in arguments if not (word.startswith("-") or word.isdigit())]


def written_files(host: Any) -> dict[str, str]:
    """Given a testinfra host, return path -> size, mode, and times of every file that nobody but the product writes."""
    prune = " -o ".join(f"-path {path}" for path in VOLATILE)
    listing = host.check_output(f"sudo find / /data -xdev \\( {prune} \\) -prune -o -printf '%p\\t%s %m %u %C@\\n'")
    return dict(line.rsplit("\t", 1) for line in listing.splitlines())


class Processes:
    """This machine's processes, nodes' ones too: the young are looked at most often, all of them again and again."""

    FIRST_PAUSE = 0.01  # seconds
    LONGEST_PAUSE = 0.1  # any of them may become another program

    def __init__(self, canary: str) -> None:
        self.canary = canary
        self.looks: dict[tuple[str, int], tuple[float, float]] = {}  # when next, and after what pause

    def showing(self) -> Iterator[str]:
        """Yield the command lines and environments that hold the canary, of those whose turn it is."""
        now = time.monotonic()
        for process in os.scandir("/proc"):
            if not process.name.isdigit():
                continue
            due, pause = self.looks.get(key := (process.name, process.inode()), (now, self.FIRST_PAUSE))
            if now < due:
                continue
            self.looks[key] = (now + pause, min(2 * pause, self.LONGEST_PAUSE))
            for name in ("cmdline", "environ"):
                try:
                    content = Path(process.path, name).read_bytes().decode(errors="replace")
                except OSError:
                    continue
                if self.canary in content:
                    yield f"{name}: {content[:300]}"


def wide_files(root: Path, canary: str) -> Iterator[str]:
    """Given a folder, yield the files below it that hold the canary and that are wider than 0600."""
    for folder, _, names in os.walk(root):
        for name in names:
            path = Path(folder) / name
            try:
                mode = path.lstat().st_mode
                if mode & 0o170000 == 0o100000 and mode & 0o077 and canary.encode() in path.read_bytes():
                    yield f"{path} {mode & 0o777:o}"
            except OSError:
                continue
