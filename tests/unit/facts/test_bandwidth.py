"""Samples: see samples/README.md. The TCP streams of these tests run on the loopback interface."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyinfra.api import StringCommand
from pyinfra.api.exceptions import FactProcessError

from gb10.facts.bandwidth import RdmaBandwidth, listen_command
from gb10.facts.reading.bandwidth import Method, RailBandwidth, Verdict, judge, parse_ib_write_bw, parse_tcp_streams
from gb10.programs import tcp_streams
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
    words,
)

PEERS = {"enp1s0f0np0": ("192.168.100.11", 5201), "enP2p1s0f0np0": ("192.168.101.11", 5211)}
TCP = json.dumps({"bytes": 39_750_000_000, "seconds": 3.0, "streams": 8})


def rail(netdev: str, peer: str, link: Printed, measurement: Printed) -> RailBandwidth:
    sections = {f"link {netdev} {peer}": link, f"rail {netdev} {peer}": measurement}
    (found,) = RdmaBandwidth().process(printed(sections))
    return found


@pytest.mark.parametrize(
    ("name", "gbps"),
    [
        ("ib_write_bw-nvidia-guide.txt", 92.57),
        ("ib_write_bw-conflicting-frequency.txt", 98.02),
        ("ib_write_bw-megabytes.txt", 23.135),
        ("ib_write_bw-sizes.txt", 126.20),
    ],
)
def test_ib_write_bw_is_read_by_its_headings(name: str, gbps: float) -> None:
    assert parse_ib_write_bw(sample(name)) == pytest.approx(gbps, abs=0.001)


@pytest.mark.parametrize(
    ("row", "gbps"),
    [(" 65536 927940 0.00 97.28 0.185548", 97.28), (" 65536 20000 111.72 111.71 0.213070", 111.71)],
)
def test_other_real_rows_are_read(row: str, gbps: float) -> None:
    heading = " #bytes     #iterations    BW peak[Gb/sec]    BW average[Gb/sec]   MsgRate[Mpps]"
    assert parse_ib_write_bw([heading, row]) == gbps


def test_mebibytes_are_read_under_both_names_that_perftest_has_had_for_them() -> None:
    older = sample("ib_write_bw-megabytes.txt")
    newer = [line.replace("MB/sec", "MiB/sec") for line in older]
    assert newer != older
    assert parse_ib_write_bw(newer) == parse_ib_write_bw(older)


def test_a_heading_without_a_row_is_no_measurement() -> None:
    with pytest.raises(ValueError, match="no average"):
        parse_ib_write_bw(sample("ib_write_bw-sizes.txt")[:1])


@pytest.mark.parametrize(
    ("measured", "link", "method", "verdict"),
    [
        (92.57, 200.0, Method.RDMA, Verdict.AS_EXPECTED),
        (111.7, 200.0, Method.RDMA, Verdict.AS_EXPECTED),
        (92.0, 100.0, Method.RDMA, Verdict.AS_EXPECTED),
        (106.0, 200.0, Method.TCP, Verdict.AS_EXPECTED),
        (13.2, 200.0, Method.RDMA, Verdict.THROTTLED),
        (13.2, 200.0, Method.TCP, Verdict.THROTTLED),
        (8.0, 200.0, Method.RDMA, Verdict.THROTTLED),
        (25.0, 200.0, Method.RDMA, Verdict.THROTTLED),
        (7.9, 200.0, Method.RDMA, Verdict.TOO_SLOW),
        (25.1, 200.0, Method.RDMA, Verdict.TOO_SLOW),
        (60.0, 200.0, Method.RDMA, Verdict.TOO_SLOW),
        (0.0, 200.0, Method.RDMA, Verdict.TOO_SLOW),
        (9.0, 10.0, Method.TCP, Verdict.AS_EXPECTED),
        (2.0, 10.0, Method.TCP, Verdict.TOO_SLOW),
        (95.0, None, Method.RDMA, Verdict.AS_EXPECTED),
        (13.2, None, Method.RDMA, Verdict.UNKNOWN),
        (None, 200.0, Method.RDMA, Verdict.UNKNOWN),
    ],
)
def test_a_rate_is_judged_by_what_the_link_claims(
    measured: float | None, link: float | None, method: Method, verdict: Verdict
) -> None:
    assert judge(measured, link, method) is verdict


@given(st.none() | st.floats(0, 500), st.none() | st.floats(1, 400), st.sampled_from(Method))
def test_only_a_fast_link_can_be_throttled(measured: float | None, link: float | None, method: Method) -> None:
    verdict = judge(measured, link, method)
    if verdict is Verdict.THROTTLED:
        assert measured is not None
        assert link is not None
        assert 8 <= measured <= 25
        assert link >= 100


def test_each_rail_has_its_own_measurement() -> None:
    sections = {
        "link enp1s0f0np0 192.168.100.11": (["200000"], 0),
        "rail enp1s0f0np0 192.168.100.11": (["ib_write_bw", *sample("ib_write_bw-nvidia-guide.txt")], 0),
        "link enP2p1s0f0np0 192.168.101.11": (["200000"], 0),
        "rail enP2p1s0f0np0 192.168.101.11": (["tcp", json.dumps({"error": "[Errno 113] No route to host"})], 0),
    }
    assert RdmaBandwidth().process(printed(sections)) == (
        RailBandwidth("enp1s0f0np0", "192.168.100.11", Method.RDMA, 92.57, 200.0, Verdict.AS_EXPECTED),
        RailBandwidth(
            "enP2p1s0f0np0", "192.168.101.11", None, None, 200.0, Verdict.UNKNOWN, "[Errno 113] No route to host"
        ),
    )


def test_tcp_streams_are_summed_up() -> None:
    found = rail("enp1s0f0np0", "192.168.100.11", (["200000"], 0), (["tcp", TCP], 0))
    assert found.measured_gbps == pytest.approx(106.0)
    assert (found.method, found.verdict) == (Method.TCP, Verdict.AS_EXPECTED)
    assert json.dumps(found.to_json())


@pytest.mark.parametrize("speed", [["-1"], [], ["unknown"]])
def test_a_link_that_claims_no_speed_has_none(speed: list[str]) -> None:
    assert rail("enp1s0f0np0", "10.0.0.1", (speed, 0), (["tcp", TCP], 0)).link_gbps is None


@pytest.mark.parametrize("status", [124, ABSENT])
def test_a_measurement_that_failed_says_why(status: int) -> None:
    found = rail("enp1s0f0np0", "10.0.0.1", (["200000"], 0), ([], status))
    assert found.verdict is Verdict.UNKNOWN
    assert found.trouble


def test_why_ib_write_bw_did_not_do_it_is_noted(tmp_path: Path) -> None:
    (tmp_path / "lo" / "device" / "infiniband" / "mlx5_0").mkdir(parents=True)
    (tmp_path / "ib_write_bw").write_text("#!/bin/sh\necho 'Unable to open file descriptor' >&2\nexit 1\n")
    (tmp_path / "ib_write_bw").chmod(0o755)
    port = free_port()
    raw = RdmaBandwidth().command({"lo": ("127.0.0.1", port)}, seconds=1).get_raw_value()
    raw = raw.replace("PATH=", f"PATH={tmp_path}:", 1).replace("/sys/class/net/lo/device", f"{tmp_path}/lo/device")
    with listener(port, peer="127.0.0.1"):
        (found,) = RdmaBandwidth().process(run(StringCommand(raw)))
    assert (found.method, found.note) == (
        Method.TCP,
        "ib_write_bw ended with status 1: Unable to open file descriptor",
    )


def test_an_answer_that_is_no_measurement_is_refused() -> None:
    with pytest.raises(FactProcessError):
        rail("enp1s0f0np0", "10.0.0.1", (["200000"], 0), (["tcp", "oops"], 0))


@settings(deadline=None)
@given(st.data())
def test_garbage_is_understood_or_refused_and_nothing_else(data: st.DataObject) -> None:
    rdma = ["ib_write_bw", *sample("ib_write_bw-conflicting-frequency.txt")]
    answer = data.draw(
        damaged(rdma) | st.lists(words) | altered(TCP).map(lambda lines: ["tcp", *lines]) | damaged(["tcp", TCP])
    )
    link = data.draw(damaged(["200000"]))
    status = data.draw(st.sampled_from([0, 0, 1, 124, ABSENT]))
    process(RdmaBandwidth(), printed({"link a b": (link, 0), "rail a b": (answer, status)}))


def test_the_commands_are_for_a_posix_shell() -> None:
    assert shell_accepts(RdmaBandwidth().command(PEERS))
    command = listen_command("enp1s0f0np0", "192.168.100.11", 5201, "192.168.100.10", lifetime_seconds=30)
    assert subprocess.run(["sh", "-n", "-c", command], check=False).returncode == 0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def listener(port: int, peer: str) -> Iterator[None]:
    command = listen_command("lo", "127.0.0.1", port, peer, lifetime_seconds=30)
    with subprocess.Popen(["sh", "-c", command]) as server:
        try:
            wait_for(port)
            yield
        finally:
            server.terminate()


def wait_for(port: int) -> None:
    for _ in range(100):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise TimeoutError(f"nothing listens on port {port}")


def test_two_nodes_without_rdma_are_measured_by_tcp() -> None:
    port = free_port()
    with listener(port, peer="127.0.0.1"):
        (found,) = RdmaBandwidth().process(run(RdmaBandwidth().command({"lo": ("127.0.0.1", port)}, seconds=1)))
    assert found.method is Method.TCP
    assert found.measured_gbps is not None
    assert found.measured_gbps > 0.1
    assert found.trouble is None


def test_a_peer_that_does_not_listen_is_no_measurement() -> None:
    command = RdmaBandwidth().command({"lo": ("127.0.0.1", free_port())}, seconds=1)
    (found,) = RdmaBandwidth().process(run(command))
    assert found.trouble == "[Errno 111] Connection refused"


def test_an_interface_that_is_not_there_is_no_measurement() -> None:
    command = RdmaBandwidth().command({"enp9s9": ("127.0.0.1", free_port())}, seconds=1)
    (found,) = RdmaBandwidth().process(run(command))
    assert found.trouble == "[Errno 19] No such device"


def test_a_stranger_is_not_listened_to() -> None:
    port = free_port()
    with listener(port, peer="127.0.0.9"):
        (found,) = RdmaBandwidth().process(run(RdmaBandwidth().command({"lo": ("127.0.0.1", port)}, seconds=1)))
    assert found.measured_gbps is None
    assert found.trouble


def test_the_listener_ends_by_itself() -> None:
    script = Path(tcp_streams.__file__)
    arguments = [sys.executable, str(script), "listen", "127.0.0.1", str(free_port()), "127.0.0.1", "1"]
    assert subprocess.run(arguments, timeout=10, check=False).returncode == 0


def test_the_streams_measure_what_arrived() -> None:
    port = free_port()
    with listener(port, peer="127.0.0.1"):
        result = tcp_streams.measure("lo", "127.0.0.1", port, seconds=0.2, streams=2)
    assert parse_tcp_streams(json.dumps(result)) > 0
