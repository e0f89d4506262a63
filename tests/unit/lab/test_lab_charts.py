"""The lab's charts are reproducible, listed as by helm, and never replace real ones."""

from __future__ import annotations

import hashlib
import io
import tarfile
from pathlib import Path

import pytest
import yaml

from gb10.group_data import all as defaults
from gb10.lab.chart_repository import VERSIONS, build_charts, index, package_chart


@pytest.mark.parametrize(("chart", "version"), [(chart, v) for chart, versions in VERSIONS.items() for v in versions])
def test_equal_sources_give_equal_archives(chart: str, version: str) -> None:
    assert package_chart(chart, version) == package_chart(chart, version)


def test_an_archive_has_name_version_and_subchart() -> None:
    with tarfile.open(fileobj=io.BytesIO(package_chart("gpu-operator", "v26.7.0"))) as tar:
        names = tar.getnames()
        described = yaml.safe_load(tar.extractfile("gpu-operator/Chart.yaml") or b"")
    assert (described["name"], described["version"]) == ("gpu-operator", "v26.7.0")
    assert "gpu-operator/charts/node-feature-discovery/Chart.yaml" in names
    assert "gpu-operator/crds/nvidia.com_clusterpolicies.yaml" in names


def test_the_versions_pinned_in_group_data_exist() -> None:
    assert defaults.gpu_operator_version in VERSIONS["gpu-operator"]
    assert defaults.network_operator_version in VERSIONS["network-operator"]


def test_the_index_lists_every_archive_with_its_digest(tmp_path: Path) -> None:
    build_charts(tmp_path)
    entries = yaml.safe_load((tmp_path / "index.yaml").read_text())["entries"]
    assert {chart: {entry["version"] for entry in found} for chart, found in entries.items()} == {
        chart: set(versions) for chart, versions in VERSIONS.items()
    }
    for entry in (entry for found in entries.values() for entry in found):
        (name,) = entry["urls"]
        assert hashlib.sha256((tmp_path / name).read_bytes()).hexdigest() == entry["digest"]


def test_a_foreign_chart_with_our_name_is_kept_and_listed(tmp_path: Path) -> None:
    described = yaml.safe_dump(
        {"apiVersion": "v2", "name": "gpu-operator", "version": "v26.7.0", "description": "real"}
    )
    archive = tmp_path / "gpu-operator-v26.7.0.tgz"
    with tarfile.open(archive, "w:gz") as tar:
        entry = tarfile.TarInfo("gpu-operator/Chart.yaml")
        entry.size = len(described)
        tar.addfile(entry, io.BytesIO(described.encode()))
    before = archive.read_bytes()
    build_charts(tmp_path)
    assert archive.read_bytes() == before
    assert "real" in {entry["description"] for entry in index(tmp_path)["entries"]["gpu-operator"]}


def test_a_second_build_changes_nothing(tmp_path: Path) -> None:
    build_charts(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    build_charts(tmp_path)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before
