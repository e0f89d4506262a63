"""Samples: see samples/README.md."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gb10.facts.rdma import RdmaLinks
from gb10.facts.reading.rdma import (
    ConnectX7,
    PhysicalPort,
    PortFault,
    RdmaLink,
    parse_ibdev2netdev,
    parse_ibstat,
    parse_rdma_json,
    parse_rdma_text,
)
from tests.unit.facts.reading import (
    ABSENT,
    Printed,
    altered,
    damaged,
    printed,
    process,
    run,
    sample,
    shell_accepts,
    spoiled,
    words,
)

NOTHING: dict[str, Printed] = {
    "rdma json": ([], ABSENT),
    "rdma": ([], ABSENT),
    "ibdev2netdev": ([], ABSENT),
    "sysfs rdma": ([], ABSENT),
    "ibstat": ([], ABSENT),
    "sysfs net": ([], 0),
    "ip": ([], ABSENT),
}
SPARK: dict[str, Printed] = {
    "rdma json": (sample("rdma-link-one-cable.json"), 0),
    "rdma": (sample("rdma-link-one-cable.txt"), 0),
    "ibdev2netdev": (sample("ibdev2netdev-one-cable.txt"), 0),
    "sysfs rdma": (sample("sysfs-rdma-one-cable.txt"), 0),
    "ibstat": (sample("ibstat-dell-gb10.txt"), 0),
    "sysfs net": (sample("sysfs-net-one-cable.txt"), 0),
    "ip": (sample("ip-addr-one-cable.json"), 0),
}
ONE_CABLE = {
    "enp1s0f0np0": ("rocep1s0f0", "ACTIVE", "LINK_UP"),
    "enp1s0f1np1": ("rocep1s0f1", "DOWN", "DISABLED"),
    "enP2p1s0f0np0": ("roceP2p1s0f0", "ACTIVE", "LINK_UP"),
    "enP2p1s0f1np1": ("roceP2p1s0f1", "DOWN", "DISABLED"),
}
HALF = RdmaLink(device="rocep1s0f0", netdev="enp1s0f0np0", state="ACTIVE", mtu_bytes=9000, addresses=("10.1.0.1/24",))
OTHER = replace(HALF, device="roceP2p1s0f0", netdev="enP2p1s0f0np0", addresses=("10.2.0.1/24",))


def seen(**sections: Printed) -> ConnectX7:
    found = RdmaLinks().process(printed({**NOTHING, **{name.replace("_", " "): s for name, s in sections.items()}}))
    assert found is not None
    return found


def states(found: ConnectX7) -> dict[str | None, tuple[str | None, str | None, str | None]]:
    return {link.netdev: (link.device, link.state, link.physical_state) for link in found.links}


def test_a_spark_shows_four_halves_behind_two_ports() -> None:
    found = RdmaLinks().process(printed(SPARK))
    assert found is not None
    assert states(found) == ONE_CABLE
    assert [(link.pci_address, link.physical_port) for link in found.links] == [
        ("0000:01:00.0", 0),
        ("0002:01:00.0", 0),
        ("0000:01:00.1", 1),
        ("0002:01:00.1", 1),
    ]
    first = found.links[0]
    assert first == RdmaLink(
        device="rocep1s0f0",
        port=1,
        netdev="enp1s0f0np0",
        state="ACTIVE",
        physical_state="LINK_UP",
        operstate="UP",
        rate_gbps=200.0,
        mtu_bytes=9000,
        addresses=("192.168.100.10/24", "fe80::4ebb:47ff:fe82:4503/64"),
        pci_address="0000:01:00.0",
        physical_port=0,
    )
    assert found.links[2].addresses == ()
    assert found.up_netdevs == ("enp1s0f0np0", "enP2p1s0f0np0")


def test_the_cabled_port_is_ready_and_the_dark_one_tells_why_not() -> None:
    found = RdmaLinks().process(printed(SPARK))
    assert found is not None
    cabled, dark = found.ports
    assert cabled.ready
    assert dark.faults == (PortFault.HALF_DOWN, PortFault.NO_ADDRESS)
    assert found.ready_ports == (cabled,)


@pytest.mark.parametrize("name", ["rdma-link-one-cable.txt", "rdma-link-padded.txt"])
def test_the_text_of_rdma_does_where_there_is_no_json(name: str) -> None:
    assert states(seen(rdma=(sample(name), 0))) == ONE_CABLE


def test_the_text_of_rdma_does_where_its_json_is_none() -> None:
    broken = ['[{"ifindex":0,"ifname":"rocep1s0f0",},]']
    assert states(seen(rdma_json=(broken, 0), rdma=(sample("rdma-link-one-cable.txt"), 0))) == ONE_CABLE


def test_older_forms_of_rdma_are_read() -> None:
    links = parse_rdma_text([*sample("rdma-link-indexed.txt"), "link mlx5_0/1: state ACTIVE physical_state LINK_UP"])
    assert [(link.device, link.port, link.netdev) for link in links] == [
        ("mlx5_bond_0", 1, "reth0"),
        ("mlx5_bond_1", 1, "reth2"),
        ("mlx5_0", 1, None),
    ]


def test_infiniband_links_have_more_words_and_no_netdev() -> None:
    line = "link mlx5_0/1 subnet_prefix fe80:0000:0000:0000 lid 19 sm_lid 1 lmc 0 state INIT physical_state LINK_UP"
    assert parse_rdma_text([line]) == [RdmaLink(device="mlx5_0", port=1, state="INIT", physical_state="LINK_UP")]


def test_a_link_that_is_down_with_its_light_on_is_not_up() -> None:
    down = [link.netdev for link in parse_rdma_text(sample("rdma-link-admin-down.txt")) if not link.up]
    assert down == ["enp1s0f0np0", "enP2p1s0f0np0"]


def test_json_of_another_host_is_read_by_field() -> None:
    assert parse_rdma_json("\n".join(sample("rdma-link.json"))) == [
        RdmaLink(device="mlx5_0", port=1, netdev="ens1f0np0", state="ACTIVE", physical_state="LINK_UP"),
        RdmaLink(device="mlx5_1", port=1, netdev="ens1f1np1", state="DOWN", physical_state="DISABLED"),
    ]


def test_ibdev2netdev_alone_tells_devices_and_which_are_up() -> None:
    found = seen(ibdev2netdev=(sample("ibdev2netdev-nvidia.txt"), 0))
    assert found.up_netdevs == ("enP2p1s0f1np1", "enp1s0f1np1")
    assert {link.state for link in found.links} == {None}


def test_ports_are_told_whatever_the_halves_are_called() -> None:
    links = seen(ibdev2netdev=(sample("ibdev2netdev-other-names.txt"), 0)).links
    assert {link.device: link.physical_port for link in links} == {
        "rocep1s0f0": 0,
        "roceP2p1s0f0": 0,
        "rocep1s0f1": 1,
        "roceP2p1s1": 1,
    }


def test_names_without_a_port_leave_it_to_the_pci_function() -> None:
    rows = ["mlx5_0|1|0000:01:00.0|0x15b3|200 Gb/sec (4X HDR)|4: ACTIVE|5: LinkUp|eth0"]
    (link,) = seen(sysfs_rdma=(rows, 0)).links
    assert (link.physical_port, link.rate_gbps, link.physical_state) == (0, 200.0, "LINK_UP")


def test_a_rate_of_two_lanes_is_read_by_its_number() -> None:
    rows = ["rocep1s0f0|1|0000:01:00.0|0x15b3|100 Gb/sec (2X HDR)|4: ACTIVE|5: LinkUp|enp1s0f0np0"]
    assert seen(sysfs_rdma=(rows, 0)).links[0].rate_gbps == 100.0


def test_ibstat_alone_tells_states_and_rates() -> None:
    links = parse_ibstat(sample("ibstat-dell-gb10.txt"))
    assert links == [
        RdmaLink(device="roceP2p1s0f0", port=1, state="ACTIVE", physical_state="LINK_UP", rate_gbps=200.0),
        RdmaLink(device="roceP2p1s0f1", port=1, state="DOWN", physical_state="DISABLED", rate_gbps=40.0),
    ]


def test_ibstat_fills_in_the_rate_where_sysfs_has_none() -> None:
    found = seen(rdma=(sample("rdma-link-one-cable.txt"), 0), ibstat=(sample("ibstat-dell-gb10.txt"), 0))
    rates = {link.device: link.rate_gbps for link in found.links}
    assert rates == {"rocep1s0f0": None, "rocep1s0f1": None, "roceP2p1s0f0": 200.0, "roceP2p1s0f1": 40.0}


def test_halves_without_an_rdma_device_are_seen_all_the_same() -> None:
    found = seen(
        rdma_json=(["[]"], 0),
        sysfs_net=(sample("sysfs-net-one-cable.txt"), 0),
        ip=(sample("ip-addr-one-cable.json"), 0),
    )
    assert [(link.device, link.state, link.up) for link in found.links] == [
        (None, None, True),
        (None, None, True),
        (None, None, False),
        (None, None, False),
    ]
    assert [port.ready for port in found.ports] == [True, False]


def test_devices_that_are_no_connectx_are_left_out() -> None:
    rows = [*sample("sysfs-rdma-one-cable.txt"), "rxe0|1|||2.5 Gb/sec (1X SDR)|4: ACTIVE|5: LinkUp|"]
    soft = "link rxe0/1 state ACTIVE physical_state LINK_UP netdev enP7s7"
    found = seen(sysfs_rdma=(rows, 0), rdma=([*sample("rdma-link-one-cable.txt"), soft], 0))
    assert states(found) == ONE_CABLE


def test_no_tool_and_no_nic_is_none_and_a_tool_without_links_is_empty() -> None:
    assert RdmaLinks().process(printed(NOTHING)) is None
    assert seen(rdma_json=(["[ ]"], 0)).links == ()


@pytest.mark.parametrize(
    ("halves", "faults"),
    [
        ((HALF, OTHER), ()),
        ((HALF,), (PortFault.HALF_MISSING,)),
        ((HALF, replace(OTHER, state="DOWN")), (PortFault.HALF_DOWN,)),
        ((HALF, replace(OTHER, addresses=())), (PortFault.NO_ADDRESS,)),
        ((HALF, replace(OTHER, addresses=("fe80::1/64",))), (PortFault.NO_ADDRESS,)),
        ((HALF, replace(OTHER, addresses=("10.1.0.9/24",))), (PortFault.SAME_SUBNET,)),
        ((HALF, replace(OTHER, addresses=("10.1.7.9/16",))), (PortFault.SAME_SUBNET,)),
        ((HALF, replace(OTHER, mtu_bytes=1500)), (PortFault.MTU_MISMATCH,)),
        (
            (HALF, replace(HALF, state="INIT", mtu_bytes=1500)),
            (PortFault.HALF_DOWN, PortFault.SAME_SUBNET, PortFault.MTU_MISMATCH),
        ),
    ],
)
def test_a_port_names_each_of_its_faults(halves: tuple[RdmaLink, ...], faults: tuple[PortFault, ...]) -> None:
    port = PhysicalPort(0, halves)
    assert port.faults == faults
    assert port.ready == (not faults)


def test_the_value_can_be_printed_as_json() -> None:
    found = RdmaLinks().process(printed(SPARK))
    assert found is not None
    shown = json.loads(json.dumps(found.to_json()))
    assert shown["ports"][1] == {"number": 1, "ready": False, "faults": ["half_down", "no_address"]}
    assert shown["links"][0]["up"] is True


def test_the_command_runs_in_a_posix_shell_without_the_tools() -> None:
    command = RdmaLinks().command()
    assert shell_accepts(command)
    found = RdmaLinks().process(run(command))
    assert found is None or isinstance(found, ConnectX7)


def test_ibdev2netdev_without_a_netdev_is_read() -> None:
    assert parse_ibdev2netdev(["mlx5_0 port 1 ==> (Down)"]) == [RdmaLink(device="mlx5_0", port=1, operstate="DOWN")]


@settings(deadline=None)
@given(st.data())
def test_garbage_is_understood_or_refused_and_nothing_else(data: st.DataObject) -> None:
    sections = dict(SPARK)
    for name in data.draw(st.sets(st.sampled_from(sorted(SPARK)), min_size=1)):
        lines, _ = SPARK[name]
        wrong = damaged(lines) | st.lists(words)
        if name in {"rdma json", "ip"}:
            wrong |= altered("\n".join(lines))
        sections[name] = (data.draw(wrong), data.draw(st.sampled_from([0, 1, ABSENT])))
    found = process(RdmaLinks(), printed(sections))
    if found is not None:
        json.dumps(found.to_json())


@settings(deadline=None)
@given(spoiled(printed(SPARK)))
def test_a_torn_answer_is_understood_or_refused(output: list[str]) -> None:
    process(RdmaLinks(), output)
