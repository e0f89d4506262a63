"""The verdicts on a node that a person wipes, and its host key."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import paramiko
import pytest

from gb10.controller.host_keys import accept_host_key, known_host_keys, settle_host_key
from gb10.controller.inventory import Inventory, InventoryHost
from gb10.controller.journal import Journal
from gb10.controller.rebuild.observation import (
    Observation,
    OldIdentity,
    Verdict,
    instructions,
    judge,
    key_lines,
)
from gb10.controller.rebuild.plan import NodePlan
from gb10.controller.rebuild.tools import make_tools
from gb10.controller.rebuild.wipe_watch import wait_for_wipe
from gb10.operations.kit.known_hosts import HostKey
from tests.unit.controller.hosts import inventory_host
from tests.unit.ssh_server import SshServer

MACS = {"enP7s7": "4C:BB:47:01:02:03", "enp1s0f0np0": "4c:bb:47:01:02:04"}
BEFORE = OldIdentity("0" * 32, "boot-1", MACS)


def key_of(folder: Path, name: str = "host") -> HostKey:
    """Make a real key and return it."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
    kind, blob, *_ = (folder / f"{name}.pub").read_text().split()
    return HostKey(kind, blob)


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> InventoryHost:
    """Return a node where nothing listens, with its own known_hosts and key."""
    monkeypatch.setenv("GB10_STATE", str(tmp_path / "state"))
    key_of(tmp_path, "login")
    return inventory_host(
        "spark-2",
        ssh_hostname="127.0.0.9",
        ssh_port=1,
        ssh_user="nvidia",
        ssh_key=str(tmp_path / "login"),
        ssh_known_hosts_file=str(tmp_path / "known_hosts"),
    )


def kind_of(node: InventoryHost, before: OldIdentity = BEFORE, away: bool = False, **what: object) -> str:
    shown = {"host_key": HostKey("ssh-ed25519", "AAAA"), "sudo": True, "boot_id": "boot-2", "macs": MACS, **what}
    return judge(node, before, Observation(**shown), away).kind  # type: ignore[arg-type] # of any type


def test_a_node_with_a_new_machine_id_and_old_macs_is_wiped(node: InventoryHost) -> None:
    assert kind_of(node, machine_id="1" * 32) == "wiped"


def test_the_case_of_a_mac_does_not_matter(node: InventoryHost) -> None:
    lower = {name: mac.lower() for name, mac in MACS.items()}
    assert kind_of(node, machine_id="1" * 32, macs=lower) == "wiped"


def test_a_rebooted_node_is_not_wiped(node: InventoryHost) -> None:
    assert kind_of(node, machine_id="0" * 32) == "unwiped"
    assert kind_of(node, machine_id="0" * 32, boot_id="boot-1", away=True) == "still-there"


def test_another_machine_at_the_address_is_recognised(node: InventoryHost) -> None:
    assert kind_of(node, machine_id="1" * 32, macs={"enP7s7": "4c:bb:47:ff:ff:ff"}) == "other-machine"


def test_without_a_mac_the_verdict_is_undecided(node: InventoryHost) -> None:
    assert kind_of(node, machine_id="1" * 32, macs={}) == "undecided"
    assert kind_of(node, OldIdentity("0" * 32, None, {}), machine_id="1" * 32) == "undecided"


def test_without_the_old_machine_id_the_verdict_is_undecided(node: InventoryHost) -> None:
    assert kind_of(node, OldIdentity(None, None, MACS), machine_id="1" * 32) == "undecided"


def test_a_sudo_that_asks_for_a_password_gets_a_line(node: InventoryHost) -> None:
    found = judge(node, BEFORE, Observation(HostKey("ssh-ed25519", "AAAA"), None, False, "1" * 32, "b", MACS), True)
    assert found.kind == "no-sudo"
    assert "sudoers" in found.lines[0]


def test_a_node_that_refuses_our_login_gets_a_line_with_our_key(node: InventoryHost) -> None:
    refused = Observation(HostKey("ssh-ed25519", "AAAA"), "Permission denied (publickey,password).")
    found = judge(node, BEFORE, refused, True)
    assert found.kind == "no-login"
    assert Path(f"{node.login.key}.pub").read_text().strip() in found.lines[0]


def test_the_public_key_is_derived_if_its_file_is_lost(node: InventoryHost) -> None:
    public = Path(f"{node.login.key}.pub")
    blob = public.read_text().split()[1]
    public.unlink()
    assert blob in key_lines(node)[0]


def test_another_machine_is_recognised_without_a_login(node: InventoryHost) -> None:
    stranger = Observation(HostKey("ssh-ed25519", "AAAA"), "Permission denied", neighbour_mac="4c:bb:47:ff:ff:ff")
    assert judge(node, BEFORE, stranger, True).kind == "other-machine"


def test_only_a_full_fingerprint_confirms_a_key(tmp_path: Path) -> None:
    key = key_of(tmp_path)
    listed = subprocess.run(
        ["ssh-keygen", "-l", "-f", str(tmp_path / "host.pub")], capture_output=True, text=True, check=True
    )
    assert listed.stdout.split()[1] == key.fingerprint
    assert key.is_named(key.fingerprint)
    assert key.is_named(key.fingerprint.removeprefix("SHA256:"))
    assert not any(key.is_named(given) for given in ("", "yes", key.fingerprint[:20]))


def test_the_instructions_name_the_machine(node: InventoryHost) -> None:
    text = "\n".join(instructions(node, BEFORE, keeps_data=False))
    for expected in ("spark-2", "127.0.0.9", *MACS.values(), "nvidia", "erased"):
        assert expected in text


def test_an_accepted_key_replaces_every_line_of_the_node(node: InventoryHost, tmp_path: Path) -> None:
    old, new, other = (key_of(tmp_path, name) for name in ("old", "new", "other"))
    known = Path(str(node.login.known_hosts_file))
    known.write_text(
        f"# kept\nspark-2,[127.0.0.9]:1 {old.kind} {old.blob}\n"
        f"spark-two {old.kind} {old.blob} the same key under another name\n127.0.0.9 {other.kind} {other.blob}\n"
    )
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", str(known)], check=True, capture_output=True)
    before = known.read_text()
    assert known_host_keys(node) == (old,)
    accept_host_key(node, new)
    assert set(known_host_keys(node)) == {new}
    assert old.blob not in known.read_text()
    assert other.blob in known.read_text()
    once = known.read_text()
    accept_host_key(node, new)
    assert known.read_text() == once != before


def test_an_unknown_node_gets_a_line_in_known_hosts(node: InventoryHost, tmp_path: Path) -> None:
    key = key_of(tmp_path)
    accept_host_key(node, key)
    assert Path(str(node.login.known_hosts_file)).read_text() == f"[127.0.0.9]:1 {key.kind} {key.blob}\n"
    assert Path(str(node.login.known_hosts_file)).stat().st_mode & 0o777 == 0o600


def test_a_silent_node_leaves_known_hosts_unchanged(node: InventoryHost, tmp_path: Path) -> None:
    accept_host_key(node, key_of(tmp_path))
    before = Path(str(node.login.known_hosts_file)).read_text()
    assert settle_host_key(node) == "silent"
    assert Path(str(node.login.known_hosts_file)).read_text() == before


@pytest.fixture
def server_host(ssh_server: SshServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> InventoryHost:
    """Return a node that is a real SSH server and lets us in."""
    monkeypatch.setenv("GB10_STATE", str(tmp_path / "state"))
    return inventory_host(
        "spark-2",
        ssh_hostname="127.0.0.1",
        ssh_port=ssh_server.port,
        ssh_user="nvidia",
        ssh_key=str(ssh_server.key),
        ssh_known_hosts_file=str(ssh_server.known_hosts),
    )


def nothing(*_: object, **__: object) -> Any:
    """Fail: nothing may call this."""
    raise AssertionError


def lines_of(server: SshServer, *keys: paramiko.PKey) -> list[str]:
    return [f"[127.0.0.1]:{server.port} {key.get_name()} {key.get_base64()}" for key in keys]


def test_a_host_that_shows_its_old_keys_is_known_by_them(ssh_server: SshServer, server_host: InventoryHost) -> None:
    old = [paramiko.RSAKey.generate(2048), paramiko.ECDSAKey.generate()]
    new = [paramiko.RSAKey.generate(2048), paramiko.ECDSAKey.generate()]
    was = lines_of(ssh_server, *old)
    ssh_server.known_hosts.write_text("\n".join(was) + "\n")

    ssh_server.host_keys = new
    assert settle_host_key(server_host) == "strange"
    accept_host_key(server_host, HostKey(new[1].get_name(), new[1].get_base64()))
    assert settle_host_key(server_host) == "known"
    assert ssh_server.known_hosts.read_text().splitlines() == lines_of(ssh_server, new[1])

    ssh_server.host_keys = [new[0], old[1]]  # a restore was killed after the first of the keys
    assert settle_host_key(server_host) == "known"
    assert ssh_server.known_hosts.read_text().splitlines() == lines_of(ssh_server, old[1])
    assert settle_host_key(server_host) == "known", "a second call changes nothing"
    assert ssh_server.known_hosts.read_text().splitlines() == lines_of(ssh_server, old[1])

    ssh_server.host_keys = old
    assert settle_host_key(server_host) == "recalled"
    assert ssh_server.known_hosts.read_text().splitlines() == was


def test_a_host_that_lost_a_type_of_key_is_still_known(ssh_server: SshServer, server_host: InventoryHost) -> None:
    rsa, old, new = paramiko.RSAKey.generate(2048), paramiko.ECDSAKey.generate(), paramiko.ECDSAKey.generate()
    was = lines_of(ssh_server, rsa, old)
    ssh_server.known_hosts.write_text("\n".join(was) + "\n")
    accept_host_key(server_host, HostKey(new.get_name(), new.get_base64()))
    ssh_server.host_keys = [old]
    assert settle_host_key(server_host) == "recalled"
    assert ssh_server.known_hosts.read_text().splitlines() == was


def test_a_restored_host_key_is_settled_before_anything_else(ssh_server: SshServer, server_host: InventoryHost) -> None:
    old, new = paramiko.ECDSAKey.generate(), paramiko.ECDSAKey.generate()
    was = lines_of(ssh_server, old)
    ssh_server.known_hosts.write_text("\n".join(was) + "\n")
    accept_host_key(server_host, HostKey(new.get_name(), new.get_base64()))
    ssh_server.host_keys = [old]  # a restore was killed before it changed known_hosts

    inventory = Inventory("inventory.py", (inventory_host("spark-1", "head", ssh_hostname="127.0.0.9"), server_host))
    journal = Journal.create("rebuild")
    journal.write("returned", node="spark-2")
    tools = make_tools(inventory, nothing, journal, listener=nothing, watch=nothing, ask=None, note=nothing)
    assert NodePlan(server_host, tools).machine.condition() == "wiped"
    assert ssh_server.known_hosts.read_text().splitlines() == was


HERE = {"host_key": HostKey("ssh-ed25519", "AAAA"), "sudo": True, "macs": MACS}
THERE = Observation(**HERE, machine_id="0" * 32, boot_id="boot-1")  # type: ignore[arg-type] # as above
GONE = Observation(refused="no route to host")
REBOOTED = replace(THERE, boot_id="boot-2")
STRANGER = replace(THERE, machine_id="9" * 32, macs={"enP7s7": "4c:bb:47:ff:ff:ff"})
CLOSED = Observation(HostKey("ssh-ed25519", "BBBB"), "Permission denied (publickey).")
PASTED = replace(THERE, host_key=CLOSED.host_key, machine_id="1" * 32, boot_id="boot-3")


def test_every_change_is_reported_until_the_node_is_back(node: InventoryHost) -> None:
    looks = [THERE, THERE, GONE, REBOOTED, GONE, STRANGER, GONE, CLOSED, CLOSED, replace(PASTED, sudo=False), PASTED]
    left, reported, between = list(looks), list[Verdict](), list[str]()
    returned = wait_for_wipe(
        node,
        BEFORE,
        reported.append,
        between=lambda seen: between.append(seen.kind),
        poll_seconds=0,
        look=lambda host: left.pop(0),
    )
    kinds = ["still-there", "gone", "unwiped", "gone", "other-machine", "gone", "no-login", "no-sudo", "wiped"]
    assert [seen.kind for seen in reported] == kinds  # an unchanged verdict is not reported again
    assert not any(seen.reminder for seen in reported)
    assert len(between) == len(looks) - 1  # not after the last look
    assert returned.observation == PASTED


def test_reminders_repeat_the_verdict_and_its_lines(node: InventoryHost) -> None:
    left, reported = [CLOSED, CLOSED, CLOSED, PASTED], list[Verdict]()
    wait_for_wipe(node, BEFORE, reported.append, poll_seconds=0, reminder_seconds=0, look=lambda host: left.pop(0))
    assert [(seen.kind, seen.reminder) for seen in reported] == [
        ("no-login", False),
        ("no-login", True),
        ("no-login", True),
        ("wiped", False),
    ]
    assert reported[1].lines == reported[0].lines == key_lines(node)
    assert reported[1].text == f"still waiting: {reported[0].text}"
