"""Names and addresses are unique on a machine and stay the same after a wipe."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gb10.lab.plan import (
    LABS,
    MOST_NODES,
    NETWORKS,
    POOL,
    NodePlan,
    bridge_address,
    free_index,
    routed_networks,
    subnet,
)

INDICES = st.integers(0, LABS - 1)
NUMBERS = st.integers(1, MOST_NODES)
# As Linux prints it: a default route, and 198.18.0.0/24 on a bridge.
ROUTES = """\
Iface	Destination	Gateway 	Flags	RefCnt	Use	Metric	Mask		MTU	Window	IRTT
eth0	00000000	010200C0	0003	0	0	0	00000000	0	0	0
br-1	000012C6	00000000	0001	0	0	0	00FFFFFF	0	0	0
"""


@given(INDICES, NUMBERS)
def test_a_nodes_addresses_are_in_its_networks_and_its_own(index: int, number: int) -> None:
    node = NodePlan("x", index, number)
    for network in NETWORKS:
        address = ipaddress.IPv4Address(node.address(network))
        assert address in subnet(index, network)
        assert subnet(index, network).subnet_of(POOL)
        assert str(address) != bridge_address(index, network)


def test_the_first_lab_has_the_documented_addresses() -> None:
    node = NodePlan("default", 0, 1)
    assert [node.address(network) for network in NETWORKS] == ["198.18.0.11", "198.18.1.11", "198.18.2.11"]


@given(INDICES, INDICES)
def test_two_labs_share_no_network(one: int, other: int) -> None:
    if one != other:
        mine, yours = ([subnet(index, network) for network in NETWORKS] for index in (one, other))
        assert not any(a.overlaps(b) for a in mine for b in yours)


def test_nodes_of_one_machine_share_no_factory_hostname_or_mac() -> None:
    nodes = [NodePlan("x", index, number) for index in range(LABS) for number in range(1, MOST_NODES + 1)]
    assert len({node.factory_hostname for node in nodes}) == len(nodes)
    assert len({node.mac(network) for node in nodes for network in NETWORKS}) == len(nodes) * len(NETWORKS)


@given(INDICES, NUMBERS)
def test_the_factory_hostname_ends_in_the_last_digits_of_the_mac(index: int, number: int) -> None:
    node = NodePlan("x", index, number)
    assert node.factory_hostname == "spark-" + node.mac("management").replace(":", "")[-4:]


def test_routes_are_read_without_the_default_route() -> None:
    assert routed_networks(ROUTES) == [ipaddress.IPv4Network("198.18.0.0/24")]


def test_an_index_is_free_without_other_lab_and_route() -> None:
    assert free_index(set(), []) == 0
    assert free_index({0, 2}, [ipaddress.IPv4Network("198.18.6.0/24")]) == 3


@pytest.mark.parametrize("routed", [[POOL], [subnet(index, "b") for index in range(LABS)]])
def test_no_index_is_free_when_all_are_routed(routed: list[ipaddress.IPv4Network]) -> None:
    assert free_index(set(), routed) is None
