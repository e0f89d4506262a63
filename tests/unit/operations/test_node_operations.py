"""Decisions of provisioning: what to add, what to leave, when to refuse."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from gb10.facts.file import TextFileState
from gb10.facts.network import Interface, Netplan
from gb10.facts.node import Speed
from gb10.facts.reading.node import DataPlace
from gb10.facts.reading.rdma import ConnectX7, RdmaLink
from gb10.operations.docker import RUNTIME, changed_keys, nvidia_runtime, parse_config
from gb10.operations.file import BEGIN, END, with_block
from gb10.operations.kit.inventory import merged
from gb10.operations.node import is_set, survival
from gb10.operations.rails import Rail, has_connectx7, is_live, own_addresses, rail_refusals
from gb10.operations.user import sudo_file, with_keys
from gb10.templates import render

A = Rail("enp1s0f0np0", "192.168.100.11/24", 9000)
B = Rail("enP2p1s0f0np0", "192.168.101.11/24", 9000)
LIVE = {A.interface: Interface(9000, True, (A.address,)), B.interface: Interface(9000, True, (B.address,))}
FILE = TextFileState("600", "root", "root", render("node/rails.yaml.j2", rails=[A, B]))
PLAN = Netplan(None, {A.interface: (A.address,), B.interface: (B.address,)})

lines = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), max_size=12).filter(
    lambda line: line not in (BEGIN, END)
)
keys = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.dictionaries(st.sampled_from("abcd"), inner, max_size=3),
    max_leaves=6,
)
configs = st.dictionaries(st.sampled_from("abcd"), keys, max_size=4)


# Lines in somebody else's file ---------------------------------------------------------------------------------------


@given(st.lists(lines), st.lists(lines), st.lists(lines))
def test_a_block_is_replaced_in_its_place_and_the_rest_stays(
    others: list[str], first: list[str], second: list[str]
) -> None:
    text = "".join(f"{line}\n" for line in others)
    once = with_block(text, first)
    assert with_block(once, first) == once
    assert once.startswith(text)
    more = once + "and something after it\n"
    assert with_block(more, second) == with_block(text, second) + "and something after it\n"


@pytest.mark.parametrize("text", ["a\nb", f"a\n{BEGIN}\nb\n", f"a\n{END}\nb\n", f"a\n{END}\nb\n{BEGIN}\n"])
def test_half_a_block_or_a_missing_newline_loses_no_line_of_others(text: str) -> None:
    assert with_block(text, ["x"]) == f"a\nb\n{BEGIN}\nx\n{END}\n"


KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJx6C/aMaM8szTuG02u5TojsrLxcputiioJFGqssmrf6 anna@desk"
OTHER = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBz5lhnRQHfAkCwaXN7gbcTTaZG4vMCm8ynzYYYUPMDB bob"


def test_a_key_is_added_once_whatever_its_comment_and_options_are() -> None:
    assert with_keys([], [KEY]) == [KEY]
    assert with_keys([OTHER, KEY], [KEY]) == [OTHER, KEY]
    restricted = f"no-pty {KEY.replace('anna@desk', 'another comment')}"
    assert with_keys([restricted], [KEY]) == [restricted]
    assert with_keys(["# of the owner", OTHER], [f"{KEY}\n", KEY]) == ["# of the owner", OTHER, KEY]


def test_a_sudoers_file_has_a_name_that_sudo_reads() -> None:
    assert sudo_file("anna.b") == "/etc/sudoers.d/90-gb10-anna_b"


# Docker --------------------------------------------------------------------------------------------------------------


@given(configs, configs)
def test_merged_keys_win_and_a_second_merge_changes_nothing(before: dict[str, Any], more: dict[str, Any]) -> None:
    once = merged(before, more)
    assert merged(once, more) == once
    assert {key: once[key] for key in before.keys() - more.keys()} == {
        k: before[k] for k in before.keys() - more.keys()
    }
    assert changed_keys(before, once) <= more.keys()
    assert all(once[key] == value for key, value in more.items() if not isinstance(value, dict))


def test_an_object_is_merged_key_by_key() -> None:
    assert merged({"log-opts": {"max-size": "1m"}}, {"log-opts": {"max-file": "3"}}) == {
        "log-opts": {"max-size": "1m", "max-file": "3"}
    }


def test_nvidias_runtime_is_added_unless_others_configured_it() -> None:
    assert nvidia_runtime({}) == {
        "runtimes": {"nvidia": {"args": [], "path": RUNTIME}},
        "default-runtime": "nvidia",
    }
    assert nvidia_runtime({"runtimes": {"nvidia": {"path": "/opt/nvidia"}}}) == {"default-runtime": "nvidia"}


@pytest.mark.parametrize(
    ("text", "config"), [("", {}), (" \n", {}), ("{}", {}), ('{"a": ', None), ("[]", None), ("1", None)]
)
def test_an_invalid_docker_configuration_is_not_an_empty_one(text: str, config: dict[str, Any] | None) -> None:
    assert parse_config(text) == config


# The rails -----------------------------------------------------------------------------------------------------------


def test_the_rails_file_names_both_halves_and_no_renderer() -> None:
    network = yaml.safe_load(FILE.content)["network"]
    assert "renderer" not in network
    assert network["ethernets"][A.interface] == {
        "dhcp4": False,
        "dhcp6": False,
        "accept-ra": False,
        "link-local": [],
        "optional": True,
        "mtu": 9000,
        "addresses": [A.address],
    }
    assert own_addresses(FILE.content) == {A.interface: {A.address}, B.interface: {B.address}}


@pytest.mark.parametrize("text", ["", "network: [", "network: {}", "network: {ethernets: {a: 1}}", "- a"])
def test_a_broken_rails_file_has_no_addresses(text: str) -> None:
    assert own_addresses(text) == {}


def codes(**differing: Any) -> list[str]:
    arguments = {"wanted": [A, B], "interfaces": LIVE, "plan": PLAN, "file": FILE, **differing}
    return [refusal.code for refusal in rail_refusals(**arguments)]


def test_rails_are_refused_for_what_would_not_work() -> None:
    assert codes() == []
    assert codes(plan=Netplan(None, {}), file=None) == []
    assert codes(interfaces={A.interface: LIVE[A.interface]}) == ["RAIL_UNKNOWN"]
    assert codes(plan=None) == ["NETPLAN_ABSENT"]
    assert codes(plan=Netplan(None, {}, "broken")) == ["NETPLAN_BROKEN"]


def test_a_node_without_links_has_no_connectx7() -> None:
    assert not has_connectx7(None)
    assert not has_connectx7(ConnectX7(()))
    assert has_connectx7(ConnectX7((RdmaLink(netdev="enp1s0f0np0"),)))


def test_other_addresses_in_another_netplan_file_are_a_conflict() -> None:
    by_hand = Netplan(None, {A.interface: (A.address,)})
    assert codes(plan=by_hand, file=None) == []
    other = Netplan(None, {A.interface: ("10.0.0.1/24", A.address)})
    assert codes(plan=other) == ["NETPLAN_CONFLICT"]
    # An address that we gave ourselves and that is to be another one now is none.
    moved = Rail(A.interface, "192.168.100.99/24", 9000)
    assert codes(wanted=[moved, B]) == []


def test_a_rail_is_live_by_address_and_mtu_if_it_has_a_carrier() -> None:
    assert is_live(A, LIVE)
    assert not is_live(A, {A.interface: Interface(1500, True, (A.address,))})
    assert not is_live(A, {A.interface: Interface(9000, True, ())})
    assert is_live(A, {A.interface: Interface(1500, False, ())})


# /data and speed -----------------------------------------------------------------------------------------------------


def test_the_effect_of_a_reinstallation_on_data_is_stated() -> None:
    own = DataPlace("/data", "directory", "/data", "/dev/nvme0n1p3", "xfs", True, 3 << 40, 4 << 40, {}, None)
    assert survival(own) == "/data is on a device of its own (/dev/nvme0n1p3, xfs, 3072 GiB free)"
    plain = DataPlace("/data", None, "/", "/dev/nvme0n1p2", "ext4", False, 3 << 30, 4 << 30, {}, None)
    assert survival(plain) == (
        "/data will be a directory on the root file system (3 GiB free): a reinstallation of the node erases it"
    )


def test_performance_mode_needs_the_unit_and_every_core() -> None:
    assert is_set(Speed(("performance", "performance"), None, None, True, True))
    assert is_set(Speed((), "/usr/bin/nvidia-smi", True, True, True))
    assert not is_set(Speed(("performance", "powersave"), None, None, True, True))
    assert not is_set(Speed(("performance",), None, None, False, True))
    assert not is_set(Speed(("performance",), None, None, True, False))


@pytest.mark.parametrize(
    ("smi", "governors", "commands"), [("/x/nvidia-smi", (), 1), (None, ("a",), 1), ("/x", ("a",), 2)]
)
def test_the_unit_sets_only_what_the_node_has(smi: str | None, governors: tuple[str, ...], commands: int) -> None:
    unit = render("node/performance.service.j2", nvidia_smi=smi, governors=governors, governor="performance")
    assert len(re.findall("^ExecStart=", unit, re.MULTILINE)) == commands
