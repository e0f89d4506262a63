"""A head whose root is lost sends a kubeconfig that would run programs, or send credentials elsewhere."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import pytest
import yaml

from gb10.controller.cluster.kubeconfig import merged
from gb10.controller.errors import Gb10Error
from gb10.facts.k3s import Secret
from gb10.operations import k3s
from gb10.operations.kit.kubeconfig import parsed

ADDRESS = "198.18.0.11"


def kubeconfig(cluster: dict[str, Any] | None = None, user: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return what K3s writes, with more settings of the cluster and the user."""
    ours = {"server": "https://127.0.0.1:6443", "certificate-authority-data": "Q0E=", **(cluster or {})}
    access = {"client-certificate-data": "Y2VydA==", "client-key-data": "a2V5", **(user or {})}
    return {
        "clusters": [{"name": "default", "cluster": ours}],
        "contexts": [{"name": "default", "context": {"cluster": "default", "user": "default"}}],
        "users": [{"name": "default", "user": access}],
    }


HOSTILE = {
    "exec": kubeconfig(user={"exec": {"command": "/bin/sh", "args": ["-c", "touch /tmp/owned"]}}),
    "auth-provider": kubeconfig(user={"auth-provider": {"name": "gcp", "config": {"cmd-path": "/bin/sh"}}}),
    "tokenFile": kubeconfig(user={"tokenFile": "/root/.ssh/id_ed25519"}),
    "token": kubeconfig(user={"token": "x"}),
    "client-key": kubeconfig(user={"client-key": "/root/.ssh/id_ed25519"}),
    "client-certificate": kubeconfig(user={"client-certificate": "/etc/shadow"}),
    "proxy-url": kubeconfig(cluster={"proxy-url": "http://attacker:8080"}),
    "certificate-authority": kubeconfig(cluster={"certificate-authority": "/etc/shadow"}),
    "insecure-skip-tls-verify": kubeconfig(cluster={"insecure-skip-tls-verify": True}),
    "tls-server-name": kubeconfig(cluster={"tls-server-name": "attacker"}),
}


@pytest.mark.parametrize("setting", HOSTILE)
def test_a_setting_that_k3s_never_writes_is_refused_by_name(setting: str) -> None:
    before: dict[str, Any] = {}
    with pytest.raises(Gb10Error) as raised:
        merged(before, HOSTILE[setting], name="spark-1", server=f"https://{ADDRESS}:6443")
    assert raised.value.code == "KUBECONFIG_UNSAFE"
    assert setting in raised.value.summary
    assert before == {}


@pytest.mark.parametrize(
    "server",
    [
        "http://127.0.0.1:6443",
        "https://attacker:6443",
        "https://203.0.113.9:6443",
        "https://user:pass@198.18.0.11:6443",
        "https://198.18.0.11:6443/proxy",
        "https://198.18.0.11:99999999",
        "https://198.18.0.11",
        ["https://198.18.0.11:6443"],
    ],
)
def test_a_server_that_is_not_the_head_is_refused(server: object, tmp_path: Path, head: Head) -> None:
    written = head.write(yaml.safe_dump(kubeconfig(cluster={"server": server})), tmp_path / "config")
    assert not written
    assert head.refusals[0].startswith("KUBECONFIG_UNSAFE")
    assert not (tmp_path / "config").exists()


@pytest.mark.parametrize(
    "text",
    [
        "[" * 50_000,
        "- " * 30_000,
        "a: &a [x]\nb: *a",
        "x" * (1 << 20),
        "clusters: 7",
        "[1, 2]",
        "a: " + "9" * 5000,
        "a: 2026-99-99",
        "!!python/object/apply:os.system [id]",
    ],
    ids=lambda text: repr(text[:8]),
)
def test_yaml_that_would_break_the_controller_is_refused(text: str, tmp_path: Path, head: Head) -> None:
    assert not head.write(text, tmp_path / "config")
    assert head.refusals[0].startswith("KUBECONFIG_UNSAFE")
    assert "\n" not in head.refusals[0]
    assert not (tmp_path / "config").exists()


@pytest.mark.parametrize("setting", HOSTILE)
def test_the_file_of_the_deploy_is_refused_as_well(setting: str, tmp_path: Path, head: Head) -> None:
    assert not head.write(yaml.safe_dump(HOSTILE[setting]), tmp_path / "config")
    assert setting in head.refusals[0]
    assert not (tmp_path / "config").exists()


@pytest.mark.parametrize("server", ["https://127.0.0.1:6443", f"https://{ADDRESS}:7443", "https://[::1]:6443"])
def test_what_k3s_writes_is_taken(server: str, tmp_path: Path, head: Head) -> None:
    path = tmp_path / "config"
    assert head.write(yaml.safe_dump(kubeconfig(cluster={"server": server})), path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert parsed(path.read_text())["clusters"] == kubeconfig(cluster={"server": server})["clusters"]


class Head:
    """A head that answers with a kubeconfig of ours."""

    name = "spark-1"

    def __init__(self) -> None:
        self.text = ""
        self.refusals: list[str] = []

    def get_fact(self, fact: object) -> Secret:
        return Secret(self.text)

    def write(self, text: str, path: Path) -> bool:
        self.text = text
        return k3s._write(None, self, str(path))  # type: ignore[arg-type] # a head of the test


@pytest.fixture
def head(monkeypatch: pytest.MonkeyPatch) -> Head:
    found = Head()
    monkeypatch.setattr(k3s, "ssh_address", lambda host: ADDRESS)
    monkeypatch.setattr(k3s, "node_ip", lambda host: ADDRESS)
    monkeypatch.setattr(k3s, "say", lambda host, code, text: found.refusals.append(f"{code}: {text}"))
    return found
