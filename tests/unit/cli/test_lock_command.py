"""gb10 lock, without nodes."""

from __future__ import annotations

import json
from pathlib import Path

from gb10.group_data.all import k3s_sha256, k3s_version
from tests.unit.cli.test_gb10_command import gb10
from tests.unit.pyinfra_project import Project

CHART, HELM = "chart/gpu-operator/v26.7.0", "helm/v4.3.1/arm64"
K3S = f"k3s/{k3s_version}/arm64"


def write_lock(project: Project, *names: str) -> Path:
    path = project.root / "gb10.lock"
    pins = {name: {"sha256": "a" * 64, "source": "https://one.example"} for name in names}
    path.write_text(json.dumps({"version": 1, "pins": pins}))
    return path


def test_pins_of_group_data_come_before_those_of_the_lock_file(project: Project) -> None:
    project.inventory(spark_1={"gpu_operator_sha256": "b" * 64})
    path = write_lock(project, CHART, HELM)
    done = gb10("lock", "--json")
    assert done.returncode == 0, done.stdout
    document = json.loads(done.stdout)
    shown = {pin["name"]: (pin["sha256"], pin["in_group_data"]) for pin in document["pins"]}
    assert Path(document["file"]).resolve() == path
    assert shown[CHART] == ("b" * 64, True)
    assert shown[HELM] == ("a" * 64, False)
    assert shown[K3S] == (k3s_sha256[k3s_version]["arm64"], True)
    table = gb10("lock").stdout
    assert "https://one.example" in table
    assert "group data" in table


def test_an_update_forgets_the_named_pins_alone(project: Project) -> None:
    project.inventory(spark_1={})
    path = write_lock(project, CHART, HELM, K3S)
    done = gb10("lock", "--update", CHART, K3S)
    assert done.returncode == 0, done.stderr
    assert f"{CHART} is forgotten" in done.stderr
    assert set(json.loads(path.read_text())["pins"]) == {HELM}


def test_an_unknown_name_changes_nothing(project: Project) -> None:
    project.inventory(spark_1={})
    path = write_lock(project, CHART)
    before = path.read_text()
    for arguments in (["--update", CHART, "chart/unknown"], ["--update"], [CHART]):
        done = gb10("lock", *arguments)
        assert done.returncode == 2, done.stdout
        assert "USAGE" in done.stderr
    assert path.read_text() == before


def test_a_lock_file_may_lie_elsewhere(project: Project, tmp_path: Path) -> None:
    project.inventory(spark_1={"pins_file": str(tmp_path / "shared.lock")})
    write_lock(project, CHART).rename(tmp_path / "shared.lock")
    assert gb10("lock", "--update", CHART).returncode == 0
    assert json.loads((tmp_path / "shared.lock").read_text())["pins"] == {}


def test_a_dry_run_names_each_download_without_a_pin(project: Project) -> None:
    project.inventory(spark_1={"node_ip": "192.0.2.1", "k3s_sha256": {}})
    write_lock(project, CHART)
    done = gb10("bootstrap", "--dry-run", "--require-pins", "--json")
    document = json.loads(done.stdout)
    refusal, *_ = [one["summary"] for one in document["run"]["foreseen"] if one["code"] == "PIN_MISSING"]
    assert f"k3s/{k3s_version}/" in refusal
    for setting in ("k3s_sha256", "helm_sha256", "network_operator_sha256"):
        assert f"set {setting}" in refusal
    assert CHART not in refusal
    assert json.loads((project.root / "gb10.lock").read_text())["pins"].keys() == {CHART}
