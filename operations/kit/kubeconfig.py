"""The kubeconfig of a head, taken apart: kubectl runs programs and sends credentials as a kubeconfig says."""

from __future__ import annotations

import base64
from collections.abc import Collection
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

import yaml

Kubeconfig = dict[str, Any]

LARGEST_CHARACTERS = 64 << 10
INDICATORS = "[{-?:"
MOST_INDICATORS = 200  # K3s writes 50; PyYAML takes quadratic time for nested ones
CLUSTER_KEYS = ("server", "certificate-authority-data")
USER_KEYS = ("client-certificate-data", "client-key-data")


def parsed(text: str) -> Kubeconfig:
    """Return the kubeconfig that K3s wrote. Raise ValueError for anything else."""
    if len(text) > LARGEST_CHARACTERS:
        raise ValueError(f"it is larger than {LARGEST_CHARACTERS >> 10} KiB")
    if sum(map(text.count, INDICATORS)) > MOST_INDICATORS:
        raise ValueError(f"it has more than {MOST_INDICATORS} of the characters {INDICATORS}")
    try:
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, yaml.SafeLoader)):
            raise ValueError("it has a YAML alias")
        content = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(f"it cannot be parsed: {type(error).__name__}") from error
    if not isinstance(content, dict):
        raise ValueError("it is no mapping")
    return content


def only_access(found: Kubeconfig, addresses: Collection[str] | None = None) -> Kubeconfig:
    """Return the only cluster and user of a head's kubeconfig: server, authority, client certificate and key.

    + addresses: of the head; K3s itself writes 127.0.0.1. None: the caller replaces the address

    Raise ValueError, which names the setting, if there is any other one, such as a program to run for a login.
    """
    cluster = _only(found, "clusters", "cluster", CLUSTER_KEYS)
    user = _only(found, "users", "user", USER_KEYS)
    for key in ("certificate-authority-data", *USER_KEYS):
        value = cluster.get(key) or user.get(key)
        if not isinstance(value, str) or not _is_base64(value):
            raise ValueError(f"its {key} is missing or no base64")
    _check_server(cluster.get("server"), addresses)
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "default", "cluster": cluster}],
        "contexts": [{"name": "default", "context": {"cluster": "default", "user": "default"}}],
        "users": [{"name": "default", "user": user}],
        "current-context": "default",
    }


def _only(found: Kubeconfig, section: str, key: str, allowed: Collection[str]) -> dict[str, Any]:
    entries = found.get(section)
    entry = entries[0] if isinstance(entries, list) and len(entries) == 1 else None
    values = entry.get(key) if isinstance(entry, dict) else None
    if not isinstance(values, dict):
        raise ValueError(f"it has no single entry in {section}")
    if others := sorted(str(name)[:80] for name in values if name not in allowed):
        raise ValueError(f"its {key} has {', '.join(others[:5])}, which is not taken from a node")
    return dict(values)


def _is_base64(text: str) -> bool:
    try:
        return bool(base64.b64decode(text, validate=True))
    except ValueError:
        return False


def _check_server(server: object, addresses: Collection[str] | None) -> None:
    try:
        url = urlsplit(str(server))
        name, port = url.hostname or "", url.port
    except ValueError as error:
        raise ValueError("its server is no URL") from error
    strange = url.username or url.password or url.path.strip("/") or url.query or url.fragment
    if url.scheme != "https" or strange or not port:
        raise ValueError("its server is not https://ADDRESS:PORT")
    if addresses is not None and name not in addresses and name != "localhost" and not _is_own(name):
        raise ValueError(f"its server is at {name[:80]!r}, which is not the head's address")


def _is_own(name: str) -> bool:
    """Return True for an address that means the machine itself."""
    try:
        address = ip_address(name)
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified
