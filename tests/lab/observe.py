"""Look at nodes and processes without the product."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

# Files that a node writes by itself, or because somebody logs in.
VOLATILE = (
    *("/var/log", "/var/lib/sudo", "/var/lib/systemd", "/var/lib/NetworkManager", "/var/cache"),
    *("/proc", "/sys", "/run", "/dev", "/tmp", "/var/tmp"),
)


def shell(host: Any, script: str) -> str:
    """Run a script as root and return its output without the final newline. It must succeed."""
    done = host.run("sudo sh -c %s", script)
    assert done.rc == 0, done.stderr
    return str(done.stdout).strip()


def until(condition: Callable[[], bool], seconds: float, pause: float = 0.1) -> None:
    """Wait until a condition is true. Fail after some seconds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not true within {seconds} s"
        time.sleep(pause)


def written_files(host: Any) -> dict[str, str]:
    """Return size, mode, owner and ctime of every file on a node, by its path, without VOLATILE."""
    prune = " -o ".join(f"-path {path}" for path in VOLATILE)
    listing = host.check_output(f"sudo find / /data -xdev \\( {prune} \\) -prune -o -printf '%p\\t%s %m %u %C@\\n'")
    return dict(line.rsplit("\t", 1) for line in listing.splitlines())


class ProcessScan:
    """A repeated scan of this machine's processes, including those of nodes. New processes are read most often."""

    FIRST_PAUSE = 0.01  # seconds
    LONGEST_PAUSE = 0.1  # a process may start another program at any time

    def __init__(self, canary: str) -> None:
        self.canary = canary
        self.schedule: dict[tuple[str, int], tuple[float, float]] = {}  # process -> next scan, pause after it

    def leaks(self) -> Iterator[str]:
        """Scan the processes that are due. Yield each command line and environment with the canary."""
        now = time.monotonic()
        for process in os.scandir("/proc"):
            if not process.name.isdigit():
                continue
            due, pause = self.schedule.get(key := (process.name, process.inode()), (now, self.FIRST_PAUSE))
            if now < due:
                continue
            self.schedule[key] = (now + pause, min(2 * pause, self.LONGEST_PAUSE))
            for name in ("cmdline", "environ"):
                try:
                    content = Path(process.path, name).read_bytes().decode(errors="replace")
                except OSError:
                    continue
                if self.canary in content:
                    yield f"{name}: {content[:300]}"


def exposed_files(root: Path, canary: str) -> Iterator[str]:
    """Yield the files below a folder that contain the canary and are accessible to others than the owner."""
    for folder, _, names in os.walk(root):
        for name in names:
            path = Path(folder) / name
            try:
                mode = path.lstat().st_mode
                if mode & 0o170000 == 0o100000 and mode & 0o077 and canary.encode() in path.read_bytes():
                    yield f"{path} {mode & 0o777:o}"
            except OSError:
                continue
