"""Checks before anything is changed: a node on which the rest cannot work is refused."""

from __future__ import annotations

import shlex
import time
from collections.abc import Collection, Iterator, Mapping

from pyinfra.context import host

from gb10.facts.docker import DockerEngine
from gb10.facts.identity import NodeIdentity
from gb10.facts.k3s import ForeignK3s, K3sInstall
from gb10.facts.network import Listener, TcpListeners
from gb10.facts.reading.k3s import UNITS, ForeignSettings, K3sInstallation
from gb10.facts.reading.node import Identity
from gb10.facts.reading.reports import Refused
from gb10.group_data.settings import API_PORT, parse_version
from gb10.operations.kit.operation import Commands, known, operation, refuse

# What the operations set themselves, whatever an earlier installation said.
OWN_FLAGS = {"write-kubeconfig-mode", "token", "token-file", "server", "node-name"}
OWN_VARIABLES = {"K3S_TOKEN", "K3S_URL", "K3S_KUBECONFIG_MODE"}  # likewise, in the unit's environment file
MOST_SKEW_SECONDS = 300  # beyond it certificates look expired, or not yet valid


@operation()
def preflight(
    role: str | None, version: str, runtime: str, config: Mapping[str, object], variables: Collection[str]
) -> Commands:
    """
    Refuse a node on which the rest cannot work.

    + role: "server" or "agent"; None for a host that is no node of the cluster, and stays as it is
    + version: the wanted K3s version
    + config, variables: see `differences`

    All hosts share it: nothing changes on any host before all have passed.
    """
    if role is None:
        host.noop(f"{host.name} is no node of the cluster")
        return
    identity, install = known(NodeIdentity), known(K3sInstall)
    refusals = [*machine_refusals(identity, time.time()), *_name_refusals(identity)]
    if install:
        refusals += install_refusals(install, role, version)
        if install.foreign and install.role == role:
            settings = known(ForeignK3s, role=role)
            found = list(differences(install.exec_start, settings, identity.hostname, config, set(variables)))
            refusals += [Refused("ADOPT_FLAGS", "; ".join(found))] if found else []
    if runtime == "docker" and known(DockerEngine) is None:
        refusals.append(Refused("DOCKER_ABSENT", "no Docker engine answers"))
    if role == "server" and not (install and install.is_active):
        refusals += port_refusals(known(TcpListeners))
    for refusal in refusals:
        yield from refuse(refusal.code, f"{host.name}: {refusal.text}")


def machine_refusals(identity: Identity, now: float) -> Iterator[Refused]:
    """Yield the reasons to refuse a machine; `now` is the controller's clock."""
    if identity.architecture not in ("arm64", "amd64"):
        yield Refused("ARCH_UNSUPPORTED", f"its architecture is {identity.architecture}; K3s is for arm64 and amd64")
    skew = identity.clock - now
    if abs(skew) > MOST_SKEW_SECONDS:
        yield Refused("CLOCK_SKEW", f"its clock is {skew:+.0f} s from the controller's: certificates would fail")


def install_refusals(install: K3sInstallation, role: str, version: str) -> Iterator[Refused]:
    """Yield the reasons not to go from the installed K3s to the wanted one."""
    if install.role not in (None, role):
        yield Refused("ROLE_CONFLICT", f"it is a K3s {install.role} and is to be a {role}")
    if install.version and (step := step_refused(install.version, version)):
        yield Refused(*step)


def port_refusals(listeners: dict[int, Listener]) -> Iterator[Refused]:
    """Yield the reasons not to start a server on a node without a running one, unless K3s itself has the port."""
    found = listeners.get(API_PORT)
    if found and found.unit != f"{UNITS['server']}.service":
        yield Refused("PORT_TAKEN", f"{found.process or 'another process'} listens on port {API_PORT}")


def _name_refusals(identity: Identity) -> Iterator[Refused]:
    # Each host leaves its hostname for those that are checked after it.
    names = {peer.name: peer.data.get("gb10_hostname") for peer in host.inventory if peer.name != host.name}
    host.data.gb10_hostname = identity.hostname
    twins = [name for name, hostname in names.items() if hostname == identity.hostname]
    if twins:
        yield Refused("DUPLICATE_HOSTNAME", f"it and {', '.join(twins)} both call themselves {identity.hostname}")


def step_refused(installed: str, wanted: str) -> tuple[str, str] | None:
    """Return an error code and the reason if K3s must not go from one version to another, else None.

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
    Yield how a K3s that somebody else set up would differ under ours, and the setting that avoids it.

    + exec_start: its unit's command line
    + settings: what else it reads
    + config: the future content of config.yaml
    + variables: names in the unit's future environment file
    """
    theirs = [*_pairs(settings.config), *_flags(exec_start)]
    ours = set(_pairs(config))
    lost = [f"--{flag}={value}" for flag, value in theirs if flag not in OWN_FLAGS and not _is_kept(flag, value, ours)]
    if lost:
        yield f"it was started with {' '.join(lost)}: k3s_config or a setting of its own keeps that"
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


def _is_kept(flag: str, value: str, ours: set[tuple[str, str]]) -> bool:
    return all((flag, part) in ours for part in value.split(","))


def _pairs(settings: Mapping[str, object]) -> list[tuple[str, str]]:
    """Return keys of config.yaml as flags."""
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


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
