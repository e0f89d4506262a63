"""Helm on the head: the binary, and releases with exactly the wanted chart and values.

The contract: a release that is as wanted gets no new revision; a chart is verified before it is installed, and the
release is compared with what was wanted afterwards.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pyinfra.api import StringCommand
from pyinfra.api.command import QuoteString
from pyinfra.context import host, state

from gb10.facts.cluster import ClusterNodes
from gb10.facts.helm import BINARY, LOCK, STATE, HelmClient, HelmReleases
from gb10.facts.identity import NodeIdentity
from gb10.facts.k3s import K3sInstall
from gb10.facts.reading.cluster import HelmRelease
from gb10.facts.reading.k3s import KUBECONFIG
from gb10.operations.file import replace_file, show_diff
from gb10.operations.kit.helm import (
    OPERATOR_CHARTS,
    Release,
    as_wanted,
    differences,
    find,
    same_version,
    stuck,
    trouble,
    why_waiting,
)
from gb10.operations.kit.lock_file import chart_name, helm_name
from gb10.operations.kit.operation import Commands, await_condition, known, operation
from gb10.operations.kit.peers import peer_run
from gb10.operations.kit.pins import Download, pin_of, pinned
from gb10.operations.kit.scripts import run_script, verified_download
from gb10.programs.answer import RefusedError
from gb10.templates import render

Values = dict[str, Any]

GRACE_SECONDS = 60  # beyond helm's own timeout
LOCKED = 75  # exit status of flock, and never of helm, if the lock does not come free
FOLDERS = {f"HELM_{kind}_HOME": f"{STATE}/{kind.lower()}" for kind in ("CACHE", "CONFIG", "DATA")}
ENVIRONMENT = {"KUBECONFIG": KUBECONFIG, **FOLDERS}


@dataclass(frozen=True)
class Client:
    """The helm that is wanted, and where it is downloaded from."""

    version: str
    mirror: str  # below it lie helm-<version>-linux-<arch>.tar.gz and the same name with .sha256sum
    sha256: Mapping[str, str] = field(default_factory=dict)  # architecture -> pinned digest of the archive
    proxy: Mapping[str, str] = field(default_factory=dict)

    def url(self, architecture: str) -> str:
        """Return the URL of its archive."""
        return f"{self.mirror.rstrip('/')}/helm-{self.version}-linux-{architecture}.tar.gz"

    def download(self, architecture: str) -> Download:
        """Return the download of its archive."""
        name = helm_name(self.version, architecture)
        return Download(name, self.url(architecture), self.sha256.get(architecture), f"helm_sha256[{architecture!r}]")


@operation()
def binary(client: Client) -> Commands:
    """Install helm on the node, verified."""
    if known(HelmClient).version == client.version:
        host.noop(f"helm {client.version} is in place")
        return
    yield from _fetch_binary(client)


def _fetch_binary(client: Client) -> Commands:
    architecture = known(NodeIdentity).architecture
    url = client.url(architecture)
    name = url.rpartition("/")[2]
    archive = f"{STATE}/{name}"
    pin = pin_of(client.download(architecture))
    yield verified_download(
        url,
        archive,
        mode="600",
        sha256=pin.sha256,
        sums_url=f"{url}.sha256sum",
        name=name,
        proxy=client.proxy,
        locked=pin.locked,
    )
    yield from pinned(pin, archive)
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
        raise RefusedError(code, f"no API server answers on {host.name}: {wanted.name} is not installed")
    found = find(releases or (), wanted.name, wanted.namespace)
    chosen: Values = json.loads(json.dumps(values(releases or ())))  # as helm keeps them
    if as_wanted(found, wanted, chosen):
        host.noop(f"{wanted.chart} {wanted.version} is deployed with these values")
        return
    if found and stuck(found) and not repair:
        raise RefusedError("HELM_PENDING", f"{named(found)}: helm was killed while it worked on it, or is at work now")
    if found and not found.deployed:
        host.log_styled(f"{named(found)}: {found.description or 'no reason given'}", fg="yellow")
    yield _write_values(found, wanted, chosen, values_key)
    yield from _fetch_chart(wanted, dict(proxy or {}))
    if found and not found.deployed and repair:
        _repair(wanted, seconds)
    arguments = ("--install", "--create-namespace", "--wait", "--values", values_file(wanted.name))
    _run_helm("upgrade", wanted.name, chart_archive(wanted), *arguments, namespace=wanted.namespace, seconds=seconds)
    # helm's exit status does not say which chart it deployed.
    releases = known(HelmReleases, charts=(wanted.chart,))
    found = find(releases or (), wanted.name, wanted.namespace)
    if not found or not as_wanted(found, wanted, chosen):
        wrong = f"{named(found)} with {', '.join(differences(found, wanted, chosen))}" if found else "no such release"
        raise RefusedError("CHART_WRONG", f"helm succeeded, but deployed something else than was wanted: {wrong}")


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
    deployed = render("operators/values.yaml.j2", values=found.values, key=key) if found else ""
    show_diff(values_file(wanted.name), deployed, content)
    return replace_file(values_file(wanted.name), content, "600")


def _fetch_chart(wanted: Release, proxy: dict[str, str]) -> Commands:
    pin, archive = pin_of(chart_download(wanted)), chart_archive(wanted)
    arguments = (BINARY, wanted.repository, wanted.chart, wanted.version, pin.sha256 or "", archive)
    variables = {**FOLDERS, **proxy, "locked": pin.locked}
    yield run_script("helm-chart.sh", *arguments, seconds=1800, variables=variables)
    yield from pinned(pin, archive)


def chart_download(wanted: Release) -> Download:
    """Return the download of a release's chart."""
    setting = f"{wanted.chart.replace('-', '_')}_sha256"
    return Download(chart_name(wanted.chart, wanted.version), wanted.repository, wanted.sha256, setting)


def lacking_charts(client: Client, wanted: Sequence[Release]) -> list[Download]:
    """Return the downloads for releases that are not deployed in their version, and of helm if it is not in place."""
    releases = known(HelmReleases, charts=OPERATOR_CHARTS) or ()
    lacking = []
    if known(HelmClient).version != client.version:
        lacking.append(client.download(known(NodeIdentity).architecture))
    for one in wanted:
        found = find(releases, one.name, one.namespace)
        if not found or not same_version(found.chart_version, one.version):
            lacking.append(chart_download(one))
    return lacking


@operation()
def uninstalled(release_name: str, namespace: str, client: Client, seconds: int) -> Commands:
    """Remove a release, whatever its state, with this helm if the node has none; wait so long for what it removes."""
    releases = known(HelmReleases)
    if releases is None and known(K3sInstall) is not None:
        text = f"no API server answers on {host.name}: {release_name} cannot be removed"
        raise RefusedError("SERVER_UNREACHABLE", text)
    if not find(releases or (), release_name, namespace):
        host.noop(f"there is no release {release_name}")
        return
    if known(HelmClient).version is None:
        yield from _fetch_binary(client)
    yield StringCommand("rm -f", QuoteString(values_file(release_name)))
    _run_helm("uninstall", release_name, "--wait", namespace=namespace, seconds=seconds)


# Running helm ---------------------------------------------------------------------------------------------------------


def named(found: HelmRelease) -> str:
    """Return a release in words, with its status."""
    return f"release {found.name} (revision {found.revision}) in {found.namespace} is {found.status}"


def values_file(name: str) -> str:
    """Return the file on the node with the values of a release."""
    return f"{STATE}/{name}-values.yaml"


def chart_archive(wanted: Release) -> str:
    """Return the file on the node with a release's chart."""
    return f"{STATE}/charts/{wanted.chart}-{wanted.version}.tgz"


def helm_command(*arguments: str, seconds: int) -> StringCommand:
    """Return the command that runs helm with a time limit, once no other helm of ours is at work on the node."""
    longest = seconds + GRACE_SECONDS
    environment = (QuoteString(f"{name}={value}") for name, value in ENVIRONMENT.items())
    alone = f"flock --timeout {longest} --conflict-exit-code {LOCKED} {LOCK} timeout --kill-after=30 {longest} {BINARY}"
    return StringCommand(
        StringCommand("mkdir -p", STATE, "&& env", *environment, alone, *map(QuoteString, arguments), "2>&1 ||"),
        f"{{ status=$?; [ $status != {LOCKED} ] || echo 'Error: another helm of gb10 is at work on this node'; "
        "exit $status; }",
    )


def _run_helm(verb: str, release: str, *arguments: str, namespace: str, seconds: int) -> None:
    """Run helm on a release. If it fails, log all that it printed, and raise RefusedError with the reason."""
    options = ("--namespace", namespace, "--timeout", f"{seconds}s")
    done, output = peer_run(host, helm_command(verb, release, *arguments, *options, seconds=seconds))
    if done:
        return
    for line in output.splitlines():
        host.log(line)
    code, message = trouble(output)
    if host.get_fact(ClusterNodes) is None:
        code = "SERVER_UNREACHABLE"
        message = f"the API server on {host.name} went away while helm worked on {release}: {message}"
    elif code == "OPERATOR_NOT_READY":
        reasons = why_waiting(namespace) or [message]
        message = f"{release} is not ready within {seconds} s: {'; '.join(reasons)}"
    raise RefusedError(code, message)


def _repair(wanted: Release, seconds: int) -> None:
    """Roll a release that helm did not finish back to its last revision that succeeded, or uninstall it."""
    releases = known(HelmReleases)
    found = find(releases or (), wanted.name, wanted.namespace)
    if found is None or found.deployed:
        return
    back = found.deployed_revision
    host.log_styled(f"{named(found)}: {f'back to revision {back}' if back else 'it is removed'}", fg="yellow")
    if back and found.status != "uninstalling":
        _run_helm("rollback", found.name, str(back), namespace=found.namespace, seconds=seconds)
    else:
        _run_helm("uninstall", found.name, "--wait", namespace=found.namespace, seconds=seconds)
