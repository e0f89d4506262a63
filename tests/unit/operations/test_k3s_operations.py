"""Decisions of the operations on K3s."""

from __future__ import annotations

import pytest

from gb10.facts.file import SecretFileState
from gb10.facts.reading.k3s import K3sInstallation
from gb10.operations.k3s import EMPTY, TOKEN_FILE, token_command
from gb10.operations.upgrade import is_wanted

INSTALLED = K3sInstallation(
    role="server",
    version="v1.36.4+k3s1",
    binary_sha256="a" * 64,
    architecture="amd64",
    unit_state="active",
    unit_enabled=True,
    main_pid=4711,
    config_sha256="b" * 64,
    uninstall_scripts=(),
    stale=False,
    foreign=False,
    exec_start="/usr/local/bin/k3s server",
    node_password=True,
    drained=False,
)
TOKEN = SecretFileState("1" * 64, mode="600", owner="root")


@pytest.mark.parametrize("found", [None, *(SecretFileState(digest, "600", "root") for digest in sorted(EMPTY))])
def test_a_missing_or_empty_token_file_is_made(found: SecretFileState | None) -> None:
    command = token_command(found)
    assert command is not None
    assert "od -A n" in str(command.connector_arguments["_stdin"])


@pytest.mark.parametrize(("mode", "owner"), [("644", "root"), ("600", "nvidia"), ("640", "nvidia")])
def test_a_readable_token_file_is_restricted_and_keeps_its_token(mode: str, owner: str) -> None:
    command = token_command(SecretFileState(TOKEN.sha256, mode, owner))
    assert command is not None
    assert command.get_raw_value() == f"chmod 600 {TOKEN_FILE} && chown root:root {TOKEN_FILE}"


def test_a_token_file_that_only_root_can_read_is_left_alone() -> None:
    assert token_command(TOKEN) is None


@pytest.mark.parametrize(
    ("pins", "wanted"),
    [
        ({}, True),
        ({"amd64": "a" * 64}, True),
        ({"amd64": "c" * 64}, False),
        ({"arm64": "c" * 64}, True),
        ({"arm64": "a" * 64, "amd64": "c" * 64}, False),
    ],
)
def test_only_the_pin_of_its_own_architecture_counts_for_a_binary(pins: dict[str, str], wanted: bool) -> None:
    assert is_wanted(INSTALLED, "v1.36.4+k3s1", pins) is wanted
    assert not is_wanted(INSTALLED, "v1.36.5+k3s1", pins)
    assert not is_wanted(None, "v1.36.4+k3s1", pins)
