"""Children that run pyinfra: forked from a process that has it loaded, or spawned where there is none."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gb10.controller.run import child as children
from gb10.controller.run.child import Child

TELLING = """
    import json, os, sys
    import pyinfra
    print("on its way", file=sys.stderr)
    print(json.dumps({
        "arguments": sys.argv[1:],
        "folder": os.getcwd(),
        "environment": dict(os.environ),
        "input": sys.stdin.read(),
        "leads": os.getpid() == os.getsid(0),
        "seen": getattr(pyinfra, "seen", None),
        "parent": os.getppid(),
    }))
    pyinfra.seen = "by an earlier run"
    sys.exit(7)
"""


@pytest.fixture(params=["forked", "spawned"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How children are made."""
    if request.param == "spawned":
        monkeypatch.setattr(children.ForkServer, "ours", classmethod(lambda _: None))
    return str(request.param)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with modules that tests run."""
    (tmp_path / "telling.py").write_text(textwrap.dedent(TELLING))
    (tmp_path / "sleeping.py").write_text(
        "import time, sys\nprint('here', file=sys.stderr, flush=True)\ntime.sleep(60)\n"
    )
    (tmp_path / "failing.py").write_text("raise ValueError('as it was told')\n")
    (tmp_path / "refusing.py").write_text("import sys\nsys.exit('that is refused')\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def environment(**more: str) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], **more}


@pytest.mark.usefixtures("way")
def test_a_child_has_the_arguments_the_folder_and_the_environment_that_it_is_given(folder: Path) -> None:
    with Child("telling", ["one", "two words"], environment(TOLD="yes")) as child:
        assert list(child.lines()) == ["on its way\n"]
        assert child.wait() == 7
        told = json.loads(child.output())
    assert told["arguments"] == ["one", "two words"]
    assert told["folder"] == str(folder)
    assert told["environment"]["TOLD"] == "yes"
    assert "HOME" not in told["environment"]
    assert told["input"] == ""
    assert told["leads"]


@pytest.mark.usefixtures("folder")
def test_no_run_finds_what_an_earlier_one_has_left_in_pyinfra(way: str) -> None:
    parents = set()
    for _ in range(2):
        with Child("telling", [], environment()) as child:
            child.wait()
            told = json.loads(child.output())
        assert told["seen"] is None
        parents.add(told["parent"])
    assert len(parents) == 1
    assert (parents == {os.getpid()}) == (way == "spawned")


@pytest.mark.usefixtures("way", "folder")
@pytest.mark.parametrize(
    ("module", "code", "last"),
    [("failing", 1, "ValueError: as it was told"), ("refusing", 1, "that is refused"), ("absent", 1, "absent")],
)
def test_a_child_that_fails_says_so_as_python_does(module: str, code: int, last: str) -> None:
    with Child(module, [], environment()) as child:
        assert last in list(child.lines())[-1]
        assert child.wait() == code


@pytest.mark.usefixtures("way", "folder")
def test_a_child_is_stopped_when_its_time_is_over() -> None:
    began = time.monotonic()
    with Child("sleeping", [], environment()) as child:
        child.stop_after(0.2)
        assert next(child.lines()) == "here\n"
        assert child.wait() != 0
    assert time.monotonic() - began < 30


@pytest.mark.usefixtures("way", "folder")
def test_leaving_ends_a_child_that_still_runs() -> None:
    with Child("sleeping", [], environment()) as child:
        assert next(child.lines()) == "here\n"
        pid = child.pid
    assert not Path(f"/proc/{pid}").exists() or _is_zombie(pid)


@pytest.mark.usefixtures("folder")
def test_a_child_whose_server_was_killed_is_gone_and_the_next_one_runs() -> None:
    with Child("sleeping", [], environment()) as child:
        assert next(child.lines()) == "here\n"
        server = children.ForkServer.ours()
        assert server
        server._process.kill()
        assert child.wait() == -signal.SIGKILL
    with Child("telling", [], environment()) as child:
        assert child.wait() == 7


@pytest.fixture
def deaf_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[children.ForkServer]:
    """A fork server that is still loading."""
    server = children.ForkServer()
    os.kill(server._process.pid, signal.SIGSTOP)
    monkeypatch.setattr(children.ForkServer, "ours", classmethod(lambda _: server))
    yield server
    server._process.kill()
    server._process.wait()


def test_what_was_interrupted_before_it_began_does_not_begin_later(
    folder: Path, deaf_server: children.ForkServer
) -> None:
    (folder / "writing.py").write_text("open('written', 'w').close()\n")

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    try:
        with pytest.raises(KeyboardInterrupt):
            Child("writing", [], environment())
    finally:
        signal.signal(signal.SIGALRM, before)
    os.kill(deaf_server._process.pid, signal.SIGCONT)
    with Child("telling", [], environment()) as child:  # served after the other
        assert child.wait() == 7
    deadline = time.monotonic() + 10
    while subprocess.run(["pgrep", "-P", str(deaf_server._process.pid)], check=False).returncode == 0:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert not (folder / "written").exists()


def _is_zombie(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().split(") ")[1].startswith("Z")
