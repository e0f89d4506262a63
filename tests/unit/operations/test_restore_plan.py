"""The plan of a restore: which backup fits a node, the order of the steps, the numbers of accounts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from gb10.facts.reading.node import Identity
from gb10.operations.backups.accounts import NodeAccounts, plan_accounts, read_accounts, read_groups
from gb10.operations.backups.restore_plan import (
    RESTORABLE,
    STEPS,
    described,
    foreign,
    may_show,
    not_in_force,
    other_k3s,
    public_texts,
    restored_units,
    select,
    step_of,
)
from gb10.programs.archive.manifest import PARTS, Manifest, Member, Owner

MACS = {"enP7s7": "02:b1:00:04:18:6e", "enp1s0f0np0": "02:b1:01:04:18:6e"}
THIS = Identity("spark-2", "a" * 32, "b", MACS, "arm64", "ubuntu", "24.04", "Ubuntu 24.04.4 LTS", 0.0)
ABOUT: dict[str, Any] = {"machine": {"macs": MACS, "architecture": "arm64"}, "versions": {"k3s": "v1.36.4+k3s1"}}
PEOPLE = "nvidia:x:1000:1000:,,,:/home/nvidia:/bin/bash\nada:x:1001:1001::/home/ada:/bin/zsh"
GROUP = "nvidia:x:1000:\nada:x:1001:\ndocker:x:112:nvidia,ada"
FRESH = NodeAccounts(
    users={"root": 0, "nvidia": 1000},
    groups={"root": (0, ()), "nvidia": (1000, ()), "docker": (998, ("nvidia",))},
    busy=frozenset({0, 1000}),
)


def member(path: str, part: str = "system", kind: str = "f") -> Member:
    return Member(path, part, kind, 0o644, Owner(0, 0, "root", "root"), 0)


def backup(*members: Member, **other: Any) -> Manifest:
    known = {"id": "spark-2-20261123T200000Z", "node": "spark-2", "created": "", "about": ABOUT, "members": members}
    return Manifest(**{**known, **other})


def codes(refusals: Any) -> list[str]:
    return [refusal.code for refusal in refusals]


def test_a_renamed_node_is_still_the_node_of_its_backup() -> None:
    assert codes(foreign(backup(), "spark-2", replace(THIS, hostname="spark-186e", machine_id="c" * 32))) == []


def test_a_node_with_one_new_interface_is_the_same_machine() -> None:
    usb = {**MACS, "enP7s7": "02:00:00:00:00:01"}
    assert codes(foreign(backup(), "spark-2", replace(THIS, macs=usb))) == []


def test_another_name_architecture_or_macs_are_refused() -> None:
    assert codes(foreign(backup(), "spark-1", THIS)) == ["RESTORE_OTHER_NODE"]
    assert codes(foreign(backup(), "spark-2", replace(THIS, architecture="amd64"))) == ["RESTORE_OTHER_MACHINE"]
    other = replace(THIS, macs={"enP7s7": "02:00:00:00:00:01"})
    assert codes(foreign(backup(), "spark-2", other)) == ["RESTORE_OTHER_MACHINE"]


def test_k3s_state_is_restored_only_to_its_version() -> None:
    assert codes(other_k3s(backup(), None, "v1.36.4+k3s1")) == []
    assert codes(other_k3s(backup(), "v1.36.4+k3s1", "v1.37.0+k3s1")) == []
    assert codes(other_k3s(backup(), None, "v1.37.0+k3s1")) == ["RESTORE_K3S_VERSION"]
    assert codes(other_k3s(backup(), "v1.35.1+k3s1", "v1.36.4+k3s1")) == ["RESTORE_K3S_VERSION"]


def test_host_keys_come_last_and_some_files_never() -> None:
    assert step_of(member("root/etc/ssh/ssh_host_ed25519_key", "identity")) == "sshd"
    assert step_of(member("root/etc/hostname", "identity")) == "identity"
    for path in ("root/etc/machine-id", "root/etc/fstab", "root/etc/rancher/k3s/k3s.yaml", "gb10/images.json"):
        assert step_of(member(path)) is None
    assert step_of(member("root/etc/systemd/system/snap-firefox-1234.mount")) is None


def test_only_wanted_parts_are_selected() -> None:
    manifest = backup(member("root/etc/netplan/a.yaml", "network"), member("root/etc/ssh/sshd_config", "identity"))
    for only, steps in ((None, {"network", "sshd"}), (["network"], {"network"}), (["identity"], {"sshd"})):
        assert {step for step, members in select(manifest, only).items() if members} == steps


def test_content_is_described_by_digest_alone() -> None:
    assert described("/etc/rancher/k3s/token", ["content", "a" * 64], "b" * 64) == (
        "/etc/rancher/k3s/token has other content: sha256 aaaaaaaaaaaa, in the backup bbbbbbbbbbbb"
    )


def test_a_diff_shows_only_texts_that_were_always_public() -> None:
    """All these files are 0644: a mode alone makes nothing public."""
    shown = ["root/etc/hosts", "root/etc/sysctl.d/90-own.conf"]
    secret = [
        "root/etc/environment",
        "root/home/ada/.netrc",
        "root/root/.docker/config.json",
        "root/etc/docker/daemon.json",
        "root/etc/systemd/system/docker.service.d/proxy.conf",
        "root/etc/modprobe.d/closed/token",
        "root/srv/own/settings",
    ]
    closed = replace(member("root/etc/modprobe.d/closed", kind="d"), mode=0o750)
    members = [closed, *map(member, shown + secret), replace(member("root/etc/timezone"), mode=0o640)]
    public = public_texts(members)
    assert public == {"/etc/hosts", "/etc/sysctl.d/90-own.conf"}
    assert may_show("/etc/hosts", "content", public, frozenset({"/etc/hosts"}))
    assert may_show("/etc/hosts", "absent", public, frozenset())
    assert not may_show("/etc/hosts", "content", public, frozenset())
    assert not may_show("/etc/hosts", "mode", public, frozenset({"/etc/hosts"}))


def test_every_restorable_part_has_a_step() -> None:
    manifest = backup(*(member(f"root/etc/{part}", part) for part in RESTORABLE))
    for part in RESTORABLE:
        assert any(select(manifest, [part]).values()), part
    assert set(RESTORABLE) < set(PARTS)
    assert set(RESTORABLE) | {"sshd"} == set(STEPS)


def test_settings_not_in_force_are_named_once_each() -> None:
    assert not_in_force(["/etc/hosts", "/etc/netplan/a.yaml", "/etc/systemd/system/a.service"]) == []
    (firewall,) = not_in_force(["/etc/ufw/user.rules", "/etc/ufw/user6.rules", "/etc/default/ufw"])
    assert "ufw reload" in firewall
    assert len(not_in_force(["/etc/ufw/user.rules", "/etc/NetworkManager/conf.d/a.conf"])) == 2


def test_drop_ins_links_and_templates_are_no_restored_units() -> None:
    folder = "root/etc/systemd/system"
    names = ("backup.timer", "own.service", "own.service.d/more.conf", "worker@.service", "notes.txt")
    members = [member(f"{folder}/{name}") for name in names] + [member(f"{folder}/link.service", kind="l")]
    assert restored_units(members) == ["backup.timer", "own.service"]


# Accounts


def planned(look: NodeAccounts, passwd: str = PEOPLE, group: str = GROUP) -> Any:
    return plan_accounts(read_accounts(passwd), read_groups(group), look)


def test_missing_accounts_get_their_old_numbers_and_groups() -> None:
    plan = planned(FRESH)
    assert plan.refusals == ()
    assert plan.created == ("ada",)
    make_group, make_user, join = plan.commands
    assert make_group == ("groupadd", "--gid", "1001", "ada")
    assert make_user[:5] == ("useradd", "--uid", "1001", "--gid", "1001")
    assert join == ("usermod", "--append", "--groups", "docker", "ada")


def test_shared_groups_get_their_members_in_the_same_run() -> None:
    group = f"{GROUP}\nresearch:x:1500:ada,nvidia"
    commands = planned(FRESH, group=group).commands
    assert ("groupadd", "--gid", "1500", "research") in commands
    assert ("usermod", "--append", "--groups", "docker,research", "ada") in commands
    assert ("usermod", "--append", "--groups", "research", "nvidia") in commands
    groups = {**FRESH.groups, "ada": (1001, ()), "docker": (998, ("nvidia", "ada")), "research": (1500, ("ada",))}
    then = replace(FRESH, users={**FRESH.users, "ada": 1001}, groups=groups)
    assert planned(then, group=group).commands == (("usermod", "--append", "--groups", "research", "nvidia"),)


def test_a_node_that_has_all_accounts_needs_nothing() -> None:
    groups = {**FRESH.groups, "ada": (1001, ()), "docker": (998, ("nvidia", "ada"))}
    plan = planned(replace(FRESH, users={**FRESH.users, "ada": 1001}, groups=groups))
    assert (plan.commands, plan.refusals) == ((), ())


def test_only_an_idle_account_gets_its_number_back() -> None:
    groups = {**FRESH.groups, "ada": (1001, ())}
    look = replace(FRESH, users={**FRESH.users, "ada": 1005}, groups=groups)
    assert ("usermod", "--uid", "1001", "ada") in planned(look).commands
    assert codes(planned(replace(look, busy=frozenset({1005}))).refusals) == ["RESTORE_NUMBERS"]


def test_a_number_of_another_account_is_refused() -> None:
    look = replace(FRESH, users={"root": 0, "nvidia": 1000, "wizard": 1001})
    plan = planned(look)
    assert codes(plan.refusals) == ["RESTORE_NUMBERS"]
    assert "wizard" in plan.refusals[0].text
    assert plan.created == ()


def test_numbers_of_the_system_s_own_groups_are_left_alone() -> None:
    assert not any("docker" in command and "--gid" in command for command in planned(FRESH).commands)
