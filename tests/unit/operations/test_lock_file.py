"""gb10.lock: what it holds, who wins, and what is refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gb10.operations.kit.lock_file import LARGEST_BYTES, Locked, beside, forget, read, record, without_login
from gb10.programs.answer import RefusedError

A, B = Locked(sha256="a" * 64, source="https://one.example/k3s"), Locked(sha256="b" * 64, source="/srv/air gap/k3s")
PIN = {"sha256": "a" * 64, "source": "https://one.example/k3s"}
TEXT = json.dumps(PIN)
BROKEN = {
    "merge conflict": '{"version": 1,\n<<<<<<< HEAD\n "pins": {}}',
    "name twice": f'{{"version": 1, "pins": {{"k3s/v1/arm64": {TEXT}, "k3s/v1/arm64": {TEXT}}}}}',
    "short digest": json.dumps({"version": 1, "pins": {"k3s": {**PIN, "sha256": "a" * 63}}}),
    "digest with a newline": json.dumps({"version": 1, "pins": {"k3s": {**PIN, "sha256": "a" * 64 + "\n"}}}),
    "name with a newline": json.dumps({"version": 1, "pins": {"k3s\nroot": PIN}}),
    "escape sequence": json.dumps({"version": 1, "pins": {"k3s": {**PIN, "source": "\x1b]52;c;eA==\x07"}}}),
    "other version": '{"version": 2, "pins": {}}',
    "more keys": '{"version": 1, "pins": {}, "key": 1}',
    "a list": "[]",
    "deep": "[" * 500_000,
    "large": '{"version": 1, "pins": {}}' + " " * LARGEST_BYTES,
    "no text": "\udcff\udcfe",
    "empty": "",
}


def test_the_first_digest_of_a_name_stands(tmp_path: Path) -> None:
    path = tmp_path / "gb10.lock"
    assert read(path) == {}
    assert record(path, "k3s/v1.36.4+k3s1/arm64", A) == A
    assert record(path, "k3s/v1.36.4+k3s1/arm64", B) == A
    assert record(path, "chart/gpu-operator/v26.7.0", B) == B
    assert read(path) == {"k3s/v1.36.4+k3s1/arm64": A, "chart/gpu-operator/v26.7.0": B}
    assert path.stat().st_mode & 0o777 == 0o644
    assert [child.name for child in tmp_path.iterdir()] == ["gb10.lock"]


def test_a_new_pin_adds_lines_in_the_order_of_names(tmp_path: Path) -> None:
    path = tmp_path / "gb10.lock"
    for name in ("k3s/b", "k3s/d", "k3s/a", "k3s/c"):
        before = path.read_text().splitlines() if path.exists() else []
        record(path, name, A)
    lines = path.read_text().splitlines()
    assert [line.strip().partition(":")[0] for line in lines if "k3s/" in line] == [f'"k3s/{x}"' for x in "abcd"]
    assert len(lines) == len(before) + 4
    assert path.read_text().endswith("}\n")


def test_a_name_that_could_not_be_read_again_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "gb10.lock"
    record(path, "helm", A)
    for name in ("k3s/v1/k3s images.tar", "k3s\n", ""):
        with pytest.raises(RefusedError, match="PINS_UNUSABLE"):
            record(path, name, A)
    assert read(path) == {"helm": A}


def test_a_forgotten_name_is_pinned_anew(tmp_path: Path) -> None:
    path = tmp_path / "gb10.lock"
    record(path, "k3s", A)
    record(path, "helm", A)
    forget(path, ["k3s", "unknown"])
    assert read(path) == {"helm": A}
    assert record(path, "k3s", B) == B


@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_file_is_refused_and_never_replaced(tmp_path: Path, fault: str) -> None:
    path = tmp_path / "gb10.lock"
    content = BROKEN[fault].encode(errors="surrogateescape")
    path.write_bytes(content)
    for use in (lambda: read(path), lambda: record(path, "helm", A), lambda: forget(path, ["k3s"])):
        with pytest.raises(RefusedError) as refused:
            use()
        assert refused.value.code == "PINS_UNUSABLE"
        assert refused.value.reason.startswith(f"{path} ")
        assert refused.value.reason.isprintable()
    assert path.read_bytes() == content


def test_a_folder_in_place_of_the_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "gb10.lock").mkdir()
    with pytest.raises(RefusedError, match="PINS_UNUSABLE"):
        record(tmp_path / "gb10.lock", "k3s", A)


@pytest.mark.skipif(os.geteuid() != 0, reason="another user is tried")
def test_a_file_that_cannot_be_written_is_refused_by_name(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    program = f"""
import os, pathlib
from gb10.operations.kit.lock_file import Locked, record
from gb10.programs.answer import RefusedError
os.setgid(65534); os.setuid(65534)
try:
    record(pathlib.Path("{tmp_path}/gb10.lock"), "k3s", Locked(sha256="a" * 64, source="x"))
except RefusedError as error:
    print(error.code, error.reason)
"""
    done = subprocess.run([sys.executable, "-c", program], cwd="/", capture_output=True, text=True, check=False)
    assert done.stdout.startswith(f"PINS_UNUSABLE {tmp_path}/gb10.lock cannot be"), done.stderr
    assert list(tmp_path.iterdir()) == []


def test_processes_that_pin_at_the_same_time_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "gb10.lock"
    program = """
import pathlib, sys
from gb10.operations.kit.lock_file import Locked, record
path, number = pathlib.Path(sys.argv[1]), int(sys.argv[2])
for n in range(20):
    record(path, f"own/{number}/{n}", Locked(sha256=f"{n:064x}", source="x"))
print(record(path, "shared", Locked(sha256=f"{number:064x}", source="x")).sha256)
"""
    runs = [
        subprocess.Popen([sys.executable, "-c", program, str(path), str(number)], stdout=subprocess.PIPE, text=True)
        for number in range(4)
    ]
    seen = {run.communicate()[0].strip() for run in runs}
    pins = read(path)
    assert len(pins) == 4 * 20 + 1
    assert seen == {pins["shared"].sha256}


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        ("https://user:secret@mirror.example:8443/k3s?token=secret", "https://mirror.example:8443/k3s"),
        ("https://get.helm.sh/helm.tar.gz", "https://get.helm.sh/helm.tar.gz"),
        ("/srv/air gap/k3s?", "/srv/air gap/k3s?"),
    ],
)
def test_a_login_in_a_url_is_not_recorded(source: str, shown: str) -> None:
    assert without_login(source) == shown


def test_the_file_lies_beside_an_inventory_that_is_a_file(tmp_path: Path) -> None:
    inventory = tmp_path / "inventory.py"
    inventory.touch()
    assert beside(str(inventory)) == tmp_path / "gb10.lock"
    assert beside("@docker/ubuntu") == beside("spark-1,spark-2") == Path("gb10.lock")
