"""Wanted releases, and the meaning of helm's messages, as version 4.3.1 printed them."""

from __future__ import annotations

import shlex
import subprocess
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gb10.facts.helm import BINARY, STATE, HelmBinary, HelmClient
from gb10.facts.reading.cluster import HelmRelease
from gb10.group_data.settings import brings_nfd
from gb10.operations import helm
from gb10.operations.helm import GRACE_SECONDS, LOCKED, helm_command
from gb10.operations.kit.helm import (
    NFD_CHART,
    Release,
    as_wanted,
    differences,
    find,
    same_version,
    should_bring_nfd,
    stuck,
    trouble,
)
from gb10.operations.kit.inventory import merged

WANTED = Release("gpu-operator", "gpu-operator", "gpu-operator", "v26.7.0", "https://charts.example")
VALUES: dict[str, Any] = {"driver": {"enabled": False}}
DEPLOYED = HelmRelease(
    name="gpu-operator",
    namespace="gpu-operator",
    revision=3,
    status="deployed",
    chart="gpu-operator",
    chart_version="v26.7.0",
    app_version="v26.7.0",
    values=VALUES,
    deployed_revision=3,
)
scalars = st.none() | st.booleans() | st.integers() | st.text(max_size=5)
values = st.recursive(
    st.dictionaries(st.text(max_size=3), scalars, max_size=4),
    lambda inner: st.dictionaries(st.text(max_size=3), scalars | st.lists(scalars, max_size=2) | inner, max_size=4),
    max_leaves=8,
)
NFD_CHOICES = st.sampled_from([{}, {"nfd": {}}, {"nfd": {"enabled": True}}, {"nfd": {"enabled": False}}])


def release(**other: Any) -> HelmRelease:
    return replace(DEPLOYED, **other)


def test_a_release_with_the_wanted_chart_and_values_is_left_alone() -> None:
    assert as_wanted(DEPLOYED, WANTED, VALUES)
    assert as_wanted(release(chart_version="26.7.0"), WANTED, VALUES)


@pytest.mark.parametrize(
    "found",
    [
        None,
        release(chart="network-operator"),
        release(chart_version="v26.3.3"),
        release(values={"driver": {"enabled": True}}),
        release(values={}),
        release(status="failed"),
        release(status="pending-upgrade"),
    ],
)
def test_any_other_release_is_not_as_wanted(found: HelmRelease | None) -> None:
    assert not as_wanted(found, WANTED, VALUES)


def test_differences_are_described() -> None:
    assert differences(DEPLOYED, WANTED, VALUES) == []
    assert differences(release(chart="other", values={}), WANTED, VALUES) == [
        "chart other v26.7.0, wanted gpu-operator v26.7.0",
        "other values",
    ]


def test_a_version_is_the_same_with_and_without_its_v() -> None:
    assert same_version("v26.7.0", "26.7.0")
    assert not same_version("v26.7.0", "v26.7.1")


@pytest.mark.parametrize("status", ["pending-install", "pending-upgrade", "pending-rollback", "uninstalling"])
def test_a_release_at_which_helm_was_killed_is_stuck(status: str) -> None:
    assert stuck(release(status=status))


@pytest.mark.parametrize("status", ["deployed", "failed"])
def test_a_release_that_helm_finished_is_not_stuck(status: str) -> None:
    assert not stuck(release(status=status))
    assert not stuck(None)


def test_a_helm_that_has_just_ended_leaves_no_pending_release(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = [release(status="pending-install"), release()]

    def known(fact: type[Any], **_: Any) -> Any:
        return HelmBinary("v4.3.1", busy=False) if fact is HelmClient else (looks.pop(0),)

    monkeypatch.setattr(helm, "known", known)
    monkeypatch.setattr(helm, "state", SimpleNamespace(is_executing=True))
    monkeypatch.setattr(helm, "await_condition", lambda condition, seconds: condition())
    assert helm._settled_releases(WANTED, 60) == (release(),)


def test_a_release_is_found_by_name_and_namespace() -> None:
    releases = [release(namespace="elsewhere"), release(name="other"), DEPLOYED]
    assert find(releases, "gpu-operator", "gpu-operator") is DEPLOYED
    assert find(releases, "gpu-operator", "nowhere") is None


def test_a_release_with_only_a_history_left_does_not_count() -> None:
    assert find([release(status="uninstalled")], "gpu-operator", "gpu-operator") is None


def test_mappings_are_merged_and_all_else_is_replaced() -> None:
    base = {"driver": {"enabled": False, "rdma": {"enabled": False}}, "tolerations": [1, 2]}
    extra = {"driver": {"version": "580"}, "tolerations": [3], "gfd": {"enabled": False}}
    assert merged(base, extra) == {
        "driver": {"enabled": False, "rdma": {"enabled": False}, "version": "580"},
        "tolerations": [3],
        "gfd": {"enabled": False},
    }


@given(values, values)
def test_merged_values_contain_all_extra_values(base: dict[str, Any], extra: dict[str, Any]) -> None:
    result = merged(base, extra)
    assert merged(result, extra) == result
    assert result.keys() == base.keys() | extra.keys()


@given(values)
def test_merging_with_no_values_changes_nothing(one: dict[str, Any]) -> None:
    assert merged(one, {}) == one
    assert merged({}, one) == one


@given(st.none() | NFD_CHOICES, st.none() | NFD_CHOICES, st.lists(st.booleans(), min_size=1, max_size=6))
def test_one_operator_brings_node_feature_discovery_in_any_order(
    gpu: dict[str, Any] | None, network: dict[str, Any] | None, order: list[bool]
) -> None:
    """Runs of either deploy in any order; in the end, when each that is there has run, exactly one brings it."""
    there = {"gpu": gpu, "network": network}

    def run(name: str, other: str) -> None:
        own, rival = there[name], there[other]
        found = None if own is None else release(values=own)
        rivals = [] if rival is None else [release(values=rival)]
        brings = should_bring_nfd(found, rivals, keeps_it=name == "network")
        there[name] = {"nfd": {"enabled": brings}}

    for is_gpu in order:
        run(*(("gpu", "network") if is_gpu else ("network", "gpu")))
    last = [("gpu", "network"), ("network", "gpu")]
    for name, other in last if order[-1] else reversed(last):
        if there[name] is not None:
            run(name, other)
    assert sum(found is not None and brings_nfd(found) for found in there.values()) == 1
    settled = dict(there)
    for name, other in last:
        if there[name] is not None:
            run(name, other)
    assert there == settled, "a further run would make a revision"


def test_a_release_of_node_feature_discovery_comes_first() -> None:
    alone = release(name="nfd", chart=NFD_CHART, values={})
    for keeps_it in (True, False):
        assert not should_bring_nfd(DEPLOYED, [alone], keeps_it)
        assert not should_bring_nfd(None, [alone], keeps_it)


@pytest.mark.parametrize(
    ("printed", "code", "words"),
    [
        (
            "Error: UPGRADE FAILED: values don't meet the specifications of the schema(s) in the following chart(s):\n"
            "gpu-operator:\n- at '/driver/enabled': got string, want boolean\n",
            "VALUES_REJECTED",
            "/driver/enabled",
        ),
        (
            "Error: execution error at (gpu-operator/templates/all.yaml:3:3): config.data cannot be empty\n",
            "VALUES_REJECTED",
            "cannot be empty",
        ),
        (
            'level=WARN msg="upgrade failed" name=gpu-operator error="resource not ready."\n'
            "Error: UPGRADE FAILED: resource ClusterPolicy//cluster-policy not ready. status: InProgress, message: \n"
            "context deadline exceeded\n",
            "OPERATOR_NOT_READY",
            "cluster-policy not ready",
        ),
        (
            "Error: UPGRADE FAILED: create: failed to create: "
            'Post "https://127.0.0.1:6443/api/v1/namespaces/gpu-operator/secrets": EOF\n',
            "SERVER_UNREACHABLE",
            "failed to create",
        ),
        (
            'Error: Kubernetes cluster unreachable: Get "https://127.0.0.1:6443/version": dial tcp 127.0.0.1:6443: '
            "connect: connection refused\n",
            "SERVER_UNREACHABLE",
            "unreachable",
        ),
        (
            "Error: UPGRADE FAILED: another operation (install/upgrade/rollback) is in progress\n",
            "HELM_PENDING",
            "in progress",
        ),
        ('Error: UPGRADE FAILED: no RuntimeClass with the name "nvidia" found\n', "HELM_FAILED", "RuntimeClass"),
        (
            'level=WARN msg="cannot overwrite table with non table for gpu-operator.daemonsets.tolerations"\n'
            "Error: UPGRADE FAILED: context deadline exceeded\n",
            "OPERATOR_NOT_READY",
            "deadline exceeded",
        ),
        ("Error: another helm of gb10 is at work on this node\n", "HELM_PENDING", "at work"),
        ("", "HELM_FAILED", "killed"),
    ],
)
def test_what_helm_prints_gets_a_code_and_one_line(printed: str, code: str, words: str) -> None:
    found, message = trouble(printed)
    assert found == code
    assert words in message
    assert "\n" not in message


@given(st.text(max_size=300))
def test_any_output_of_helm_gives_one_line(printed: str) -> None:
    _, message = trouble(printed)
    assert message
    assert len(message) <= 600


def test_helm_runs_alone_bounded_and_with_folders_of_its_own() -> None:
    words = shlex.split(helm_command("list", "--filter", "a b", seconds=30).get_raw_value())
    assert "timeout" in words
    assert "90" in words
    assert "flock" in words
    assert "a b" in words
    assert "KUBECONFIG=/etc/rancher/k3s/k3s.yaml" in words
    assert any(word.startswith("HELM_CACHE_HOME=/var/lib/gb10/") for word in words)


def test_a_helm_that_finds_another_at_work_says_so_after_its_time(tmp_path: Path) -> None:
    lock = tmp_path / "state" / "lock"
    raw = helm_command("list", seconds=1 - GRACE_SECONDS).get_raw_value()
    command = raw.replace(STATE, str(lock.parent)).replace(BINARY, "echo")
    first = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True)
    assert first.stdout == "list\n", "the lock's folder is made"
    busy = subprocess.run(["flock", lock, "sh", "-c", command], capture_output=True, text=True, check=False)
    assert busy.returncode == LOCKED
    assert trouble(busy.stdout)[0] == "HELM_PENDING"
