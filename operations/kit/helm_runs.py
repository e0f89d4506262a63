"""Runs of helm on the head: alone on the node, bounded, and explained if they fail."""

from __future__ import annotations

from typing import Any

from pyinfra.api import Host, State, StringCommand
from pyinfra.api.command import QuoteString
from pyinfra.context import host

from gb10.facts.cluster import ClusterNodes
from gb10.facts.helm import BINARY, LOCK, STATE, HelmReleases
from gb10.facts.reading.cluster import HelmRelease
from gb10.facts.reading.k3s import KUBECONFIG
from gb10.operations.kit.charts import Release, as_wanted, differences, find, trouble
from gb10.operations.kit.failures import say
from gb10.operations.kit.peers import peer_run
from gb10.operations.kit.reasons import why_waiting

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
