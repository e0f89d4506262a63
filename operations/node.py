"""A node's own system: hostname, folders for data, performance mode, firewall."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence

from pyinfra.api import StringCommand
from pyinfra.api.command import QuoteString
from pyinfra.context import host

from gb10.facts.data_mount import DataMount
from gb10.facts.file import TextFile
from gb10.facts.identity import NodeIdentity
from gb10.facts.network import SshdConfig, UfwRules
from gb10.facts.node import PERFORMANCE_UNIT, WANTED_GOVERNOR, PerformanceMode, Speed, UserAccount
from gb10.facts.reading.node import DataPlace
from gb10.operations.file import replace_file, show_diff
from gb10.operations.kit.operation import Commands, known, operation
from gb10.operations.kit.scripts import run_script, run_text
from gb10.operations.kit.trials import trial
from gb10.programs.answer import RefusedError
from gb10.templates import render

HOSTNAME = "/etc/hostname"
UNIT_FILE = f"/etc/systemd/system/{PERFORMANCE_UNIT}"
START_SECONDS = 60
FOLDER_SECONDS = 30


@operation()
def hostname(wanted: str) -> Commands:
    """Set the hostname, without a domain, now and after a boot. A wiped node comes back with its factory hostname."""
    file = known(TextFile, path=HOSTNAME)
    if file and file.content == f"{wanted}\n" and known(NodeIdentity).hostname == wanted:
        host.noop(f"the hostname is {wanted}")
        return
    yield replace_file(HOSTNAME, f"{wanted}\n", "644")
    yield StringCommand("hostname", wanted)


@operation()
def folders(path: str, names: Mapping[str, str], user: str) -> Commands:
    """
    Make folders below a path, and say whether they survive a reinstallation.

    + path: a mounted partition or a plain directory; if nothing is there, a directory is made
    + names: folder -> mode of a new one, octal
    + user: owner of new ones; existing ones keep their owner and mode

    Refused if a file system belongs at the path and is not mounted: it would hide what is written now.
    """
    place = known(DataMount, path=path, folders=list(names))
    if place.kind == "other":
        raise RefusedError("DATA_BLOCKED", f"{host.name}: {path} is no directory")
    if place.is_unmounted:
        raise RefusedError("DATA_NOT_MOUNTED", f"{host.name}: {place.expected} belongs at {path} and is not mounted")
    host.log(survival(place))
    blocked = [name for name, kind in place.folders.items() if kind == "other"]
    if blocked:
        raise RefusedError("DATA_BLOCKED", f"{host.name}: {', '.join(blocked)} below {path} is no directory")
    missing = [name for name, kind in place.folders.items() if kind is None]
    if not missing:
        host.noop(f"{path} has its folders")
        return
    account = known(UserAccount, user=user)
    group = account.group if account else user
    if place.kind is None:
        yield StringCommand("install -d -m 755", QuoteString(path))
    for name in missing:
        folder = f"{path}/{name}"
        command = f"install -d -m {names[name]} -o {user} -g {group} {shlex.quote(folder)}"
        yield run_text(command, seconds=FOLDER_SECONDS, guarded=[folder])


def survival(place: DataPlace) -> str:
    """Return a sentence on where /data is and whether its content survives a reinstallation."""
    free = f"{place.free_bytes / 2**30:.0f} GiB free"
    if place.own_device:
        return f"{place.path} is on a device of its own ({place.source}, {place.filesystem}, {free})"
    what = "is a directory" if place.kind else "will be a directory"
    return f"{place.path} {what} on the root file system ({free}): a reinstallation of the node erases it"


@operation()
def performance_mode() -> Commands:
    """Keep the cores at full speed and the GPU driver loaded, if the node has governors or a driver."""
    speed, file = known(PerformanceMode), known(TextFile, path=UNIT_FILE)
    if not speed.governors and not speed.nvidia_smi:
        host.noop("this node has no governor and no GPU driver")
        return
    settings = {"nvidia_smi": speed.nvidia_smi, "governors": speed.governors, "governor": WANTED_GOVERNOR}
    content = render("node/performance.service.j2", **settings)
    if file and file.content == content and is_set(speed):
        host.noop("performance mode is on")
        return
    show_diff(UNIT_FILE, file, content)
    yield replace_file(UNIT_FILE, content, "644")
    yield run_script("start-unit.sh", PERFORMANCE_UNIT, str(START_SECONDS), seconds=START_SECONDS + 60)


def is_set(speed: Speed) -> bool:
    """Return True if performance mode is on. Persistence does not count: not every driver keeps it."""
    return speed.unit_active and speed.unit_enabled and set(speed.governors) <= {WANTED_GOVERNOR}


@operation()
def firewall(rules: Sequence[str], seconds: int) -> Commands:
    """
    Enable ufw with these rules; sshd's ports are opened first. Other rules stay.

    + rules: as ufw takes them: "allow from 192.168.100.0/24"
    + seconds: how long the node waits for a new login before it disables the firewall again

    A node without ufw stays as it is. Ports that containers publish bypass ufw: Docker's rules come first.
    """
    ufw, sshd = known(UfwRules), known(SshdConfig)
    if ufw is None:
        host.noop("no ufw is here")
        return
    ports = sshd.ports if sshd else (22,)
    wanted = [*(f"allow {port}/tcp" for port in ports), *rules]
    missing = [rule for rule in dict.fromkeys(wanted) if rule not in ufw.rules]
    if not missing and ufw.active:
        host.noop("the firewall has its rules")
        return
    for rule in missing:
        yield StringCommand("ufw", *map(QuoteString, shlex.split(rule)))
    if not ufw.active:
        yield from trial("firewall", "firewall-action.sh", "", seconds, "FIREWALL_REJECTED")
