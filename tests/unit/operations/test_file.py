"""Files and secrets, kept by running the operations on this machine through pyinfra's own API."""

from __future__ import annotations

import getpass
import grp
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pyinfra.api import Config, Inventory, State
from pyinfra.api.connect import connect_all
from pyinfra.api.operation import add_op
from pyinfra.api.operations import run_ops
from pyinfra.context import ctx_host, ctx_state

from gb10.facts.k3s import Secret
from gb10.operations.file import masked_file, secret_file, text_file

Apply = Callable[..., bool]


@pytest.fixture
def apply() -> Apply:
    """Given an operation and its arguments, run it here; return whether it changed anything.

    All that pyinfra can print is printed, as with -vvv and --diff.
    """

    def run(operation: Any, **arguments: Any) -> bool:
        inventory = Inventory((["@local"], {}))
        state = State(inventory, Config(DIFF=True))
        state.print_input = state.print_output = state.print_fact_input = state.print_fact_output = True
        try:
            connect_all(state)
            (meta,) = add_op(state, operation, name="under test", **arguments).values()
            foretold = meta.will_change
            run_ops(state)
            assert meta.did_change() is foretold, "the dry run told something else than the run did"
            return bool(meta.did_change())
        finally:
            ctx_state.reset()
            ctx_host.reset()

    return run


ME = {"user": getpass.getuser(), "group": grp.getgrgid(os.getgid()).gr_name}


def mode(path: Path) -> str:
    return f"{stat.S_IMODE(path.stat().st_mode):o}"


def test_a_text_file_is_written_once_and_then_left_alone(apply: Apply, tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "it's.conf"
    assert apply(text_file, path=str(path), content="a: 1\n", mode="640", **ME)
    assert (path.read_text(), mode(path)) == ("a: 1\n", "640")
    assert not apply(text_file, path=str(path), content="a: 1\n", mode="640", **ME)


@pytest.mark.parametrize("change", ["content", "mode"])
def test_a_text_file_that_differs_is_replaced_as_a_whole(apply: Apply, tmp_path: Path, change: str) -> None:
    path = tmp_path / "file"
    path.write_text("other\n" if change == "content" else "a: 1\n")
    path.chmod(0o600 if change == "content" else 0o666)
    inode = path.stat().st_ino
    assert apply(text_file, path=str(path), content="a: 1\n", mode="600", **ME)
    assert (path.read_text(), mode(path)) == ("a: 1\n", "600")
    assert path.stat().st_ino != inode
    assert list(tmp_path.iterdir()) == [path]


def test_a_secret_is_kept_0600_and_compared_without_reading_it_out(apply: Apply, tmp_path: Path) -> None:
    path = tmp_path / "token"
    assert apply(secret_file, path=str(path), content=Secret("canary"))
    assert (path.read_text(), mode(path)) == ("canary\n", "600")
    assert not apply(secret_file, path=str(path), content=Secret("canary"))
    path.chmod(0o644)
    assert apply(secret_file, path=str(path), content=Secret("canary"))
    assert mode(path) == "600"
    os.chown(path, 65534, 65534)
    assert apply(secret_file, path=str(path), content=Secret("canary"))
    assert path.stat().st_uid == 0


def test_secrets_in_a_file_that_is_replaced_are_shown_nowhere(
    apply: Apply, tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", "pyinfra")
    path = tmp_path / "config.yaml"
    path.write_text("token: canary\ndisable: [coredns]\n")
    assert apply(masked_file, path=str(path), content="docker: true\n", mode="600", **ME)
    assert (path.read_text(), mode(path)) == ("docker: true\n", "600")
    assert not apply(masked_file, path=str(path), content="docker: true\n", mode="600", **ME)
    printed = "".join(capfd.readouterr()) + caplog.text
    assert "disable: [coredns]" in printed
    assert "canary" not in printed


def test_an_unread_fact_fails_the_operation_before_any_write(tmp_path: Path, apply: Apply) -> None:
    unreadable = tmp_path / "a folder, where a file is wanted"
    unreadable.mkdir()
    with pytest.raises(Exception, match="No hosts remaining"):
        apply(text_file, path=str(unreadable), content="a: 1\n", **ME)
    assert not list(unreadable.iterdir())
