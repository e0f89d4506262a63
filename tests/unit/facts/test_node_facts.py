"""What provisioning asks a node: parsed from what real tools print, and never a crash of the run on garbage."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyinfra.api import FactBase

from gb10.facts.data_mount import DataMount
from gb10.facts.docker import Container, RunningContainers, serving
from gb10.facts.network import Firewall, Interface, Interfaces, Netplan, NetplanConfig, Sshd, SshdConfig, UfwRules
from gb10.facts.node import Account, PerformanceMode, Speed, UserAccount
from gb10.facts.reading.node import DataPlace
from gb10.programs import netplan_probe
from tests.unit.facts.reading import (
    ABSENT,
    Printed,
    altered,
    answered,
    printed,
    process,
    sample,
    shell_accepts,
    spoiled,
)

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJx6C/aMaM8szTuG02u5TojsrLxcputiioJFGqssmrf6 anna@desk"
WIFI = """network:
  version: 2
  renderer: NetworkManager
  wifis:
    wlan0:
      access-points:
        "home":
          auth:
            key-management: "psk"
            password: "canary"
"""
ADDRESSES = """network:
  ethernets:
    a:
      addresses:
      - "192.168.100.10/24"
      - "10.0.0.1/8":
          label: "x"
    b:
      addresses:
      - "10.9.9.9/8"
"""
BROKEN = "Command failed: /etc/netplan/x.yaml:8:1: Invalid YAML: did not find expected node content:"
ON_ROOT = '{"filesystems": [{"target":"/", "source":"/dev/nvme0n1p2", "fstype":"ext4", "avail":3000, "size":4000}]}'
ON_DATA = '{"filesystems": [{"target":"/data", "source":"/dev/nvme0n1p3", "fstype":"xfs", "avail":1000, "size":2000}]}'
SUBVOLUME = (
    '{"filesystems": [{"target":"/data", "source":"/dev/nvme0n1p2[/@data]", "fstype":"btrfs", "avail":1, "size":2}]}'
)
UFW = ["Added user rules (see 'ufw status' for running firewall):", "ufw allow 22/tcp", "ufw allow from 10.42.0.0/16"]

NOTHING: Printed = ([], 0)
ABSENT_TOOL: Printed = ([], ABSENT)


def account(passwd: Printed, keys: Printed) -> list[str]:
    return printed({"passwd": passwd, "group": (["anna"], 0), "groups": (["anna sudo docker"], 0), "keys": keys})


def place(kind: str, where: str, fstab: Printed = ([], 1), **folders: str) -> list[str]:
    sections: dict[str, Printed] = {
        "path": (["/data"], 0),
        "kind": ([kind] if kind else [], 0),
        "place": ([where], 0),
        "root": ([ON_ROOT], 0),
        "fstab": fstab,
        **{f"folder {name}": ([found] if found else [], 0) for name, found in folders.items()},
    }
    return printed(sections)


def netplan(text: str, complaints: str = "") -> list[str]:
    """What the fact prints of interface a where netplan prints this."""
    return answered(netplan_probe.report(text, complaints, ["a"]))


def speed(governors: Printed, persistence: Printed, unit: str) -> list[str]:
    sections: dict[str, Printed] = {
        "governors": governors,
        "persistence": persistence,
        "nvidia-smi": (["/usr/bin/nvidia-smi"], 0),
        "active": ([unit], 0 if unit == "active" else 3),
        "enabled": (["enabled"], 0),
    }
    return printed(sections)


PASSWD: Printed = (["anna:x:1001:1001:Anna,,,:/home/anna:/bin/bash"], 0)
ANNA = Account("anna", 1001, "anna", ("anna", "sudo", "docker"), "/home/anna", "/bin/bash", (KEY,))
VLLM = '{"name":"/vllm","image":"vllm:1","labels":{"maintainer":"a,b=c"}}'
POD = '{"name":"/k8s_x","image":"pause","labels":{"io.kubernetes.pod.name":"x"}}'
BARE = '{"name":"/bare","image":"x","labels":null}'
CONTAINERS = (
    Container("vllm", "vllm:1", {"maintainer": "a,b=c"}),
    Container("k8s_x", "pause", {"io.kubernetes.pod.name": "x"}),
    Container("bare", "x", {}),
)
HERE = DataPlace("/data", "directory", "/data", "/dev/nvme0n1p3", "xfs", True, 1000, 2000, {}, None)
PLAIN = DataPlace("/data", "directory", "/", "/dev/nvme0n1p2", "ext4", False, 3000, 4000, {}, None)
GOVERNORS: Printed = (["powersave|performance powersave", "performance|performance powersave", "schedutil|x"], 0)

CASES: dict[str, tuple[FactBase[Any], list[str], Any]] = {
    "an account": (UserAccount(), account(PASSWD, ([KEY], 0)), ANNA),
    "no account": (UserAccount(), account(([], 2), ([], 1)), None),
    "sshd of Debian 13": (
        SshdConfig(),
        printed(dict.fromkeys(("sshd", "others"), (sample("sshd-T-debian13.txt"), 0))),
        Sshd((22,), True, True, "prohibit-password"),
    ),
    "a broken sshd_config": (SshdConfig(), printed(dict.fromkeys(("sshd", "others"), ([], 255))), None),
    "no netplan": (NetplanConfig(), answered(None), None),
    "netplan with nothing in it": (NetplanConfig(), netplan("network:\n  version: 2\n"), Netplan(None, {"a": ()})),
    "netplan without a file": (NetplanConfig(), netplan("null\n"), Netplan(None, {"a": ()})),
    "netplan with Wi-Fi alone": (NetplanConfig(), netplan(WIFI), Netplan("NetworkManager", {"a": ()})),
    "netplan with addresses": (
        NetplanConfig(),
        netplan(ADDRESSES),
        Netplan(None, {"a": ("192.168.100.10/24", "10.0.0.1/8")}),
    ),
    "netplan with a broken file": (NetplanConfig(), netplan("", f"WARNING\n{BROKEN}\n"), Netplan(None, {}, BROKEN)),
    "a partition of its own": (DataMount(), place("directory", ON_DATA), HERE),
    "a plain directory": (DataMount(), place("directory", ON_ROOT), PLAIN),
    "running containers": (
        RunningContainers(),
        printed({"engine": (["1", "2", "3"], 0), "ps": ([VLLM, POD, BARE], 0)}),
        CONTAINERS,
    ),
    "no running container": (RunningContainers(), printed({"engine": NOTHING, "ps": NOTHING}), ()),
    "no Docker": (RunningContainers(), printed({"engine": ABSENT_TOOL, "ps": ([], 123)}), None),
    "ufw": (
        UfwRules(),
        printed({"status": (["Status: active", "", "To   Action   From"], 0), "added": (UFW, 0)}),
        Firewall(True, ("allow 22/tcp", "allow from 10.42.0.0/16")),
    ),
    "no ufw": (UfwRules(), printed({"status": ABSENT_TOOL, "added": ABSENT_TOOL}), None),
    "cores and a GPU that can be set": (
        PerformanceMode(),
        speed(GOVERNORS, (["Disabled"], 0), "inactive"),
        Speed(("powersave", "performance"), "/usr/bin/nvidia-smi", False, False, True),
    ),
    "nothing that can be set": (
        PerformanceMode(),
        speed(ABSENT_TOOL, (["[N/A]"], 0), "active"),
        Speed((), None, None, True, True),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_what_a_node_prints_is_understood(case: str) -> None:
    fact, output, value = CASES[case]
    assert fact.process(output) == value


def test_interfaces_are_read_with_their_carrier_and_without_link_local_addresses() -> None:
    found = Interfaces().process(printed({"ip": (sample("ip-addr-lab.json"), 0)}))
    assert found["enp1s0f0np0"] == Interface(1500, True, ("198.18.5.12/24",))
    assert found["docker0"].up is False
    spark = Interfaces().process(printed({"ip": (sample("ip-addr-one-cable.json"), 0)}))
    assert spark["enp1s0f0np0"].up
    assert not spark["enp1s0f1np1"].up


def test_a_subvolume_of_the_root_file_system_is_no_device_of_its_own() -> None:
    found = DataMount().process(place("directory", SUBVOLUME))
    assert (found.own_device, found.source) == (False, "/dev/nvme0n1p2")


def test_a_file_system_that_fstab_names_and_nobody_mounted_is_noticed() -> None:
    fstab: Printed = (["/dev/nvme0n1p3"], 0)
    assert DataMount().process(place("directory", ON_ROOT, fstab)).is_unmounted
    assert not DataMount().process(place("directory", ON_DATA, fstab)).is_unmounted
    assert not DataMount().process(place("", ON_ROOT)).is_unmounted


def test_folders_are_told_apart_from_files_and_from_nothing() -> None:
    found = DataMount().process(place("directory", ON_DATA, huggingface="directory", backups="other", x=""))
    assert found.folders == {"huggingface": "directory", "backups": "other", "x": None}


def test_secrets_in_netplans_files_are_not_reported() -> None:
    assert "canary" not in "".join(netplan(WIFI))


def test_containers_of_kubernetes_never_serve_and_others_by_their_names() -> None:
    assert serving(CONTAINERS, ["*"]) == ["vllm", "bare"]
    assert serving(CONTAINERS, ["vllm*", "k8s_*"]) == ["vllm"]
    assert serving(CONTAINERS, []) == []


COMMANDS = (
    UserAccount().command(user="it's"),
    SshdConfig().command(),
    Interfaces().command(),
    NetplanConfig().command(interfaces=["enp1s0f0np0"]),
    DataMount().command(path="/it's", folders=["a b"]),
    RunningContainers().command(),
    UfwRules().command(),
    PerformanceMode().command(),
)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_one_that_a_posix_shell_takes(command: Any) -> None:
    assert shell_accepts(command)


@given(st.data(), st.sampled_from(sorted(CASES)))
def test_garbage_fails_one_host_and_never_the_run(data: st.DataObject, case: str) -> None:
    fact, output, _ = CASES[case]
    process(fact, data.draw(altered(output[0]) if isinstance(fact, NetplanConfig) else spoiled(output)))
