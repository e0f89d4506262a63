"""A person wipes a node: what they have to do there, and what is seen of it from here.

A node that answers again need not be wiped: it may only have been rebooted, or another machine may have got its
address. The machine-id tells another installation, the MACs tell the same machine; both are read by a login. pyinfra
cannot do that, as it rightly refuses a host key that it does not know. So each look runs ssh with a known_hosts file
of its own. What a node says before a person has confirmed its key is shown to that person, and used for nothing else.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from gb10.controller.host_keys import (
    HostKey,
    accept_host_key,
    known_host_keys,
    run_ssh,
    scratch_known_hosts,
    settle_host_key,
    ssh_command,
)
from gb10.controller.inventory import InventoryHost
from gb10.facts.reading.node import IDENTITY_JOB, Identity, read_identity
from gb10.facts.reading.requests import SECTIONS, FloodError, FrameError, Request
from gb10.facts.reading.values import read_answer

__all__ = [
    "Arrived",
    "Before",
    "HostKey",
    "Seen",
    "accept_host_key",
    "confirmed",
    "instructions",
    "known_host_keys",
    "settle_host_key",
    "wait_for_wipe",
]

POLL_SECONDS = 2.0
NOTE_SECONDS = 180.0

Kind = Literal[
    "still-there",  # the installation of before, never left
    "gone",  # nothing answers
    "unwiped",  # the installation of before, booted again
    "other-machine",  # another machine has the address
    "undecided",  # another installation, but nothing tells whether it is the same machine
    "no-login",  # an sshd answers, and does not let us in yet
    "no-sudo",  # it lets us in, but sudo asks for a password
    "wiped",  # another installation of the same machine
]


@dataclass(frozen=True)
class Before:
    """What tells the wiped node from others: what was known of it before."""

    machine_id: str | None
    boot_id: str | None
    macs: Mapping[str, str]  # interface -> MAC

    @classmethod
    def of(cls, identity: Identity) -> Before:
        """Return what counts here of a node's identity."""
        return cls(identity.machine_id, identity.boot_id, dict(identity.macs))

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Before:
        """Read what `to_json` returned."""
        return cls(document["machine_id"], document["boot_id"], dict(document["macs"]))

    def to_json(self) -> dict[str, Any]:
        return {"machine_id": self.machine_id, "boot_id": self.boot_id, "macs": dict(self.macs)}


@dataclass(frozen=True)
class Sighting:
    """One look at a node's address. None is what could not be seen."""

    host_key: HostKey | None = None  # it has proven to have it
    refused: str | None = None  # why there is no login
    sudo: bool | None = None
    machine_id: str | None = None
    boot_id: str | None = None
    macs: Mapping[str, str] = field(default_factory=dict)
    hostname: str | None = None
    neighbour_mac: str | None = None  # from this machine's own table: only if no router is between


@dataclass(frozen=True)
class Seen:
    """What a sighting means, in words for the person, and the lines that they may have to type."""

    kind: Kind
    text: str
    lines: tuple[str, ...] = ()
    reminder: bool = False  # nothing new: said again so that nobody thinks that we sleep
    sighting: Sighting = field(default_factory=Sighting)

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "text": self.text, "lines": list(self.lines), "reminder": self.reminder}


@dataclass(frozen=True)
class Arrived:
    """The same machine with another installation. A person has yet to confirm its host key."""

    host_key: HostKey
    machine_id: str
    boot_id: str | None
    macs: Mapping[str, str]
    hostname: str | None


OnSeen = Callable[[Seen], None]


def wait_for_wipe(
    host: InventoryHost,
    before: Before,
    on_seen: OnSeen,
    *,
    meanwhile: OnSeen | None = None,
    poll_seconds: float = POLL_SECONDS,
    note_seconds: float = NOTE_SECONDS,
    glance: Callable[[InventoryHost], Sighting] | None = None,
) -> Arrived:
    """Watch a node until it is another installation of the same machine that lets us in, and return that.

    + on_seen: called with every change, and each `note_seconds` with a reminder
    + meanwhile: called after each look
    + glance: looks instead of `look`

    There is no deadline: a person may go home and finish tomorrow. Nothing is written, so the watch can be stopped
    and started again at any time.
    """
    last: Seen | None = None
    said_at = time.monotonic()
    away = False
    while True:
        sighting = (glance or look)(host)
        seen = judge(host, before, sighting, away)
        away = away or seen.kind == "gone"
        if last is None or (seen.kind, seen.lines) != (last.kind, last.lines):
            on_seen(seen)
            last, said_at = seen, time.monotonic()
        elif time.monotonic() - said_at >= note_seconds:
            on_seen(_reminder(host, before, seen))
            said_at = time.monotonic()
        if seen.kind == "wiped":
            return _arrived(sighting)
        if meanwhile:
            meanwhile(seen)
        time.sleep(poll_seconds)


def confirmed(key: HostKey, given: str) -> bool:
    """Return True if a person typed this key: its fingerprint, with or without "SHA256:", or the key itself."""
    given = given.strip()
    return given in (key.fingerprint, key.fingerprint.removeprefix("SHA256:"), f"{key.kind} {key.blob}", key.blob)


def instructions(host: InventoryHost, before: Before, keeps_data: bool | None = None) -> tuple[str, ...]:
    """Return what the person has to do at the box, step by step.

    + keeps_data: True if /data is a partition of its own, None if that is not known
    """
    macs = ", ".join(f"{mac} ({name})" for name, mac in sorted(before.macs.items())) or "unknown"
    data = {
        True: "/data is a partition of its own: it survives only if the installer is told to keep it.",
        False: "/data is on the system's own partition: it is erased with it.",
        None: "What is on /data is erased, unless it is on a partition that the installer leaves alone.",
    }[keeps_data]
    return (
        f"Go to {host.name}. It is the machine at {host.address}; its MACs: {macs}.",
        "Reinstall DGX OS from the USB stick (hold ESC or DEL while it starts, choose the stick). " + data,
        f"In the setup after the first boot, create the user {host.user or '(as in the inventory)'} again.",
        f"Connect it to the same network: it has to come up at {host.address} again (a DHCP reservation for its MAC).",
        "Let this run, or press Ctrl-C and resume later: nothing is lost either way.",
    )


def key_lines(host: InventoryHost) -> tuple[str, ...]:
    """Return the lines that make the node let us in, for the user of the inventory to paste there."""
    public = _public_key(host)
    if public is None:
        return ("Put the public key that belongs to your ssh_key into ~/.ssh/authorized_keys on the node.",)
    return (f"mkdir -p -m 700 ~/.ssh && echo '{public}' >> ~/.ssh/authorized_keys && chmod 600 ~/.ssh/authorized_keys",)


SUDO_LINE = 'echo "$USER ALL=(ALL) NOPASSWD: ALL" | sudo tee /etc/sudoers.d/90-gb10'


# One look ------------------------------------------------------------------------------------------------------------


def look(host: InventoryHost) -> Sighting:
    """Log in once, with whatever host key is shown, and read who that is."""
    question = Request(SECTIONS, {**IDENTITY_JOB, "commands": {**IDENTITY_JOB["commands"], "sudo": "sudo -n true"}})
    with scratch_known_hosts() as known:
        done = run_ssh(ssh_command(host, known, "accept-new", [question.line]), question.text)
        key = _shown_key(known)
    neighbour = _neighbours().get(host.address)
    if key is None:
        return Sighting(refused=_last_line(done.stderr), neighbour_mac=neighbour)
    if done.returncode == 255:
        return Sighting(host_key=key, refused=_last_line(done.stderr), neighbour_mac=neighbour)
    try:
        found = read_answer(question.read(done.stdout))
        identity = read_identity(found)
    except (FloodError, FrameError, ValueError, LookupError) as error:  # a system that is only half there, or no DGX OS
        return Sighting(host_key=key, refused=f"it does not tell who it is: {error}", neighbour_mac=neighbour)
    return Sighting(
        host_key=key,
        sudo=found["sudo"].status == 0,
        machine_id=identity.machine_id,
        boot_id=identity.boot_id,
        macs=identity.macs,
        hostname=identity.hostname,
        neighbour_mac=neighbour,
    )


def judge(host: InventoryHost, before: Before, sighting: Sighting, away: bool) -> Seen:
    """Tell what a sighting means. `away`: the node was out of reach since the watch began."""
    if sighting.host_key is None:
        return Seen("gone", f"{host.name} is gone: {sighting.refused}", sighting=sighting)
    if sighting.machine_id is None:
        return _without_login(host, before, sighting)
    if before.machine_id is not None and sighting.machine_id == before.machine_id:
        return _not_wiped(host, before, sighting, away)
    return _another_installation(host, before, sighting)


def _another_installation(host: InventoryHost, before: Before, sighting: Sighting) -> Seen:
    same = _same_machine(before, sighting)
    if same is False:
        macs = ", ".join(sorted(sighting.macs.values()))
        text = f"{host.address} is another machine now ({sighting.hostname}, {macs}): give {host.name} its address back"
        return Seen("other-machine", text, sighting=sighting)
    if same is None or before.machine_id is None:
        missing = "its MACs" if before.machine_id else "its machine-id"
        text = f"something answers at {host.address} ({sighting.hostname}), but {missing} of before are not known"
        return Seen("undecided", text, sighting=sighting)
    if not sighting.sudo:
        text = f"{host.name} is wiped and lets us in, but sudo asks for a password. On it, as {host.user}:"
        return Seen("no-sudo", text, (SUDO_LINE,), sighting=sighting)
    return Seen("wiped", f"{host.name} is wiped: another installation on the same machine", sighting=sighting)


def _not_wiped(host: InventoryHost, before: Before, sighting: Sighting, away: bool) -> Seen:
    if sighting.boot_id == before.boot_id:
        meanwhile = " (it was only out of reach for a while)" if away else ""
        return Seen("still-there", f"{host.name} is still there, as it was{meanwhile}", sighting=sighting)
    text = f"{host.name} is back, but it was only rebooted: it has the same installation as before. Wipe it now"
    return Seen("unwiped", text, sighting=sighting)


def _without_login(host: InventoryHost, before: Before, sighting: Sighting) -> Seen:
    """Tell what an sshd means that lets nobody in. The neighbour table may show that it is another machine's."""
    assert sighting.host_key is not None  # noqa: S101 - for mypy: judge() has looked
    mac = sighting.neighbour_mac
    if mac and before.macs and mac not in _lower(before.macs):
        text = f"{host.address} is another machine now (MAC {mac}): give {host.name} its address back"
        return Seen("other-machine", text, sighting=sighting)
    if sighting.host_key in known_host_keys(host):
        text = f"{host.name} shows its host key of before, but does not let us in ({sighting.refused})"
        return Seen("no-login", text, sighting=sighting)
    whose = f"the MAC is {host.name}'s" if mac and before.macs else "its MAC cannot be seen from here"
    text = (
        f"a new system answers at {host.address} ({whose}) with the host key {sighting.host_key.fingerprint}, and "
        f"does not let us in yet. On it, as {host.user or 'the user of the inventory'}:"
    )
    return Seen("no-login", text, key_lines(host), sighting=sighting)


def _same_machine(before: Before, sighting: Sighting) -> bool | None:
    """Return True if a MAC is one of before; None if no MAC is known of one side."""
    known, now = _lower(before.macs), _lower(sighting.macs)
    return bool(known & now) if known and now else None


def _lower(macs: Mapping[str, str]) -> set[str]:
    return {mac.lower() for mac in macs.values()}


def _reminder(host: InventoryHost, before: Before, seen: Seen) -> Seen:
    text = f"still waiting: {seen.text}"
    if seen.kind == "gone":
        elsewhere = [
            address for address, mac in _neighbours().items() if mac in _lower(before.macs) and address != host.address
        ]
        text += f". A machine with its MAC is at {', '.join(elsewhere)}" if elsewhere else ""
    return Seen(seen.kind, text, seen.lines, reminder=True, sighting=seen.sighting)


def _arrived(sighting: Sighting) -> Arrived:
    assert sighting.host_key is not None  # noqa: S101 - for mypy: else it were not "wiped"
    assert sighting.machine_id is not None  # noqa: S101 - likewise
    return Arrived(sighting.host_key, sighting.machine_id, sighting.boot_id, sighting.macs, sighting.hostname)


# From this machine ---------------------------------------------------------------------------------------------------


def _shown_key(known_hosts: Path) -> HostKey | None:
    fields = known_hosts.read_text().split()
    return HostKey(fields[1], fields[2]) if len(fields) >= 3 else None


def _neighbours(table: Path = Path("/proc/net/arp")) -> dict[str, str]:
    """Return address -> MAC of the machines in the neighbour table of this one; nothing if this is not Linux."""
    try:
        rows = [line.split() for line in table.read_text().splitlines()[1:]]
    except FileNotFoundError:
        return {}
    return {row[0]: row[3].lower() for row in rows if len(row) >= 4 and row[3] != "00:00:00:00:00:00"}


def _public_key(host: InventoryHost) -> str | None:
    """Return the public half of the key that we log in with: from its file, else the first that the agent offers."""
    if host.key:
        path = Path(f"{host.key}.pub").expanduser()
        if path.exists():
            return path.read_text().strip()
        command = ["ssh-keygen", "-y", "-P", "", "-f", str(Path(host.key).expanduser())]
    else:
        command = ["ssh-add", "-L"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    return done.stdout.splitlines()[0].strip() if done.returncode == 0 and done.stdout else None


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "the connection was closed"
