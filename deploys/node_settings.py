"""What an inventory says about provisioning a node, over the defaults of gb10.group_data.all, checked."""

from __future__ import annotations

import base64
import binascii
from ipaddress import ip_interface
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator
from pyinfra.api import Host

from gb10.deploys.settings import checked, value

UserName = Annotated[str, StringConstraints(pattern=r"^[a-z_][a-z0-9_.-]{0,31}$")]
AbsolutePath = Annotated[str, StringConstraints(pattern=r"^(/[A-Za-z0-9_.+-]+)+$")]
FolderName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_+-][A-Za-z0-9_.+-]*$")]
Mode = Annotated[str, StringConstraints(pattern="^[0-7]{3,4}$")]
InterfaceName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,15}$")]

DEFAULT_PREFIX = 24


class NodeSettings(BaseModel):
    """How a node is to be provisioned: the keys of group_data/all.py, without their prefix. Booleans switch parts."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    user: bool
    user_name: UserName | None
    user_keys: list[str]
    sudo: bool
    sshd: bool
    hostname: bool
    hosts: bool
    data: bool
    data_path: AbsolutePath
    data_folders: dict[FolderName, Mode]
    huggingface: bool
    huggingface_home: AbsolutePath
    docker: bool
    docker_config: dict[str, Any]
    rails: bool
    rails_mtu: int = Field(ge=1280, le=9978)
    performance: bool
    firewall: bool
    firewall_allow: list[str]
    serving_containers: list[str]
    restart_while_serving: bool
    confirm_seconds: int = Field(ge=10, le=600)

    @field_validator("user_keys")
    @classmethod
    def _are_public_keys(cls, keys: list[str]) -> list[str]:
        return [public_key(key) for key in keys]


class RailSettings(BaseModel):
    """One entry of a host's `rails`."""

    model_config = ConfigDict(extra="ignore", frozen=True)  # other parts may know more about a rail

    interface: InterfaceName
    address: str

    @field_validator("address")
    @classmethod
    def _has_prefix(cls, address: str) -> str:
        return str(ip_interface(address if "/" in address else f"{address}/{DEFAULT_PREFIX}"))


class Rails(BaseModel):
    """A host's rails: name -> half of a port."""

    rails: dict[str, RailSettings]

    @field_validator("rails")
    @classmethod
    def _are_apart(cls, rails: dict[str, RailSettings]) -> dict[str, RailSettings]:
        if len({rail.interface for rail in rails.values()}) < len(rails):
            raise ValueError("two rails have the same interface")
        networks = [ip_interface(rail.address).network for rail in rails.values()]
        if any(a.overlaps(b) for number, a in enumerate(networks) for b in networks[number + 1 :]):
            raise ValueError("two rails are in one subnet; each half of a port needs a subnet of its own")
        return rails


def public_key(text: str) -> str:
    """Given a public key, or the path of one on the controller, return its line. Raise ValueError for anything else.

    What is no public key is never quoted: it may be a private one.
    """
    line = text.strip()
    if line.startswith(("/", "~", ".")):
        path = Path(line).expanduser()
        if not path.is_file():
            raise ValueError(f"there is no file {path} on this controller")
        line = path.read_text().strip()
    if "\n" in line or not _is_public_key(line):
        raise ValueError("is no public key: give the text or the path of a .pub file")
    return line


def _is_public_key(line: str) -> bool:
    """Tell whether a line is a type, and a base64 text that names the same type."""
    words = line.split()
    if len(words) < 2:
        return False
    try:
        blob = base64.b64decode(words[1], validate=True)
    except (binascii.Error, ValueError):
        return False
    return blob[4 : 4 + int.from_bytes(blob[:4], "big")] == words[0].encode()


def node_settings(**overrides: Any) -> NodeSettings:
    """Given a deploy's own arguments, return this host's settings. Raise DeployError for what cannot be."""
    values = {name: value(f"node_{name}") for name in NodeSettings.model_fields}
    given = {name: found for name, found in overrides.items() if found is not None}
    return checked(NodeSettings, {**values, **given})


def rails_of(node: Host) -> dict[str, RailSettings]:
    """Return a host's rails, none where the inventory names none. Raise DeployError for what cannot be."""
    return checked(Rails, {"rails": node.data.get("rails") or {}}).rails
