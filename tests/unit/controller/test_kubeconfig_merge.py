"""Merging a kubeconfig: ours comes in, everybody else's stays."""

from __future__ import annotations

import copy
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from gb10.controller.cluster.kubeconfig import default_path, merged, read, write
from gb10.controller.errors import Gb10Error
from gb10.facts.reading.k3s import server_url

SERVER = "https://198.18.0.11:6443"


def fetched(ca: str = "Q0E=", certificate: str = "Y2VydA==") -> dict[str, Any]:
    """What K3s writes to /etc/rancher/k3s/k3s.yaml."""
    cluster = {"certificate-authority-data": ca, "server": "https://127.0.0.1:6443"}
    user = {"client-certificate-data": certificate, "client-key-data": "a2V5"}
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "default", "cluster": cluster}],
        "contexts": [{"name": "default", "context": {"cluster": "default", "user": "default"}}],
        "users": [{"name": "default", "user": user}],
        "current-context": "default",
        "preferences": {},
    }


def merge(existing: dict[str, Any], name: str = "spark-1", use: bool = False, **new: str) -> dict[str, Any]:
    return merged(existing, fetched(**new), name=name, server=SERVER, use=use, path="config")


def test_into_nothing_it_becomes_the_current_context() -> None:
    config = merge({})
    assert config["current-context"] == "spark-1"
    assert config["clusters"] == [
        {"name": "spark-1", "cluster": {"certificate-authority-data": "Q0E=", "server": SERVER}}
    ]
    assert config["contexts"] == [{"name": "spark-1", "context": {"cluster": "spark-1", "user": "spark-1"}}]
    assert config["apiVersion"] == "v1"


def test_others_stay_and_so_does_the_current_context() -> None:
    work = merged({}, fetched(ca="b3RoZXI="), name="work", server="https://work:6443")
    config = merge(work)
    assert config["current-context"] == "work"
    assert [entry["name"] for entry in config["contexts"]] == ["work", "spark-1"]
    assert config["clusters"][0] == work["clusters"][0]
    assert merge(work, use=True)["current-context"] == "spark-1"


def test_a_rebuilt_cluster_with_a_new_ca_at_the_same_address_is_the_same() -> None:
    config = merge(merge({}), ca="bmV3", certificate="bmV3Y2VydA==")
    assert config["clusters"][0]["cluster"]["certificate-authority-data"] == "bmV3"
    assert config["users"][0]["user"]["client-certificate-data"] == "bmV3Y2VydA=="


def test_a_cluster_that_moved_is_known_by_its_ca() -> None:
    moved = merged(merge({}), fetched(), name="spark-1", server="https://198.18.9.9:6443")
    assert moved["clusters"][0]["cluster"]["server"] == "https://198.18.9.9:6443"
    assert len(moved["clusters"]) == 1


def test_a_namespace_that_the_user_chose_stays() -> None:
    config = merge({})
    config["contexts"][0]["context"]["namespace"] = "vllm"
    assert merge(config)["contexts"][0]["context"]["namespace"] == "vllm"


@pytest.mark.parametrize(
    "existing",
    [
        {"clusters": [{"name": "spark-1", "cluster": {"server": "https://other:6443"}}]},
        {"users": [{"name": "spark-1", "user": {"token": "x"}}]},
        {"contexts": [{"name": "spark-1", "context": {"cluster": "work", "user": "work"}}]},
        {"clusters": [{"name": "spark-1", "cluster": {}}]},
    ],
)
def test_the_name_of_something_else_is_a_conflict(existing: dict[str, Any]) -> None:
    before = copy.deepcopy(existing)
    with pytest.raises(Gb10Error) as raised:
        merge(existing)
    assert raised.value.code == "KUBECONFIG_CONFLICT"
    assert existing == before


def test_what_the_head_sent_must_be_one_cluster() -> None:
    with pytest.raises(Gb10Error):
        merged({}, {"clusters": []}, name="spark-1", server=SERVER)


names = st.text(st.characters(codec="utf-8", exclude_categories=["C"]), min_size=1, max_size=8)
entries = st.dictionaries(names, st.dictionaries(names, st.text(max_size=8), max_size=3), max_size=4)
configs = st.fixed_dictionaries(
    {},
    optional={
        "clusters": entries.map(lambda e: [{"name": n, "cluster": v} for n, v in e.items()]),
        "users": entries.map(lambda e: [{"name": n, "user": v} for n, v in e.items()]),
        "contexts": entries.map(lambda e: [{"name": n, "context": v} for n, v in e.items()]),
        "current-context": names,
        "preferences": st.just({"colors": True}),
    },
)


@given(configs, names, st.booleans())
def test_nothing_of_others_is_ever_touched(existing: dict[str, Any], name: str, use: bool) -> None:
    before = copy.deepcopy(existing)
    try:
        config = merge(existing, name=name, use=use)
    except Gb10Error:
        assume(False)
    assert existing == before
    for section in ("clusters", "users", "contexts"):
        others = [entry for entry in before.get(section, []) if entry["name"] != name]
        assert [entry for entry in config[section] if entry["name"] != name] == others
        assert len([entry for entry in config[section] if entry["name"] == name]) == 1
    assert config["current-context"] == (name if use else before.get("current-context", name))
    assert merge(config, name=name, use=use) == config


@given(configs)
def test_what_is_written_is_what_is_read(tmp_path_factory: pytest.TempPathFactory, config: dict[str, Any]) -> None:
    path = tmp_path_factory.mktemp("kube") / "config"
    write(path, config)
    assert read(path) == config


def test_it_is_written_for_its_owner_alone_and_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "config"
    write(path, merge({}))
    path.chmod(0o644)
    inode = path.stat().st_ino
    write(path, merge({}))
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.stat().st_ino != inode
    assert [entry.name for entry in path.parent.iterdir()] == ["config"]


def test_a_symbolic_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("")
    (tmp_path / "config").symlink_to("real")
    write(tmp_path / "config", merge({}))
    assert (tmp_path / "config").is_symlink()
    assert read(tmp_path / "real") == merge({})


@pytest.mark.parametrize("text", ["[1, 2]", "clusters: 7", "a: [", "clusters: [x]", "\x00"])
def test_a_file_that_is_no_kubeconfig_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config"
    path.write_text(text)
    with pytest.raises(Gb10Error) as raised:
        read(path)
    assert raised.value.code == "SETTINGS_INVALID"
    assert str(path) in raised.value.summary


def test_a_missing_or_empty_file_is_an_empty_kubeconfig(tmp_path: Path) -> None:
    assert read(tmp_path / "absent") == {}
    (tmp_path / "empty").touch()
    assert read(tmp_path / "empty") == {}


def test_the_file_is_the_one_that_kubectl_would_write(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", f"{os.pathsep}/one{os.pathsep}/two")
    assert default_path() == Path("/one")
    monkeypatch.delenv("KUBECONFIG")
    assert default_path() == Path.home() / ".kube" / "config"


def test_an_address_of_ipv6_is_bracketed() -> None:
    assert server_url("fd00::1") == "https://[fd00::1]:6443"
    assert server_url("spark-1", 7443) == "https://spark-1:7443"
