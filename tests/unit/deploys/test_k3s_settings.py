"""What an inventory may say about K3s, and what is refused before anything is done."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pyinfra.api import Config, Inventory, State
from pyinfra.api.exceptions import DeployError
from pyinfra.context import ctx_host, ctx_state

from gb10.deploys.k3s import with_name
from gb10.group_data.settings import REFUSED_KEYS, K3sSettings
from gb10.operations.kit.inventory import k3s_role, kubernetes_ip, read_settings
from gb10.operations.preflight import preflight


@pytest.fixture
def on() -> Iterator[Any]:
    """Given a host's data, stand on it: in a cluster of two beside which there is another host."""

    def stand(name: str = "spark-1", **data: Any) -> Any:
        hosts = [(each, data if each == name else {}) for each in ("spark-1", "spark-2", "nas")]
        groups: dict[str, Any] = {"head": (["spark-1"], {}), "workers": (["spark-2"], {}), "storage": (["nas"], {})}
        state = State(Inventory((hosts, {}), **groups), Config())
        host = state.inventory.get_host(name)
        ctx_state.set(state)
        ctx_host.set(host)
        return host

    yield stand
    ctx_host.reset()
    ctx_state.reset()


@pytest.mark.parametrize(("name", "role"), [("spark-1", "server"), ("spark-2", "agent"), ("nas", None)])
def test_the_groups_of_a_host_are_its_role(on: Any, name: str, role: str | None) -> None:
    on(name)
    assert k3s_role() == role


def test_a_host_outside_the_cluster_is_not_even_asked(on: Any) -> None:
    assert not on("nas").connected
    assert list(preflight._inner(role=None, version="v1.36.4+k3s1", runtime="docker", config={}, variables=[])) == []


@pytest.mark.parametrize("part", ["config", "server_config", "agent_config"])
@pytest.mark.parametrize("key", [*REFUSED_KEYS, "token+"])
def test_a_key_that_breaks_what_looks_for_k3s_or_shows_a_secret_is_refused_without_its_value(
    on: Any, part: str, key: str
) -> None:
    on()
    with pytest.raises(DeployError) as refused:
        read_settings(K3sSettings, **{part: {key: "canary"}})
    assert f"gb10: SETTINGS_INVALID: spark-1: {part}: " in str(refused.value)
    assert f"{key}: " in str(refused.value)
    assert "canary" not in str(refused.value)


def test_other_keys_are_kept_as_they_are(on: Any) -> None:
    on(k3s_config={"flannel-iface": "enP7s7"})
    assert read_settings(K3sSettings).config == {"flannel-iface": "enP7s7"}


@pytest.mark.parametrize(
    "data", [{"ssh_hostname": "192.168.1.11"}, {"ssh_hostname": "spark.lan", "node_ip": "192.168.1.11"}]
)
def test_a_node_is_known_to_kubernetes_by_its_ip_address(on: Any, data: dict[str, str]) -> None:
    assert kubernetes_ip(on(**data)) == "192.168.1.11"


@pytest.mark.parametrize("data", [{}, {"ssh_hostname": "spark.lan"}, {"node_ip": "192.168.1.11/24"}])
def test_a_node_of_which_only_a_name_is_known_is_refused_with_what_to_set(on: Any, data: dict[str, str]) -> None:
    host = on(**data)
    with pytest.raises(DeployError, match=r"gb10: SETTINGS_INVALID: spark-1: .* is no IP address: set node_ip"):
        kubernetes_ip(host)


def test_the_certificate_carries_the_name_that_kubeconfigs_have_for_the_head() -> None:
    config: dict[str, object] = {"node-ip": "192.168.1.11"}
    assert with_name(config, "192.168.1.11") == config
    assert with_name(config, "spark.lan")["tls-san"] == ["spark.lan"]
    assert with_name({**config, "tls-san": "a,b"}, "spark.lan")["tls-san"] == ["a", "b", "spark.lan"]
    assert with_name({**config, "tls-san": ["spark.lan"]}, "spark.lan")["tls-san"] == ["spark.lan"]
