"""A node: a container that boots a real systemd, with what is needed for that and no more."""

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

# One by one: --privileged is refused where the machine itself lacks one, and SYS_TIME and SYS_MODULE must not be among
# them, since clock and kernel are this machine's.
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

# Ends when everything that a user of the node needs is up. (is-active is content with one of several units.) Before
# both have a process nobody needs to be asked, which would take as much of the processor as the boot itself.
READY = f"""
deadline=$(($(date +%s) + {BOOT_SECONDS}))
until [ -e /run/sshd.pid ] && [ -e /run/docker.pid ] && systemctl is-active --quiet ssh \\
    && systemctl is-active --quiet docker && docker version > /dev/null 2>&1; do
    if [ "$(date +%s)" -ge $deadline ]; then systemctl --no-pager status ssh docker; exit 1; fi
    sleep 0.1
done
"""


def create_networks(docker: Docker, lab: str, index: int) -> None:
    """Create the lab's networks that the engine lacks. They lead nowhere but to this machine and between the nodes."""
    present = docker.listed("network", f"gb10.lab={lab}")
    for network in NETWORKS:
        name = network_name(lab, index, network)
        if name not in present:
            # The node decides about jumbo frames; the bridge must be able to carry them.
            mtu = [] if network == "management" else ["--opt", f"com.docker.network.driver.mtu={JUMBO_MTU}"]
            label = ["--label", f"gb10.lab={lab}"]
            docker("network", "create", "--internal", f"--subnet={subnet(index, network)}", *label, *mtu, name)


def create(docker: Docker, node: NodePlan, image: str, clients: Path, public_key: str, default_route: bool) -> None:
    """Create the container of a node and start it: the first boot of a new installation.

    `default_route` adds a default route that leads nowhere, without which the real K3s does not start.
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
        # A reboot from within ends the container; the engine then boots it again.
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
    """Boot a node that is off."""
    with one_by_one():
        docker("start", node.container)


def restart(docker: Docker, node: NodePlan) -> None:
    """Shut a node down as its power button does, and boot it."""
    with one_by_one():
        docker("restart", "--time=30", node.container)


def remove(docker: Docker, node: NodePlan, keep_data: bool) -> None:
    """Throw a node away: its container, its Docker's volume and, unless it is kept, /data."""
    if node.container in docker.listed("container", f"gb10.lab={node.lab}"):
        with one_by_one():
            docker("container", "rm", "--force", "--volumes", node.container)
    volumes = docker.listed("volume", f"gb10.lab={node.lab}")
    unwanted = {node.docker_volume} | (set() if keep_data else {node.data_volume})
    if there := sorted(unwanted.intersection(volumes)):
        docker("volume", "rm", *there)


def wait_until_ready(docker: Docker, node: NodePlan) -> None:
    """Return when sshd and Docker answer on the node. Raise LabError with the state of both if they do not."""
    deadline = time.monotonic() + BOOT_SECONDS
    while not is_running(docker, node):
        if time.monotonic() > deadline:
            log = docker("logs", "--tail=10", node.container)
            raise LabError(
                f"{node.name} does not boot: {log}", f"gb10 lab wipe {node.name}, or docker logs {node.container}"
            )
        time.sleep(0.1)
    docker.inside(node.container, READY, timeout=BOOT_SECONDS + 30)
    address = (node.address("management"), 22)
    with socket.create_connection(address, timeout=10) as connection:
        if not connection.recv(4).startswith(b"SSH"):
            raise LabError(f"{node.name} answers on port 22, but not as sshd.", f"gb10 lab wipe {node.name}")


def is_running(docker: Docker, node: NodePlan) -> bool:
    """Whether the node is booted, or booting: not in the moment between two boots."""
    state = json.loads(docker("container", "inspect", "--format", "{{json .State}}", node.container))
    return bool(state["Running"] and not state["Restarting"])


def host_keys(docker: Docker, node: NodePlan) -> list[str]:
    """The lines of a known_hosts file that name the node's host keys, read through the engine and not over the net."""
    keys = docker.inside(node.container, "cat /etc/ssh/ssh_host_*_key.pub").splitlines()
    names = f"{node.name},{node.address('management')}"
    return [f"{names} {' '.join(key.split()[:2])}" for key in keys]


def set_cable(docker: Docker, node: NodePlan, image: str, rail: str, plugged: bool) -> None:
    """Plug a rail's cable in, or pull it: the node's interface loses its carrier.

    The other end of a container's interface lies in this machine's network namespace. Who is not root here reaches it
    from a helper container, so that rights on the engine are enough.
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
    """Held while a container joins or leaves its networks.

    Docker 20.10 loses count of a network's endpoints when many do so at once, and then refuses to remove the network.
    """
    return FileLock(locks_folder() / "endpoints.lock")


@cache
def _cgroup_v1_environment(docker: Docker) -> dict[str, str]:
    """systemd 257 refuses cgroup v1 unless it is told, on the kernel's command line, that this is meant."""
    if docker("info", "--format", "{{.CgroupVersion}}").strip() != "1":
        return {}
    return {"SYSTEMD_PROC_CMDLINE": "systemd.unified_cgroup_hierarchy=0 SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE=1"}
