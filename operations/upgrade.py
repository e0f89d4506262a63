"""The upgrade of a running K3s: one node at a time, drained of its pods."""

from __future__ import annotations

from collections.abc import Mapping

from pyinfra.api import Host, StringCommand
from pyinfra.api.command import QuoteString
from pyinfra.context import host

from gb10.facts.k3s import K3sInstall
from gb10.facts.reading.k3s import BINARY, DRAINED, KUBECTL, STATE, UNITS, K3sInstallation
from gb10.operations.kit.operation import Commands, known, operation
from gb10.operations.kit.peers import ask, last_words, peer_run
from gb10.operations.kit.scripts import run_script
from gb10.operations.kubectl import await_node, drain_command, member, why_not_ready
from gb10.programs.answer import RefusedError


@operation()
def upgrade(
    role: str, version: str, sha256: Mapping[str, str], node: str, head: Host, seconds: int, drain_seconds: int
) -> Commands:
    """
    Replace the binary of a running K3s: drain the node, replace, restart, wait for its kubelet, uncordon.

    + version: of the binary that waits beside the installed one: see `binary`
    + sha256: architecture -> pinned digest
    + node: its name in Kubernetes
    + head: the host with the API server
    + seconds: how long the restart may take, and then the kubelet
    + drain_seconds: how long the eviction of the node's pods may take

    Call it with `_serial=True`: one node at a time, and none after one that failed, although pyinfra would go on. A
    killed run continues where it stopped, and a node that was cordoned before stays cordoned.
    """
    install = known(K3sInstall)
    if install is None or install.version is None or (is_wanted(install, version, sha256) and not install.drained):
        host.noop("nothing is to be upgraded")
        return
    yield from _upgrade(role, version, sha256, node, head, seconds, drain_seconds)


def _upgrade(
    role: str, version: str, sha256: Mapping[str, str], node: str, head: Host, seconds: int, drain_seconds: int
) -> Commands:
    if failed := [peer.name for peer in host.inventory if peer.data.get("gb10_upgrade_failed")]:
        raise RefusedError("UPGRADE_HELD", f"{host.name} is as it was: the upgrade of {', '.join(failed)} has failed")
    yield StringCommand(f"mkdir -p {STATE}")
    host.data.gb10_upgrade_failed = True  # until it is done: also if a command fails
    yield from _drain(node, head, drain_seconds)
    if not is_wanted(known(K3sInstall), version, sha256):
        waiting = QuoteString(staged(version))
        beside = StringCommand("cp", waiting, f"{BINARY}.new && chmod 755 {BINARY}.new && sync {BINARY}.new")
        yield StringCommand(beside, f"&& mv -f {BINARY}.new {BINARY} && rm -f", waiting)
    yield run_script("start-unit.sh", UNITS[role], str(seconds), seconds=seconds + 60)
    if not await_node(head, node, version, seconds):
        reason = why_not_ready(head, node)
        raise RefusedError("NODE_NOT_READY", f"{node} does not report {version} within {seconds} s: {reason}")
    install = known(K3sInstall)
    if install and install.drained:
        done, output = peer_run(head, StringCommand(f"{KUBECTL} uncordon", QuoteString(node)))
        if not done:
            reason = last_words(output, lines=1) or "it printed nothing"
            raise RefusedError("NODE_NOT_READY", f"{node} is upgraded but still cordoned: {reason}")
        yield StringCommand(f"rm -f {DRAINED}")
    host.data.gb10_upgrade_failed = False


def _drain(node: str, head: Host, seconds: int) -> Commands:
    found = member(head, node)
    if not found or not found.ready or found.cordoned:
        return  # nothing runs there, or somebody else keeps it cordoned
    # The mark comes first: a run that is killed from here on knows that the node is ours to uncordon.
    yield StringCommand(f"touch {DRAINED}")
    try:
        ask(head, drain_command(node, seconds, stays_cordoned=False))
    except RefusedError as error:
        yield StringCommand(f"rm -f {DRAINED}")
        raise RefusedError("DRAIN_FAILED", f"{node} is not drained, and runs as before: {error.reason}") from error


def is_wanted(install: K3sInstallation | None, version: str, sha256: Mapping[str, str]) -> bool:
    """Return True if the installed binary has a version and, if this architecture has a pin, that digest."""
    if install is None or install.version != version:
        return False
    return install.binary_sha256 == sha256.get(install.architecture, install.binary_sha256)


def staged(version: str) -> str:
    """Return the path where the binary of a version waits for the upgrade."""
    return f"{STATE}/k3s-{version}"
