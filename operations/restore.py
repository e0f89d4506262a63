"""A backup put back onto a node: what differs and nothing else, in an order in which nobody is locked out.

The contract: a node that a backup does not belong to is refused before anything is changed; what a restore replaces is
kept beside it; each step is planned from what the node has, so that a second restore changes nothing.
"""

from __future__ import annotations

import errno
import functools
import json
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from pyinfra.api import FunctionCommand, Host, State, StringCommand, operation
from pyinfra.context import host, state

from gb10.facts.containers import RunningContainers, serving
from gb10.facts.docker import DockerEngine
from gb10.facts.file import TextFile
from gb10.facts.identity import NodeIdentity
from gb10.facts.k3s import K3sInstall
from gb10.facts.reading.k3s import SERVER, UNITS
from gb10.facts.settled import Settled
from gb10.group_data.settings import RestoreSettings
from gb10.operations import docker
from gb10.operations.backups import restore_plan
from gb10.operations.backups.restore_plan import ACCOUNTS, STEPS, AccountPlan, NodeLook, Selection
from gb10.operations.backups.restore_source import Backup
from gb10.operations.copying.plan import human
from gb10.operations.file import show_diff
from gb10.operations.kit.failures import UnreadFactError, guarded, known, refuse, say
from gb10.operations.kit.inventory import known_as, known_hosts_file, read_settings
from gb10.operations.kit.known_hosts import KnownHosts, public_keys
from gb10.operations.kit.scripts import run_script
from gb10.operations.kit.streams import BrokenStreamError, stream_program
from gb10.operations.kit.trials import trial
from gb10.operations.kit.waiting import await_condition
from gb10.operations.preflight import Refusal
from gb10.programs.archive import ROOT, ArchiveError, Member

Commands = Generator[StringCommand | FunctionCommand, None, None]

FOLDER = "/var/lib/gb10/restore"
LOOK_SECONDS = 300
SETTLE_SECONDS = 1800  # updates after an installation take their time
PUT_SECONDS = 3600
GUARD = "gb10-restore-end"  # the timer that removes what a killed controller left
GUARD_SECONDS = 2 * 3600
CHUNK_BYTES = 1 << 18
TELL_SECONDS = 10  # after which to say how far the transfer is
FULL = (errno.ENOSPC, errno.EDQUOT)
HOST_KEYS = "/etc/ssh/ssh_host_"
NETPLAN = "/etc/netplan/"
DOCKER_UNIT = "/etc/systemd/system/docker"


@dataclass
class Restoration:
    """One node, the backup that it is to get, and what was seen of it. `accept`: refusals that a person overrode."""

    node: Host
    name: str  # by which backups know the node
    backup: Backup
    only: tuple[str, ...] | None
    k3s_version: str
    accept: frozenset[str] = frozenset()
    stamp: str = field(default_factory=lambda: time.strftime("%Y%m%dT%H%M%SZ", time.gmtime()))
    _looks: dict[bool, NodeLook] = field(default_factory=dict)

    @functools.cached_property
    def selection(self) -> Selection:
        return restore_plan.select(self.backup.manifest, self.only)

    @property
    def steps(self) -> tuple[str, ...]:
        """The steps for which the backup has anything."""
        return tuple(step for step in STEPS if self.selection[step])

    @property
    def vain(self) -> tuple[str, ...]:
        """The parts that somebody wants, and that the backup does not have."""
        return tuple(part for part in self.only or () if part not in self.backup.manifest.parts)

    @functools.cached_property
    def contents(self) -> dict[str, bytes]:
        """The small files of the backup that the plan depends on: none of them leaves this process."""
        return self.backup.contents(
            lambda member: (
                restore_plan.is_merged(member)
                or member.path == ACCOUNTS
                or (str(member.node_path).startswith(HOST_KEYS) and member.path.endswith(".pub"))
                or (state.config.DIFF and member.node_path in self.public)
            )
        )

    @functools.cached_property
    def public(self) -> frozenset[str]:
        """The paths whose text a diff may show, as far as the backup is concerned."""
        return restore_plan.public_texts(self.backup.manifest.members)

    @property
    def look(self) -> NodeLook:
        """What the node has; looked at once to plan, and once more to act. Raise UnreadFactError."""
        if state.is_executing not in self._looks:
            self._looks[state.is_executing] = self._look()
        return self._looks[state.is_executing]

    def different(self, step: str) -> list[Member]:
        """The members of a step that the node does not have as the backup has them."""
        members = self.selection[step]
        if step == "k3s" and self.server_differs:
            return [
                m for m in members if restore_plan.in_server(str(m.node_path)) or m.node_path in self.look.different
            ]
        return [member for member in members if member.node_path in self.look.different]

    @property
    def server_differs(self) -> bool:
        """Whether the node lacks the K3s server of the backup."""
        marks = restore_plan.server_marks(self.selection["k3s"])
        return any(mark.node_path in self.look.different for mark in marks)

    @property
    def accounts(self) -> AccountPlan:
        if ACCOUNTS not in self.contents or not (self.only is None or "users" in self.only):
            return AccountPlan()
        lines = json.loads(self.contents[ACCOUNTS])
        return restore_plan.plan_accounts(
            restore_plan.read_accounts("\n".join(lines["passwd"])),
            restore_plan.read_groups("\n".join(lines["group"])),
            self.look,
        )

    def needs(self, step: str) -> bool:
        """Whether a step has anything to do."""
        return bool(self.different(step)) or (step == "users" and bool(self.accounts.commands))

    def _look(self) -> NodeLook:
        wanted = [restore_plan.wanted(member, self.contents) for member in self._compared()]
        printed: list[bytes] = []
        trouble = run(self.node, "look", {"wanted": wanted, "folder": FOLDER}, LOOK_SECONDS, take=printed.append)
        if trouble:
            self.node.log(trouble.message)
            raise UnreadFactError("what is to be restored")
        found = json.loads(b"".join(printed))
        accounts = found["accounts"]
        return NodeLook(
            different=found["different"],
            users=accounts["users"],
            groups={name: (gid, tuple(members)) for name, (gid, members) in accounts["groups"].items()},
            busy=frozenset(accounts["busy"]),
            free=found["free"],
            left=found["left"],
            open=frozenset(found["open"]),
        )

    def _compared(self) -> list[Member]:
        marks = restore_plan.server_marks(self.selection["k3s"])
        others = [m for m in self.selection.members if not restore_plan.in_server(str(m.node_path))]
        return [*others, *marks]


def _sudo(node: Host) -> bool:
    arguments = node.current_op_global_arguments
    return bool(arguments and arguments.get("_sudo"))


def run(node: Host, function: str, job: Mapping[str, Any], seconds: int, **streams: Any) -> Refusal | None:
    """Call a function of restore_node.py; return why it did not come to its end, or None. Its notes are logged.

    + streams: give, take: see gb10.operations.kit.streams
    """
    sudo = _sudo(node)
    try:
        ended = stream_program(
            node, ("archive", "backups.restore"), {**job, "function": function}, sudo=sudo, seconds=seconds, **streams
        )
    except BrokenStreamError as error:
        return Refusal("NODE_UNREACHABLE", str(error))
    for line in ended.lines:
        if line.startswith("note: "):
            node.log(line)
    if ended.status == 0:
        return None
    last = ended.lines[-1] if ended.lines else f"it ended with status {ended.status}"
    return Refusal(*(ended.refusal or ("RESTORE_FAILED", last)))


def shell(node: Host, command: StringCommand) -> tuple[bool, str]:
    """Run a command on the node of an operation, as root where it may; return whether it succeeded, and its output."""
    sudo = _sudo(node)
    done, output = node.run_shell_command(
        command, print_output=state.print_output, print_input=False, **{"_sudo": sudo, **command.connector_arguments}
    )
    return done, output.output


# Operations -----------------------------------------------------------------------------------------------------------


@operation()
@guarded
def unusable(code: str, reason: str) -> Commands:
    """
    Refuse a backup that cannot be opened.

    + code: of the error
    + reason: what is wrong with it
    """
    yield from refuse(code, f"{host.name}: {reason}")


@operation()
@guarded
def settled(seconds: int = SETTLE_SECONDS) -> Commands:
    """
    Wait until the installation of this node is over: it would undo what is restored, or boot in the middle of it.

    + seconds: for how long at most
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
@guarded
def fitting(restoration: Restoration, disturb: bool, patterns: Sequence[str]) -> Commands:
    """
    Refuse a backup that is not of this node, or that would break it.

    + restoration: of this node
    + disturb: Docker may be restarted although a container is serving
    + patterns: names of containers that count as serving
    """
    found = [*_refusals(restoration), *_disturbed(restoration, disturb, patterns)]
    refusals = [refusal for refusal in found if refusal.code not in restoration.accept]
    for refusal in refusals:
        yield from refuse(refusal.code, f"{host.name}: {refusal.message}")
    if not state.is_executing:
        for part in restoration.vain:
            host.log(f"note: {restoration.backup.id} holds nothing of {part}")
        for newer in restoration.backup.passed_over:
            host.log(f"note: {newer} is newer, and passed over: no copy of it is proven")
    if not state.is_executing and not refusals:
        for step in STEPS:
            describe(restoration, step)


def _refusals(restoration: Restoration) -> list[Refusal]:
    backup, install, identity = restoration.backup, known(K3sInstall), known(NodeIdentity)
    manifest = backup.manifest
    found = list(restore_plan.foreign(manifest, restoration.name, identity))
    if not backup.proven:
        found.append(restore_plan.unproven(backup.id, backup.reasons))
    machine = manifest.about.get("machine") or {}
    former = backup.before_wipe() if backup.is_latest and machine.get("machine_id") == identity.machine_id else None
    if former:
        found.append(restore_plan.after_wipe(backup.id, former))
    if restoration.selection["k3s"]:
        installed = install.version if install else None
        found += restore_plan.other_k3s(manifest, installed, restoration.k3s_version)
    found += restoration.accounts.refusals
    size = 2 * sum(member.size for member in manifest.members)
    if restoration.look.free < size:
        found.append(Refusal("DISK_FULL", f"{size >> 20} MiB are needed, {restoration.look.free >> 20} MiB are free"))
    return found


def describe(restoration: Restoration, step: str) -> None:
    """Say what a step would change: of secrets not more than a digest."""
    for command in restoration.accounts.commands if step == "users" else ():
        host.log(f"to run: {' '.join(command)}")
    for member in restoration.different(step):
        path = str(member.node_path)
        how = restoration.look.different.get(path)
        if how is None:
            continue
        host.log(f"to restore: {restore_plan.described(path, how, member.sha256)}")
        if state.config.DIFF and may_show(path, how[0], restoration.public, restoration.look.open):
            text = _text(restoration.contents.get(member.path))
            current = known(TextFile, path=path) if how[0] == "content" else None
            if text is not None:
                show_diff(path, current.content if current else "", text)


def may_show(path: str, how: str, public: frozenset[str], readable: frozenset[str]) -> bool:
    """Whether a diff may show what of a file would change: nothing of it is, or was, closed to anybody on the node.

    + how: the word for how it differs, see restore_node.py
    + public, readable: the paths of the backup, and of the node as it is, that everybody can read
    """
    return path in public and (how == "absent" or (how == "content" and path in readable))


def _text(content: bytes | None) -> str | None:
    try:
        return None if content is None or b"\0" in content else content.decode()
    except UnicodeDecodeError:
        return None


@operation()
@guarded
def brought(restoration: Restoration) -> Commands:
    """
    Bring the backup to the node, closed to others, unless nothing is to be restored from it.

    + restoration: of this node
    """
    if not any(map(restoration.needs, STEPS)):
        host.noop(f"all is as in {restoration.backup.id}")
        return
    yield from cleared_up([FunctionCommand(_bring, (restoration,), {})])


def _bring(state: State, host: Host, restoration: Restoration) -> bool:
    """Unpack the backup on the node. Should this controller be killed, the node removes it by itself."""
    node, folder = restoration.node, FOLDER
    guard = f"systemd-run --quiet --collect --unit={GUARD} --on-active={GUARD_SECONDS} rm -rf {folder}"
    done, output = shell(node, StringCommand(f"systemctl stop {GUARD}.timer 2>/dev/null; {guard}"))
    if not done:
        return _failed(node, Refusal("RESTORE_FAILED", output))
    job = {"folder": folder, "manifest_sha256": restoration.backup.manifest.sha256}
    try:
        with restoration.backup.opened() as stream:
            chunks = _chunks(node, stream, restoration.backup.path.stat().st_size)
            trouble = run(node, "unpack", job, PUT_SECONDS, give=chunks)
    except ArchiveError as error:
        trouble = Refusal(error.code, error.reason)
    except OSError as error:
        code = "KEEPER_FULL" if error.errno in FULL else "BACKUP_DAMAGED"
        trouble = Refusal(code, f"the controller cannot read {restoration.backup.path}: {error.strerror}")
    return trouble is None or _failed(node, trouble)


def _chunks(node: Host, stream: BinaryIO, total: int) -> Iterator[bytes]:
    """What is to be sent; now and then it is said how far it is."""
    sent, told = 0, time.monotonic()
    while chunk := stream.read(CHUNK_BYTES):
        yield chunk
        sent += len(chunk)
        if time.monotonic() - told > TELL_SECONDS:
            told = time.monotonic()
            node.log(f"sent {human(sent)} of {human(total)}")


def _failed(node: Host, trouble: Refusal) -> bool:
    """Say why a program ended."""
    say(node, trouble.code, f"{node.name}: {trouble.message}")
    return False


def _clear(node: Host) -> bool:
    command = f"rm -rf {FOLDER}; systemctl stop {GUARD}.timer 2>/dev/null; test ! -e {FOLDER}"
    return shell(node, StringCommand(command))[0]


@operation()
@guarded
def removed(restoration: Restoration) -> Commands:
    """
    Remove the copy of the backup from the node.

    + restoration: of this node
    """
    if not restoration.look.left and not any(map(restoration.needs, STEPS)):
        host.noop("no copy of the backup is on the node")
        return
    yield FunctionCommand(_remove, (), {})


def _remove(state: State, host: Host) -> bool:
    return _clear(host)


@operation()
@guarded
def step(restoration: Restoration, step: str, disturb: bool, patterns: Sequence[str], seconds: int) -> Commands:
    """
    Put a step's files in place, and have what reads them take them over.

    + restoration: of this node
    + step: which of STEPS
    + disturb: restart Docker although a container is serving
    + patterns: names of containers that count as serving
    + seconds: how long the node waits for a new login after a change of its network before it takes that back
    """
    if not restoration.needs(step):
        host.noop(f"{restore_plan.TITLES[step]}: as in the backup")
        return
    members = restoration.different(step)
    if step == "docker":
        yield from cleared_up(_docker(restoration, members, disturb, patterns))
    elif step == "network":
        yield from cleared_up(_network(restoration, members, seconds))
    else:
        yield from cleared_up([FunctionCommand(_ACTIONS[step], (restoration, members), {})])


def cleared_up(commands: Iterable[StringCommand | FunctionCommand]) -> Commands:
    """Yield the same commands, but where one fails nothing of the backup stays on the node."""
    for command in commands:
        yield FunctionCommand(_done_or_cleared, (command,), {})


def _done_or_cleared(state: State, host: Host, command: StringCommand | FunctionCommand) -> bool:
    done = False
    try:
        if isinstance(command, FunctionCommand):
            done = command.function(state, host, *command.args, **command.kwargs) is not False
        else:
            done, output = shell(host, command)
            for line in () if done else output.splitlines():
                host.log(line)
    finally:
        if not done:
            _clear(host)
    return done


def _put(node: Host, restoration: Restoration, function: str, members: Sequence[Member], **job: Any) -> bool:
    paths = [str(member.node_path) for member in members]
    merge = [str(member.node_path) for member in members if restore_plan.is_merged(member)]
    whole = {"folder": FOLDER, "stamp": restoration.stamp, "paths": paths, "merge": merge, **job}
    trouble = run(node, function, whole, PUT_SECONDS)
    if trouble is None:
        for text in restore_plan.not_in_force(paths):
            node.log(f"note: {text}")
    return trouble is None or _failed(node, trouble)


def _place(state: State, host: Host, restoration: Restoration, members: Sequence[Member]) -> bool:
    return _put(host, restoration, "put", members)


def _users(state: State, host: Host, restoration: Restoration, members: Sequence[Member]) -> bool:
    plan = restoration.accounts
    sudoers = [m.node_path for m in members if m.type == "f" and str(m.node_path).startswith("/etc/sudoers")]
    job = {"commands": plan.commands, "created": plan.created, "accounts": ACCOUNTS, "sudoers": sudoers}
    return _put(host, restoration, "users", members, **job)


def _identity(state: State, host: Host, restoration: Restoration, members: Sequence[Member]) -> bool:
    if not _put(host, restoration, "put", members):
        return False
    done, output = shell(host, StringCommand('hostname "$(cat /etc/hostname)"'))
    return done or _failed(host, Refusal("RESTORE_FAILED", output))


def _system(state: State, host: Host, restoration: Restoration, members: Sequence[Member]) -> bool:
    return _put(host, restoration, "system", members, units=restored_units(members))


def restored_units(members: Sequence[Member]) -> list[str]:
    """The units of systemd that an administrator added, among restored files: they are started if they are enabled."""
    paths = [str(member.node_path) for member in members if member.type == "f"]
    units = [path.removeprefix("/etc/systemd/system/") for path in paths if path.startswith("/etc/systemd/system/")]
    ends = (".service", ".timer", ".socket", ".mount", ".path")
    return [unit for unit in units if "/" not in unit and "@" not in unit and unit.endswith(ends)]


def _k3s(state: State, host: Host, restoration: Restoration, members: Sequence[Member]) -> bool:
    """Put K3s' files in place while it stands still. One that ran is started again."""
    install = host.get_fact(K3sInstall)
    unit = UNITS[install.role] if install and install.role and install.main_pid else None
    if unit:
        shell(host, StringCommand(f"timeout 120 systemctl stop {unit}"))
    server = SERVER if restoration.server_differs else None
    others = [member for member in members if not restore_plan.in_server(str(member.node_path))]
    put = _put(host, restoration, "k3s", others, server=server)
    done, output = shell(host, run_script("start-unit.sh", unit, "180", seconds=240) if unit else _RELOAD)
    return put and (done or _failed(host, Refusal("SERVICE_FAILED", output)))


_RELOAD = StringCommand("systemctl daemon-reload")


def _sshd(state: State, host: Host, restoration: Restoration, members: Sequence[Member]) -> bool:
    """Give the node its old host keys, and have the controller know it by them, where its known_hosts had the new."""
    show = StringCommand(f"cat {HOST_KEYS}*.pub")
    before = public_keys(shell(host, show)[1].splitlines())
    keys = restored_keys(restoration)
    if not _put(host, restoration, "sshd", members, keys=[f"{kind} {key}" for kind, key in keys.items()]):
        return False
    if read_settings(RestoreSettings).restore_known_hosts:
        KnownHosts(known_hosts_file(host)).follow(known_as(host), {**before, **keys}, before)
    return True


def restored_keys(restoration: Restoration) -> dict[str, str]:
    """The public host keys of the backup, by type."""
    found = [text for name, text in restoration.contents.items() if name.startswith(ROOT + HOST_KEYS)]
    return public_keys(line for text in found for line in text.decode().splitlines())


Action = Callable[[State, Host, Restoration, Sequence[Member]], bool]
_ACTIONS: dict[str, Action] = {
    "users": _users,
    "identity": _identity,
    "system": _system,
    "extra": _place,
    "k3s": _k3s,
    "sshd": _sshd,
}


# Docker and the network: taken back where they do not work ------------------------------------------------------------


def _disturbed(restoration: Restoration, disturb: bool, patterns: Sequence[str]) -> list[Refusal]:
    """The refusal to restart Docker under a container that is serving, if that is what the restore would do."""
    if disturb or not _restarts(restoration.different("docker")):
        return []
    running = known(RunningContainers)
    busy = serving(running or (), patterns)
    return [Refusal("SERVING_RUNS", f"Docker would be restarted, and {', '.join(busy)} may be serving")] if busy else []


def _restarts(members: Sequence[Member]) -> bool:
    """Whether Docker takes these files over only when it is restarted, and runs."""
    return any(_is_daemon_json(m) or str(m.node_path).startswith(DOCKER_UNIT) for m in members) and bool(
        known(DockerEngine)
    )


def _is_daemon_json(member: Member) -> bool:
    return member.node_path == docker.FILE and member.type == "f"


def _docker(restoration: Restoration, members: Sequence[Member], disturb: bool, patterns: Sequence[str]) -> Commands:
    # Looked at once more: it may have begun since the node was compared with the backup.
    refusals = _disturbed(restoration, disturb, patterns)
    for refusal in refusals:
        yield from refuse(refusal.code, f"{host.name}: {refusal.message}")
    if refusals:
        return
    restarts = _restarts(members)
    file = any(map(_is_daemon_json, members))
    yield FunctionCommand(_put_docker, (restoration, members), {})
    if restarts and file:
        yield run_script("docker-config.sh", docker.FILE, "restart", "", "120", seconds=3 * docker.RESTART_SECONDS)
    elif restarts:
        yield StringCommand(f"timeout {docker.RESTART_SECONDS} systemctl restart docker.service")


def _put_docker(state: State, host: Host, restoration: Restoration, members: Sequence[Member]) -> bool:
    """Put Docker's files in place, but daemon.json beside it, where docker-config.sh finds what is to be next."""
    return _put(host, restoration, "docker", members, file=docker.FILE)


def _network(restoration: Restoration, members: Sequence[Member], seconds: int) -> Commands:
    netplan = [m for m in members if str(m.node_path).startswith(NETPLAN) and m.type == "f"]
    others = [member for member in members if member not in netplan]
    if others:
        yield FunctionCommand(_place, (restoration, others), {})
    if netplan:
        values = "".join(f"{str(member.node_path).removeprefix(NETPLAN)}\n" for member in netplan)
        content = f"{FOLDER}/tree/{ROOT}{NETPLAN}\n{restoration.stamp}\n"
        *tried, confirmed = trial("restore", "netplan-action.sh", content, seconds, "RESTORE_NETWORK", values=values)
        yield from tried
        yield FunctionCommand(_keep_network, (restoration, netplan, confirmed), {})


def _keep_network(
    state: State, host: Host, restoration: Restoration, members: Sequence[Member], confirmed: FunctionCommand
) -> bool:
    """Confirm the trial; then give the files the owners and times that they had."""
    if not confirmed.function(state, host, *confirmed.args):
        return False
    return _put(host, restoration, "put", members)
