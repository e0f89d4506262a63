"""Small parts that need no cluster."""

from __future__ import annotations

import json
import os
import platform
import signal
import subprocess
import time
from pathlib import Path

import pytest

from gb10.lab.kube import pause, pods, tokens
from gb10.lab.kube.build import build_k3s
from gb10.lab.kube.errors import ApiError, StartError
from gb10.lab.kube.faults import Faults
from gb10.lab.kube.table import duration
from tests.unit.lab.kube.kube_machines import VERSION, eventually

POD = {
    "metadata": {"name": "web-1", "namespace": "work", "uid": "u1"},
    "spec": {"containers": [{"name": "c"}, {"name": "d"}]},
}


def test_builds_are_equal_only_for_equal_versions(tmp_path: Path) -> None:
    for name, version in (("a", VERSION), ("b", VERSION), ("c", "v1.37.1+k3s1")):
        build_k3s(tmp_path / name, version)
    first, second, other = ((tmp_path / name).read_bytes() for name in "abc")
    assert first == second
    assert first != other


def test_the_executable_prints_its_version(binary: Path) -> None:
    done = subprocess.run([binary, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"k3s version {VERSION} (")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_pause_program_sleeps_until_a_signal(tmp_path: Path, number: signal.Signals) -> None:
    program = tmp_path / "pause"
    program.write_bytes(pause.program(platform.machine()))
    program.chmod(0o755)
    own_namespace = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    process = subprocess.Popen(["unshare", *own_namespace, "--pid", "--fork", "--kill-child", program])
    try:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        first = int(eventually(lambda: children.read_text().strip()))  # of a PID namespace, as in a container
        time.sleep(0.3)
        assert process.poll() is None
        # utime and stime: it waits in the kernel and uses no CPU.
        spent = Path(f"/proc/{first}/stat").read_text().split()[13:15]
        assert sum(map(int, spent)) <= 1
        os.kill(first, number)
        assert process.wait(5) == 0
    finally:
        process.kill()
        process.wait()


def test_formatting_and_parsing_tokens_are_inverse() -> None:
    ca = b"a certificate"
    text = tokens.format_token(ca, "server", "secret:with:colons")
    assert tokens.parse(text) == tokens.Token(tokens.ca_hash(ca), "server", "secret:with:colons")


def test_a_short_token_is_a_bare_password() -> None:
    assert tokens.parse("secret\n") == tokens.Token("", "", "secret")


def test_a_bootstrap_token_is_recognized_in_both_forms() -> None:
    text = tokens.new_bootstrap()
    assert tokens.parse(text).is_bootstrap
    assert tokens.parse(tokens.format_token(b"ca", "", text)).is_bootstrap


@pytest.mark.parametrize("text", ["K10abc", "K10abc::server:x", f"K10{'0' * 64}::server:"])
def test_a_malformed_token_is_refused(text: str) -> None:
    with pytest.raises(StartError, match="invalid token"):
        tokens.parse(text)


def test_containers_have_the_kubelets_names_and_labels() -> None:
    assert pods.container_name("c", POD) == "k8s_c_web-1_work_u1_0"
    assert pods.container_labels("c", POD) == {
        "io.kubernetes.container.name": "c",
        "io.kubernetes.docker.type": "container",
        "io.kubernetes.pod.name": "web-1",
        "io.kubernetes.pod.namespace": "work",
        "io.kubernetes.pod.uid": "u1",
    }


def test_a_fault_is_counted_anew_when_its_file_changes(tmp_path: Path) -> None:
    path = tmp_path / "faults.json"
    faults = Faults(path)
    faults.raise_for("GET", "/api/v1/nodes")
    path.write_text(json.dumps({"faults": [{"path": "/nodes", "code": 503, "times": 2}]}))

    def count_faults() -> int:
        count = 0
        for _ in range(4):
            try:
                faults.raise_for("GET", "/api/v1/nodes")
            except ApiError:
                count += 1
        return count

    assert count_faults() == 2
    os.utime(path, (1, 1))
    assert count_faults() == 2
    path.unlink()
    assert count_faults() == 0


def test_a_fault_can_match_one_method_and_drop_the_connection(tmp_path: Path) -> None:
    path = tmp_path / "faults.json"
    path.write_text(json.dumps({"ready": False, "faults": [{"method": "PUT|PATCH", "path": ".", "code": "drop"}]}))
    faults = Faults(path)
    assert not faults.ready()
    faults.raise_for("GET", "/api")
    with pytest.raises(ConnectionError):
        faults.raise_for("PATCH", "/api")


@pytest.mark.parametrize(("elapsed", "text"), [(5, "5s"), (119, "119s"), (120, "2m"), (7200, "2h"), (200000, "2d")])
def test_ages_are_printed_as_by_kubectl(elapsed: int, text: str) -> None:
    assert duration(elapsed) == text
