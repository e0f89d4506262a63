"""What an inventory may say about a node, and what is refused before anything is done."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pyinfra.api import Config, Inventory, State
from pyinfra.api.exceptions import DeployError
from pyinfra.context import ctx_host, ctx_state

from gb10.deploys.node import host_lines
from gb10.group_data.settings import NodeSettings, public_key
from gb10.operations.kit.inventory import rails_of, read_settings

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJx6C/aMaM8szTuG02u5TojsrLxcputiioJFGqssmrf6 anna@desk"
PRIVATE = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAA-canary\n-----END OPENSSH PRIVATE KEY-----\n"


@pytest.fixture
def on() -> Iterator[Any]:
    """Given a host's data, stand on that host."""

    def stand(**data: Any) -> Any:
        state = State(Inventory(([("spark-1", data)], {})), Config())
        host = state.inventory.get_host("spark-1")
        ctx_state.set(state)
        ctx_host.set(host)
        return host

    yield stand
    ctx_host.reset()
    ctx_state.reset()


def test_the_defaults_make_sense_and_the_firewall_is_off(on: Any) -> None:
    on()
    settings = read_settings(NodeSettings)
    assert settings.docker
    assert not settings.firewall
    assert not settings.restart_while_serving


def test_an_inventory_beats_the_defaults_and_an_argument_beats_the_inventory(on: Any) -> None:
    on(node_rails_mtu=1500, node_docker=False)
    assert (read_settings(NodeSettings).rails_mtu, read_settings(NodeSettings).docker) == (1500, False)
    assert read_settings(NodeSettings, rails_mtu=4000).rails_mtu == 4000


@pytest.mark.parametrize(
    "wrong",
    [
        {"no_such_key": 1},
        {"user_name": "Anna Smith"},
        {"user_name": "$(reboot)"},
        {"data_path": "data"},
        {"data_path": "/da ta"},
        {"data_folders": {"../etc": "755"}},
        {"data_folders": {"x": "rwx"}},
        {"rails_mtu": 90000},
        {"user_keys": ["not a key"]},
        {"confirm_seconds": 1},
    ],
)
def test_what_cannot_be_is_refused_by_name(on: Any, wrong: dict[str, Any]) -> None:
    on()
    with pytest.raises(DeployError, match=f"gb10: SETTINGS_INVALID: spark-1: {next(iter(wrong))}"):
        read_settings(NodeSettings, **wrong)


def test_rails_may_leave_their_prefix_out(on: Any) -> None:
    host = on(rails={"a": {"interface": "enp1s0f0np0", "address": "192.168.100.11"}})
    assert rails_of(host)["a"].address == "192.168.100.11/24"


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (("eth1", "10.0.0.1/24"), ("eth2", "10.0.0.2/24")),
        (("eth1", "10.0.0.1/24"), ("eth2", "10.0.0.200/25")),
        (("eth1", "10.0.0.1/24"), ("eth1", "10.0.1.1/24")),
        (("eth1", "10.0.0.1/24"), ("eth2", "10.0.1.300/24")),
        (("eth1", "10.0.0.1/24"), ("eth2; reboot", "10.0.1.1/24")),
    ],
)
def test_rails_that_cannot_work_are_refused(on: Any, a: tuple[str, str], b: tuple[str, str]) -> None:
    host = on(rails={rail: {"interface": half[0], "address": half[1]} for rail, half in {"a": a, "b": b}.items()})
    with pytest.raises(DeployError, match="gb10: SETTINGS_INVALID: spark-1: rails"):
        rails_of(host)


def test_a_public_key_is_its_text_or_its_file(tmp_path: Path) -> None:
    assert public_key(f"{KEY}\n") == KEY
    (tmp_path / "key.pub").write_text(f"{KEY}\n")
    assert public_key(str(tmp_path / "key.pub")) == KEY


def test_a_private_key_is_refused_and_never_quoted(on: Any, tmp_path: Path) -> None:
    on()
    (tmp_path / "key").write_text(PRIVATE)
    for given in (PRIVATE, str(tmp_path / "key"), KEY.replace("AAAAC3", "AAAAC4")):
        with pytest.raises(DeployError) as refused:
            read_settings(NodeSettings, user_keys=[given])
        assert "is no public key" in str(refused.value)
        assert "canary" not in str(refused.value)


def test_a_key_that_is_not_there_is_named() -> None:
    with pytest.raises(ValueError, match=r"there is no file /nowhere/key\.pub on this controller"):
        public_key("/nowhere/key.pub")


def test_a_node_is_known_by_its_name_and_by_its_rails(on: Any) -> None:
    rails = {"a": {"interface": "eth1", "address": "10.0.0.1/24"}}
    assert host_lines(on(node_ip="192.168.1.11", rails=rails)) == ["192.168.1.11 spark-1", "10.0.0.1 spark-1-rail-a"]
    assert host_lines(on(ssh_hostname="spark.lan")) == []
