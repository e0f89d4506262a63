"""Helm on the head: the binary, and releases with exactly the wanted chart and values.

The contract: a release that is as wanted gets no new revision; a chart is verified before it is installed, and the
release is compared with what was wanted afterwards.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field

from pyinfra.api import FunctionCommand, StringCommand, operation
from pyinfra.api.command import QuoteString
from pyinfra.context import host, state

from gb10.facts.helm import BINARY, STATE, HelmClient, HelmReleases
from gb10.facts.identity import NodeIdentity
from gb10.facts.k3s import K3sInstall
from gb10.facts.reading.cluster import HelmRelease
from gb10.operations.file import replace_file, show_diff
from gb10.operations.kit.charts import OPERATOR_CHARTS, Release, as_wanted, find, stuck
from gb10.operations.kit.downloads import verified_download
from gb10.operations.kit.failures import guarded, known, refuse
from gb10.operations.kit.helm_runs import (
    FOLDERS,
    GRACE_SECONDS,
    Values,
    chart_archive,
    named,
    repair_release,
    uninstall,
    upgrade,
    values_file,
)
from gb10.operations.kit.scripts import run_script
from gb10.operations.kit.waiting import await_condition
from gb10.templates import render

Commands = Generator[StringCommand | FunctionCommand, None, None]


@dataclass(frozen=True)
class Client:
    """The helm that is wanted, and where it is downloaded from."""

    version: str
    mirror: str  # below it lie helm-<version>-linux-<arch>.tar.gz and the same name with .sha256sum
    sha256: Mapping[str, str] = field(default_factory=dict)  # architecture -> pinned digest of the archive
    proxy: Mapping[str, str] = field(default_factory=dict)


@operation()
@guarded
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
@guarded
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
@guarded
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
