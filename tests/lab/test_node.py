"""Provisioning of new nodes: every part works, failures change nothing, and nobody is ever locked out."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.lab.observe import shell, until, written_files
from tests.lab.product import BIN, Done, Product

HEAD, WORKER = "spark-1", "spark-2"
NODE = "gb10.deploys.node"
PARTS = [
    *("user", "sudo", "hostname", "hosts", "data", "huggingface"),
    *("docker", "performance", "rails", "sshd", "firewall"),
]
RAILS = {"a": "enp1s0f0np0", "b": "enP2p1s0f0np0"}
DAEMON = "/etc/docker/daemon.json"
RAILS_FILE = "/etc/netplan/95-gb10-rails.yaml"
CONFIRM_SECONDS = 12  # time limit of a confirmation, for tests in which it never comes


@pytest.fixture
def host_of(over_ssh: Any) -> Any:
    """Use SSH, so that every command proves that nobody is locked out."""
    return over_ssh


def provision(product: Product, **data: Any) -> Done:
    """Provision only the head, with additional host data."""
    inventory = product.with_data(**data) if data else product
    return inventory.pyinfra("-y", "--fail-percent", "0", f"--limit={HEAD}", NODE)


def only(*parts: str) -> dict[str, bool]:
    """Return settings that disable all other parts."""
    return {f"node_{part}": part in parts for part in PARTS}


@pytest.fixture
def head(product: Product, host_of: Any) -> Any:
    """The head, provisioned."""
    done = provision(product)
    assert done.status == 0, done.output
    return host_of(HEAD)


@pytest.fixture
def new_head(lab: Any, host_of: Any) -> Any:
    """The head, newly installed."""
    lab.wipe(HEAD, trust=True)
    return host_of(HEAD)


def test_new_nodes_are_provisioned_as_planned_and_once(
    product: Product, fresh_nodes: Any, host_of: Any, lab: Any
) -> None:
    nodes = [host_of(HEAD), host_of(WORKER)]
    before = [written_files(node) for node in nodes]
    engines = [shell(node, "systemctl show -p MainPID --value docker") for node in nodes]
    plan = product.plan(NODE)
    assert [written_files(node) for node in nodes] == before
    assert plan == product.run(NODE)
    assert {name for _, name in plan} == {HEAD, WORKER}

    assert_ready(nodes[0], HEAD, lab)
    assert_ready(nodes[1], WORKER, lab)
    assert [shell(node, "systemctl show -p MainPID --value docker") for node in nodes] == engines
    for rail in RAILS:
        shell(nodes[0], f"ping -c 1 -W 2 -M do -s 8972 {WORKER}-rail-{rail}")

    after = [written_files(node) for node in nodes]
    assert product.plan(NODE) == set()
    assert product.run(NODE) == set()
    assert [written_files(node) for node in nodes] == after


def assert_ready(node: Any, name: str, lab: Any) -> None:
    """Check a node that was provisioned with the default settings."""
    assert node.user("nvidia").exists
    assert "docker" in node.user("nvidia").groups
    rule = node.file("/etc/sudoers.d/90-gb10-nvidia")
    assert (shell(node, f"stat -c '%a %U' {rule.path}"), shell(node, "visudo -c && echo fine")[-4:]) == (
        "440 root",
        "fine",
    )
    assert node.check_output("hostname") == name
    assert node.file("/etc/hostname").content_string == f"{name}\n"
    assert node.addr(WORKER).ipv4_addresses[-1] == lab.address(WORKER)
    for folder, mode in {"huggingface": 0o755, "docker-images": 0o755, "backups": 0o700}.items():
        found = node.file(f"/data/{folder}")
        assert (found.is_directory, found.user, found.mode) == (True, "nvidia", mode)
    assert node.check_output("printenv HF_HOME") == "/data/huggingface"
    config = json.loads(node.file(DAEMON).content_string)
    assert config == {
        "live-restore": True,
        "default-runtime": "nvidia",
        "runtimes": {"nvidia": {"args": [], "path": "nvidia-container-runtime"}},
    }
    assert shell(node, "docker info -f '{{.LiveRestoreEnabled}}'") == "true"
    assert shell(node, f"stat -c '%a %U' {RAILS_FILE}") == "600 root"
    for rail, interface in RAILS.items():
        assert node.interface(interface).addresses == [lab.address(name, rail)]
        assert node.check_output(f"cat /sys/class/net/{interface}/mtu") == "9000"
    assert no_passwords(node)
    assert shell(node, "ufw status") == "Status: inactive"


def no_passwords(node: Any) -> bool:
    lines = shell(node, "sshd -T").splitlines()
    return "passwordauthentication no" in lines and "kbdinteractiveauthentication no" in lines


def test_a_reboot_keeps_everything(head: Any, lab: Any, product: Product) -> None:
    lab.lab.reboot(HEAD)
    mtu = f"cat /sys/class/net/{RAILS['a']}/mtu"
    until(lambda: head.run(mtu).stdout.strip() == "9000", 30)
    assert not [change for change in product.plan(NODE) if change[1] == HEAD]


def test_each_part_can_be_provisioned_alone(product: Product, head: Any) -> None:
    for part in ("user", "sudo", "hostname", "hosts", "data", "huggingface", "docker", "rails", "sshd"):
        done = product.with_data(**only(part)).pyinfra("--json", "--dry", f"--limit={HEAD}", NODE)
        assert done.status == 0, done.output
        assert 2 <= len(done.json["plan"]) <= 3, part  # the first one heeds the lock


# The rails -----------------------------------------------------------------------------------------------------------


def test_rails_that_cut_off_the_node_are_rolled_back(head: Any, lab: Any, product: Product) -> None:
    addresses, file = head.interface("enP7s7").addresses, shell(head, f"cat {RAILS_FILE}")
    routes = head.check_output("ip route")
    cut = {"a": {"interface": "enP7s7", "address": "198.18.255.11/24"}}
    done = provision(product, rails=cut, node_confirm_seconds=CONFIRM_SECONDS, **only("rails"))
    assert done.status != 0
    assert "gb10: RAILS_REJECTED:" in done.output
    assert head.interface("enP7s7").addresses == addresses == [lab.address(HEAD)]
    assert head.check_output("ip route") == routes
    assert shell(head, f"cat {RAILS_FILE}") == file
    assert shell(head, "ls /run/netplan") == ""


def test_a_node_without_connectx7_gets_no_rails(new_head: Any, product: Product) -> None:
    shell(new_head, "mkdir -p /etc/gb10-lab; touch /etc/gb10-lab/no-cx7")  # the next wipe removes it
    assert json.loads(shell(new_head, "rdma -j link")) == []
    absent = {"a": {"interface": "enp9s9f0np0", "address": "192.168.100.11/24"}}
    done = provision(product, rails=absent)
    assert done.status == 0, done.output
    assert not new_head.file(RAILS_FILE).exists
    assert "passwordauthentication no" in shell(new_head, "sshd -T"), "the parts after the rails must be done too"


def test_rails_are_rolled_back_after_a_killed_controller(
    new_head: Any, lab: Any, product: Product, root_of: Callable[[str], Path]
) -> None:
    inventory = product.with_data(node_confirm_seconds=CONFIRM_SECONDS, **only("rails"))
    command = [str(BIN / "pyinfra"), "-y", f"--limit={HEAD}", str(inventory.inventory), NODE]
    trial = root_of(HEAD) / "run/gb10-trial/rails"
    environment = {**os.environ, **inventory.environment}
    with subprocess.Popen(
        command, cwd=inventory.folder, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL, start_new_session=True,
    ) as process:  # fmt: skip
        until(trial.exists, 60, pause=0.05)
        os.killpg(process.pid, signal.SIGKILL)
    state = trial / "state"
    until(lambda: state.exists() and state.read_text() == "applied\n", 30)
    assert new_head.check_output(f"cat /sys/class/net/{RAILS['a']}/mtu") == "9000"
    until(lambda: state.read_text() == "undone\n", CONFIRM_SECONDS + 30)
    assert new_head.check_output(f"cat /sys/class/net/{RAILS['a']}/mtu") == "1500"
    assert new_head.interface(RAILS["a"]).addresses == [lab.address(HEAD, "a")]
    assert not new_head.file(RAILS_FILE).exists
    assert provision(product).status == 0
    assert new_head.check_output(f"cat /sys/class/net/{RAILS['a']}/mtu") == "9000"


def test_a_pulled_cable_is_not_a_change(head: Any, lab: Any, product: Product) -> None:
    lab.lab.rail(HEAD, "a", plugged=False)
    try:
        assert not [change for change in product.plan(NODE) if change[1] == HEAD]
    finally:
        lab.lab.rail(HEAD, "a", plugged=True)
    until(lambda: head.interface(RAILS["a"]).addresses == [lab.address(HEAD, "a")], 30)
    assert not [change for change in product.plan(NODE) if change[1] == HEAD]


def test_a_reset_mtu_is_set_again(head: Any, product: Product) -> None:
    shell(head, f"ip link set {RAILS['b']} mtu 1500")
    assert {name for name, host in product.plan(NODE) if host == HEAD} == {"Node | Configure the rails"}
    assert provision(product).status == 0
    assert head.check_output(f"cat /sys/class/net/{RAILS['b']}/mtu") == "9000"


def use_networkmanager(host: Any) -> None:
    """Make NetworkManager netplan's default renderer, and remove the addresses of the rails."""
    everything = "network: {version: 2, renderer: NetworkManager}"
    shell(host, f"umask 077; echo '{everything}' > /etc/netplan/01-network-manager-all.yaml")
    shell(host, "; ".join(f"ip addr flush dev {interface}" for interface in RAILS.values()))
    shell(host, "systemctl enable --quiet --now NetworkManager; netplan apply")
    until(lambda: host.run("nmcli -g RUNNING general").stdout.strip() == "running", 30)


def assert_rails(host: Any, lab: Any, mtu: str = "9000") -> None:
    """Check that each rail has exactly its address, and this MTU."""
    for rail, interface in RAILS.items():
        (found,) = json.loads(host.check_output(f"ip -j addr show dev {interface}"))
        addresses = [(entry["family"], f"{entry['local']}/{entry['prefixlen']}") for entry in found["addr_info"]]
        assert [address for family, address in addresses if family == "inet"] == [f"{lab.address(HEAD, rail)}/24"]
        assert str(found["mtu"]) == mtu


def connections(host: Any) -> str:
    """Return NetworkManager's active connections with their start times, and its process id."""
    return shell(host, "nmcli -g NAME,DEVICE,TIMESTAMP connection show --active; pidof NetworkManager")


def test_networkmanager_can_configure_the_rails(new_head: Any, lab: Any, product: Product) -> None:
    management = shell(new_head, "ip -4 -o addr show dev enP7s7; ip route show dev enP7s7")
    use_networkmanager(new_head)
    done = provision(product)
    assert done.status == 0, done.output
    assert_rails(new_head, lab)
    for interface in RAILS.values():
        manager = f"nmcli -g GENERAL.STATE,GENERAL.CONNECTION device show {interface}"
        assert shell(new_head, manager).splitlines() == ["100 (connected)", f"netplan-{interface}"]
    assert shell(new_head, "ls /run/systemd/network/*.network 2>/dev/null || true") == ""
    assert shell(new_head, "ip -4 -o addr show dev enP7s7; ip route show dev enP7s7") == management

    before, files = connections(new_head), written_files(new_head)
    assert not [change for change in product.plan(NODE) if change[1] == HEAD]
    again = product.pyinfra("--json", "-y", f"--limit={HEAD}", NODE)
    assert not [op for op in again.json["results"]["operations"] if op["success"]], again.output
    assert connections(new_head) == before
    assert written_files(new_head).items() ^ files.items() == set()

    lab.lab.reboot(HEAD)
    until(lambda: new_head.check_output(f"cat /sys/class/net/{RAILS['b']}/mtu") == "9000", 30)
    assert_rails(new_head, lab)
    assert not [change for change in product.plan(NODE) if change[1] == HEAD]


def test_rails_of_networkmanager_are_rolled_back_too(new_head: Any, lab: Any, product: Product) -> None:
    use_networkmanager(new_head)
    states = "nmcli -t -f DEVICE,STATE device"
    routes = new_head.check_output("ip route show dev enP7s7")
    cut = {"a": {"interface": "enP7s7", "address": "198.18.255.11/24"}}
    done = provision(product, rails=cut, node_confirm_seconds=CONFIRM_SECONDS, **only("rails"))
    assert done.status != 0
    assert "gb10: RAILS_REJECTED:" in done.output
    assert new_head.interface("enP7s7").addresses == [lab.address(HEAD)]
    assert new_head.check_output("ip route show dev enP7s7") == routes
    assert shell(new_head, "ls /run/netplan") == ""
    # Otherwise NetworkManager would try DHCP and remove this address without an answer.
    until(lambda: "enP7s7:connected (externally)" in shell(new_head, states), 10)
    assert provision(product).status == 0
    assert_rails(new_head, lab)


@pytest.mark.parametrize(
    ("damage", "repair", "code"),
    [
        (
            "umask 077; echo 'network: {ethernets: {enp1s0f0np0: {addresses: [10.9.9.9/8]}}}' > /etc/netplan/50-x.yaml",
            "rm /etc/netplan/50-x.yaml",
            "NETPLAN_CONFLICT",
        ),
        ("umask 077; echo 'network: [' > /etc/netplan/50-x.yaml", "rm /etc/netplan/50-x.yaml", "NETPLAN_BROKEN"),
        (
            "mv /usr/sbin/netplan /usr/sbin/netplan.away",
            "mv /usr/sbin/netplan.away /usr/sbin/netplan",
            "NETPLAN_ABSENT",
        ),
    ],
)
def test_a_netplan_problem_is_named_and_changes_nothing(
    damage: str, repair: str, code: str, head: Any, product: Product
) -> None:
    shell(head, damage)
    try:
        before = shell(head, f"cat {RAILS_FILE}")
        refused = product.with_data(node_rails_mtu=4000).pyinfra("--dry", "--json", f"--limit={HEAD}", NODE)
        assert f"would be refused: {code}" in refused.output
        done = provision(product, node_rails_mtu=4000)
        assert done.status != 0
        assert f"gb10: {code}:" in done.output
        assert shell(head, f"cat {RAILS_FILE}") == before
        assert provision(product, node_rails=False).status == 0
    finally:
        shell(head, repair)


def test_the_error_names_a_missing_interface(head: Any, product: Product) -> None:
    rails = {
        "a": {"interface": RAILS["a"], "address": "10.1.0.1/24"},
        "b": {"interface": "enX9", "address": "10.2.0.1/24"},
    }
    done = provision(product, rails=rails, **only("rails"))
    assert "gb10: RAIL_UNKNOWN: spark-1: it has no enX9" in done.output


def test_a_node_without_rdma_tools_gets_everything_else(new_head: Any, product: Product) -> None:
    shell(new_head, "cd /usr/local/bin; rm -f rdma ibdev2netdev ibstat; touch /etc/gb10-lab/no-cx7")
    rails = {"a": {"interface": "enX8", "address": "10.1.0.1/24"}, "b": {"interface": "enX9", "address": "10.2.0.1/24"}}
    done = provision(product, rails=rails)
    assert done.status == 0, done.output
    assert no_passwords(new_head)
    assert not new_head.file(RAILS_FILE).exists


def test_two_rails_in_one_subnet_are_refused(head: Any, product: Product) -> None:
    rails = {rail: {"interface": name, "address": f"10.1.0.{len(name)}/24"} for rail, name in RAILS.items()}
    done = provision(product, rails=rails)
    assert done.status != 0
    assert "gb10: SETTINGS_INVALID: spark-1: rails: two rails are in one subnet" in done.output


# sshd ----------------------------------------------------------------------------------------------------------------


def test_passwords_stay_allowed_until_a_key_works(new_head: Any, lab: Any, product: Product, tmp_path: Path) -> None:
    shell(new_head, "echo nvidia:only-in-the-lab | chpasswd")
    stranger = tmp_path / "stranger"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(stranger)], check=True)
    password = {"ssh_key": str(stranger), "ssh_password": "only-in-the-lab", **only("user", "sshd")}
    done = provision(product, **password)
    assert done.status != 0
    assert "gb10: KEY_LOGIN_FAILED:" in done.output
    assert not no_passwords(new_head)

    # The same again, with this key among those to authorize.
    keys = [str(stranger.with_suffix(".pub"))]
    assert provision(product, **password, node_user_keys=keys).status == 0
    assert no_passwords(new_head)
    kept = shell(new_head, "cat /home/nvidia/.ssh/authorized_keys").splitlines()
    assert kept == [lab.state.key.with_suffix(".pub").read_text().strip(), Path(keys[0]).read_text().strip()]
    assert (
        shell(new_head, "stat -c '%a %U' /home/nvidia/.ssh /home/nvidia/.ssh/authorized_keys")
        == "700 nvidia\n600 nvidia"
    )


def test_sshd_is_rolled_back_if_it_ignores_the_drop_in(new_head: Any, product: Product) -> None:
    shell(new_head, "sed -i /^Include/d /etc/ssh/sshd_config; systemctl reload ssh")
    done = provision(product, **only("sshd"))
    assert done.status != 0
    reason = "'passwordauthentication no' has no effect: /etc/ssh/sshd_config sets it first"
    assert f"gb10: SSHD_REJECTED: spark-1: {reason}" in done.output
    assert not new_head.file("/etc/ssh/sshd_config.d/00-gb10.conf").exists


def test_an_unloaded_sshd_setting_locks_nobody_out(new_head: Any, product: Product) -> None:
    # The reload for our change would also activate this setting, and a rollback could not undo that.
    shell(new_head, "echo 'AllowUsers somebody-else' > /etc/ssh/sshd_config.d/50-x.conf")
    done = provision(product, **only("sshd"))
    assert done.status != 0
    assert "gb10: KEY_LOGIN_FAILED: spark-1 would let nobody in by key any more" in done.output
    assert not new_head.file("/etc/ssh/sshd_config.d/00-gb10.conf").exists
    shell(new_head, "rm /etc/ssh/sshd_config.d/50-x.conf")
    assert provision(product, **only("sshd")).status == 0
    assert "rehearsal" not in shell(new_head, "ls /run; systemctl list-units --all --no-legend")


def test_a_broken_sshd_configuration_changes_nothing(new_head: Any, product: Product) -> None:
    shell(new_head, "echo 'PubkeyAuthentication maybe' > /etc/ssh/sshd_config.d/50-x.conf")
    done = provision(product, **only("sshd"))
    shell(new_head, "rm /etc/ssh/sshd_config.d/50-x.conf")
    assert done.status != 0
    assert "gb10: SSHD_REJECTED:" in done.output
    assert not new_head.file("/etc/ssh/sshd_config.d/00-gb10.conf").exists


# Docker --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def serving(head: Any) -> Iterator[Callable[..., str]]:
    """Return a function that starts a container, which could be serving, with labels and returns its id."""
    shell(
        head,
        "docker image inspect toy >/dev/null 2>&1 || tar -C / -c bin/busybox usr/bin/busybox | docker import - toy",
    )

    def start(*labels: str) -> str:
        words = " ".join(f"--label {label}" for label in labels)
        return shell(head, f"docker run -d --name toy-model --network none {words} toy /usr/bin/busybox sleep 600")

    yield start
    shell(head, "docker rm -f toy-model")


def running(head: Any, container: str) -> bool:
    return shell(head, f"docker inspect -f '{{{{.State.Running}}}} {{{{.RestartCount}}}}' {container}") == "true 0"


def engine_pid(head: Any) -> str:
    return shell(head, "systemctl show -p MainPID --value docker")


def test_docker_is_restarted_while_serving_only_on_request(head: Any, serving: Any, product: Product) -> None:
    container, engine, before = serving(), engine_pid(head), shell(head, f"cat {DAEMON}")
    reload_only = {"node_docker_config": {"live-restore": True, "max-concurrent-downloads": 5}}
    assert provision(product, **reload_only, **only("docker")).status == 0
    assert (engine_pid(head), running(head, container)) == (engine, True)

    restart = {"node_docker_config": {"log-opts": {"max-size": "10m"}, "log-driver": "json-file"}}
    done = provision(product, **restart, **only("docker"))
    assert done.status != 0
    assert (
        "gb10: SERVING_RUNS: spark-1: a new log-driver, log-opts needs a restart of Docker, and toy-model"
        in done.output
    )
    assert (engine_pid(head), running(head, container)) == (engine, True)
    assert json.loads(shell(head, f"cat {DAEMON}")) == {**json.loads(before), "max-concurrent-downloads": 5}

    assert provision(product, **restart, **only("docker"), node_restart_while_serving=True).status == 0
    assert engine_pid(head) != engine
    assert json.loads(shell(head, f"cat {DAEMON}"))["log-driver"] == "json-file"
    assert running(head, container)  # because of live-restore


def test_kubernetes_containers_do_not_count_as_serving(head: Any, serving: Any, product: Product) -> None:
    serving("io.kubernetes.pod.name=toy")
    engine = engine_pid(head)
    assert provision(product, node_docker_config={"log-level": "warn"}, **only("docker")).status == 0
    assert engine_pid(head) != engine


def test_rails_are_not_changed_while_the_node_serves(head: Any, serving: Any, product: Product) -> None:
    serving()
    done = provision(product, node_rails_mtu=4000, **only("rails"))
    assert "gb10: SERVING_RUNS:" in done.output
    assert head.check_output(f"cat /sys/class/net/{RAILS['a']}/mtu") == "9000"


def test_the_nvidia_runtime_keeps_other_docker_settings(new_head: Any, product: Product) -> None:
    toy = '#!/bin/sh\\nexec runc \\"$@\\"\\n'
    shell(new_head, f'printf "{toy}" > /usr/bin/nvidia-container-runtime; chmod 755 /usr/bin/nvidia-container-runtime')
    shell(new_head, f'echo \'{{"registry-mirrors": ["https://mirror.example"]}}\' > {DAEMON}; systemctl reload docker')
    engine = engine_pid(new_head)
    assert provision(product, **only("docker")).status == 0
    config = json.loads(shell(new_head, f"cat {DAEMON}"))
    assert config["registry-mirrors"] == ["https://mirror.example"]
    assert (config["default-runtime"], config["runtimes"]["nvidia"]["path"]) == ("nvidia", "nvidia-container-runtime")
    assert shell(new_head, "docker info -f '{{.DefaultRuntime}}'") == "nvidia"
    assert engine_pid(new_head) == engine
    assert not [change for change in product.with_data(**only("docker")).plan(NODE) if change[1] == HEAD]


@pytest.mark.parametrize(
    ("content", "config"),
    [('{"debug": ', {"live-restore": True}), ("{}", {"no-such-key": 1}), ("{}", {"storage-driver": "no-such-driver"})],
)
def test_a_rejected_docker_configuration_changes_nothing(
    content: str, config: dict[str, Any], new_head: Any, product: Product
) -> None:
    shell(new_head, f"echo '{content}' > {DAEMON}")
    done = provision(product, node_docker_config=config, **only("docker"))
    assert done.status != 0
    assert "gb10: DOCKER_CONFIG_REJECTED:" in done.output
    assert shell(new_head, f"cat {DAEMON}") == content.strip()
    assert shell(new_head, "docker info -f '{{.ServerVersion}}'")


# /data ---------------------------------------------------------------------------------------------------------------


def test_the_output_shows_where_data_is_stored(new_head: Any, product: Product) -> None:
    assert "/data is on a device of its own" in provision(product, **only("data")).output
    done = provision(product, node_data_path="/srv/data", **only("data"))
    assert "/srv/data will be a directory on the root file system" in done.output
    assert "a reinstallation of the node erases it" in done.output
    assert new_head.file("/srv/data/huggingface").user == "nvidia"


def test_existing_data_keeps_content_owner_and_mode(new_head: Any, product: Product) -> None:
    shell(new_head, "mkdir -m 700 /data/huggingface && echo weights > /data/huggingface/model")
    assert provision(product, **only("data")).status == 0
    assert shell(new_head, "stat -c '%a %U' /data/huggingface; cat /data/huggingface/model") == "700 root\nweights"


@pytest.mark.parametrize(
    ("damage", "code"),
    [
        ("echo '/dev/nvme0n1p9 /srv/data ext4 defaults,nofail 0 2' >> /etc/fstab", "DATA_NOT_MOUNTED"),
        ("touch /srv/data", "DATA_BLOCKED"),
        ("mkdir /srv/data; touch /srv/data/huggingface", "DATA_BLOCKED"),
    ],
)
def test_an_impossible_data_folder_changes_nothing(damage: str, code: str, new_head: Any, product: Product) -> None:
    shell(new_head, damage)
    before = shell(new_head, "ls -laR --time-style=full-iso /srv")
    done = provision(product, node_data_path="/srv/data", **only("data"))
    assert done.status != 0
    assert f"gb10: {code}:" in done.output
    assert shell(new_head, "ls -laR --time-style=full-iso /srv") == before


# Users and the rest --------------------------------------------------------------------------------------------------


TOY_SMI = """#!/bin/sh
case "$*" in
*persistence_mode*) cat /var/lib/toy-persistence ;;
"-pm 1") echo Enabled > /var/lib/toy-persistence ;;
esac
"""


def test_performance_mode_survives_a_reboot(new_head: Any, lab: Any, product: Product) -> None:
    toy = "/usr/local/sbin/nvidia-smi"
    shell(new_head, f"cat > {toy} <<'END'\n{TOY_SMI}END\nchmod 755 {toy}; echo Disabled > /var/lib/toy-persistence")
    part = product.with_data(**only("performance"))
    assert {change for change in part.plan(NODE) if change[1] == HEAD} == {("Node | Switch performance mode on", HEAD)}
    assert provision(product, **only("performance")).status == 0
    assert shell(new_head, "cat /var/lib/toy-persistence") == "Enabled"
    assert not [change for change in part.plan(NODE) if change[1] == HEAD]
    shell(new_head, "echo Disabled > /var/lib/toy-persistence")
    lab.lab.reboot(HEAD)
    until(lambda: shell(new_head, "cat /var/lib/toy-persistence") == "Enabled", 30)


def test_a_new_user_can_log_in_and_use_sudo_and_docker(
    new_head: Any, lab: Any, product: Product, tmp_path: Path
) -> None:
    key = tmp_path / "anna"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    anna = product.with_data(node_user_name="anna", node_user_keys=[str(key.with_suffix(".pub"))])
    plan = {change for change in anna.plan(NODE) if change[1] == HEAD}
    assert plan == {change for change in anna.run(NODE) if change[1] == HEAD}
    options = ["-o", "BatchMode=yes", "-o", f"UserKnownHostsFile={lab.state.known_hosts}", "-o", "IdentitiesOnly=yes"]
    command = ["ssh", "-i", str(key), *options, f"anna@{lab.address(HEAD)}", "sudo -n true && docker ps -q && id -un"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "anna\n"
    assert not [change for change in anna.plan(NODE) if change[1] == HEAD]


def test_root_can_provision_a_node(new_head: Any, product: Product) -> None:
    shell(new_head, "install -d -m 700 /root/.ssh && cp /home/nvidia/.ssh/authorized_keys /root/.ssh/")
    data = {"ssh_user": "root", "_sudo": False, "node_user_name": "nvidia"}
    done = provision(product, **data)
    assert done.status == 0, done.output
    assert no_passwords(new_head)
    assert new_head.check_output("hostname") == HEAD
    again = product.with_data(**data).pyinfra("--json", "--dry", f"--limit={HEAD}", NODE)
    assert not [operation for operation in again.json["plan"] if operation["hosts_with_change"]]


def test_the_firewall_admits_ssh_and_the_cluster(new_head: Any, lab: Any, product: Product) -> None:
    data = {"node_firewall_allow": ["allow 8000/tcp"], **only("firewall")}
    assert provision(product, **data).status == 0
    rules = shell(new_head, "ufw show added").splitlines()[1:]
    network = lab.address(HEAD, "a").rpartition(".")[0] + ".0/24"
    assert {"ufw allow 22/tcp", f"ufw allow from {lab.address(WORKER)}", f"ufw allow from {network}"} <= set(rules)
    assert "ufw allow 8000/tcp" in rules
    assert shell(new_head, "ufw status").startswith("Status: active")
    assert not [change for change in product.with_data(**data).plan(NODE) if change[1] == HEAD]
