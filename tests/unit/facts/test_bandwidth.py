"""Samples: see samples/README.md. The TCP streams of these tests run on the loopback interface."""

from __future__ import annotations

import json
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyinfra.api.exceptions import FactProcessError

from gb10.facts.rdma import Method, RailBandwidth, RdmaBandwidth, Verdict, judge, listen, parse_ib_write_bw
from gb10.programs import bandwidth
from tests.unit.facts.reading import altered, answered, damaged, process, run, sample, words

TCP = {"bytes": 39_750_000_000, "seconds": 3.0}


def answer(number: int, **more: Any) -> dict[str, Any]:
    """What the program says of a rail."""
    found = {"netdev": f"rail{number}", "peer": f"192.168.10{number}.11", "link_mbps": 200_000, "note": None}
    return {**found, **more}


def rail(**more: Any) -> RailBandwidth:
    (found,) = RdmaBandwidth().process(answered([answer(0, **more)]))
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
    rows = [
        answer(0, rdma="\n".join(sample("ib_write_bw-nvidia-guide.txt"))),
        answer(1, error="[Errno 113] No route to host"),
    ]
    assert RdmaBandwidth().process(answered(rows)) == (
        RailBandwidth("rail0", "192.168.100.11", Method.RDMA, 92.57, 200.0, Verdict.AS_EXPECTED),
        RailBandwidth("rail1", "192.168.101.11", None, None, 200.0, Verdict.UNKNOWN, "[Errno 113] No route to host"),
    )


def test_tcp_streams_are_summed_up() -> None:
    found = rail(tcp=TCP)
    assert found.measured_gbps == pytest.approx(106.0)
    assert (found.method, found.verdict) == (Method.TCP, Verdict.AS_EXPECTED)
    assert json.dumps(found.to_json())


def test_a_link_that_claims_no_speed_has_none() -> None:
    assert rail(tcp=TCP, link_mbps=None).link_gbps is None


@pytest.mark.parametrize(("text", "speed"), [("200000\n", 200_000), ("-1\n", None), ("", None), ("unknown\n", None)])
def test_a_speed_is_read_as_the_kernel_has_it(
    text: str, speed: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "eth").mkdir()
    (tmp_path / "eth" / "speed").write_text(text)
    monkeypatch.setattr(bandwidth, "NET", str(tmp_path))
    assert bandwidth._speed("eth") == speed
    assert bandwidth._speed("absent") is None


def test_why_ib_write_bw_did_not_do_it_is_noted(tmp_path: Path) -> None:
    (tmp_path / "lo" / "device" / "infiniband" / "mlx5_0").mkdir(parents=True)
    (tmp_path / "ib_write_bw").write_text("#!/bin/sh\necho 'Unable to open file descriptor' >&2\nexit 1\n")
    (tmp_path / "ib_write_bw").chmod(0o755)
    port = free_port()
    launch = RdmaBandwidth().command({"lo": ("127.0.0.1", port)}, seconds=1)
    launch.text = launch.text.replace(bandwidth.NET, str(tmp_path))
    with listener(port, peer="127.0.0.1"):
        (found,) = RdmaBandwidth().process(run(launch, tools=tmp_path))
    assert (found.method, found.note) == (
        Method.TCP,
        "ib_write_bw ended with status 1: Unable to open file descriptor",
    )


def test_an_answer_that_is_no_measurement_is_refused() -> None:
    with pytest.raises(FactProcessError):
        rail(rdma="oops")
    with pytest.raises(FactProcessError):
        rail()


@settings(deadline=None)
@given(st.data())
def test_garbage_is_understood_or_refused_and_nothing_else(data: st.DataObject) -> None:
    lines = data.draw(damaged(sample("ib_write_bw-conflicting-frequency.txt")) | st.lists(words))
    rows = [answer(0, rdma="\n".join(lines)), answer(1, tcp=TCP)]
    process(RdmaBandwidth(), data.draw(st.just(answered(rows)) | altered(json.dumps(rows))))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def listener(port: int, peer: str) -> Iterator[None]:
    launch = listen("lo", "127.0.0.1", port, peer, lifetime_seconds=30)
    pipe = subprocess.PIPE
    with subprocess.Popen(["sh", "-c", launch.line], stdin=pipe, stdout=pipe, text=True) as server:
        assert server.stdin
        assert server.stdout
        try:
            server.stdin.write(launch.text)
            server.stdin.flush()
            assert next(line for line in server.stdout if line.startswith(launch.mark)).split()[1] == "report"
            yield
        finally:
            server.terminate()


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
    launch = listen("lo", "127.0.0.1", free_port(), "127.0.0.1", lifetime_seconds=1)
    subprocess.run(["sh", "-c", launch.line], input=launch.text, text=True, timeout=10, check=False)


def test_a_listener_waits_for_a_port_that_is_about_to_be_free() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        threading.Timer(1, other.close).start()
        with listener(port, peer="127.0.0.1"):
            pass


def test_the_streams_measure_what_arrived() -> None:
    port = free_port()
    with listener(port, peer="127.0.0.1"):
        result = bandwidth.measure_tcp("lo", "127.0.0.1", port, seconds=0.2, streams=2)
    assert result["bytes"] / result["seconds"] > 0
