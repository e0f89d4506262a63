"""The upgrade of a running K3s: one node at a time, drained of its pods."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pyinfra.api import FunctionCommand, Host, State, StringCommand
from pyinfra.api.command import QuoteString
from pyinfra.context import host

from gb10.facts.k3s import K3sInstall
from gb10.facts.reading.k3s import BINARY, DRAINED, KUBECTL, STATE, UNITS, K3sInstallation
from gb10.operations.kit.operation import Commands, known, operation, say
from gb10.operations.kit.peers import ask, last_line, peer_run
from gb10.operations.kit.scripts import run_script
from gb10.operations.kubectl import await_node, drain_command, member, reason
from gb10.programs.answer import RefusedError


@operation()
def upgrade(
    role: str, version: str, sha256: Mapping[str, str], node: str, head: Host, seconds: int, drain_seconds: int
) -> Commands:
    """
    Replace the binary of a running K3s: drain the node, replace, restart, wait for its kubelet, uncordon.

    + role: "server" or "agent"
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
    yield FunctionCommand(_upgrade_unless_held, (role, version, sha256, node, head, seconds, drain_seconds), {})


def _upgrade_unless_held(state: State, host: Host, *arguments: Any) -> bool:
    failed = [peer.name for peer in host.inventory if peer.data.get("gb10_upgrade_failed")]
    if failed:
        say(host, "UPGRADE_HELD", f"{host.name} is as it was: the upgrade of {', '.join(failed)} has failed")
        return False
    host.data.gb10_upgrade_failed = True  # until it is done: also where it ends in an exception
    host.data.gb10_upgrade_failed = not _upgrade(host, *arguments)
    return not host.data.gb10_upgrade_failed


def _upgrade(
    host: Host,
    role: str,
    version: str,
    sha256: Mapping[str, str],
    node: str,
    head: Host,
    seconds: int,
    drain_seconds: int,
) -> bool:
    return (
        _drain(host, node, head, drain_seconds)
        and _replace(host, version, sha256)
        and _run(host, run_script("start-unit.sh", UNITS[role], str(seconds), seconds=seconds + 60))
        and _await(host, version, node, head, seconds)
        and _let_in(host, node, head)
    )


def _drain(host: Host, node: str, head: Host, seconds: int) -> bool:
    found = member(head, node)
    if not found or not found.ready or found.cordoned:
        return True  # nothing runs there, or somebody else keeps it cordoned
    # The mark comes first: a run that is killed from here on knows that the node is ours to uncordon.
    if not _run(host, StringCommand(f"mkdir -p {STATE} && touch {DRAINED}")):
        return False
    try:
        ask(head, drain_command(node, seconds, stays_cordoned=False))
    except RefusedError as error:
        _run(host, StringCommand(f"rm -f {DRAINED}"))
        say(host, "DRAIN_FAILED", f"{node} is not drained, and runs as before: {error.reason}")
        return False
    return True


def _replace(host: Host, version: str, sha256: Mapping[str, str]) -> bool:
    if is_wanted(host.get_fact(K3sInstall), version, sha256):
        return True
    waiting = QuoteString(staged(version))
    beside = StringCommand("cp", waiting, f"{BINARY}.new && chmod 755 {BINARY}.new && sync {BINARY}.new")
    return _run(host, StringCommand(beside, f"&& mv -f {BINARY}.new {BINARY} && rm -f", waiting))


def _await(host: Host, version: str, node: str, head: Host, seconds: int) -> bool:
    if await_node(head, node, version, seconds):
        return True
    say(host, "NODE_NOT_READY", f"{node} does not report {version} within {seconds} s: {reason(head, node)}")
    return False


def _let_in(host: Host, node: str, head: Host) -> bool:
    install = host.get_fact(K3sInstall)
    if not install or not install.drained:
        return True
    done, output = peer_run(head, StringCommand(f"{KUBECTL} uncordon", QuoteString(node)))
    if not done:
        say(
            host,
            "NODE_NOT_READY",
            f"{node} is upgraded but still cordoned: {last_line(output)}",
        )
    return done and _run(host, StringCommand(f"rm -f {DRAINED}"))


def is_wanted(install: K3sInstallation | None, version: str, sha256: Mapping[str, str]) -> bool:
    """Return True if the installed binary has a version and, if this architecture has a pin, that digest."""
    if install is None or install.version != version:
        return False
    return install.binary_sha256 == sha256.get(install.architecture, install.binary_sha256)


def staged(version: str) -> str:
    """Given a version, return the path where its binary waits for the upgrade."""
    return f"{STATE}/k3s-{version}"


def _run(where: Host, command: StringCommand) -> bool:
    """Run a command on its own host, and log what it printed if it fails."""
    done, output = peer_run(where, command)
    if not done:
        for line in output.splitlines():
            where.log(line)
    return done
