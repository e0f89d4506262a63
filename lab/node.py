"""A node: a container that boots a real systemd with as few rights as possible."""

from __future__ import annotations

import json
import socket
import time
from functools import cache
from pathlib import Path

from filelock import FileLock

from gb10.lab.paths import locks_folder
from gb10.lab.plan import INTERFACES, NETWORKS, NodePlan, network_name, subnet
from gb10.lab.problem import LabError
from gb10.lab.shell import Docker, run

# Not --privileged, which fails if this machine itself lacks a capability. Without SYS_TIME and SYS_MODULE, since clock
# and kernel are this machine's.
CAPABILITIES = [
    "AUDIT_CONTROL",
    "AUDIT_READ",
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "IPC_LOCK",
    "IPC_OWNER",
    "KILL",
    "LEASE",
    "LINUX_IMMUTABLE",
    "MKNOD",
    "NET_ADMIN",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_RAW",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_CHROOT",
    "SYS_NICE",
    "SYS_PACCT",
    "SYS_PTRACE",
    "SYS_TTY_CONFIG",
]
USER = "nvidia"
BOOT_SECONDS = 90
JUMBO_MTU = 9000
CLIENTS = "/opt/gb10-lab/bin"

# Wait until sshd and Docker are up. `is-active` with several units needs only one active, so each is asked alone. The
# pid files come first, because the other checks use as much CPU as the boot itself.
READY = f"""
deadline=$(($(date +%s) + {BOOT_SECONDS}))
until [ -e /run/sshd.pid ] && [ -e /run/docker.pid ] && systemctl is-active --quiet ssh \\
    && systemctl is-active --quiet docker && docker version > /dev/null 2>&1; do
    if [ "$(date +%s)" -ge $deadline ]; then systemctl --no-pager status ssh docker; exit 1; fi
    sleep 0.1
done
"""


def create_networks(docker: Docker, lab: str, index: int) -> None:
    """Create the lab's missing networks. They connect only the nodes and this machine."""
    present = docker.listed("network", f"gb10.lab={lab}")
    for network in NETWORKS:
        name = network_name(lab, index, network)
        if name not in present:
            # The node decides about jumbo frames, but the bridge must carry them.
            mtu = [] if network == "management" else ["--opt", f"com.docker.network.driver.mtu={JUMBO_MTU}"]
            label = ["--label", f"gb10.lab={lab}"]
            docker("network", "create", "--internal", f"--subnet={subnet(index, network)}", *label, *mtu, name)


def create(docker: Docker, node: NodePlan, image: str, clients: Path, public_key: str, default_route: bool) -> None:
    """Create and start a node's container: the first boot of a new installation.

    `default_route` adds a default route that leads nowhere. The real K3s does not start without one.
    """
    label = f"gb10.lab={node.lab}"
    links = " ".join(f"{node.address(net)}={INTERFACES[net]}={node.mac(net)}" for net in NETWORKS)
    environment = {
        "container": "docker",
        "GB10_LAB_LINKS": links,
        "GB10_LAB_HOSTNAME": node.factory_hostname,
        "GB10_LAB_DEFAULT_ROUTE": "1" if default_route else "",
        **_cgroup_v1_environment(docker),
    }
    docker(
        "create",
        f"--name={node.container}",
        f"--label={label}",
        f"--label=gb10.lab.node={node.name}",
        "--cap-drop=ALL",
        *(f"--cap-add={capability}" for capability in CAPABILITIES),
        "--security-opt=seccomp=unconfined",
        "--security-opt=apparmor=unconfined",
        "--cgroupns=private",
        "--tmpfs=/run:exec",
        "--tmpfs=/run/lock",
        "--tmpfs=/tmp:exec",
        "--stop-signal=SIGRTMIN+3",
        # A reboot from inside ends the container; the engine then starts it again.
        "--restart=unless-stopped",
        *(f"--env={key}={value}" for key, value in environment.items()),
        f"--mount=type=volume,source={node.docker_volume},target=/var/lib/docker,volume-label={label}",
        f"--mount=type=volume,source={node.data_volume},target=/data,volume-label={label}",
        f"--volume={clients}:{CLIENTS}:ro",
        f"--hostname={node.factory_hostname}",
        f"--network={network_name(node.lab, node.index, 'management')}",
        f"--ip={node.address('management')}",
        image,
        "/usr/local/sbin/gb10-lab-init",
    )
    for network in NETWORKS[1:]:
        name = network_name(node.lab, node.index, network)
        docker("network", "connect", f"--ip={node.address(network)}", name, node.container)
    start(docker, node)
    authorize = f"install -m 0600 -o {USER} -g {USER} /dev/stdin /home/{USER}/.ssh/authorized_keys"
    docker.inside(node.container, authorize, stdin=public_key)


def start(docker: Docker, node: NodePlan) -> None:
    """Boot a stopped node."""
    with one_by_one():
        docker("start", node.container)


def restart(docker: Docker, node: NodePlan) -> None:
    """Shut a node down as its power button does and boot it."""
    with one_by_one():
        docker("restart", "--time=30", node.container)


def remove(docker: Docker, node: NodePlan, keep_data: bool) -> None:
    """Remove a node's container, its Docker volume and (unless kept) its /data."""
    if node.container in docker.listed("container", f"gb10.lab={node.lab}"):
        with one_by_one():
            docker("container", "rm", "--force", "--volumes", node.container)
    volumes = docker.listed("volume", f"gb10.lab={node.lab}")
    unwanted = {node.docker_volume} | (set() if keep_data else {node.data_volume})
    if present := sorted(unwanted.intersection(volumes)):
        docker("volume", "rm", *present)


def wait_until_ready(docker: Docker, node: NodePlan) -> None:
    """Wait until sshd and Docker answer on the node. Raise LabError with their state if they do not."""
    deadline = time.monotonic() + BOOT_SECONDS
    while not is_running(docker, node):
        if time.monotonic() > deadline:
            log = docker("logs", "--tail=10", node.container)
            raise LabError(
                f"{node.name} does not boot: {log}", f"gb10 lab wipe {node.name}, or docker logs {node.container}"
            )
        time.sleep(0.1)
    docker.inside(node.container, READY, timeout=BOOT_SECONDS + 30)
    while not sshd_answers(node):  # on a busy machine it listens a moment after its unit has started
        if time.monotonic() > deadline:
            raise LabError(f"Port 22 of {node.name} does not answer as sshd.", f"gb10 lab wipe {node.name}")
        time.sleep(0.1)


def sshd_answers(node: NodePlan) -> bool:
    """Return True if an SSH server answers on the management network."""
    try:
        with socket.create_connection((node.address("management"), 22), timeout=10) as connection:
            return connection.recv(4).startswith(b"SSH")
    except OSError:
        return False


def is_running(docker: Docker, node: NodePlan) -> bool:
    """Return True if the node is booted or booting, False between two boots."""
    state = json.loads(docker("container", "inspect", "--format", "{{json .State}}", node.container))
    return bool(state["Running"] and not state["Restarting"])


def host_keys(docker: Docker, node: NodePlan) -> list[str]:
    """Return the known_hosts lines of the node's host keys, read through the engine and not over the network."""
    keys = docker.inside(node.container, "cat /etc/ssh/ssh_host_*_key.pub").splitlines()
    names = f"{node.name},{node.address('management')}"
    return [f"{names} {' '.join(key.split()[:2])}" for key in keys]


def set_cable(docker: Docker, node: NodePlan, image: str, rail: str, plugged: bool) -> None:
    """Plug a rail's cable in or pull it, so that the node's interface loses its carrier.

    The other end of the interface is in this machine's network namespace. Without root, use a helper container to reach
    it, so that access to the engine is enough.
    """
    peer = docker.inside(node.container, f"cat /sys/class/net/{INTERFACES[rail]}/iflink").strip()
    find = f"ip -o link | awk -F'[ :@]+' '$1 == {peer} {{print $2}}'"
    script = f"ip link set $({find}) {'up' if plugged else 'down'}"
    if docker.reaches_into(node.container):
        run(["sh", "-ec", script])
    else:
        host = ["--rm", "--network=host", "--cap-add=NET_ADMIN", f"--label=gb10.lab={node.lab}"]
        docker("run", *host, image, "sh", "-ec", script)


def one_by_one() -> FileLock:
    """Return the lock to hold while a container joins or leaves its networks.

    Docker 20.10 loses count of a network's endpoints when many do so at once, and then refuses to remove the network.
    """
    return FileLock(locks_folder() / "endpoints.lock")


@cache
def _cgroup_v1_environment(docker: Docker) -> dict[str, str]:
    """Return the environment that makes systemd 257 accept cgroup v1. Empty on cgroup v2."""
    if docker("info", "--format", "{{.CgroupVersion}}").strip() != "1":
        return {}
    return {"SYSTEMD_PROC_CMDLINE": "systemd.unified_cgroup_hierarchy=0 SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE=1"}
