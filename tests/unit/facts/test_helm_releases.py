"""Samples: see samples/README.md. The script that reads them on a node is run as the node runs it."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyinfra.api.exceptions import FactProcessError

from gb10.facts.helm import HelmReleases
from gb10.facts.reading.cluster import HelmRelease
from gb10.programs import helm_storage
from tests.unit.facts.reading import SAMPLES, altered, answered, damaged, process, run, shell_accepts, words


def on_node(secrets: str, *charts: str) -> str:
    return json.dumps(helm_storage.releases([0, secrets], charts))


SECRETS = (SAMPLES / "helm-secrets.json").read_text()
STORED = on_node(SECRETS, "gpu-operator")


def releases(text: str) -> dict[str, HelmRelease]:
    found = HelmReleases().process([text])
    assert found is not None
    return {release.name: release for release in found}


def test_each_release_shows_its_newest_revision() -> None:
    found = releases(STORED)
    assert {name: (r.namespace, r.revision, r.status) for name, r in found.items()} == {
        "gpu-operator": ("gpu-operator", 3, "pending-upgrade"),
        "network-operator": ("nvidia-network-operator", 1, "pending-install"),
        "broken": ("other", 1, "failed"),
    }


def test_chart_version_and_values_are_told_apart() -> None:
    release = releases(STORED)["gpu-operator"]
    assert (release.chart, release.chart_version, release.app_version) == ("gpu-operator", "1.3.0", "1.2.3")
    assert release.values == {"driver": {"enabled": False}, "operator": {"x": 1}}


def test_a_release_may_be_of_a_chart_of_another_name() -> None:
    assert releases(STORED)["network-operator"].chart == "gpu-operator"


def test_pending_and_failed_releases_are_neither_hidden_nor_deployed() -> None:
    found = releases(STORED)
    assert [(r.pending, r.deployed) for r in found.values()] == [(True, False), (True, False), (False, False)]
    assert "context deadline exceeded" in found["broken"].description


def test_the_last_success_behind_a_killed_upgrade_is_known() -> None:
    found = releases(STORED)
    assert (found["gpu-operator"].deployed_revision, found["network-operator"].deployed_revision) == (2, None)


def test_values_that_nobody_gave_are_empty() -> None:
    assert releases(STORED)["network-operator"].values == {}


def test_values_of_no_chart_leave_the_node_but_of_those_that_are_asked_for() -> None:
    (chart,) = {release["chart"]["name"] for release in json.loads(STORED) if release["config"]}
    assert chart == "gpu-operator"
    for asked in ([], ["network-operator"]):
        assert [release["config"] for release in json.loads(on_node(SECRETS, *asked))] == [None] * 4


def test_what_a_chart_rendered_stays_on_the_node() -> None:
    (first, *_) = json.loads(STORED)
    assert sorted(first) == ["chart", "config", "info", "name", "namespace", "version"]
    assert sorted(first["chart"]) == ["appVersion", "name", "version"]


def test_a_release_that_is_not_compressed_is_read_too() -> None:
    plain = {
        "name": "old",
        "namespace": "default",
        "version": 1,
        "info": {"status": "deployed"},
        "chart": {"metadata": {"name": "old", "version": "26.7.0-rc.1"}},
    }
    encoded = base64.b64encode(base64.b64encode(json.dumps(plain).encode())).decode()
    release = releases(on_node(json.dumps({"items": [{"data": {"release": encoded}}]})))["old"]
    assert (release.chart_version, release.app_version, release.deployed) == ("26.7.0-rc.1", None, True)


def test_a_cluster_without_releases_is_empty_and_no_api_server_is_none() -> None:
    assert releases(on_node('{"items": []}')) == {}
    assert HelmReleases().process(answered(helm_storage.releases([1, ""], []))) is None


def test_secrets_that_cannot_be_read_are_refused() -> None:
    for secrets in ("", '{"items": [{}]}', '{"items": [{"data": {"release": "H4sI"}}]}'):
        with pytest.raises(FactProcessError, match="cannot read helm's Secrets"):
            HelmReleases().process([on_node(secrets)])


def test_the_command_runs_in_a_posix_shell_without_k3s() -> None:
    command = HelmReleases().command()
    assert shell_accepts(command)
    assert HelmReleases().process(run(command)) is None


def test_the_command_reads_the_secrets_on_the_node() -> None:
    # the K3s binary that is not here, answering with a sample
    launch = HelmReleases().command()
    launch.text = launch.text.replace("/usr/local/bin/k3s kubectl", f"cat {SAMPLES / 'helm-secrets.json'}; true")
    found = HelmReleases().process(run(launch))
    assert found is not None
    assert len(found) == 3


@settings(deadline=None)
@given(altered(STORED) | damaged([STORED]) | st.lists(words))
def test_garbage_is_understood_or_refused_and_nothing_else(lines: list[str]) -> None:
    try:
        answer = json.loads("\n".join(lines))
    except ValueError:
        answer = lines
    found = process(HelmReleases(), answered(answer))
    json.dumps([release.to_json() for release in found or ()])
