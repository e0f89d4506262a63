"""Settings from /etc/rancher/k3s/config.yaml, the command line and the environment, merged as by K3s.

The file's keys are the long flags. They come before the command line, so that its flags win, or are added to a list.
Unknown keys stop the start in the same words as unknown flags (newer K3s servers only warn).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gb10.lab.kube import paths
from gb10.lab.kube.errors import StartError

_COMMON_TEXT = """config data-dir flannel-conf flannel-cni-conf flannel-iface kubelet-arg lb-server-port log
    node-external-ip node-id node-internal-dns node-ip node-label node-name node-taint pause-image private-registry
    resolv-conf snapshotter system-default-registry token token-file v vmodule
    container-runtime-endpoint image-service-endpoint kube-proxy-arg node-external-dns server"""
_COMMON_BOOL = """alsologtostderr debug disable-default-registry-endpoint docker enable-pprof nonroot-devices
    prefer-bundled-bin protect-kernel-defaults rootless selinux with-node-id"""
_SERVER_TEXT = """advertise-address advertise-port agent-token agent-token-file bind-address cluster-cidr cluster-dns
    cluster-domain datastore-endpoint default-local-storage-path disable egress-selector-mode flannel-backend
    https-listen-port kube-apiserver-arg kube-cloud-controller-manager-arg kube-controller-manager-arg
    kube-scheduler-arg service-cidr service-node-port-range servicelb-namespace tls-san write-kubeconfig
    write-kubeconfig-group write-kubeconfig-mode"""
_SERVER_BOOL = """cluster-init cluster-reset disable-apiserver disable-cloud-controller disable-controller-manager
    disable-helm-controller disable-kube-proxy disable-network-policy disable-scheduler embedded-registry
    flannel-external-ip flannel-ipv6-masq secrets-encryption tls-san-security"""

_SHORT = {"c": "config", "d": "data-dir", "o": "write-kubeconfig", "s": "server", "t": "token"}
_ENVIRONMENT = {
    "K3S_AGENT_TOKEN": "agent-token",
    "K3S_AGENT_TOKEN_FILE": "agent-token-file",
    "K3S_DATA_DIR": "data-dir",
    "K3S_KUBECONFIG_MODE": "write-kubeconfig-mode",
    "K3S_KUBECONFIG_OUTPUT": "write-kubeconfig",
    "K3S_NODE_NAME": "node-name",
    "K3S_TOKEN": "token",
    "K3S_TOKEN_FILE": "token-file",
    "K3S_URL": "server",
}
# Flags of K3s that the stand-in does not support. It refuses them rather than behave differently.
_NOT_IMITATED = ("cluster-init", "cluster-reset", "datastore-endpoint", "embedded-registry", "rootless")


def _flags(role: str) -> tuple[set[str], set[str]]:
    takes_value, is_switch = set(_COMMON_TEXT.split()), set(_COMMON_BOOL.split())
    if role == "server":
        takes_value |= set(_SERVER_TEXT.split())
        is_switch |= set(_SERVER_BOOL.split())
    return takes_value, is_switch


class Options:
    """The settings of one role. Each is a list of texts; for a single value the last one wins."""

    def __init__(self, values: dict[str, list[str]]) -> None:
        self._values = values

    def text(self, name: str) -> str | None:
        """Return the last non-empty value."""
        return next((value for value in reversed(self._values.get(name, [])) if value), None)

    def flag(self, name: str) -> bool:
        return (self.text(name) or "false").lower() in ("true", "1", "t")

    def many(self, name: str) -> list[str]:
        """Return all values, split at commas."""
        return [part.strip() for value in self._values.get(name, []) for part in value.split(",") if part.strip()]

    def number(self, name: str, default: int) -> int:
        """Return the value as a number. Raise StartError if it is not a number."""
        text = self.text(name)
        if text is None:
            return default
        if not text.isdigit():
            raise StartError(f'invalid value "{text}" for flag -{name}: parse error')
        return int(text)

    def secret(self, name: str) -> str | None:
        """Return a token from its flag or from the file in `<name>-file`. Raise StartError if it is unreadable."""
        given = self.text(name)
        file = self.text(f"{name}-file")
        if given or not file:
            return given
        try:
            return paths.rooted(file).read_text().strip() or None
        except OSError as error:
            raise StartError(f"open {file}: {(error.strerror or str(error)).lower()}") from error


def read(role: str, arguments: list[str]) -> Options:
    """Return the merged settings for the role "server" or "agent" and the command line after it.

    Raise StartError for unknown flags, missing values, a broken file and unsupported flags.
    """
    values: dict[str, list[str]] = {}
    for variable, name in _ENVIRONMENT.items():
        if os.environ.get(variable) and name in set().union(*_flags(role)):
            values[name] = [os.environ[variable]]
    from_line: dict[str, list[str]] = {}
    for name, value in _parse(role, arguments):
        from_line.setdefault(name, []).append(value)
    for name, value in _parse(role, _file_arguments(from_line.get("config"))):
        values.setdefault(name, []).append(value)
    for name, given in from_line.items():
        values.setdefault(name, []).extend(given)
    options = Options(values)
    for name in _NOT_IMITATED + (("server",) if role == "server" else ()):
        if options.text(name) not in (None, "false"):
            raise StartError(f"the lab's stand-in for K3s does not imitate --{name}")
    return options


def _parse(role: str, arguments: list[str]) -> Iterator[tuple[str, str]]:
    takes_value, is_switch = _flags(role)
    rest = iter(arguments)
    for argument in rest:
        dashed, equals, value = argument.partition("=")
        name = _SHORT.get(dashed.lstrip("-"), dashed.lstrip("-"))
        if not argument.startswith("-"):
            raise StartError(f"invalid arguments: {argument}")
        if name in is_switch:
            yield name, value if equals else "true"
        elif name not in takes_value:
            raise StartError(f"flag provided but not defined: -{name}")
        elif equals:
            yield name, value
        else:
            following = next(rest, None)
            if following is None:
                raise StartError(f"flag needs an argument: -{name}")
            yield name, following


def _file_arguments(given: list[str] | None) -> list[str]:
    """Return the settings file as flags. Only a file named by the user must exist."""
    wanted = given[-1] if given else os.environ.get("K3S_CONFIG_FILE")
    path = Path(wanted) if wanted else paths.rooted(paths.CONFIG)
    if not wanted and not path.exists():
        return []
    content = read_yaml(path)
    arguments = []
    for key, value in content.items():
        for each in value if isinstance(value, list) else [value]:
            arguments.append(f"--{str(key).rstrip('+')}={_text(each)}")
    return arguments


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else str(value)


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the mapping in a YAML file, empty for an empty file. Raise StartError if it is not a mapping."""
    import yaml  # noqa: PLC0415 - slow to load, and not every command needs it

    try:
        content = yaml.safe_load(path.read_text())
    except OSError as error:
        raise StartError(f"open {path}: {(error.strerror or str(error)).lower()}") from error
    except yaml.YAMLError as error:
        raise StartError(f"{path}: yaml: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict | None):
        raise StartError(f"{path}: yaml: cannot unmarshal into a mapping")
    return content or {}
