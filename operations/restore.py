"""Restore of a backup onto its node: only what differs, in an order in which nobody is locked out.

A backup of another node is refused before anything is changed. What a restore replaces is kept beside it. Each step is
planned from what the node has, so a second restore changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from pyinfra.api import FunctionCommand, Host, State, StringCommand
from pyinfra.context import host, state

from gb10.facts.docker import DockerEngine, RunningContainers, serving
from gb10.facts.file import TextFile
from gb10.facts.identity import NodeIdentity
from gb10.facts.k3s import K3sInstall
from gb10.facts.node import Settled
from gb10.facts.reading.reports import Refused, report
from gb10.operations import docker
from gb10.operations.backups.reports import Remark, Restoring, ToRestore
from gb10.operations.backups.restoration import Restoration
from gb10.operations.backups.restore_plan import STEPS, TITLES, described, foreign, may_show, other_k3s
from gb10.operations.backups.restoring import bring, clear, cleared_up, network, put_step
from gb10.operations.file import show_diff
from gb10.operations.kit.operation import Commands, await_condition, known, operation, refuse, say
from gb10.programs.archive.manifest import Member

SETTLE_SECONDS = 1800  # updates after an installation take their time
DOCKER_UNIT = "/etc/systemd/system/docker"


@operation()
def unusable(code: str, reason: str) -> Commands:
    """
    Refuse a backup that cannot be opened.

    + code: of the error
    + reason: what is wrong with it
    """
    yield from refuse(code, f"{host.name}: {reason}")


@operation()
def settled(seconds: int = SETTLE_SECONDS) -> Commands:
    """
    Wait until the installation of this node is over: it would undo the restore, or reboot in the middle of it.

    + seconds: time limit
    """
    if installs := known(Settled).installs:
        host.log(f"{host.name} still has to end {', '.join(installs)}")
        yield FunctionCommand(_await_settled, (seconds,), {})


def _await_settled(state: State, host: Host, seconds: int) -> bool:
    def is_settled() -> bool:
        found = host.get_fact(Settled)
        return bool(found) and not found.installs

    if await_condition(is_settled, seconds):
        return True
    say(host, "RESTORE_UNSETTLED", f"{host.name} was still being installed after {seconds} s: see what it waits for")
    return False


@operation()
def fits(restoration: Restoration, disturb: bool, patterns: Sequence[str]) -> Commands:
    """
    Refuse a backup that is not of this node, or that would break it.

    + restoration: of this node
    + disturb: Docker may be restarted although a container is serving
    + patterns: names of containers that count as serving
    """
    found = [*_refusals(restoration), *_disturbed(restoration, disturb, patterns)]
    refusals = [refusal for refusal in found if refusal.code not in restoration.accept]
    for refusal in refusals:
        yield from refuse(refusal.code, f"{host.name}: {refusal.text}")
    if state.is_executing and not refusals:
        report(host, Restoring(tuple(restoration.steps)))
    elif not state.is_executing:
        backup = restoration.backup
        for part in restoration.only or ():
            if part not in backup.manifest.parts:
                report(host, Remark(f"note: {backup.id} holds nothing of {part}"))
        for newer in backup.passed_over:
            report(host, Remark(f"note: {newer} is newer, and passed over: no copy of it is proven"))
        for step in () if refusals else STEPS:
            _describe(restoration, step)


def _refusals(restoration: Restoration) -> list[Refused]:
    backup, install, identity = restoration.backup, known(K3sInstall), known(NodeIdentity)
    manifest = backup.manifest
    found = list(foreign(manifest, restoration.name, identity))
    if not backup.proven:
        why = "; ".join(backup.reasons) or "nobody has tried it"
        found.append(Refused("RESTORE_UNPROVEN", f"no copy of {backup.id} is proven: {why}"))
    machine = manifest.about.get("machine") or {}
    former = backup.before_wipe() if backup.is_latest and machine.get("machine_id") == identity.machine_id else None
    if former:
        text = f"the newest backup, {backup.id}, is of the new installation, with its host keys"
        found.append(Refused("RESTORE_AFTER_WIPE", f"{text}; {former} is of the one before"))
    if restoration.selection["k3s"]:
        found += other_k3s(manifest, install.version if install else None, restoration.k3s_version)
    found += restoration.accounts.refusals
    size, free = 2 * sum(member.size for member in manifest.members), restoration.comparison.free
    if free < size:
        found.append(Refused("DISK_FULL", f"{size >> 20} MiB are needed, {free >> 20} MiB are free"))
    return found


def _describe(restoration: Restoration, step: str) -> None:
    """Report what a step would change: of secrets no more than a digest."""
    for command in restoration.accounts.commands if step == "users" else ():
        report(host, ToRestore(f"to run: {' '.join(command)}"))
    comparison = restoration.comparison
    for member in restoration.different(step):
        path = str(member.node_path)
        how = comparison.different.get(path)
        if how is None:
            continue
        report(host, ToRestore(f"to restore: {described(path, how, member.sha256)}"))
        if state.config.DIFF and may_show(path, how[0], restoration.public, comparison.readable):
            text = _text(restoration.contents.get(member.path))
            current = known(TextFile, path=path) if how[0] == "content" else None
            if text is not None:
                show_diff(path, current, text)


def _text(content: bytes | None) -> str | None:
    try:
        return None if content is None or b"\0" in content else content.decode()
    except UnicodeDecodeError:
        return None


@operation()
def brought(restoration: Restoration) -> Commands:
    """
    Unpack the backup on the node, closed to others, unless nothing is to be restored.

    + restoration: of this node
    """
    if not restoration.is_needed:
        host.noop(f"all is as in {restoration.backup.id}")
        return
    yield from cleared_up([FunctionCommand(bring, (restoration,), {})])


@operation()
def removed(restoration: Restoration) -> Commands:
    """
    Remove the copy of the backup from the node.

    + restoration: of this node
    """
    if not restoration.comparison.left and not restoration.is_needed:
        host.noop("no copy of the backup is on the node")
        return
    yield FunctionCommand(clear, (), {})


@operation()
def step(restoration: Restoration, step: str, disturb: bool, patterns: Sequence[str], seconds: int) -> Commands:
    """
    Put the files of one step in place, and have the services that read them take them over.

    + restoration: of this node
    + step: one of STEPS
    + disturb: restart Docker although a container is serving
    + patterns: names of containers that count as serving
    + seconds: time for a new login after a change of the network; without one the node takes the change back
    """
    if not restoration.needs(step):
        host.noop(f"{TITLES[step]}: as in the backup")
        return
    members = restoration.different(step)
    if step == "docker":
        yield from cleared_up(_docker(restoration, members, disturb, patterns))
    elif step == "network":
        yield from cleared_up(network(restoration, members, seconds))
    else:
        yield from cleared_up([FunctionCommand(put_step, (restoration, step, members), {})])


def _docker(restoration: Restoration, members: Sequence[Member], disturb: bool, patterns: Sequence[str]) -> Commands:
    # Checked once more: serving may have begun since the node was compared with the backup.
    refusals = _disturbed(restoration, disturb, patterns)
    for refusal in refusals:
        yield from refuse(refusal.code, f"{host.name}: {refusal.text}")
    if refusals:
        return
    restarts = _restarts(members)
    yield FunctionCommand(put_step, (restoration, "docker", members), {})
    if restarts and any(map(_is_daemon_json, members)):
        yield docker.take_over("restart", "", 120)
    elif restarts:
        yield StringCommand(f"timeout {docker.RESTART_SECONDS} systemctl restart docker.service")


def _disturbed(restoration: Restoration, disturb: bool, patterns: Sequence[str]) -> list[Refused]:
    """Return the refusal of a restore that would restart Docker while a container is serving."""
    if disturb or not _restarts(restoration.different("docker")):
        return []
    running = known(RunningContainers)
    busy = serving(running or (), patterns)
    return [Refused("SERVING_RUNS", f"Docker would be restarted, and {', '.join(busy)} may be serving")] if busy else []


def _restarts(members: Sequence[Member]) -> bool:
    """Return True if Docker runs, and has to be restarted to take these files over."""
    restarting = any(_is_daemon_json(m) or str(m.node_path).startswith(DOCKER_UNIT) for m in members)
    return restarting and bool(known(DockerEngine))


def _is_daemon_json(member: Member) -> bool:
    return member.node_path == docker.FILE and member.type == "f"
