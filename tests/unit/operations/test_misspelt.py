"""Misspelt settings are found wherever an inventory says them; other people's data are left alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pyinfra.api import Inventory

from gb10.group_data.settings import PYINFRA_SSH, SETTINGS
from gb10.operations.kit.inventory import is_misspelt, misspelt


def inventory(host: dict[str, Any] | None = None, group: dict[str, Any] | None = None, **everywhere: Any) -> Inventory:
    return Inventory(([("spark-1", host or {}), "spark-2"], everywhere), head=(["spark-1"], group or {}))


@pytest.mark.parametrize("name", [*SETTINGS, *PYINFRA_SSH])
def test_no_setting_is_misspelt(name: str) -> None:
    assert not is_misspelt(name)


FOREIGN = """my_role foo _sudo _sudoo docker_user tailscale_ip my_images datacenter gb10_helm image model rail image_tag
models_dir node_exporter_port node_labels node_role node_names node_host node_users ssh_keys ssh_public_key k3s_token
k3s_config_file k3s_no_such_thing helm_repo backup_dir backup_path http_port validate_certs"""


@pytest.mark.parametrize("name", FOREIGN.split())
def test_other_peoples_data_are_left_alone(name: str) -> None:
    assert not is_misspelt(name)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("k3s_versoin", "k3s_version"),
        ("ssh_hostnme", "ssh_hostname"),
        ("ssh_usr", "ssh_user"),
        ("ssh_pasword", "ssh_password"),
        ("backup_identity", "backup_identity_file"),
        ("nodes_user_keys", "node_user_keys"),
        ("node_user_key", "node_user_keys"),
        ("models_form", "models_from"),
        ("imges", "images"),
        ("htp_proxy", "http_proxy"),
        ("serving_modus", "serving_modes"),
    ],
)
def test_a_misspelt_setting_is_named_with_the_nearest(name: str, meant: str) -> None:
    (line,) = misspelt(inventory({name: 1}), [])
    assert line.startswith(f"spark-1: {name} is no setting")
    assert line.endswith(f"did you mean {meant}?")


def test_hosts_groups_and_everywhere_are_named() -> None:
    assert misspelt(inventory({"imges": 1}, {"imges": 2}, imges=3), [])[0].startswith(
        "all, group head, spark-1: imges is"
    )


def test_file_and_line_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("inventory.py").write_text('head = [("spark-1", {\n    "ssh_usr": "x",\n})]\n')
    Path("group_data").mkdir()
    Path("group_data/head.py").write_text('"""Ours."""\n\nk3s_versoin: str = "v"\n')
    said = misspelt(inventory({"ssh_usr": "x"}, {"k3s_versoin": "v"}), ["inventory.py"])
    assert said[0].endswith("did you mean k3s_version? (group_data/head.py, line 3)")
    assert said[1].endswith("did you mean ssh_user? (inventory.py, line 2)")
