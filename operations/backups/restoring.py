"""The steps of a restore, as actions on the node. If one fails, nothing of the backup stays there."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

from pyinfra.api import FunctionCommand, Host, State, StringCommand

from gb10.facts.k3s import K3sInstall
from gb10.facts.reading.k3s import SERVER, UNITS
from gb10.facts.reading.reports import report
from gb10.group_data.settings import RestoreSettings, SshSettings
from gb10.operations import docker
from gb10.operations.backups import restore_plan
from gb10.operations.backups.making import Progress
from gb10.operations.backups.reports import Remark
from gb10.operations.backups.restoration import FOLDER, Restoration, run_on_node
from gb10.operations.backups.restore_plan import ACCOUNTS, NETPLAN
from gb10.operations.kit.host_proof import proven_keys, ssh_host
from gb10.operations.kit.inventory import read_settings, ssh_address
from gb10.operations.kit.known_hosts import HostKey, KnownHosts, keys_of
from gb10.operations.kit.operation import Command, Commands, say
from gb10.operations.kit.peers import peer_run
from gb10.operations.kit.scripts import run_script
from gb10.operations.kit.trials import trial
from gb10.programs.answer import RefusedError
from gb10.programs.archive.files import FULL
from gb10.programs.archive.manifest import ROOT, Member

Members = Sequence[Member]

PUT_SECONDS = 3600
STOP_SECONDS = 120
START_SECONDS = 180
GUARD = "gb10-restore-end"  # the timer that removes what a killed controller left
GUARD_SECONDS = 2 * 3600


def cleared_up(commands: Iterable[Command]) -> Commands:
    """Yield the same commands, but if one fails or raises RefusedError, remove the backup from the node."""
    for command in commands:
        yield FunctionCommand(_run_or_clear, (command,), {})


def _run_or_clear(state: State, host: Host, command: StringCommand | FunctionCommand) -> bool:
    done = False
    try:
        if isinstance(command, FunctionCommand):
            done = command.function(state, host, *command.args, **command.kwargs) is not False
        else:
            done, output = peer_run(host, command)
            for line in () if done else output.splitlines():
                host.log(line)
    except RefusedError as error:
        say(host, error.code, f"{host.name}: {error.reason}")
    finally:
        if not done:
            clear(state, host)
    return done


def clear(state: State, host: Host) -> bool:
    """Remove the copy of the backup from the node."""
    command = f"rm -rf {FOLDER}; systemctl stop {GUARD}.timer 2>/dev/null; test ! -e {FOLDER}"
    return peer_run(host, StringCommand(command))[0]


def bring(state: State, host: Host, restoration: Restoration) -> None:
    """Unpack the backup on the node, which removes it by itself if this controller is killed."""
    guard = f"systemd-run --quiet --collect --unit={GUARD} --on-active={GUARD_SECONDS} rm -rf {FOLDER}"
    _run(host, StringCommand(f"systemctl stop {GUARD}.timer 2>/dev/null; {guard}"))
    backup = restoration.backup
    job = {"folder": FOLDER, "manifest_sha256": backup.manifest.sha256}
    try:
        with backup.opened() as stream:
            total = backup.path.stat().st_size
            progress = Progress(host, f"Send {backup.id} to {host.name}", total=total)
            run_on_node(host, "restore:unpack", job, PUT_SECONDS, progress.counted(stream))
    except OSError as error:
        code = "KEEPER_FULL" if error.errno in FULL else "BACKUP_DAMAGED"
        raise RefusedError(code, f"the controller cannot read {backup.path}: {error.strerror}") from error


def _run(host: Host, command: StringCommand) -> None:
    done, output = peer_run(host, command)
    if not done:
        raise RefusedError("RESTORE_FAILED", output)


# The steps ------------------------------------------------------------------------------------------------------------


def put_step(state: State, host: Host, restoration: Restoration, step: str, members: Members) -> None:
    """Put members of a step in place, and have the node take them over."""
    match step:
        case "users":
            plan = restoration.accounts
            sudoers = [m.node_path for m in members if m.type == "f" and str(m.node_path).startswith("/etc/sudoers")]
            job = {"commands": plan.commands, "created": plan.created, "accounts": ACCOUNTS, "sudoers": sudoers}
            run_on_node(host, "restore:users", {"folder": FOLDER, **job}, PUT_SECONDS)
            _put(host, restoration, "put", members)  # in a process that knows the new homes
        case "identity":
            _put(host, restoration, "put", members)
            _run(host, StringCommand('hostname "$(cat /etc/hostname)"'))
        case "docker":
            # daemon.json is put beside its place, where docker-config.sh looks for the next one
            _put(host, restoration, "docker", members, file=docker.FILE)
        case "system":
            _put(host, restoration, "system", members, units=restore_plan.restored_units(members))
        case "k3s":
            _put_k3s(host, restoration, members)
        case "sshd":
            _put_host_keys(host, restoration, members)
        case _:
            _put(host, restoration, "put", members)


def _put(host: Host, restoration: Restoration, function: str, members: Members, **job: Any) -> None:
    """Have a function of programs/backups/restore.py put members in place. Raise RefusedError if it fails."""
    paths = [str(member.node_path) for member in members]
    merge = [str(member.node_path) for member in members if restore_plan.is_merged(member)]
    whole = {"folder": FOLDER, "stamp": restoration.stamp, "paths": paths, "merge": merge, **job}
    run_on_node(host, f"restore:{function}", whole, PUT_SECONDS, paths=whole.get("paths", ()))
    for text in restore_plan.not_in_force(paths):
        report(host, Remark(f"note: {text}"))


def _put_k3s(host: Host, restoration: Restoration, members: Members) -> None:
    """Put K3s' files in place while it is stopped. If it was running, start it again, also after a failure."""
    install = host.get_fact(K3sInstall)
    unit = UNITS[install.role] if install and install.role and install.main_pid else None
    start: StringCommand = StringCommand("systemctl daemon-reload")
    if unit:
        peer_run(host, StringCommand(f"timeout {STOP_SECONDS} systemctl stop {unit}"))
        start = run_script("start-unit.sh", unit, str(START_SECONDS), seconds=START_SECONDS + 60)
    others = [member for member in members if not restore_plan.is_in_server(member)]
    try:
        _put(host, restoration, "k3s", others, server=SERVER if restoration.server_differs else None)
    finally:
        done, output = peer_run(host, start)
    if not done:
        raise RefusedError("SERVICE_FAILED", output)


def _put_host_keys(host: Host, restoration: Restoration, members: Members) -> None:
    """Give the node its old host keys, and have known_hosts follow."""
    keys = {HostKey(kind, blob) for kind, blob in restoration.host_keys.items()}
    _put(host, restoration, "sshd", members, keys=[f"{key.kind} {key.blob}" for key in keys])
    if read_settings(RestoreSettings).restore_known_hosts and not follow_host_keys(host, keys):
        report(host, Remark(f"note: {host.name} does not prove its old host keys, so known_hosts stays as it is"))


def follow_host_keys(host: Host, keys: Collection[HostKey]) -> bool:
    """Replace the keys of a host in known_hosts by those of `keys` that a new connection proves.

    Return False if it proves none. What the node says of its keys does not count: it could name another host's.
    """
    where = ssh_host(ssh_address(host), read_settings(SshSettings, host))
    try:
        shown = proven_keys(where)
    except ConnectionError:
        shown = []
    known = KnownHosts(where.known_hosts)
    before = {key.kind: key.blob for key in keys_of(known.about(where.name))}
    kept = {key.kind: key.blob for key in shown if before.get(key.kind) == key.blob}
    restored = {key.kind: key.blob for key in shown if key in keys}
    if restored:
        known.follow(where.name, {**kept, **restored}, before)
    return bool(restored)


def network(restoration: Restoration, members: Members, seconds: int) -> Commands:
    """Yield the commands that put the network's files in place.

    Those of netplan are tried first, and taken back if nobody has logged in anew after so many seconds.
    """
    netplan = [m for m in members if str(m.node_path).startswith(NETPLAN) and m.type == "f"]
    others = [member for member in members if member not in netplan]
    if others:
        yield FunctionCommand(put_step, (restoration, "network", others), {})
    if netplan:
        values = "".join(f"{str(member.node_path).removeprefix(NETPLAN)}\n" for member in netplan)
        content = f"{FOLDER}/tree/{ROOT}{NETPLAN}\n{restoration.stamp}\n"
        yield from trial("restore", "netplan-action.sh", content, seconds, "RESTORE_NETWORK", values=values)
        # The trial has put the texts in place; this gives the files the owners and times that they had.
        yield FunctionCommand(put_step, (restoration, "network", netplan), {})
