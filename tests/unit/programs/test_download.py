"""download.sh against a mirror that fails in the ways that mirrors do."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from gb10.lab.mirror import MirrorControl
from tests.unit.launched import Launched, launched, shell_program

CONTENT = hashlib.shake_256(b"k3s").digest(400_000)
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@dataclass
class Mirror:
    """A mirror on this machine and its control end."""

    url: str
    control: MirrorControl
    root: Path


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mirror]:
    folder = tmp_path_factory.mktemp("mirror")
    root, ready, port = folder / "root", folder / "mirror.json", 18_900 + os.getpid() % 1000
    (root / "v1").mkdir(parents=True)
    (root / "v1" / "k3s").write_bytes(CONTENT)
    (root / "v1" / "sums.txt").write_text(f"{'0' * 64}  other\n{DIGEST}  k3s\n")
    process = subprocess.Popen([sys.executable, "-m", "gb10.lab.mirror", str(root), "127.0.0.1", str(port), str(ready)])
    deadline = time.monotonic() + 10
    while not ready.exists():
        assert time.monotonic() < deadline, "the mirror did not start"
        time.sleep(0.02)
    yield Mirror(f"http://127.0.0.1:{port}", MirrorControl(json.loads(ready.read_text())["control"], root), root)
    process.terminate()
    process.wait()


@pytest.fixture
def mirror(server: Mirror) -> Mirror:
    server.control.clear()
    return server


def download(
    mirror: Mirror, dest: Path, name: str = "k3s", sha256: str = "", sums: str = "sums.txt", locked: str = ""
) -> Launched:
    url, list_url = f"{mirror.url}/v1/{name}", f"{mirror.url}/v1/{sums}"
    arguments = (url, str(dest), "755", sha256, list_url, name)
    return launched(shell_program("download.sh", *arguments, variables={"locked": locked}))


def bytes_sent(mirror: Mirror) -> int:
    return sum(request.bytes_sent for request in mirror.control.requests("/v1/k3s$"))


def test_a_file_is_fetched_verified_and_made_executable(mirror: Mirror, tmp_path: Path) -> None:
    done = download(mirror, tmp_path / "new" / "k3s")
    assert done.status == 0, done.others
    assert (tmp_path / "new" / "k3s").read_bytes() == CONTENT
    assert (tmp_path / "new" / "k3s").stat().st_mode & 0o777 == 0o755
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["k3s"]


@pytest.mark.parametrize("share", [0.1, 0.9])
def test_a_dropped_connection_is_resumed_not_restarted(mirror: Mirror, tmp_path: Path, share: float) -> None:
    mirror.control.drop("/v1/k3s$", after_bytes=int(len(CONTENT) * share))
    done = download(mirror, tmp_path / "k3s")
    assert done.status == 0, done.others
    assert (tmp_path / "k3s").read_bytes() == CONTENT
    first, second = mirror.control.requests("/v1/k3s$")
    assert (first.range, second.status) == (None, 206)
    assert bytes_sent(mirror) < len(CONTENT) + 70_000  # what lay in a socket's buffer may be sent twice


def test_a_killed_download_is_resumed_by_the_next_one(mirror: Mirror, tmp_path: Path) -> None:
    (tmp_path / f"k3s.{DIGEST[:16]}.part").write_bytes(CONTENT[:300_000])
    assert download(mirror, tmp_path / "k3s").status == 0
    assert bytes_sent(mirror) == 100_000


def test_a_leftover_download_does_not_disturb_the_next_one(mirror: Mirror, tmp_path: Path) -> None:
    mirror.control.slow("/v1/k3s$", bytes_per_second=200_000)
    with ThreadPoolExecutor() as pool:
        both = [pool.submit(download, mirror, tmp_path / "k3s") for _ in range(2)]
    assert [done.result().status for done in both] == [0, 0], [done.result().others for done in both]
    assert (tmp_path / "k3s").read_bytes() == CONTENT
    assert len(mirror.control.requests("/v1/k3s$")) == 1


def test_the_part_of_another_version_is_not_continued(mirror: Mirror, tmp_path: Path) -> None:
    (tmp_path / f"k3s.{'0' * 16}.part").write_bytes(b"x" * 300_000)
    assert download(mirror, tmp_path / "k3s").status == 0
    assert bytes_sent(mirror) == len(CONTENT)


def test_three_503s_are_retried_with_a_growing_delay(mirror: Mirror, tmp_path: Path) -> None:
    mirror.control.status("/v1/k3s$", 503, times=3)
    started = time.monotonic()
    done = download(mirror, tmp_path / "k3s")
    assert done.status == 0, done.others
    assert time.monotonic() - started >= 1 + 2 + 4
    assert done.others.count("; try ") == 3


def test_a_missing_version_is_named_at_once(mirror: Mirror, tmp_path: Path) -> None:
    started = time.monotonic()
    done = download(mirror, tmp_path / "k3s", name="absent", sha256=DIGEST)
    assert (done.status, done.code) == (1, "VERSION_UNKNOWN")
    assert time.monotonic() - started < 1
    assert not list(tmp_path.iterdir())


def test_a_file_that_the_list_does_not_name_is_refused(mirror: Mirror, tmp_path: Path) -> None:
    (mirror.root / "v1" / "k3s-riscv").write_bytes(CONTENT)
    done = download(mirror, tmp_path / "k3s", name="k3s-riscv")
    assert done.refusal
    assert (done.refusal[0], "k3s-riscv" in done.refusal[1]) == ("VERSION_UNKNOWN", True)


def test_a_listed_name_with_only_the_same_ending_does_not_count(mirror: Mirror, tmp_path: Path) -> None:
    (mirror.root / "v1" / "3s").write_bytes(CONTENT)
    assert download(mirror, tmp_path / "k3s", name="3s").code == "VERSION_UNKNOWN"


@pytest.mark.parametrize("fault", ["alter", "truncate"])
def test_a_wrong_file_never_replaces_the_old_one(mirror: Mirror, tmp_path: Path, fault: str) -> None:
    (tmp_path / "k3s").write_text("the old binary")
    if fault == "alter":
        mirror.control.alter("/v1/k3s$")
    else:
        mirror.control.truncate("/v1/k3s$", after_bytes=100_000)
    done = download(mirror, tmp_path / "k3s")
    assert done.status == 1
    assert done.code == "CHECKSUM_MISMATCH"
    assert (tmp_path / "k3s").read_text() == "the old binary"
    assert [path.name for path in tmp_path.iterdir()] == ["k3s"]


def test_a_file_that_was_damaged_once_is_fetched_again(mirror: Mirror, tmp_path: Path) -> None:
    mirror.control.alter("/v1/k3s$", times=1)
    assert download(mirror, tmp_path / "k3s").status == 0
    assert (tmp_path / "k3s").read_bytes() == CONTENT


def test_with_a_pin_the_list_is_not_fetched(mirror: Mirror, tmp_path: Path) -> None:
    assert download(mirror, tmp_path / "k3s", sha256=DIGEST, sums="absent").status == 0
    done = download(mirror, tmp_path / "k3s", sha256="1" * 64)
    assert done.code == "CHECKSUM_MISMATCH"
    assert not mirror.control.requests("sums")


def test_a_file_that_differs_from_its_lock_is_refused_by_name(mirror: Mirror, tmp_path: Path) -> None:
    (tmp_path / "k3s").write_text("the old binary")
    done = download(mirror, tmp_path / "k3s", sha256="1" * 64, locked="k3s/v1/arm64")
    assert done.refusal is not None
    code, reason = done.refusal
    assert code == "PIN_DIFFERS"
    assert reason.startswith("k3s/v1/arm64: ")
    assert DIGEST in reason
    assert "1" * 64 in reason
    assert (tmp_path / "k3s").read_text() == "the old binary"


def test_an_unreachable_server_is_given_up_after_some_tries(mirror: Mirror, tmp_path: Path) -> None:
    gone = Mirror("http://127.0.0.1:1", mirror.control, mirror.root)
    done = download(gone, tmp_path / "k3s", sha256=DIGEST)
    assert done.code == "DOWNLOAD_FAILED"
    assert done.others.count("; try ") == 5


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
def test_a_full_disk_is_refused_and_the_part_is_removed(mirror: Mirror, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(small)], check=True)
    try:
        done = download(mirror, small / "k3s")
        assert done.code == "DISK_FULL"
        assert not list(small.iterdir())
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_a_proxy_is_used_and_its_password_is_no_argument(mirror: Mirror, tmp_path: Path) -> None:
    # The mirror plays the proxy: it is asked for a whole URL, and a host that cannot be resolved shows that it was.
    launch = shell_program(
        "download.sh",
        *("http://nowhere.invalid/v1/k3s", str(tmp_path / "k3s"), "755", DIGEST, "", "k3s"),
        variables={"proxy": mirror.url.replace("//", "//user:canary@")},
    )
    watched = ("strace", "-f", "-e", "trace=execve", "-s", "500") if shutil.which("strace") else ()
    done = launched(launch, before=watched)
    assert "canary" not in done.others
    assert done.status == 0, done.others
    assert (tmp_path / "k3s").read_bytes() == CONTENT
