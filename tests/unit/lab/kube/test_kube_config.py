from __future__ import annotations

from pathlib import Path

import pytest

from gb10.lab.kube import config
from gb10.lab.kube.errors import StartError


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of config.yaml, in an environment without K3s' variables."""
    monkeypatch.setenv("GB10_LAB_ROOT", str(tmp_path))
    for name in ("K3S_TOKEN", "K3S_TOKEN_FILE", "K3S_URL", "K3S_CONFIG_FILE"):
        monkeypatch.delenv(name, raising=False)
    etc = tmp_path / "etc/rancher/k3s"
    etc.mkdir(parents=True)
    return etc


def test_the_keys_of_the_file_are_the_long_flags(folder: Path) -> None:
    (folder / "config.yaml").write_text("docker: true\nwrite-kubeconfig-mode: '0644'\ndisable: [traefik, servicelb]\n")
    options = config.read("server", [])
    assert options.flag("docker")
    assert options.text("write-kubeconfig-mode") == "0644"
    assert options.many("disable") == ["traefik", "servicelb"]


def test_the_command_line_overrides_the_file_and_adds_to_lists(folder: Path) -> None:
    (folder / "config.yaml").write_text("node-name: file\ntls-san: [a]\n")
    options = config.read("server", ["--node-name=line", "--tls-san", "b,c"])
    assert options.text("node-name") == "line"
    assert options.many("tls-san") == ["a", "b", "c"]


def test_the_file_wins_over_the_environment(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("K3S_URL", "https://variable:6443")
    monkeypatch.setenv("K3S_TOKEN", "secret")
    (folder / "config.yaml").write_text("server: https://file:6443\n")
    options = config.read("agent", [])
    assert options.text("server") == "https://file:6443"
    assert options.secret("token") == "secret"


def test_a_token_file_is_read_without_its_newline(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("K10abc\n")
    assert config.read("agent", ["--token-file", str(tmp_path / "token")]).secret("token") == "K10abc"


def test_a_missing_token_file_is_named(folder: Path) -> None:
    with pytest.raises(StartError, match="open /none/token: no such file or directory"):
        config.read("agent", ["--token-file=/none/token"]).secret("token")


@pytest.mark.parametrize("role", ["server", "agent"])
def test_an_unknown_key_is_refused_like_an_unknown_flag(folder: Path, role: str) -> None:
    (folder / "config.yaml").write_text("dokcer: true\n")
    with pytest.raises(StartError, match="flag provided but not defined: -dokcer"):
        config.read(role, [])


def test_a_servers_flag_is_unknown_to_an_agent() -> None:
    with pytest.raises(StartError, match="not defined: -disable"):
        config.read("agent", ["--disable=traefik"])


def test_a_flag_without_its_value_is_refused() -> None:
    with pytest.raises(StartError, match="flag needs an argument: -token"):
        config.read("agent", ["--token"])


@pytest.mark.parametrize("content", ["a: b: c", "- just\n- a list\n"])
def test_a_broken_file_is_refused(folder: Path, content: str) -> None:
    (folder / "config.yaml").write_text(content)
    with pytest.raises(StartError, match="yaml"):
        config.read("server", [])


@pytest.mark.parametrize("flag", ["--cluster-init", "--server=https://another:6443"])
def test_unsupported_settings_are_refused_and_not_ignored(flag: str) -> None:
    with pytest.raises(StartError, match=f"does not imitate {flag.partition('=')[0]}"):
        config.read("server", [flag])
