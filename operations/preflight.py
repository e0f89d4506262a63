"""Checks before anything is changed: a node on which the rest cannot work is refused."""

from __future__ import annotations

import time
from collections.abc import Collection, Generator, Iterator, Mapping

from pyinfra.api import FunctionCommand, operation
from pyinfra.context import host

from gb10.facts.docker import DockerEngine
from gb10.facts.identity import NodeIdentity
from gb10.facts.k3s import ForeignK3s, K3sInstall
from gb10.facts.network import Listener, TcpListeners
from gb10.facts.reading.k3s import UNITS, K3sInstallation
from gb10.facts.reading.node import Identity
from gb10.facts.reading.reports import Refused
from gb10.group_data.settings import API_PORT
from gb10.operations.kit.failures import guarded, known, refuse
from gb10.operations.kit.versions import differences, step_refused

MOST_SKEW_SECONDS = 300  # beyond it certificates look expired, or not yet valid


@operation()
@guarded
def preflight(
    role: str | None, version: str, runtime: str, config: Mapping[str, object], variables: Collection[str]
) -> Generator[FunctionCommand, None, None]:
    """
    Refuse a node on which the rest cannot work.

    + role: "server" or "agent"; None for a host that is no node of the cluster, and stays as it is
    + version: the wanted K3s version
    + runtime: "docker" or "containerd"
    + config: the future content of config.yaml, to compare with an installation that somebody else made
    + variables: names of variables in the unit's future environment file, likewise

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
    """Given a node's identity and the controller's clock, yield the reasons to refuse it."""
    if identity.architecture not in ("arm64", "amd64"):
        yield Refused("ARCH_UNSUPPORTED", f"its architecture is {identity.architecture}; K3s is for arm64 and amd64")
    skew = identity.clock - now
    if abs(skew) > MOST_SKEW_SECONDS:
        yield Refused("CLOCK_SKEW", f"its clock is {skew:+.0f} s from the controller's: certificates would fail")


def install_refusals(install: K3sInstallation, role: str, version: str) -> Iterator[Refused]:
    """Given the installed and the wanted K3s, yield the reasons not to go from one to the other."""
    if install.role not in (None, role):
        yield Refused("ROLE_CONFLICT", f"it is a K3s {install.role} and is to be a {role}")
    if install.version and (step := step_refused(install.version, version)):
        yield Refused(*step)


def port_refusals(listeners: dict[int, Listener]) -> Iterator[Refused]:
    """Given the listeners of a node without a running server, yield the reasons not to start one there.

    A server that is starting or stopping, as a killed run leaves it, is not running and may hold its port.
    """
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
