"""K3s versions and flags: pure decisions about what an upgrade or an adoption may do."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping

from gb10.facts.reading.k3s import ForeignSettings
from gb10.group_data.settings import parse_version

# What the operations set themselves, whatever an earlier installation said.
OWN_FLAGS = {"write-kubeconfig-mode", "token", "token-file", "server", "node-name"}
OWN_VARIABLES = {"K3S_TOKEN", "K3S_URL", "K3S_KUBECONFIG_MODE"}  # likewise, in the unit's environment file


def step_refused(installed: str, wanted: str) -> tuple[str, str] | None:
    """Given two versions, return code and reason where one must not follow the other, else None.

    Kubernetes supports an upgrade by one minor version at a time, and no downgrade
    (kubernetes.io/releases/version-skew-policy).
    """
    old, new = parse_version(installed), parse_version(wanted)
    if new < old:
        return "VERSION_DOWNGRADE", f"{installed} is installed and {wanted} is older: Kubernetes cannot go back"
    if (new.major, new.minor) > (old.major, old.minor + 1):
        return "VERSION_SKIP", f"{installed} is installed: go to v{old.major}.{old.minor + 1} before {wanted}"
    return None


def differences(
    exec_start: str | None, settings: ForeignSettings, hostname: str, config: Mapping[str, object], variables: set[str]
) -> Iterator[str]:
    """
    Given a K3s that somebody else set up, yield in what it would be another one after ours, and what keeps it so.

    + exec_start: its unit's command line
    + settings: what else it reads
    + hostname: of its node
    + config: what config.yaml will hold
    + variables: names of what the unit's environment file will hold
    """
    theirs = [*_pairs(settings.config), *_flags(exec_start)]
    if lost := _lost(theirs, config):
        yield f"it was started with {lost}: k3s_config or a setting of its own keeps that"
    if unset := [name for name in settings.variables if name not in OWN_VARIABLES | variables]:
        yield f"its environment file sets {', '.join(unset)}: /etc/default/k3s (or k3s-agent) on the node keeps that"
    names = [value for flag, value in theirs if flag == "node-name"]
    name = (names or [hostname])[-1].lower()
    if name != config["node-name"]:
        yield f"its node is called {name}: node_name = {name!r} keeps that"
    if "docker" in config and ("docker", "true") not in theirs:
        yield "its pods run in containerd: k3s_runtime = 'containerd' keeps that"
    disabled = {part for flag, value in theirs if flag == "disable" for part in value.split(",")}
    wanted = config.get("disable", [])
    if isinstance(wanted, list) and (runs := [part for part in wanted if part not in disabled]):
        keeping = [part for part in wanted if part in disabled]
        yield f"it runs {', '.join(runs)}: k3s_disable = {keeping} keeps that"


def _lost(theirs: list[tuple[str, str]], config: Mapping[str, object]) -> str | None:
    return " ".join(f"--{flag}={value}" for flag, value in theirs if not _kept(flag, value, config)) or None


def _pairs(settings: Mapping[str, object]) -> list[tuple[str, str]]:
    """Given keys of config.yaml, return them as flags."""
    values = ((key, value if isinstance(value, list) else [value]) for key, value in settings.items())
    return [(key.removesuffix("+"), _text(each)) for key, many in values for each in many]


def _flags(exec_start: str | None) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for word in shlex.split(exec_start or "")[2:]:
        if word.startswith("--"):
            flag, has_value, value = word.removeprefix("--").partition("=")
            found.append((flag, value if has_value else "true"))
        elif found and found[-1][1] == "true":
            found[-1] = (found[-1][0], word)
        else:
            found.append(("", word))
    return found


def _kept(flag: str, value: str, config: Mapping[str, object]) -> bool:
    if flag in OWN_FLAGS:
        return True
    wanted = config.get(flag)
    texts = {_text(item) for item in (wanted if isinstance(wanted, list) else [wanted])}
    return all(part in texts for part in value.split(","))


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
