"""The user's kubeconfig: merge a cluster into it without touching other clusters."""

from __future__ import annotations

import copy
import os
from pathlib import Path
from typing import Any

import yaml

from gb10.controller.errors import Gb10Error
from gb10.operations.kit.files import write_atomically
from gb10.operations.kit.kubeconfig import Kubeconfig, only_access


def default_path() -> Path:
    """Return the file that kubectl would write: the first one of $KUBECONFIG, or ~/.kube/config."""
    named = [path for path in os.environ.get("KUBECONFIG", "").split(os.pathsep) if path]
    return Path(named[0] if named else "~/.kube/config").expanduser()


def merged(
    existing: Kubeconfig, fetched: Kubeconfig, *, name: str, server: str, use: bool = False, path: str = ""
) -> Kubeconfig:
    """Return the user's kubeconfig with the cluster that K3s wrote, under the given name.

    An existing cluster of that name is replaced only if it is the same one: same server or same CA. Otherwise raise
    KUBECONFIG_CONFLICT. Raise KUBECONFIG_UNSAFE if it has more than an address, an authority and a client certificate.
    The current context stays, unless there is none or `use` is set.
    """
    try:
        access = only_access(fetched)
    except ValueError as error:
        raise Gb10Error("KUBECONFIG_UNSAFE", f"the kubeconfig of the head is refused: {error}") from error
    cluster = {**access["clusters"][0]["cluster"], "server": server}
    user = access["users"][0]["user"]
    result = copy.deepcopy(existing)
    _refuse_conflict(existing, cluster, name, path)
    _put(result, "clusters", name, "cluster", cluster)
    _put(result, "users", name, "user", user)
    _put(
        result,
        "contexts",
        name,
        "context",
        {**(_entry(existing, "contexts", name) or {}), "cluster": name, "user": name},
    )
    result.setdefault("apiVersion", "v1")
    result.setdefault("kind", "Config")
    if use or not result.get("current-context"):
        result["current-context"] = name
    return result


def read(path: Path) -> Kubeconfig:
    """Read a kubeconfig; empty if there is no file. Raise SETTINGS_INVALID for anything else."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise _not_one(path, str(error)) from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise _not_one(path, "it is no mapping")
    for section in ("clusters", "users", "contexts"):
        entries = content.get(section) or []
        if not isinstance(entries, list) or not all(isinstance(e, dict) and "name" in e for e in entries):
            raise _not_one(path, f"{section} is no list of named entries")
    return content


def write(path: Path, content: Kubeconfig) -> None:
    """Replace a kubeconfig atomically. Other users cannot read it at any time."""
    write_atomically(path, yaml.safe_dump(content, sort_keys=False), mode=0o600)


def _refuse_conflict(existing: Kubeconfig, cluster: dict[str, Any], name: str, path: str) -> None:
    theirs = _entry(existing, "clusters", name)
    context = _entry(existing, "contexts", name)
    same = theirs is not None and (
        theirs.get("server") == cluster["server"] or (_ca(theirs) is not None and _ca(theirs) == _ca(cluster))
    )
    clash = (
        (theirs is not None and not same)
        or (theirs is None and _entry(existing, "users", name) is not None)
        or (context is not None and (context.get("cluster"), context.get("user")) != (name, name))
    )
    if clash:
        raise Gb10Error("KUBECONFIG_CONFLICT", path=path, wanted=name)


def _ca(cluster: dict[str, Any]) -> Any:
    return cluster.get("certificate-authority-data")


def _entry(config: Kubeconfig, section: str, name: str) -> dict[str, Any] | None:
    found = next((entry for entry in config.get(section) or [] if entry["name"] == name), None)
    return None if found is None else found.get(section.removesuffix("s")) or {}


def _put(config: Kubeconfig, section: str, name: str, key: str, value: dict[str, Any]) -> None:
    """Replace the entry of that name in place, or append it."""
    entries = list(config.get(section) or [])
    new = {"name": name, key: value}
    at = next((index for index, entry in enumerate(entries) if entry["name"] == name), None)
    if at is None:
        entries.append(new)
    else:
        entries[at] = {**entries[at], **new}
    config[section] = entries


def _not_one(path: Path, reason: str) -> Gb10Error:
    return Gb10Error("SETTINGS_INVALID", f"{path} is not a kubeconfig: {' '.join(reason.split())}", path=str(path))
