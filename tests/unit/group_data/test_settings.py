"""The settings: declared once with a default and once with a type, and read in one way."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest
from pyinfra.connectors.ssh import ConnectorData

from gb10.group_data import all as defaults
from gb10.group_data import settings as declared
from gb10.group_data.settings import (
    PYINFRA_SSH,
    SETTINGS,
    TOPICS,
    BackupSettings,
    HostSettings,
    K3sSettings,
    NodeSettings,
    RailsSettings,
    ServingSettings,
    Settings,
    SettingsError,
    SshSettings,
    Topic,
)

ROOT = Path(declared.__file__).parents[1]
ROOMS = ("cli", "controller", "deploys", "facts", "operations", "programs", "templates")
DEFAULTS = {name for name in vars(defaults) if not name.startswith("_")}
# What only an inventory can say.
OF_HOSTS = {
    f"{topic.prefix}{field}" for topic in (SshSettings, HostSettings, RailsSettings) for field in topic.model_fields
}


def why(topic: type[Topic], **said: Any) -> str:
    """Why settings cannot be."""
    with pytest.raises(SettingsError) as raised:
        Settings(said).read(topic)
    return str(raised.value)


# Declared once --------------------------------------------------------------------------------------------------------


def test_defaults_and_types_have_the_same_settings() -> None:
    assert set(SETTINGS) - OF_HOSTS == DEFAULTS


def test_no_setting_is_in_two_topics() -> None:
    assert len(SETTINGS) == sum(len(topic.model_fields) for topic in TOPICS)


@pytest.mark.parametrize("topic", TOPICS)
def test_defaults_are_valid(topic: type[Topic]) -> None:
    assert Settings({}).read(topic)


def test_every_setting_of_pyinfras_ssh_is_known() -> None:
    ssh = {f"ssh_{field}" for field in SshSettings.model_fields}
    assert {*PYINFRA_SSH, *ssh} == set(ConnectorData.__annotations__)


def sources() -> list[Path]:
    return [path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))]


def is_data(node: ast.expr) -> bool:
    """Return True for the data of a host: `host.data`, `peer.data`."""
    return isinstance(node, ast.Attribute) and node.attr == "data"


def names_in(tree: ast.AST) -> set[str]:
    """The names by which a module looks into the data of a host, or asks any module for a value."""
    looked_up: list[ast.expr] = []
    attributes = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Subscript) and is_data(node.value):
            looked_up.append(node.slice)
        elif isinstance(node, ast.Attribute) and is_data(node.value):
            attributes.add(node.attr)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and is_data(node.func.value):
            looked_up += node.args[:1]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "getattr":
            looked_up += node.args[1:2]
    return attributes | {one.value for one in looked_up if isinstance(one, ast.Constant) and isinstance(one.value, str)}


def test_a_look_into_the_data_of_a_host_is_noticed() -> None:
    for text in ("host.data.get('k3s_version')", "peer.data['k3s_version']", "x.host.data.k3s_version"):
        assert "k3s_version" in names_in(ast.parse(text)), text
    assert names_in(ast.parse("document['k3s_version']")) == set()


def imports_of(tree: ast.AST) -> set[str]:
    """The names that a module imports from others."""
    found = (node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom))
    return {f"{node.module}.{name.name}" for node in found for name in node.names}


def test_no_other_module_declares_or_looks_up_a_setting() -> None:
    for path in sources():
        tree = ast.parse(path.read_text())
        assert "gb10.group_data.all" not in imports_of(tree), path
        assert names_in(tree) & SETTINGS.keys() == set(), path


# Read -----------------------------------------------------------------------------------------------------------------


def test_the_inventory_beats_the_default() -> None:
    assert Settings({"k3s_runtime": "containerd"}).read(K3sSettings).runtime == "containerd"
    assert Settings({}).read(K3sSettings).runtime == "docker"


def test_an_argument_beats_the_inventory() -> None:
    said = Settings({"k3s_runtime": "containerd"})
    assert said.read(K3sSettings, runtime="docker").runtime == "docker"
    assert said.read(K3sSettings, runtime=None).runtime == "containerd"


def test_none_switches_off_what_can_be_switched_off() -> None:
    off = Settings({"backup_keep_count": None, "backup_fresh_hours": None}).read(BackupSettings)
    assert (off.keep_count, off.fresh_hours, off.keep_days) == (None, None, 90)


def test_none_is_the_default_of_what_cannot_be_none() -> None:
    assert Settings({"node_docker": None, "rails": None}).read(NodeSettings).docker is True


def test_an_error_names_the_setting_and_not_its_value() -> None:
    assert (
        why(K3sSettings, k3s_version="canary") == "k3s_version: 'canary' is no K3s version: they look like v1.36.4+k3s1"
    )
    assert why(NodeSettings, node_rails_mtu="canary").startswith("node_rails_mtu: ")
    assert "canary" not in why(NodeSettings, node_rails_mtu="canary")


def test_an_unknown_setting_is_refused_with_the_nearest() -> None:
    with pytest.raises(SettingsError, match=r"^k3s_versoin is no setting: did you mean k3s_version\?$"):
        Settings({"k3s_versoin": "v1.36.4+k3s1"})


def test_an_unknown_key_of_a_mode_is_refused_with_the_nearest() -> None:
    modes = {"solo": {"models": ["acme/small"], "argument": ["--x"]}}
    wrong = "serving_modes.solo.argument: there is no such key: did you mean arguments?"
    assert why(ServingSettings, serving_modes=modes) == wrong
