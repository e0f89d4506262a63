"""The mirror serves whole files and ranges, and fails only on request."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gb10.lab.mirror import MirrorControl, Request, altered, byte_range

CONTENT = bytes(range(256)) * 400
PATH = "/k3s/v1.36.4+k3s1/k3s"
URL_PATH = "/k3s/v1.36.4%2Bk3s1/k3s"


@dataclass
class RunningMirror:
    url: str
    control: MirrorControl

    def get(self, path: str = URL_PATH, first: int | None = None) -> bytes:
        request = urllib.request.Request(self.url + path)  # noqa: S310 - this test's mirror
        if first is not None:
            request.add_header("Range", f"bytes={first}-")
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - this test's mirror
            return bytes(answer.read())


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningMirror]:
    folder = tmp_path_factory.mktemp("mirror")
    root, ready = folder / "root", folder / "ready.json"
    (root / PATH.lstrip("/")).parent.mkdir(parents=True)
    (root / PATH.lstrip("/")).write_bytes(CONTENT)
    (folder / "secret").write_text("not published")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    process = subprocess.Popen([sys.executable, "-m", "gb10.lab.mirror", str(root), "127.0.0.1", str(port), str(ready)])
    try:
        deadline = time.monotonic() + 10
        while not ready.exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        control = MirrorControl(json.loads(ready.read_text())["control"], root)
        yield RunningMirror(f"http://127.0.0.1:{port}", control)
    finally:
        os.kill(process.pid, signal.SIGTERM)
        assert process.wait(10) == 0


@pytest.fixture
def mirror(running: RunningMirror) -> Iterator[RunningMirror]:
    running.control.clear()
    yield running
    running.control.clear()


def test_a_file_is_served_whole_and_the_request_recorded(mirror: RunningMirror) -> None:
    assert mirror.get() == CONTENT
    assert mirror.control.requests() == [Request(PATH, None, 200, len(CONTENT))]
    assert mirror.control.size(PATH) == len(CONTENT)


def test_a_range_is_served(mirror: RunningMirror) -> None:
    assert mirror.get(first=100) == CONTENT[100:]
    assert mirror.control.requests()[0].range == "bytes=100-"
    assert mirror.control.requests()[0].status == 206


def test_a_range_beyond_the_end_is_refused(mirror: RunningMirror) -> None:
    with pytest.raises(urllib.error.HTTPError, match="416"):
        mirror.get(first=len(CONTENT))


def test_a_connection_is_dropped_once_and_the_rest_can_follow(mirror: RunningMirror) -> None:
    mirror.control.drop(r"/k3s$", after_bytes=1000)
    with pytest.raises(http.client.IncompleteRead) as error:
        mirror.get()
    assert error.value.partial == CONTENT[:1000]
    assert mirror.get(first=1000) == CONTENT[1000:]
    assert [request.bytes_sent for request in mirror.control.requests()] == [1000, len(CONTENT) - 1000]


def test_status_503_is_sent_as_often_as_ordered(mirror: RunningMirror) -> None:
    mirror.control.status(r"/k3s$", 503, times=2)
    for _ in range(2):
        with pytest.raises(urllib.error.HTTPError, match="503"):
            mirror.get()
    assert mirror.get() == CONTENT


def test_a_truncated_file_looks_complete(mirror: RunningMirror) -> None:
    mirror.control.truncate(r"/k3s$", after_bytes=10)
    assert mirror.get() == CONTENT[:10]


def test_an_altered_file_has_the_right_size(mirror: RunningMirror) -> None:
    mirror.control.alter(r"/k3s$")
    assert mirror.get() != CONTENT
    assert len(mirror.get()) == len(CONTENT)


def test_a_slow_file_arrives_slowly(mirror: RunningMirror) -> None:
    mirror.control.slow(r"/k3s$", bytes_per_second=200_000)
    start = time.monotonic()
    assert mirror.get() == CONTENT
    assert time.monotonic() - start > 0.4


def test_a_fault_applies_only_to_matching_paths(mirror: RunningMirror) -> None:
    mirror.control.status(r"\.txt$")
    assert mirror.get() == CONTENT


@pytest.mark.parametrize("path", ["/nothing", "/../secret", "/%2e%2e/secret", "/k3s", "/"])
def test_unpublished_paths_are_not_found(mirror: RunningMirror, path: str) -> None:
    with pytest.raises(urllib.error.HTTPError, match="404"):
        mirror.get(path)


def test_a_stopped_mirror_does_not_answer(tmp_path: Path) -> None:
    assert not MirrorControl("http://127.0.0.1:1", tmp_path).answers()


@given(st.integers(0, 200), st.integers(1, 100))
def test_a_range_is_inside_the_file_or_none(first: int, size: int) -> None:
    span = byte_range(f"bytes={first}-", size)
    assert span == ((first, size) if first < size else None)


@given(st.binary(min_size=1))
def test_altered_content_differs_in_one_byte(content: bytes) -> None:
    assert sum(a != b for a, b in zip(content, altered(content), strict=True)) == 1
