"""The lab's ib_write_bw prints what perftest prints, about bytes that it really sent."""

from __future__ import annotations

import socket
import subprocess
import sys
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import pytest

from gb10.facts.rdma import parse_ib_write_bw
from gb10.programs.bandwidth import ib_write_bw

DEVICE = "rocep1s0f0"
SCRIPT = files("gb10.lab").joinpath("image/files/usr/local/lib/gb10-lab/ib_write_bw.py").read_text()


@dataclass
class Perftest:
    """The stand-in, with a device on the loopback interface."""

    folder: Path

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-I", "-S", str(self.folder / "ib_write_bw.py"), *arguments]

    def fails(self, *arguments: str) -> str:
        """Return its error text. It must fail."""
        done = subprocess.run(self.command(*arguments), capture_output=True, text=True, timeout=30, check=False)
        assert done.returncode == 1, done.stdout
        return done.stderr

    def measures(self, *arguments: str) -> tuple[list[str], list[str]]:
        """Return the output lines of client and server."""
        with subprocess.Popen(self.command(*arguments), stdout=subprocess.PIPE, text=True) as server:
            client = subprocess.run(
                self.command(*arguments, "127.0.0.1"), capture_output=True, text=True, timeout=30, check=False
            )
            assert client.returncode == 0, client.stderr
            assert server.stdout
            printed = server.stdout.read()
        assert server.returncode == 0
        return client.stdout.splitlines(), printed.splitlines()

    def state(self, text: str) -> None:
        (self.folder / "infiniband" / DEVICE / "ports/1/state").write_text(f"{text}\n")


@pytest.fixture
def perftest(tmp_path: Path) -> Perftest:
    (tmp_path / "infiniband" / DEVICE / "ports/1").mkdir(parents=True)
    (tmp_path / "infiniband" / DEVICE / "device/net/lo").mkdir(parents=True)
    script = SCRIPT.replace("/sys/class/infiniband", f"{tmp_path}/infiniband").replace("/etc/gb10-lab", str(tmp_path))
    (tmp_path / "ib_write_bw.py").write_text(script)
    made = Perftest(tmp_path)
    made.state("4: ACTIVE")
    return made


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def as_the_fact_calls_it(seconds: int) -> list[str]:
    return ib_write_bw(DEVICE, free_port(), seconds)[1:]


def test_the_fact_reads_the_measurement(perftest: Perftest) -> None:
    client, server = perftest.measures(*as_the_fact_calls_it(1))
    assert parse_ib_write_bw(client) == parse_ib_write_bw(server) > 0.1
    assert [line for line in client if line.startswith(" #bytes")] == [
        " #bytes     #iterations    BW peak[Gb/sec]    BW average[Gb/sec]   MsgRate[Mpps]"
    ]
    row = client[-2].split()
    assert (row[0], row[2]) == ("65536", "0.00")
    assert float(row[3]) == pytest.approx(float(row[4]) * 65536 * 8 / 1000, abs=0.02)
    assert f" Dual-port       : OFF\t\tDevice         : {DEVICE}" in client
    assert sum("GID: 00:00:00:00:00:00:00:00:00:00:255:255:127:00:00:01" in line for line in client) == 8


def test_a_number_of_iterations_replaces_the_duration(perftest: Perftest) -> None:
    client, _ = perftest.measures("-p", str(free_port()), "-q", "2", "--iters=50", "-s", "4096")
    assert client[-2].split()[:2] == ["4096", "100"]
    assert "BW average[MB/sec]" in client[-3]


def test_a_client_without_a_server_gives_up(perftest: Perftest) -> None:
    said = perftest.fails(*as_the_fact_calls_it(1), "127.0.0.1")
    assert said.splitlines()[-1] == " Unable to init the socket connection"


def test_errors_read_as_those_of_perftest(perftest: Perftest) -> None:
    assert "IB device mlx5_0 not found" in perftest.fails("-d", "mlx5_0")
    assert "Parser function exited with Error" in perftest.fails("--no-such-option")
    perftest.state("1: DOWN")
    assert "Port number 1 state is Down" in perftest.fails("-d", DEVICE)
    (perftest.folder / "no-rdma").touch()
    assert perftest.fails("-d", DEVICE) == " Couldn't get context for the device\n"
