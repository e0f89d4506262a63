"""Helm on the head: the binary, and releases that are exactly the chart and the values that were wanted.

The contract: a release that is as wanted makes no revision; a chart is verified before it is installed, and the
release is compared with what was wanted afterwards.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pyinfra.api import FunctionCommand, Host, State, StringCommand, operation
from pyinfra.api.command import QuoteString
from pyinfra.context import host, state

from gb10.facts.cluster import ClusterNodes
from gb10.facts.helm import HelmReleases
from gb10.facts.helm_client import BINARY, LOCK, STATE, HelmClient
from gb10.facts.identity import NodeIdentity
from gb10.facts.k3s import K3sInstall
from gb10.facts.reading.helm import HelmRelease
from gb10.facts.reading.k3s import KUBECONFIG
from gb10.operations.file import replace_file, show_diff
from gb10.operations.kit.charts import OPERATOR_CHARTS, Release, as_wanted, differences, find, stuck, trouble
from gb10.operations.kit.downloads import verified_download
from gb10.operations.kit.failures import guarded, known, refuse, say
from gb10.operations.kit.peers import peer_run
from gb10.operations.kit.reasons import why_waiting
from gb10.operations.kit.scripts import run_script
from gb10.operations.kit.waiting import await_condition
from gb10.templates import render

Commands = Generator[StringCommand | FunctionCommand, None, None]
Values = dict[str, Any]

GRACE_SECONDS = 60  # beyond helm's own timeout
LOCKED = 75  # what flock ends with, and helm never, when the lock does not come free
FOLDERS = {f"HELM_{kind}_HOME": f"{STATE}/{kind.lower()}" for kind in ("CACHE", "CONFIG", "DATA")}
ENVIRONMENT = {"KUBECONFIG": KUBECONFIG, **FOLDERS}


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
    Have helm on the node, verified.

    + client: which one, and from where
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
    Have a release deployed, with exactly one chart and exactly these values.

    + wanted: the release
    + values: given the releases of the cluster, returns the values: what one chart brings may depend on another
    + seconds: how long helm waits for what it installed
    + repair: take back what a killed helm left behind, instead of refusing
    + values_key: the key of the inventory that a person sets for other values
    + proxy: environment of the download

    A release whose last revision failed is upgraded again; one that is pending is refused unless `repair`.
    """
    releases = _settled_releases(wanted, seconds)
    if releases is None and state.is_executing:
        code = "SERVER_UNREACHABLE" if known(K3sInstall) else "K3S_ABSENT"
        yield from refuse(code, f"no API server answers on {host.name}: {wanted.name} is not installed")
        return
    found = find(releases or (), wanted.name, wanted.namespace)
    # As JSON has them: that is how helm keeps them.
    chosen: Values = json.loads(json.dumps(values(releases or ())))
    if as_wanted(found, wanted, chosen):
        host.noop(f"{wanted.chart} {wanted.version} is deployed with these values")
        return
    if found and stuck(found) and not repair:
        yield from refuse("HELM_PENDING", f"{_named(found)}: a helm was killed at it, or is at it right now")
        return
    if found and not found.deployed:
        host.log_styled(f"{_named(found)}: {found.description or 'no reason given'}", fg="yellow")
    yield _write_values(found, wanted, chosen, values_key)
    yield _fetch_chart(wanted, dict(proxy or {}))
    if found and not found.deployed and repair:
        yield FunctionCommand(_repair, (wanted, seconds), {})
    yield FunctionCommand(_upgrade, (wanted, chosen, seconds), {})


def _settled_releases(wanted: Release, seconds: int) -> tuple[HelmRelease, ...] | None:
    """The releases once no helm is at work: a run that was killed leaves one behind, which may well succeed."""
    releases = known(HelmReleases, charts=OPERATOR_CHARTS)
    if state.is_executing and stuck(find(releases or (), wanted.name, wanted.namespace)):
        # Also where none is at work: it may have ended since the releases were looked at.
        await_condition(lambda: not known(HelmClient).busy, seconds + GRACE_SECONDS)
        releases = known(HelmReleases, charts=OPERATOR_CHARTS)
    return releases


def _named(found: HelmRelease) -> str:
    return f"release {found.name} (revision {found.revision}) in {found.namespace} is {found.status}"


def _values_file(name: str) -> str:
    return f"{STATE}/{name}-values.yaml"


def _archive(wanted: Release) -> str:
    return f"{STATE}/charts/{wanted.chart}-{wanted.version}.tgz"


def _write_values(found: HelmRelease | None, wanted: Release, values: Values, key: str) -> StringCommand:
    content = render("operators/values.yaml.j2", values=values, key=key)
    if state.config.DIFF:
        deployed = render("operators/values.yaml.j2", values=found.values, key=key) if found else ""
        show_diff(_values_file(wanted.name), deployed, content)
    return replace_file(_values_file(wanted.name), content, "600")


def _fetch_chart(wanted: Release, proxy: dict[str, str]) -> StringCommand:
    arguments = (BINARY, wanted.repository, wanted.chart, wanted.version, wanted.sha256 or "", _archive(wanted))
    return run_script("helm-chart.sh", *arguments, seconds=1800, variables={**FOLDERS, **proxy})


def helm_command(*arguments: str, seconds: int) -> StringCommand:
    """Given helm's arguments, return the command that runs it: alone on the node, and bounded on the node as well.

    Another helm of ours is waited for as long as this one may take.
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


def _upgrade(state: State, host: Host, wanted: Release, values: Values, seconds: int) -> bool:
    arguments = ("upgrade", "--install", wanted.name, _archive(wanted), "--create-namespace", "--wait")
    more = ("--values", _values_file(wanted.name))
    done, output = _helm(*arguments, *more, namespace=wanted.namespace, seconds=seconds)
    if not done:
        _explain(wanted.name, wanted.namespace, output, seconds)
        return False
    return _is_as_wanted(wanted, values)


def _is_as_wanted(wanted: Release, values: Values) -> bool:
    """What helm made is looked at again: its exit status does not say which chart it was."""
    releases = host.get_fact(HelmReleases, charts=(wanted.chart,))
    found = find(releases or (), wanted.name, wanted.namespace)
    if found and as_wanted(found, wanted, values):
        return True
    wrong = f"{_named(found)} with {', '.join(differences(found, wanted, values))}" if found else "no such release"
    say(host, "CHART_WRONG", f"helm ended well, but what is deployed is not what was wanted: {wrong}")
    return False


def _explain(release: str, namespace: str, output: str, seconds: int) -> None:
    """Log in one line why helm failed, and all that it printed before it."""
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


def _repair(state: State, host: Host, wanted: Release, seconds: int) -> bool:
    """Take back a revision that helm did not finish: to the last one that was a success, or all of it."""
    releases = host.get_fact(HelmReleases)
    found = find(releases or (), wanted.name, wanted.namespace)
    if found is None or found.deployed:
        return True
    back = found.deployed_revision
    host.log_styled(f"{_named(found)}: {f'back to revision {back}' if back else 'it is removed'}", fg="yellow")
    if back and found.status != "uninstalling":
        done, output = _helm("rollback", found.name, str(back), namespace=found.namespace, seconds=seconds)
    else:
        done, output = _helm("uninstall", found.name, "--wait", namespace=found.namespace, seconds=seconds)
    if not done:
        _explain(wanted.name, wanted.namespace, output, seconds)
    return done


@operation()
@guarded
def uninstalled(release_name: str, namespace: str, client: Client, seconds: int) -> Commands:
    """
    Have no release of a name, whatever state it is in.

    + release_name, namespace: which one
    + client: the helm to do it with, fetched where the node has none
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
    yield FunctionCommand(_uninstall, (release_name, namespace, seconds), {})
    yield StringCommand("rm -f", QuoteString(_values_file(release_name)))


def _uninstall(state: State, host: Host, name: str, namespace: str, seconds: int) -> bool:
    done, output = _helm("uninstall", name, "--wait", namespace=namespace, seconds=seconds)
    if not done:
        _explain(name, namespace, output, seconds)
    return done
