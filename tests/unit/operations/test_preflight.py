"""Refused upgrades, and adoption of an installed K3s."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gb10.facts.reading.k3s import ForeignSettings
from gb10.group_data.settings import parse_version
from gb10.operations.preflight import differences, step_refused

versions = st.builds("v1.{}.{}+k3s{}".format, st.integers(20, 40), st.integers(0, 30), st.integers(1, 4))


@pytest.mark.parametrize(
    ("installed", "wanted", "code"),
    [
        ("v1.36.4+k3s1", "v1.36.4+k3s1", None),
        ("v1.36.4+k3s1", "v1.36.4+k3s2", None),
        ("v1.36.9+k3s1", "v1.36.10+k3s1", None),
        ("v1.36.4+k3s1", "v1.37.0+k3s1", None),
        ("v1.36.4+k3s1", "v1.38.0+k3s1", "VERSION_SKIP"),
        ("v1.36.4+k3s1", "v1.36.3+k3s1", "VERSION_DOWNGRADE"),
        ("v1.36.4+k3s2", "v1.36.4+k3s1", "VERSION_DOWNGRADE"),
    ],
)
def test_a_step_goes_up_and_by_one_minor_version_at_most(installed: str, wanted: str, code: str | None) -> None:
    refused = step_refused(installed, wanted)
    assert (refused[0] if refused else None) == code


@given(versions, versions)
def test_at_most_one_direction_between_two_versions_is_allowed(one: str, other: str) -> None:
    allowed = [step_refused(one, other) is None, step_refused(other, one) is None]
    assert allowed == [True, True] if one == other else not all(allowed)


@pytest.mark.parametrize("text", ["1.36.4", "v1.36.4", "latest", "v1.36+k3s1", "v1.36.4+rke2r1", ""])
def test_what_is_no_k3s_version_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no K3s version"):
        parse_version(text)


NOTHING = ForeignSettings(config={}, variables=())
CONFIG = {"node-name": "spark-1", "docker": True, "disable": ["traefik", "servicelb"], "tls-san": ["10.0.0.1"]}


@pytest.mark.parametrize(
    ("command", "lost"),
    [
        (None, None),
        ("/usr/local/bin/k3s server", None),
        ("/usr/local/bin/k3s server '--docker' '--disable=traefik' '--disable' 'servicelb'", None),
        ("/usr/local/bin/k3s server --disable traefik,servicelb --write-kubeconfig-mode 644", None),
        ("/usr/local/bin/k3s server --cluster-init --docker", "--cluster-init=true"),
        ("/usr/local/bin/k3s server --flannel-backend host-gw", "--flannel-backend=host-gw"),
        ("/usr/local/bin/k3s server --tls-san 10.0.0.2", "--tls-san=10.0.0.2"),
    ],
)
def test_a_flag_that_config_yaml_would_not_keep_is_named(command: str | None, lost: str | None) -> None:
    found = list(differences(command, NOTHING, "spark-1", CONFIG, set()))
    assert [text for text in found if text.startswith("it was started with ")] == (
        [f"it was started with {lost}: k3s_config or a setting of its own keeps that"] if lost else []
    )


SAME = "/usr/local/bin/k3s server --docker --disable traefik,servicelb"


def found(command: str = SAME, hostname: str = "spark-1", variables: tuple[str, ...] = (), **config: object) -> str:
    """In what an installation would be another one after ours."""
    settings = ForeignSettings({key.replace("_", "-"): value for key, value in config.items()}, variables)
    return "; ".join(differences(command, settings, hostname, CONFIG, {"HTTP_PROXY"}))


def test_an_installation_like_ours_is_adopted() -> None:
    assert found() == ""
    assert found(hostname="Spark-1") == ""
    assert found("/usr/local/bin/k3s server", docker=True, disable=["traefik", "servicelb"]) == ""
    assert found(f"{SAME} --node-name spark-1", hostname="promaxgb10-1234") == ""
    assert found(variables=("K3S_TOKEN", "K3S_URL", "K3S_KUBECONFIG_MODE", "HTTP_PROXY")) == ""


def test_settings_that_keep_a_bare_servers_parts_are_named() -> None:
    assert found("/usr/local/bin/k3s server") == (
        "its pods run in containerd: k3s_runtime = 'containerd' keeps that; "
        "it runs traefik, servicelb: k3s_disable = [] keeps that"
    )
    assert "it runs servicelb: k3s_disable = ['traefik'] keeps that" in found("k3s server --docker --disable=traefik")


def test_another_name_and_lost_keys_and_variables_are_named() -> None:
    assert found(hostname="promaxgb10-1234") == "its node is called promaxgb10-1234: node_name = 'promaxgb10-1234' " + (
        "keeps that"
    )
    assert found(cluster_cidr="10.52.0.0/16").startswith("it was started with --cluster-cidr=10.52.0.0/16: ")
    assert found(variables=("K3S_DATASTORE_ENDPOINT",)).startswith("its environment file sets K3S_DATASTORE_ENDPOINT: ")
