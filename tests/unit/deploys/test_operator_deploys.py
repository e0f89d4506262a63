"""The operators' settings, values and policies, and what an operator lacks to be ready."""

from __future__ import annotations

import json
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from gb10.deploys.operators import gpu_operator_values, network_operator_values, plugin_version
from gb10.facts.operators import OperatorRemains
from gb10.facts.reading.cluster import HelmRelease
from gb10.facts.reading.operators import GPU_NAMESPACE, NETWORK_NAMESPACE
from gb10.facts.reading.rdma import ConnectX7, RdmaLink
from gb10.group_data import all as defaults
from gb10.group_data.settings import GpuOperatorSettings, NetworkOperatorSettings, works_on_gb10
from gb10.operations.kit.helm import discovers, left_without_nfd
from gb10.operations.operators import GPU, NETWORK, groups_to_remove, interfaces_up, somebody_elses
from gb10.templates import render


def settings(**other: Any) -> GpuOperatorSettings:
    known: dict[str, Any] = {
        "version": "v26.7.0",
        "sha256": None,
        "values": {},
        "wait_seconds": 60,
        "time_slicing": None,
    }
    return GpuOperatorSettings(**{**known, "time_slicing": None, **other})


# Versions ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["v25.10.0", "v25.10.1", "v26.3.3", "26.7.0", "v100.0.0", "v26.7.0-rc.1"])
def test_a_gpu_operator_that_knows_gb10_is_taken(version: str) -> None:
    assert works_on_gb10(version) == version


@pytest.mark.parametrize("version", ["v25.3.4", "v25.9.9", "25.9.0", "v1.11.1"])
def test_a_gpu_operator_before_gb10_is_refused_with_the_oldest_that_works(version: str) -> None:
    with pytest.raises(ValueError, match=r"v25\.10\.0"):
        works_on_gb10(version)


@given(st.tuples(st.integers(0, 40), st.integers(0, 12), st.integers(0, 9)))
def test_versions_are_compared_as_numbers(version: tuple[int, int, int]) -> None:
    text = "v" + ".".join(map(str, version))
    with nullcontext() if version >= (25, 10, 0) else pytest.raises(ValueError, match="or newer"):
        assert works_on_gb10(text) == text


@pytest.mark.parametrize("version", ["", "latest", "v26", "v26.7"])
def test_what_is_no_version_is_an_error(version: str) -> None:
    with pytest.raises(ValueError, match="version"):
        works_on_gb10(version)


# Settings ------------------------------------------------------------------------------------------------------------


def test_the_defaults_are_settings() -> None:
    assert settings(version=defaults.gpu_operator_version).version == "v26.7.0"
    network = NetworkOperatorSettings(version=defaults.network_operator_version, sha256=None, values={}, wait_seconds=1)
    assert network.version == "26.4.1"


@pytest.mark.parametrize(
    "wrong",
    [
        {"version": "26.x"},
        {"version": ">=v26.0.0"},
        {"version": "v25.3.4"},
        {"time_slicing": 1},
        {"wait_seconds": 0},
        {"sha256": "abc"},
        {"values": {"toolkit": {"enabled": True}}},
        {"values": {"driver": {"rdma": {"enabled": True}}}},
        {"values": {"nfd": {"enabled": True}}},
        {"unknown": 1},
    ],
)
def test_settings_that_cannot_be_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        settings(**wrong)


def test_node_feature_discovery_may_be_left_to_somebody_else() -> None:
    assert settings(values={"nfd": {"enabled": False}}).values == {"nfd": {"enabled": False}}


# Values --------------------------------------------------------------------------------------------------------------


def test_driver_and_toolkit_are_those_of_dgx_os() -> None:
    assert gpu_operator_values("containerd", None) == {"driver": {"enabled": False}, "toolkit": {"enabled": False}}


def test_the_docker_runtime_gets_no_cdi_and_a_runtime_class_that_it_knows() -> None:
    values = gpu_operator_values("docker", None)
    assert values["cdi"] == {"enabled": False}
    assert values["operator"] == {"runtimeClass": "docker"}


def test_time_slicing_is_a_config_of_the_device_plugin() -> None:
    config = gpu_operator_values("docker", 4)["devicePlugin"]["config"]
    assert config["create"] is True
    sharing = yaml.safe_load(config["data"][config["default"]])["sharing"]
    assert sharing["timeSlicing"]["resources"] == [{"name": "nvidia.com/gpu", "replicas": 4}]


def test_the_network_operator_labels_nics_and_brings_no_sriov() -> None:
    assert network_operator_values() == {
        "nfd": {"deployNodeFeatureRules": True},
        "sriovNetworkOperator": {"enabled": False},
    }


# The policy ----------------------------------------------------------------------------------------------------------


def test_the_policy_shares_the_rdma_devices_of_the_interfaces_and_nothing_else() -> None:
    version = plugin_version("26.4.1")
    text = render(
        "operators/nic-cluster-policy.yaml.j2", interfaces=["enp1s0f0np0"], repository="mirror/x", version=version
    )
    policy = yaml.safe_load(text)
    assert policy["metadata"] == {"name": "nic-cluster-policy"}
    assert list(policy["spec"]) == ["rdmaSharedDevicePlugin"]
    plugin = policy["spec"]["rdmaSharedDevicePlugin"]
    assert (plugin["repository"], plugin["version"]) == ("mirror/x", "network-operator-v26.4.1")
    (config,) = json.loads(plugin["config"])["configList"]
    assert f"rdma/{config['resourceName']}" == NETWORK.resource
    assert config["selectors"]["ifNames"] == ["enp1s0f0np0"]


def test_interfaces_that_are_up_on_any_node_count_once() -> None:
    up = RdmaLink(netdev="enp1s0f0np0", state="ACTIVE")
    other, down = RdmaLink(netdev="enP2p1s0f0np0", state="ACTIVE"), RdmaLink(netdev="enp1s0f1np1", state="DOWN")
    links = {"spark-1": ConnectX7((up, down)), "spark-2": ConnectX7((up, other)), "spark-3": None}
    assert interfaces_up(links) == ["enP2p1s0f0np0", "enp1s0f0np0"]
    assert interfaces_up({"spark-1": None}) == []


# The end -------------------------------------------------------------------------------------------------------------


def remains(**other: Any) -> OperatorRemains:
    known: dict[str, Any] = {"definitions": {}, "namespace": True, "contents": (), "webhooks": ()}
    return OperatorRemains(**{**known, **other})


def test_what_the_operators_made_themselves_may_be_removed() -> None:
    definitions = {
        "clusterpolicies.nvidia.com": ("cluster-policy",),
        "nodefeatures.nfd.k8s-sigs.io": ("spark-1", "spark-2"),
        "nvidiadrivers.nvidia.com": (),
    }
    assert somebody_elses(remains(definitions=definitions)) == {}


def test_objects_and_contents_of_somebody_else_are_kept_by_name() -> None:
    found = remains(
        definitions={"macvlannetworks.mellanox.com": ("mine",), "nicclusterpolicies.mellanox.com": ()},
        contents=("ConfigMap/notes",),
    )
    assert somebody_elses(found) == {"macvlannetworks.mellanox.com": ("mine",), "namespace": ("ConfigMap/notes",)}


def test_an_operators_chart_counts_whatever_its_release_is_called() -> None:
    elsewhere = installed("gpu-operator-1764", "default", "gpu-operator")
    ours, own_gpu = installed("network-operator", NETWORK_NAMESPACE), installed("gpu-operator", GPU_NAMESPACE)
    assert discovers(NETWORK, [])
    assert discovers(NETWORK, [own_gpu, ours])
    assert not discovers(NETWORK, [own_gpu])
    assert not discovers(NETWORK, [elsewhere])
    assert not discovers(NETWORK, [elsewhere, ours]), "who is not ours never gives way"
    assert discovers(NETWORK, [replace(elsewhere, status="uninstalled")])


def test_definitions_stay_while_any_release_needs_them() -> None:
    elsewhere = installed("gpu-operator-1764", "default", "gpu-operator")
    network = installed("network-operator", NETWORK_NAMESPACE, nfd={"enabled": False})
    own = installed("gpu-operator", GPU_NAMESPACE)
    assert groups_to_remove(GPU, [own]) == (*GPU.groups, "nfd.k8s-sigs.io")
    assert groups_to_remove(GPU, [own, network]) == GPU.groups
    assert groups_to_remove(GPU, [own, elsewhere]) == ()
    assert left_without_nfd(GPU, [own, network]) == ["network-operator"]
    assert left_without_nfd(GPU, [own, network, elsewhere]) == []
    assert left_without_nfd(GPU, [own]) == []


def installed(name: str, namespace: str, chart: str | None = None, **values: Any) -> HelmRelease:
    return HelmRelease(name, namespace, 1, "deployed", chart or name, "v26.7.0", None, values=values)
