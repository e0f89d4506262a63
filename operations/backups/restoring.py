"""The steps of a restore, as actions on the node: whatever fails, nothing of the backup stays there."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, BinaryIO

from pyinfra.api import FunctionCommand, Host, State, StringCommand

from gb10.facts.k3s import K3sInstall
from gb10.facts.reading.k3s import SERVER, UNITS
from gb10.facts.reading.reports import report
from gb10.group_data.settings import RestoreSettings
from gb10.operations.backups import restore_plan
from gb10.operations.backups.node_program import FOLDER, run_on_node
from gb10.operations.backups.parts import ACCOUNTS, HOST_KEYS, NETPLAN
from gb10.operations.backups.reports import Remark, Sent
from gb10.operations.backups.restoration import Restoration
from gb10.operations.kit.inventory import known_as, known_hosts_file, read_settings
from gb10.operations.kit.known_hosts import KnownHosts, public_keys
from gb10.operations.kit.operation import Command, Commands, say
from gb10.operations.kit.peers import peer_run
from gb10.operations.kit.scripts import run_script
from gb10.operations.kit.trials import trial
from gb10.programs.answer import RefusedError
from gb10.programs.archive.files import CHUNK, FULL
from gb10.programs.archive.manifest import ROOT, Member

Members = Sequence[Member]

PUT_SECONDS = 3600
STOP_SECONDS = 120
START_SECONDS = 180
SENT_SECONDS = 10  # between two reports of how much has been sent
GUARD = "gb10-restore-end"  # the timer that removes what a killed controller left
GUARD_SECONDS = 2 * 3600


def cleared_up(commands: Iterable[Command]) -> Commands:
    """Yield the same commands, but if one fails nothing of the backup stays on the node."""
    for command in commands:
        yield FunctionCommand(_done_or_cleared, (command,), {})


def _done_or_cleared(state: State, host: Host, command: StringCommand | FunctionCommand) -> bool:
    done = False
    try:
        if isinstance(command, FunctionCommand):
            done = command.function(state, host, *command.args, **command.kwargs) is not False
        else:
            done, output = peer_run(host, command)
            for line in () if done else output.splitlines():
                host.log(line)
    finally:
        if not done:
            clear(state, host)
    return done


def clear(state: State, host: Host) -> bool:
    """Remove the copy of the backup from the node."""
    command = f"rm -rf {FOLDER}; systemctl stop {GUARD}.timer 2>/dev/null; test ! -e {FOLDER}"
    return peer_run(host, StringCommand(command))[0]


def _failed(host: Host, code: str, reason: str) -> bool:
    say(host, code, f"{host.name}: {reason}")
    return False


# Bringing it ----------------------------------------------------------------------------------------------------------


def bring(state: State, host: Host, restoration: Restoration) -> bool:
    """Unpack the backup on the node, which removes it by itself if this controller is killed."""
    guard = f"systemd-run --quiet --collect --unit={GUARD} --on-active={GUARD_SECONDS} rm -rf {FOLDER}"
    done, output = peer_run(host, StringCommand(f"systemctl stop {GUARD}.timer 2>/dev/null; {guard}"))
    if not done:
        return _failed(host, "RESTORE_FAILED", output)
    backup = restoration.backup
    job = {"folder": FOLDER, "manifest_sha256": backup.manifest.sha256}
    try:
        with backup.opened() as stream:
            chunks = _chunks(host, stream, backup.path.stat().st_size)
            run_on_node(host, "restore:unpack", job, PUT_SECONDS, chunks)
    except RefusedError as error:
        return _failed(host, error.code, error.reason)
    except OSError as error:
        code = "KEEPER_FULL" if error.errno in FULL else "BACKUP_DAMAGED"
        return _failed(host, code, f"the controller cannot read {backup.path}: {error.strerror}")
    return True


def _chunks(host: Host, stream: BinaryIO, total: int) -> Iterator[bytes]:
    """Yield what is to be sent; report now and then how much has been."""
    sent, told = 0, time.monotonic()
    while chunk := stream.read(CHUNK):
        yield chunk
        sent += len(chunk)
        if time.monotonic() - told > SENT_SECONDS:
            told = time.monotonic()
            report(host, Sent(sent, total))


# Putting it in place --------------------------------------------------------------------------------------------------


def _put(host: Host, restoration: Restoration, function: str, members: Members, **job: Any) -> bool:
    """Have a function of programs/backups/restore.py put members in place; return True if it came to its end."""
    paths = [str(member.node_path) for member in members]
    merge = [str(member.node_path) for member in members if restore_plan.is_merged(member)]
    whole = {"folder": FOLDER, "stamp": restoration.stamp, "paths": paths, "merge": merge, **job}
    try:
        run_on_node(host, f"restore:{function}", whole, PUT_SECONDS)
    except RefusedError as error:
        return _failed(host, error.code, error.reason)
    for text in restore_plan.not_in_force(paths):
        report(host, Remark(text))
    return True


def _place(state: State, host: Host, restoration: Restoration, members: Members) -> bool:
    return _put(host, restoration, "put", members)


def _users(state: State, host: Host, restoration: Restoration, members: Members) -> bool:
    plan = restoration.accounts
    sudoers = [m.node_path for m in members if m.type == "f" and str(m.node_path).startswith("/etc/sudoers")]
    job = {"commands": plan.commands, "created": plan.created, "accounts": ACCOUNTS, "sudoers": sudoers}
    return _put(host, restoration, "users", members, **job)


def _identity(state: State, host: Host, restoration: Restoration, members: Members) -> bool:
    if not _put(host, restoration, "put", members):
        return False
    done, output = peer_run(host, StringCommand('hostname "$(cat /etc/hostname)"'))
    return done or _failed(host, "RESTORE_FAILED", output)


def _system(state: State, host: Host, restoration: Restoration, members: Members) -> bool:
    return _put(host, restoration, "system", members, units=restore_plan.restored_units(members))


def _k3s(state: State, host: Host, restoration: Restoration, members: Members) -> bool:
    """Put K3s' files in place while it stands still. One that ran is started again."""
    install = host.get_fact(K3sInstall)
    unit = UNITS[install.role] if install and install.role and install.main_pid else None
    if unit:
        peer_run(host, StringCommand(f"timeout {STOP_SECONDS} systemctl stop {unit}"))
    others = [member for member in members if not restore_plan.in_server(member)]
    put = _put(host, restoration, "k3s", others, server=SERVER if restoration.server_differs else None)
    seconds = START_SECONDS
    start = run_script("start-unit.sh", unit, str(seconds), seconds=seconds + 60) if unit else _RELOAD
    done, output = peer_run(host, start)
    return put and (done or _failed(host, "SERVICE_FAILED", output))


_RELOAD = StringCommand("systemctl daemon-reload")


def _sshd(state: State, host: Host, restoration: Restoration, members: Members) -> bool:
    """Give the node its old host keys, and replace the new ones by them in the controller's known_hosts."""
    before = public_keys(peer_run(host, StringCommand(f"cat {HOST_KEYS}*.pub"))[1].splitlines())
    keys = restoration.host_keys
    if not _put(host, restoration, "sshd", members, keys=[f"{kind} {key}" for kind, key in keys.items()]):
        return False
    if read_settings(RestoreSettings).restore_known_hosts:
        KnownHosts(known_hosts_file(host)).follow(known_as(host), {**before, **keys}, before)
    return True


Action = Callable[[State, Host, Restoration, Members], bool]
ACTIONS: dict[str, Action] = {
    "users": _users,
    "identity": _identity,
    "system": _system,
    "extra": _place,
    "k3s": _k3s,
    "sshd": _sshd,
}


# The network: taken back if nobody can come in any more ---------------------------------------------------------------


def network(restoration: Restoration, members: Members, seconds: int) -> Commands:
    """Yield what puts the network's files in place; netplan's are tried first, for at most so many seconds."""
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
    state: State, host: Host, restoration: Restoration, members: Members, confirmed: FunctionCommand
) -> bool:
    """Confirm the trial; then give the files the owners and times that they had."""
    if not confirmed.function(state, host, *confirmed.args):
        return False
    return _put(host, restoration, "put", members)


def put_docker(state: State, host: Host, restoration: Restoration, members: Members, file: str) -> bool:
    """Put Docker's files in place, but daemon.json beside its place, where docker-config.sh looks for the next one."""
    return _put(host, restoration, "docker", members, file=file)
