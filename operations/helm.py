"""Helm on the head: the binary, and releases with exactly the wanted chart and values.

The contract: a release that is as wanted gets no new revision; a chart is verified before it is installed, and the
release is compared with what was wanted afterwards.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pyinfra.api import FunctionCommand, Host, State, StringCommand
from pyinfra.api.command import QuoteString
from pyinfra.context import host, state

from gb10.facts.cluster import ClusterNodes
from gb10.facts.helm import BINARY, LOCK, STATE, HelmClient, HelmReleases
from gb10.facts.identity import NodeIdentity
from gb10.facts.k3s import K3sInstall
from gb10.facts.reading.cluster import HelmRelease
from gb10.facts.reading.k3s import KUBECONFIG
from gb10.operations.file import replace_file, show_diff
from gb10.operations.kit.helm import OPERATOR_CHARTS, Release, as_wanted, differences, find, stuck, trouble, why_waiting
from gb10.operations.kit.operation import Commands, known, operation, refuse, say
from gb10.operations.kit.peers import peer_run
from gb10.operations.kit.scripts import run_script, verified_download
from gb10.operations.kit.waiting import await_condition
from gb10.templates import render


@dataclass(frozen=True)
class Client:
    """The helm that is wanted, and where it is downloaded from."""

    version: str
    mirror: str  # below it lie helm-<version>-linux-<arch>.tar.gz and the same name with .sha256sum
    sha256: Mapping[str, str] = field(default_factory=dict)  # architecture -> pinned digest of the archive
    proxy: Mapping[str, str] = field(default_factory=dict)


@operation()
def binary(client: Client) -> Commands:
    """
    Install helm on the node, verified.

    + client: the wanted version and where it comes from
    """
    if known(HelmClient).version == client.version:
        host.noop(f"helm {client.version} is in place")
        return
    yield from _fetch_binary(client)


def _fetch_binary(client: Client) -> Commands:
    architecture = known(NodeIdentity).architecture
    name = f"helm-{client.version}-linux-{architecture}.tar.gz"
    url, archive = f"{client.mirror.rstrip('/')}/{name}", f"{STATE}/{name}"
    yield verified_download(
        url,
        archive,
        mode="600",
        sha256=client.sha256.get(architecture),
        sums_url=f"{url}.sha256sum",
        name=name,
        proxy=dict(client.proxy),
    )
    yield run_script("helm-binary.sh", archive, architecture, BINARY, seconds=60)


@operation()
def release(
    wanted: Release,
    values: Callable[[Sequence[HelmRelease]], Values],
    seconds: int,
    repair: bool = False,
    values_key: str = "values",
    proxy: Mapping[str, str] | None = None,
) -> Commands:
    """
    Deploy a release with exactly this chart and these values.

    + wanted: the release
    + values: returns the values, given the releases of the cluster: what one chart brings may depend on another
    + seconds: how long helm waits for what it installed
    + repair: take back what a killed helm left behind instead of refusing
    + values_key: the setting in the inventory for other values
    + proxy: environment of the download

    A release whose last revision failed is upgraded again; one that is pending is refused unless `repair`.
    """
    releases = _settled_releases(wanted, seconds)
    if releases is None and state.is_executing:
        code = "SERVER_UNREACHABLE" if known(K3sInstall) else "K3S_ABSENT"
        yield from refuse(code, f"no API server answers on {host.name}: {wanted.name} is not installed")
        return
    found = find(releases or (), wanted.name, wanted.namespace)
    # Through JSON, as helm keeps them.
    chosen: Values = json.loads(json.dumps(values(releases or ())))
    if as_wanted(found, wanted, chosen):
        host.noop(f"{wanted.chart} {wanted.version} is deployed with these values")
        return
    if found and stuck(found) and not repair:
        yield from refuse("HELM_PENDING", f"{named(found)}: a helm was killed at it, or is at it right now")
        return
    if found and not found.deployed:
        host.log_styled(f"{named(found)}: {found.description or 'no reason given'}", fg="yellow")
    yield _write_values(found, wanted, chosen, values_key)
    yield _fetch_chart(wanted, dict(proxy or {}))
    if found and not found.deployed and repair:
        yield FunctionCommand(repair_release, (wanted, seconds), {})
    yield FunctionCommand(upgrade, (wanted, chosen, seconds), {})


def _settled_releases(wanted: Release, seconds: int) -> tuple[HelmRelease, ...] | None:
    """Return the releases once no helm is at work: a killed run leaves one behind, which may still succeed."""
    releases = known(HelmReleases, charts=OPERATOR_CHARTS)
    if state.is_executing and stuck(find(releases or (), wanted.name, wanted.namespace)):
        # Also if none is at work: it may have ended since the releases were read.
        await_condition(lambda: not known(HelmClient).busy, seconds + GRACE_SECONDS)
        releases = known(HelmReleases, charts=OPERATOR_CHARTS)
    return releases


def _write_values(found: HelmRelease | None, wanted: Release, values: Values, key: str) -> StringCommand:
    content = render("operators/values.yaml.j2", values=values, key=key)
    if state.config.DIFF:
        deployed = render("operators/values.yaml.j2", values=found.values, key=key) if found else ""
        show_diff(values_file(wanted.name), deployed, content)
    return replace_file(values_file(wanted.name), content, "600")


def _fetch_chart(wanted: Release, proxy: dict[str, str]) -> StringCommand:
    arguments = (BINARY, wanted.repository, wanted.chart, wanted.version, wanted.sha256 or "", chart_archive(wanted))
    return run_script("helm-chart.sh", *arguments, seconds=1800, variables={**FOLDERS, **proxy})


@operation()
def uninstalled(release_name: str, namespace: str, client: Client, seconds: int) -> Commands:
    """
    Remove a release, whatever state it is in.

    + release_name, namespace: which one
    + client: the helm that does it, fetched if the node has none
    + seconds: how long helm waits for what it removes
    """
    releases = known(HelmReleases)
    if releases is None and known(K3sInstall) is not None:
        yield from refuse(
            "SERVER_UNREACHABLE", f"no API server answers on {host.name}: {release_name} cannot be removed"
        )
        return
    if not find(releases or (), release_name, namespace):
        host.noop(f"there is no release {release_name}")
        return
    if known(HelmClient).version is None:
        yield from _fetch_binary(client)
    yield FunctionCommand(uninstall, (release_name, namespace, seconds), {})
    yield StringCommand("rm -f", QuoteString(values_file(release_name)))


Values = dict[str, Any]

GRACE_SECONDS = 60  # beyond helm's own timeout
LOCKED = 75  # exit status of flock, and never of helm, if the lock does not come free
FOLDERS = {f"HELM_{kind}_HOME": f"{STATE}/{kind.lower()}" for kind in ("CACHE", "CONFIG", "DATA")}
ENVIRONMENT = {"KUBECONFIG": KUBECONFIG, **FOLDERS}


def named(found: HelmRelease) -> str:
    """Return a release in words, with its status."""
    return f"release {found.name} (revision {found.revision}) in {found.namespace} is {found.status}"


def values_file(name: str) -> str:
    """Given a release's name, return the file on the node with its values."""
    return f"{STATE}/{name}-values.yaml"


def chart_archive(wanted: Release) -> str:
    """Return the file on the node with a release's chart."""
    return f"{STATE}/charts/{wanted.chart}-{wanted.version}.tgz"


def helm_command(*arguments: str, seconds: int) -> StringCommand:
    """Given helm's arguments, return the command that runs it: alone on the node, and bounded on the node as well.

    It waits for another helm of ours as long as this one may take.
    """
    longest = seconds + GRACE_SECONDS
    environment = (QuoteString(f"{name}={value}") for name, value in ENVIRONMENT.items())
    alone = f"flock --timeout {longest} --conflict-exit-code {LOCKED} {LOCK} timeout --kill-after=30 {longest} {BINARY}"
    return StringCommand(
        StringCommand("mkdir -p", STATE, "&& env", *environment, alone, *map(QuoteString, arguments), "2>&1 ||"),
        f"{{ status=$?; [ $status != {LOCKED} ] || echo 'Error: another helm of gb10 is at work on this node'; "
        "exit $status; }",
    )


def _helm(*arguments: str, namespace: str, seconds: int) -> tuple[bool, str]:
    command = helm_command(*arguments, "--namespace", namespace, "--timeout", f"{seconds}s", seconds=seconds)
    return peer_run(host, command)


def upgrade(state: State, host: Host, wanted: Release, values: Values, seconds: int) -> bool:
    """Install or upgrade a release; return True if it is deployed as wanted."""
    arguments = ("upgrade", "--install", wanted.name, chart_archive(wanted), "--create-namespace", "--wait")
    more = ("--values", values_file(wanted.name))
    done, output = _helm(*arguments, *more, namespace=wanted.namespace, seconds=seconds)
    if not done:
        _explain(wanted.name, wanted.namespace, output, seconds)
        return False
    return _is_as_wanted(wanted, values)


def _is_as_wanted(wanted: Release, values: Values) -> bool:
    """Look at the release again: helm's exit status does not say which chart it deployed."""
    releases = host.get_fact(HelmReleases, charts=(wanted.chart,))
    found = find(releases or (), wanted.name, wanted.namespace)
    if found and as_wanted(found, wanted, values):
        return True
    wrong = f"{named(found)} with {', '.join(differences(found, wanted, values))}" if found else "no such release"
    say(host, "CHART_WRONG", f"helm ended well, but what is deployed is not what was wanted: {wrong}")
    return False


def _explain(release: str, namespace: str, output: str, seconds: int) -> None:
    """Log all that helm printed, and report why it failed."""
    for line in output.splitlines():
        host.log(line)
    code, message = trouble(output)
    if host.get_fact(ClusterNodes) is None:
        code = "SERVER_UNREACHABLE"
        message = f"the API server on {host.name} went away while helm worked on {release}: {message}"
    elif code == "OPERATOR_NOT_READY":
        reasons = why_waiting(namespace) or [message]
        message = f"{release} is not ready within {seconds} s: {'; '.join(reasons)}"
    say(host, code, message)


def repair_release(state: State, host: Host, wanted: Release, seconds: int) -> bool:
    """Take back a revision that helm did not finish: to the last one that succeeded, or all of it."""
    releases = host.get_fact(HelmReleases)
    found = find(releases or (), wanted.name, wanted.namespace)
    if found is None or found.deployed:
        return True
    back = found.deployed_revision
    host.log_styled(f"{named(found)}: {f'back to revision {back}' if back else 'it is removed'}", fg="yellow")
    if back and found.status != "uninstalling":
        done, output = _helm("rollback", found.name, str(back), namespace=found.namespace, seconds=seconds)
    else:
        done, output = _helm("uninstall", found.name, "--wait", namespace=found.namespace, seconds=seconds)
    if not done:
        _explain(wanted.name, wanted.namespace, output, seconds)
    return done


def uninstall(state: State, host: Host, name: str, namespace: str, seconds: int) -> bool:
    """Uninstall a release; return True if helm succeeded."""
    done, output = _helm("uninstall", name, "--wait", namespace=namespace, seconds=seconds)
    if not done:
        _explain(name, namespace, output, seconds)
    return done
