"""The lab's nodes look like real machines to the product, also when they are wiped, rebooted or disconnected."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from gb10.lab.plan import INTERFACES
from gb10.lab.shell import Docker
from tests.lab.console import on_console

HEAD, WORKER = "spark-1", "spark-2"
GB10 = Path(sys.executable).with_name("gb10")
HELM = "/opt/gb10-lab/bin/helm"


@pytest.fixture
def host_of(over_ssh: Any) -> Any:
    """Use SSH, as users of the lab do."""
    return over_ssh


@pytest.fixture
def worker(lab: Any, host_of: Callable[[str], Any]) -> Iterator[Callable[[], Any]]:
    """Return the worker's testinfra host with a new SSH connection. Reinstall the worker after the test."""
    yield lambda: host_of(WORKER)
    lab.wipe(WORKER, trust=True)


def identity(host: Any) -> dict[str, str]:
    return {
        "machine-id": host.check_output("cat /etc/machine-id"),
        "boot-id": host.check_output("cat /proc/sys/kernel/random/boot_id"),
        "host key": host.check_output("cat /etc/ssh/ssh_host_ed25519_key.pub"),
        "MACs": host.check_output("cat " + " ".join(f"/sys/class/net/{name}/address" for name in INTERFACES.values())),
        "hostname": host.check_output("hostname"),
    }


def boot_id(host: Any) -> str | None:
    """Return the id of the current boot, or None while SSH does not answer."""
    try:
        return str(host.check_output("cat /proc/sys/kernel/random/boot_id"))
    except RuntimeError:
        return None


def load_image(host: Any) -> None:
    host.check_output("tar -C / -c usr/bin/busybox | sudo docker import - busybox:lab")


def images(host: Any) -> list[str]:
    return str(host.check_output("sudo docker images --format '{{.Repository}}:{{.Tag}}'")).split()


def test_a_node_has_systemd_ssh_sudo_docker_and_two_rails(fresh_nodes: None, host_of: Callable[[str], Any]) -> None:
    for name in (HEAD, WORKER):
        host = host_of(name)
        assert host.check_output("systemctl is-system-running") == "running"
        assert host.check_output("id -un") == "nvidia"
        assert host.check_output("sudo -n id -un") == "root"
        for service in ("ssh", "docker"):
            assert host.service(service).is_running
            assert host.service(service).is_enabled
        for interface in INTERFACES.values():
            assert host.interface(interface).exists
            assert host.file(f"/sys/class/net/{interface}/mtu").content_string.strip() == "1500"
        assert host.mount_point("/data").exists
        assert host.file("/sys/class/net/eth0").exists is False


def test_a_node_runs_containers(worker: Callable[[], Any]) -> None:
    load_image(worker())
    for network in ("bridge", "host"):
        run = f"sudo docker run --rm --network {network} busybox:lab /usr/bin/busybox echo works"
        assert worker().check_output(run) == "works"


def test_the_console_has_the_rights_of_a_login(lab: Any, over_ssh: Any) -> None:
    node = lab.state.node(WORKER)
    docker = Docker(lab.state.docker_host)
    if not docker.reaches_into(node.container):
        pytest.skip("Docker runs on another machine, so no test uses the console")
    outputs = [
        host.check_output("id; pwd; sudo grep ^CapBnd /proc/self/status")
        for host in (on_console(docker, node.container), over_ssh(WORKER))
    ]
    assert outputs[0] == outputs[1]


def test_a_node_cannot_set_this_machines_clock(host_of: Callable[[str], Any]) -> None:
    assert host_of(WORKER).run("sudo date --set '2020-01-01'").rc != 0
    assert time.localtime().tm_year > 2020


def test_a_new_hostname_survives_a_reboot(lab: Any, worker: Callable[[], Any]) -> None:
    worker().check_output("sudo hostnamectl set-hostname renamed")
    lab.lab.reboot(WORKER)
    assert worker().check_output("hostname") == "renamed"


def test_a_wipe_makes_a_new_installation_of_the_same_machine(lab: Any, worker: Callable[[], Any]) -> None:
    old = identity(worker())
    load_image(worker())
    worker().check_output("sudo touch /data/model && sudo hostnamectl set-hostname renamed")
    known = lab.state.known_hosts.read_text()
    lab.wipe(WORKER)
    assert lab.state.known_hosts.read_text() == known
    with pytest.raises(RuntimeError, match="HOST IDENTIFICATION HAS CHANGED"):
        worker().run("true")
    lab.wipe(WORKER, trust=True)
    new = identity(worker())
    assert new["MACs"] == old["MACs"]
    assert new["hostname"] == old["hostname"] == lab.state.node(WORKER).factory_hostname
    assert all(new[key] != old[key] for key in ("machine-id", "boot-id", "host key"))
    assert images(worker()) == []
    assert worker().check_output("ls -A /data") == ""


def test_a_wipe_keeps_data_on_request(lab: Any, worker: Callable[[], Any]) -> None:
    worker().check_output("sudo sh -c 'echo weights > /data/model'")
    old = identity(worker())
    lab.wipe(WORKER, keep_data=True, trust=True)
    assert worker().check_output("cat /data/model") == "weights"
    assert identity(worker())["machine-id"] != old["machine-id"]


def test_a_reboot_loses_only_the_boot_id_and_memory(lab: Any, worker: Callable[[], Any]) -> None:
    load_image(worker())
    worker().check_output("sudo touch /root/kept /run/lost")
    old = identity(worker())
    lab.lab.reboot(WORKER)
    new = identity(worker())
    assert new.pop("boot-id") != old.pop("boot-id")
    assert new == old
    assert images(worker()) == ["busybox:lab"]
    assert worker().check_output("ls /root/kept /run/lost 2>/dev/null || true; sudo ls /root/kept") == "/root/kept"


def test_a_node_that_reboots_itself_comes_back(worker: Callable[[], Any]) -> None:
    old = identity(worker())
    with suppress(RuntimeError):  # the connection may end before the command
        worker().run("sudo systemctl reboot")
    deadline = time.monotonic() + 60
    while boot_id(worker()) in (None, old["boot-id"]):
        assert time.monotonic() < deadline
        time.sleep(0.3)
    assert identity(worker())["machine-id"] == old["machine-id"]


@pytest.mark.parametrize("rail", ["a", "b"])
def test_a_pulled_rail_carries_nothing_but_the_others_do(lab: Any, worker: Callable[[], Any], rail: str) -> None:
    def reached(network: str) -> bool:
        return bool(worker().run(f"ping -c 1 -W 1 {lab.address(HEAD, network)}").rc == 0)

    other = {"a": "b", "b": "a"}[rail]
    assert reached(rail)
    lab.lab.rail(WORKER, rail, plugged=False)
    assert (reached(rail), reached(other), reached("management")) == (False, True, True)
    assert worker().file(f"/sys/class/net/{INTERFACES[rail]}/carrier").content_string.strip() == "0"
    lab.lab.reboot(WORKER)
    assert not reached(rail)
    lab.lab.rail(WORKER, rail, plugged=True)
    assert reached(rail)


@pytest.mark.parametrize("rail", ["a", "b"])
def test_sysfs_shows_the_state_of_the_rails(lab: Any, worker: Callable[[], Any], rail: str) -> None:
    device = {"a": "rocep1s0f0", "b": "roceP2p1s0f0"}[rail]
    port, netdev = f"/sys/class/infiniband/{device}/ports/1", INTERFACES[rail]

    def port_state() -> list[str]:
        time.sleep(0.3)
        return str(worker().check_output(f"cd {port} && cat state phys_state rate link_layer")).splitlines()

    assert port_state() == ["4: ACTIVE", "5: LinkUp", "200 Gb/sec (4X HDR)", "Ethernet"]
    assert worker().check_output(f"ls /sys/class/infiniband/{device}/device/net") == netdev
    assert worker().check_output(f"ls /sys/class/net/{netdev}/device/infiniband") == device
    lab.lab.rail(WORKER, rail, plugged=False)
    assert port_state() == ["1: DOWN", "2: Polling", "40 Gb/sec (4X QDR)", "Ethernet"]
    lab.lab.reboot(WORKER)
    time.sleep(1)
    assert port_state()[0] == "1: DOWN"
    lab.lab.rail(WORKER, rail, plugged=True)
    assert port_state()[0] == "4: ACTIVE"
    worker().check_output(f"sudo ip link set {netdev} down")
    assert port_state()[1] == "3: Disabled"
    worker().check_output(f"sudo ip link set {netdev} up; sudo touch /etc/gb10-lab/no-cx7; sleep 0.3")
    assert worker().run(f"ls /sys/class/infiniband/ /sys/class/net/{netdev}/device/").stdout == ""
    worker().check_output("sudo rm /etc/gb10-lab/no-cx7")
    assert port_state()[0] == "4: ACTIVE"
    mtu = f"cat /sys/class/net/{netdev}/mtu; sudo ip link set {netdev} mtu 1400; cat /sys/class/net/{netdev}/mtu"
    assert worker().check_output(mtu).split() == ["1500", "1400"]
    toy = "/sys/class/net/gb10-toy"
    worker().check_output(f"sudo ip link add gb10-toy type bridge && cat {toy}/mtu && sudo ip link del gb10-toy")
    assert not worker().file(toy).exists


def test_a_rail_carries_jumbo_frames_with_mtu_9000(
    lab: Any, worker: Callable[[], Any], host_of: Callable[[str], Any]
) -> None:
    large = f"ping -c 1 -W 1 -M do -s 8900 {lab.address(HEAD, 'a')}"
    assert worker().run(large).rc != 0
    for host in (worker(), host_of(HEAD)):
        host.check_output(f"sudo ip link set {INTERFACES['a']} mtu 9000")
    assert worker().run(large).rc == 0
    host_of(HEAD).check_output(f"sudo ip link set {INTERFACES['a']} mtu 1500")


def test_a_node_can_resume_an_interrupted_download(lab: Any, mirror: Any, worker: Callable[[], Any]) -> None:
    path = "/k3s/v1.36.4+k3s1/k3s"
    url = f"{lab.mirror_url}/k3s/v1.36.4%2Bk3s1/k3s"
    mirror.drop(r"/k3s$", after_bytes=mirror.size(path) // 2)
    assert worker().run(f"curl -sSf -o /tmp/k3s {url}").rc == 18
    worker().check_output(f"curl -sSf -C - -o /tmp/k3s {url}")
    digest = worker().check_output(f"curl -sSf {lab.mirror_url}/k3s/v1.36.4%2Bk3s1/sha256sum-amd64.txt").split()[0]
    assert worker().file("/tmp/k3s").sha256sum == digest
    assert [request.status for request in mirror.requests(r"/k3s$")] == [200, 206]


def test_the_mirror_serves_the_helm_archive(lab: Any, worker: Callable[[], Any]) -> None:
    version = worker().check_output(f"{HELM} version --template '{{{{.Version}}}}'")
    architecture = worker().check_output("dpkg --print-architecture")
    archive = f"helm-{version}-linux-{architecture}.tar.gz"
    for file in (archive, f"{archive}.sha256sum"):
        worker().check_output(f"cd /tmp && curl -sSfO {lab.mirror_url}/helm/{file}")
    worker().check_output(f"cd /tmp && sha256sum -c {archive}.sha256sum && tar -xzf {archive}")
    assert worker().check_output(f"/tmp/linux-{architecture}/helm version --short").startswith(version)


def test_a_node_has_no_default_route(worker: Callable[[], Any]) -> None:
    assert worker().check_output("ip route show default") == ""


# A second lab on the same machine ------------------------------------------------------------------------------------


def traces(state: Path, name: str) -> dict[str, list[str]]:
    """Return what a lab has on this machine, found by the path of its state folder or by its name."""
    processes = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if str(state) in command and entry.name != str(os.getpid()):
                processes.append(command)
    mounts = [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(state) in line]
    bridges = sorted(entry.name for entry in Path("/sys/class/net").iterdir() if entry.name.startswith("br-"))
    engine_objects = [
        line
        for kind in ("container", "volume", "network")
        for line in subprocess.run(
            ["docker", kind, "ls", "--quiet", "--filter", f"label=gb10.lab={name}"],
            capture_output=True,
            text=True,
            check=False,
        ).stdout.split()
    ]
    files = sorted(str(path) for path in (state / "lab", state / "engine") if path.exists())
    return {"processes": processes, "mounts": mounts, "bridges": bridges, "engine": engine_objects, "files": files}


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A temporary folder whose path is short enough for a socket."""
    with tempfile.TemporaryDirectory(prefix="gb10-") as folder:
        yield Path(folder)


@pytest.fixture
def another(short_folder: Path) -> Iterator[Callable[..., str]]:
    """Return a function that runs `gb10 lab` for a separate lab, with its own Docker engine if no other answers."""
    environment = {**os.environ, "GB10_STATE": str(short_folder / "s"), "GB10_LAB": f"another-{os.getpid()}"}

    def gb10_lab(*arguments: str) -> str:
        done = subprocess.run(
            [GB10, "lab", *arguments], env=environment, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    yield gb10_lab
    gb10_lab("down")


def test_a_lab_is_up_in_seconds_and_leaves_nothing_behind(another: Callable[..., str], short_folder: Path) -> None:
    name, state = f"another-{os.getpid()}", short_folder / "s"
    before = traces(state, name)
    start = time.monotonic()
    another("up", "--nodes", "2")
    # Less than 10 on an idle machine, but other tests run in parallel.
    assert time.monotonic() - start < 60
    shown = json.loads(another("status", "--json"))
    assert [node["state"] for node in shown["nodes"]] == ["running", "running"]
    assert traces(state, name) != before
    another("down")
    after = traces(state, name)
    # Other labs on this machine may start and stop meanwhile.
    assert set(after.pop("bridges")) <= {*before.pop("bridges"), *traces(state, name)["bridges"]}
    assert after == before


def test_up_adds_only_what_is_missing(another: Callable[..., str]) -> None:
    another("up", "--nodes", "1")
    first = json.loads(another("status", "--json"))["nodes"]
    another("up", "--nodes", "2")
    both = json.loads(another("status", "--json"))["nodes"]
    assert both[0] == first[0]
    assert both[1]["state"] == "running"
    another("down")
    another("down")
