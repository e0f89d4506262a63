"""Both ends of a copy, each in a separate process, with the Pythons of Ubuntu 22.04 and 24.04."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from gb10.facts.reading.launcher import Launch
from gb10.facts.reading.requests import LOADER
from gb10.programs.copying.receiving import unit
from gb10.programs.copying.receiving.run_folder import ANSWER, JOB, PROGRAM
from tests.unit.programs.launching import ubuntu_python

SECRET = "5ec3e7"  # noqa: S105 - of the tests
PYTHONS = ("python3.10", "python3.12")


def python(name: str) -> str:
    """Return the path of this Python, or of the one that runs the test."""
    return ubuntu_python(name.removeprefix("python")) or sys.executable


def bootstrap_text() -> str:
    return files("gb10.programs").joinpath("bootstrap.py").read_text()


def answer_of(launch: Launch, interpreter: str) -> Any:
    """Run a launch on this machine; return its answer and what it reported."""
    told: list[dict[str, Any]] = []
    command = [interpreter, "-I", "-c", LOADER]
    done = subprocess.run(command, input=launch.text, capture_output=True, text=True, check=False, timeout=120)
    answer = launch.answer()
    answer.on_report = told.append
    for line in done.stdout.splitlines():
        answer.read_line(line)
    assert answer.complete, (answer.refusal, done.stderr)
    return answer.value, told


@dataclass
class Ends:
    """A source folder, a target folder, and a receiver that listens."""

    source: Path
    target: Path
    port: int
    receiver: subprocess.Popen[bytes]

    def wanted(self, name: str) -> dict[str, Any]:
        found = (self.source / name).stat()
        return {
            "path": name,
            "size": found.st_size,
            "mtime": found.st_mtime_ns,
            "mode": 0o640,
            "uid": os.getuid(),
            "gid": os.getgid(),
            "sparse": False,
            "key": f"0-{name}",
        }


def content(number: int, size: int) -> bytes:
    return hashlib.shake_128(bytes([number])).digest(size)


@pytest.fixture(params=PYTHONS)
def interpreter(request: pytest.FixtureRequest) -> str:
    return python(request.param)


@pytest.fixture
def ends(tmp_path: Path, interpreter: str) -> Iterator[Ends]:
    source, target, folder = (tmp_path / name for name in ("source", "target", "unit"))
    for each in (source, target, folder):
        each.mkdir()
    (source / "large").write_bytes(content(1, (20 << 20) + 4097))
    (source / "small").write_bytes(content(2, 5000))
    rails = {"a": {"address": "127.0.0.1", "peers": ["127.0.0.1"]}}
    ends = Ends(source, target, 0, None)  # type: ignore[arg-type] # it is started below
    job = {"root": str(target), "secret": SECRET, "rails": rails, "ssh": "", "references": {}}
    unit.write_file(str(folder / JOB), json.dumps({**job, "large": [ends.wanted("large")], "stale": [], "halves": []}))
    unit.write_program(str(folder / PROGRAM))
    ends.receiver = subprocess.Popen([interpreter, "-I", str(folder / PROGRAM), "serve", str(folder)])
    deadline = time.monotonic() + 20
    while not (folder / ANSWER).exists() or not (folder / ANSWER).read_text().endswith("\n"):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    ends.port = json.loads((folder / ANSWER).read_text())["ports"]["a"]
    yield ends
    ends.receiver.terminate()
    ends.receiver.wait()


def job_of(ends: Ends, **more: Any) -> dict[str, Any]:
    rail = {"name": "a", "interface": None, "local": None, "peer": "127.0.0.1", "port": ends.port}
    files = {"large": [ends.wanted("large")], "small": [ends.wanted("small")], "compared": [], "finish": []}
    flags = {"again": False, "references": False, "hard_links": False, "sparse": False, "ssh": None}
    told = {"peer": "spark-2", "unit": "gb10-copy-0", "total": (20 << 20) + 9097, "every": 0.05}
    return {"secret": SECRET, "root": str(ends.source), "rails": [rail], "owners": [], "streams": 2} | {
        **files,
        **flags,
        **told,
        **more,
    }


def test_a_copy_arrives_and_both_ends_end(ends: Ends, interpreter: str) -> None:
    launch = Launch("gb10.programs.copying.sending.sender:main", job_of(ends), seconds=60, guarded=[str(ends.source)])
    result, told = answer_of(launch, interpreter)
    for name in ("large", "small"):
        assert (ends.target / name).read_bytes() == (ends.source / name).read_bytes()
        assert (ends.target / name).stat().st_mtime_ns == (ends.source / name).stat().st_mtime_ns
    assert ends.receiver.wait(20) == 0
    assert sorted(path.name for path in ends.target.iterdir()) == ["large", "small"]
    assert result["sent"] == (20 << 20) + 9097
    assert result["lost_rails"] == []
    assert all(set(each) == {"sent", "total", "seconds", "rails"} for each in told)


def test_a_sender_without_the_secret_is_rejected(ends: Ends, interpreter: str) -> None:
    launch = Launch("gb10.programs.copying.sending.sender:main", job_of(ends, secret="other"), guarded=["/tmp"])  # noqa: S106
    command = [interpreter, "-I", "-c", LOADER]
    done = subprocess.run(command, input=launch.text, capture_output=True, text=True, check=False, timeout=60)
    answer = launch.answer()
    for line in done.stdout.splitlines():
        answer.read_line(line)
    assert answer.refusal is not None
    assert answer.refusal[0] == "COPY_REFUSED"
    assert list(ends.target.glob("large")) == []
