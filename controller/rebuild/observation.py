"""One look at the address of a node that a person wipes, and what it means.

A node that answers again need not be wiped: it may only have been rebooted, or another machine may have its address.
The machine-id shows if the installation is another one, the MACs show if the machine is the same. Both need a login.
pyinfra cannot do that, because it rightly refuses an unknown host key. So each look runs ssh with a known_hosts file
of its own, which has the key that the machine has just proven. Until a person has confirmed the key, the node's answers
are shown to that person and not used otherwise.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from gb10.controller.host_keys import known_host_keys, run_ssh, scratch_known_hosts, ssh_command
from gb10.controller.inventory import InventoryHost
from gb10.facts.reading.node import IDENTITY_JOB, Identity, read_identity
from gb10.facts.reading.printable import made_printable
from gb10.facts.reading.requests import SECTIONS, FloodError, FrameError, Request
from gb10.facts.reading.values import read_answer
from gb10.operations.kit.host_proof import proven_key, ssh_host
from gb10.operations.kit.known_hosts import HostKey

SUDO_LINE = 'echo "$USER ALL=(ALL) NOPASSWD: ALL" | sudo tee /etc/sudoers.d/90-gb10'

Kind = Literal[
    "still-there",  # the old installation, never away
    "gone",  # nothing answers
    "unwiped",  # the old installation, booted again
    "other-machine",  # another machine has the address
    "undecided",  # another installation, but nothing shows if it is the same machine
    "no-login",  # an sshd answers and refuses our login
    "no-sudo",  # we can log in, but sudo asks for a password
    "wiped",  # another installation of the same machine
]


@dataclass(frozen=True)
class OldIdentity:
    """The identity of a node before its wipe, which distinguishes it from other machines."""

    machine_id: str | None
    boot_id: str | None
    macs: Mapping[str, str]  # interface -> MAC

    @classmethod
    def of(cls, identity: Identity) -> OldIdentity:
        return cls(identity.machine_id, identity.boot_id, dict(identity.macs))

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> OldIdentity:
        return cls(document["machine_id"], document["boot_id"], dict(document["macs"]))

    def to_json(self) -> dict[str, Any]:
        return {"machine_id": self.machine_id, "boot_id": self.boot_id, "macs": dict(self.macs)}


@dataclass(frozen=True)
class Observation:
    """One look at a node's address. None stands for what could not be seen."""

    host_key: HostKey | None = None  # that the machine has proven to have
    refused: str | None = None  # why we cannot log in
    sudo: bool | None = None
    machine_id: str | None = None
    boot_id: str | None = None
    macs: Mapping[str, str] = field(default_factory=dict)
    hostname: str | None = None
    neighbour_mac: str | None = None  # from this machine's own table: only if no router is between


@dataclass(frozen=True)
class Verdict:
    """What an observation means, in words for the person, and the lines that they may have to type."""

    kind: Kind
    text: str
    lines: tuple[str, ...] = ()
    reminder: bool = False  # nothing new: repeated so that the person knows that we still watch
    observation: Observation = field(default_factory=Observation)

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "text": self.text, "lines": list(self.lines), "reminder": self.reminder}


def instructions(host: InventoryHost, old: OldIdentity, keeps_data: bool | None = None) -> tuple[str, ...]:
    """Return what the person has to do at the machine, step by step.

    + keeps_data: True if /data is a partition of its own, None if that is not known
    """
    macs = ", ".join(f"{mac} ({name})" for name, mac in sorted(old.macs.items())) or "unknown"
    data = {
        True: "/data is a partition of its own: it survives only if the installer is told to keep it.",
        False: "/data is on the system's own partition: it is erased with it.",
        None: "What is on /data is erased, unless it is on a partition that the installer leaves alone.",
    }[keeps_data]
    return (
        f"Go to {host.name}. It is the machine at {host.address}; its MACs: {macs}.",
        "Reinstall DGX OS from the USB stick (hold ESC or DEL while it starts, choose the stick). " + data,
        f"In the setup after the first boot, create the user {host.login.user or '(as in the inventory)'} again.",
        f"Connect it to the same network: it has to come up at {host.address} again (a DHCP reservation for its MAC).",
        "Let this run, or press Ctrl-C and resume later: nothing is lost either way.",
    )


# Look -----------------------------------------------------------------------------------------------------------------


def look(host: InventoryHost) -> Observation:
    """Return what one look shows, as printable text."""
    return made_printable(_look(host))


def _look(host: InventoryHost) -> Observation:
    """Log in once, whatever host key the machine proves to have, and read the identity of the machine."""
    question = Request(SECTIONS, {**IDENTITY_JOB, "commands": {**IDENTITY_JOB["commands"], "sudo": "sudo -n true"}})
    seen = Observation(neighbour_mac=_neighbours().get(host.address))
    try:
        key = proven_key(ssh_host(host.address, host.login))
    except ConnectionError as error:
        return replace(seen, refused=str(error))
    seen = replace(seen, host_key=key)
    with scratch_known_hosts(key) as known:
        done = run_ssh(ssh_command(host, known, [question.line]), question.text)
    if done.returncode == 255:
        return replace(seen, refused=_last_line(done.stderr))
    try:
        found = read_answer(question.read(done.stdout))
        identity = read_identity(found)
    except (FloodError, FrameError, ValueError, LookupError) as error:  # an incomplete system, or no DGX OS
        return replace(seen, refused=f"its identity cannot be read: {error}")
    return replace(
        seen,
        sudo=found["sudo"].status == 0,
        machine_id=identity.machine_id,
        boot_id=identity.boot_id,
        macs=identity.macs,
        hostname=identity.hostname,
    )


def _neighbours(table: Path = Path("/proc/net/arp")) -> dict[str, str]:
    """Return address -> MAC of this machine's neighbour table; nothing if this is not Linux."""
    try:
        rows = [line.split() for line in table.read_text().splitlines()[1:]]
    except FileNotFoundError:
        return {}
    return {row[0]: row[3].lower() for row in rows if len(row) >= 4 and row[3] != "00:00:00:00:00:00"}


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "the connection was closed"


# Judge ----------------------------------------------------------------------------------------------------------------


def judge(host: InventoryHost, old: OldIdentity, seen: Observation, away: bool) -> Verdict:
    """Return what an observation means. `away`: the node was unreachable since the watch began."""
    if seen.host_key is None:
        return Verdict("gone", f"{host.name} is gone: {seen.refused}", observation=seen)
    if seen.machine_id is None:
        return _without_login(host, old, seen, seen.host_key)
    if old.machine_id is not None and seen.machine_id == old.machine_id:
        return _not_wiped(host, old, seen, away)
    return _another_installation(host, old, seen)


def _without_login(host: InventoryHost, old: OldIdentity, seen: Observation, key: HostKey) -> Verdict:
    """Judge an sshd that refuses our login. The neighbour table may show that it is another machine's."""
    mac = seen.neighbour_mac
    if mac and old.macs and mac not in _lower(old.macs):
        text = f"{host.address} is another machine now (MAC {mac}): give {host.name} its address back"
        return Verdict("other-machine", text, observation=seen)
    if key in known_host_keys(host):
        text = f"{host.name} shows its old host key, but refuses our login ({seen.refused})"
        return Verdict("no-login", text, observation=seen)
    whose = f"the MAC is {host.name}'s" if mac and old.macs else "its MAC cannot be seen from here"
    text = (
        f"a new system answers at {host.address} ({whose}) with the host key {key.fingerprint}, and "
        f"does not let us in yet. On it, as {host.login.user or 'the user of the inventory'}:"
    )
    return Verdict("no-login", text, key_lines(host), observation=seen)


def _not_wiped(host: InventoryHost, old: OldIdentity, seen: Observation, away: bool) -> Verdict:
    if seen.boot_id == old.boot_id:
        meanwhile = " (it was only unreachable for a while)" if away else ""
        return Verdict("still-there", f"{host.name} is still there, as it was{meanwhile}", observation=seen)
    text = f"{host.name} is back, but it was only rebooted: it has the same installation as before. Wipe it now"
    return Verdict("unwiped", text, observation=seen)


def _another_installation(host: InventoryHost, old: OldIdentity, seen: Observation) -> Verdict:
    known, now = _lower(old.macs), _lower(seen.macs)
    if known and now and not known & now:
        macs = ", ".join(sorted(seen.macs.values()))
        text = f"{host.address} is another machine now ({seen.hostname}, {macs}): give {host.name} its address back"
        return Verdict("other-machine", text, observation=seen)
    if not (known and now and old.machine_id):
        missing = "MAC" if old.machine_id else "machine-id"
        text = (
            f"something answers at {host.address} ({seen.hostname}), but the old {missing} of {host.name} is not known"
        )
        return Verdict("undecided", text, observation=seen)
    if not seen.sudo:
        text = f"{host.name} is wiped and lets us in, but sudo asks for a password. On it, as {host.login.user}:"
        return Verdict("no-sudo", text, (SUDO_LINE,), observation=seen)
    return Verdict("wiped", f"{host.name} is wiped: another installation on the same machine", observation=seen)


def reminder(host: InventoryHost, old: OldIdentity, verdict: Verdict) -> Verdict:
    """Return the same verdict as a reminder. If the node is gone, it says where its MAC is seen."""
    text = f"still waiting: {verdict.text}"
    if verdict.kind == "gone":
        ours = _lower(old.macs)
        elsewhere = [address for address, mac in _neighbours().items() if mac in ours and address != host.address]
        text += f". A machine with its MAC is at {', '.join(elsewhere)}" if elsewhere else ""
    return replace(verdict, text=text, reminder=True)


def _lower(macs: Mapping[str, str]) -> set[str]:
    return {mac.lower() for mac in macs.values()}


def key_lines(host: InventoryHost) -> tuple[str, ...]:
    """Return the lines that let us log in, for the user of the inventory to paste on the node."""
    public = _public_key(host)
    if public is None:
        return ("Put the public key that belongs to your ssh_key into ~/.ssh/authorized_keys on the node.",)
    return (f"mkdir -p -m 700 ~/.ssh && echo '{public}' >> ~/.ssh/authorized_keys && chmod 600 ~/.ssh/authorized_keys",)


def _public_key(host: InventoryHost) -> str | None:
    """Return the public half of our login key: from its file, else the first that the agent offers."""
    if host.login.key:
        path = Path(f"{host.login.key}.pub").expanduser()
        if path.exists():
            return path.read_text().strip()
        command = ["ssh-keygen", "-y", "-P", "", "-f", str(Path(host.login.key).expanduser())]
    else:
        command = ["ssh-add", "-L"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    return done.stdout.splitlines()[0].strip() if done.returncode == 0 and done.stdout else None
