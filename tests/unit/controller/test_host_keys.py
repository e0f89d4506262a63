"""ssh commands of the controller, bounded, and what their errors prove."""

from __future__ import annotations

import pytest

from gb10.controller import host_keys


def test_an_ssh_command_that_floods_or_hangs_is_a_failed_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_keys, "PROBE_SECONDS", 1)
    for command in (["yes"], ["sleep", "60"]):
        done = host_keys.run_ssh(command)
        assert (done.returncode, done.stdout) == (255, "")
    assert host_keys.run_ssh(["sh", "-c", "cat; echo no >&2; exit 3"], "text").stdout == "text"


@pytest.mark.parametrize(
    ("stderr", "refused"),
    [
        ("nvidia@spark-1: Permission denied (publickey,password).\n", True),
        ('Load key "k": bad permissions\nnvidia@spark-1: Permission denied (publickey).\n', True),
        ("Received disconnect from 10.0.0.1 port 22:2: Permission denied (publickey)\n", False),
        ("Received disconnect from 10.0.0.1 port 22:2: x\na@b: Permission denied (publickey).\n", False),
    ],
)
def test_only_ssh_itself_says_that_a_login_was_refused(stderr: str, refused: bool) -> None:
    assert host_keys._login_refused(stderr) is refused
