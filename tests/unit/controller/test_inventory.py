"""Inventories, as pyinfra itself understands them."""

from __future__ import annotations

from pathlib import Path

import pytest

from gb10.controller.errors import Gb10Error
from gb10.controller.inventory import Inventory, InventoryHost, load_inventory
from gb10.group_data.settings import BackupSettings
from tests.unit.controller.hosts import inventory_host

TWO = """
print("an inventory may print")
head = [("Spark-1", {"ssh_hostname": "198.18.0.11", "ssh_user": "nvidia", "ssh_key": "/keys/id", "ssh_port": 2222})]
workers = [("spark-2", {"ssh_hostname": "198.18.0.12", "node_name": "second"}), "spark-3"]
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def broken(source: str) -> str:
    with pytest.raises(Gb10Error) as raised:
        load_inventory(source)
    assert raised.value.code == "INVENTORY_BROKEN"
    return raised.value.summary


def test_hosts_come_with_their_groups_and_data(folder: Path) -> None:
    (folder / "inventory.py").write_text(TWO)
    inventory = load_inventory("inventory.py")
    first, second, third = inventory.hosts
    assert inventory.head is first
    assert inventory.group("workers") == (second, third)
    assert (first.endpoint, first.login.user, first.node_name) == ("198.18.0.11:2222", "nvidia", "spark-1")
    assert (second.endpoint, second.node_name) == ("198.18.0.12:22", "second")
    assert third.address == "spark-3"


def test_group_data_beside_the_inventory_counts(folder: Path) -> None:
    (folder / "inventory.py").write_text(TWO)
    (folder / "group_data").mkdir()
    (folder / "group_data" / "all.py").write_text('k3s_version = "v1.35.1+k3s1"\n')
    assert {one.wanted_k3s for one in load_inventory("inventory.py").hosts} == {"v1.35.1+k3s1"}


def test_what_else_pyinfra_takes_for_an_inventory_is_taken(folder: Path) -> None:
    assert load_inventory("one,two").names == ("one", "two")


def refused(source: str) -> str:
    """Why an inventory's settings are refused."""
    with pytest.raises(Gb10Error) as raised:
        load_inventory(source)
    assert raised.value.code == "SETTINGS_INVALID"
    return raised.value.summary


def test_settings_are_typed_and_a_default_is_read_as_one(folder: Path) -> None:
    (folder / "inventory.py").write_text(
        'head = [("a", {"backup_identity_file": "/k", "ssh_password": "canary"}), "b"]\n'
    )
    one, other = load_inventory("inventory.py").hosts
    assert one.settings(BackupSettings).identity_file == "/k"
    assert other.settings(BackupSettings).identity_file is None
    assert other.settings(BackupSettings).keep_count == 10
    assert "canary" not in repr(one)


def test_a_misspelt_setting_is_refused_with_its_line_and_the_nearest(folder: Path) -> None:
    (folder / "inventory.py").write_text('head = [\n    ("a", {"my_role": 1, "ssh_hostnme": "x"}),\n]\n')
    (folder / "group_data").mkdir()
    (folder / "group_data" / "head.py").write_text('backup_identity = "/k"\n')
    assert refused("inventory.py").split("; ") == [
        "group head: backup_identity is no setting: did you mean backup_identity_file? (group_data/head.py, line 1)",
        "a: ssh_hostnme is no setting: did you mean ssh_hostname? (inventory.py, line 2)",
    ]


def test_a_setting_that_cannot_be_names_the_host() -> None:
    with pytest.raises(Gb10Error, match=r"SETTINGS_INVALID: a: ssh_port: ") as raised:
        _ = inventory_host("a", ssh_port="canary").login
    assert "canary" not in str(raised.value)


def test_a_missing_inventory_is_missing(folder: Path) -> None:
    with pytest.raises(Gb10Error) as raised:
        load_inventory("nowhere.py")
    assert raised.value.code == "INVENTORY_MISSING"


def test_a_syntax_error_names_its_line(folder: Path) -> None:
    (folder / "inventory.py").write_text("\nhosts = [\n")
    assert "SyntaxError: '[' was never closed (inventory.py, line 2)" in broken("inventory.py")


def test_an_exception_names_its_line(folder: Path) -> None:
    (folder / "inventory.py").write_text("head = ['a']\n\nimport absent_module\n")
    assert "No module named 'absent_module' (inventory.py, line 3)" in broken("inventory.py")


def test_an_inventory_that_ends_the_process_is_broken(folder: Path) -> None:
    (folder / "inventory.py").write_text("import os\nos._exit(3)\n")
    assert broken("inventory.py")


def test_an_inventory_without_hosts_is_broken(folder: Path) -> None:
    (folder / "inventory.py").write_text("x = 1\n")
    assert "names no host" in broken("inventory.py")


def test_a_cluster_has_one_head() -> None:
    with pytest.raises(Gb10Error) as raised:
        _ = Inventory("inventory.py", (InventoryHost("a", ("workers",)),)).head
    assert "group head has 0 hosts" in raised.value.summary


def test_limits_are_groups_or_names_or_patterns() -> None:
    hosts = (
        InventoryHost("spark-1", ("head",)),
        InventoryHost("spark-2", ("workers",)),
        InventoryHost("x", ("workers",)),
    )
    inventory = Inventory("inventory.py", hosts)
    assert [host.name for host in inventory.select(["workers"])] == ["spark-2", "x"]
    assert [host.name for host in inventory.select(["x", "spark-1"])] == ["spark-1", "x"]
    assert [host.name for host in inventory.select(["spark-*"])] == ["spark-1", "spark-2"]
    assert inventory.select([]) == hosts


def test_the_ssh_command_can_be_typed() -> None:
    one = inventory_host("spark-1", ssh_hostname="198.18.0.11", ssh_port=2222, ssh_user="nvidia", ssh_key="/my keys/id")
    assert one.ssh == "ssh -p 2222 -i '/my keys/id' nvidia@198.18.0.11"
    assert inventory_host("spark-1").ssh == "ssh spark-1"
