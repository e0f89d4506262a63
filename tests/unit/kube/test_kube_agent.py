"""`k3s agent`: who may join, and what becomes of a node that stops."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import pytest
from kube_machines import NEWER, Machine, Machines, Server, eventually

from gb10.lab.kube.build import build_k3s

REJECTED = "Node password rejected, duplicate hostname or contents of '/etc/rancher/node/password'"


@pytest.fixture
def server(machines: Machines) -> Server:
    made = machines.server()
    made.up(disable=["traefik"])
    return made


def nodes(server: Server) -> set[str]:
    return {node["metadata"]["name"] for node in server.get("nodes")["items"]}


def joined(server: Server, agent: Machine, name: str) -> None:
    agent.start("agent")
    eventually(lambda: name in nodes(server))
    eventually(lambda: server.ready(name) == "True")


def test_an_agent_joins_with_the_token_and_shows_what_it_was_told(machines: Machines, server: Server):
    agent = machines.agent(server, "spark-2", node_label=["rack=a", "zone=b"], node_taint=["x=y:NoSchedule"])
    joined(server, agent, "spark-2")
    node = server.get("node", "spark-2")
    assert {"type": "Hostname", "address": "spark-2"} in node["status"]["addresses"]
    assert node["status"]["addresses"][0]["type"] == "InternalIP"
    assert node["status"]["nodeInfo"]["containerRuntimeVersion"] == "containerd://2.1.5-k3s1"
    assert node["metadata"]["labels"].items() >= {"rack": "a", "zone": "b", "kubernetes.io/hostname": "spark-2"}.items()
    assert node["spec"]["taints"] == [{"key": "x", "value": "y", "effect": "NoSchedule"}]
    assert set(node["status"]["allocatable"]) >= {"cpu", "memory", "pods"}
    assert "node-role.kubernetes.io/control-plane" not in node["metadata"]["labels"]
    assert server.get("node", "spark-1")["metadata"]["labels"]["node-role.kubernetes.io/control-plane"] == "true"


def test_the_environment_of_the_official_script_is_enough(machines: Machines, server: Server):
    agent = machines.agent(server, "spark-2")
    (agent.etc / "config.yaml").unlink()
    agent.start("agent", "--node-name", "spark-2", "--node-ip=127.0.0.2", K3S_URL=server.url, K3S_TOKEN=server.token())
    eventually(lambda: "spark-2" in nodes(server))


def test_a_wrong_password_is_refused_again_and_again(machines: Machines, server: Server):
    agent = machines.agent(server, "spark-2", token=server.token() + "x")
    agent.start("agent")
    words = f"{server.url}/v1-k3s/serving-kubelet.crt: 401 Unauthorized"
    eventually(lambda: agent.journal.exists() and agent.journal.read_text().count(words) >= 2)
    assert nodes(server) == {"spark-1"}


def test_a_token_of_another_cluster_is_refused_by_the_agent_itself(machines: Machines, server: Server):
    stale = f"K10{'0' * 64}::{server.token().partition('::')[2]}"
    agent = machines.agent(server, "spark-2", token=stale)
    agent.start("agent")
    eventually(lambda: agent.said(f"token CA hash does not match the Cluster CA certificate hash: {'0' * 64} != "))
    assert nodes(server) == {"spark-1"}


def test_a_short_token_and_a_bootstrap_token_are_accepted(machines: Machines, server: Server):
    joined(server, machines.agent(server, "spark-2", token=server.token().rpartition(":")[2]), "spark-2")
    bootstrap = server.run("token", "create").stdout.strip()
    joined(server, machines.agent(server, "spark-3", token=bootstrap), "spark-3")
    identifier = bootstrap.rpartition("::")[2].partition(".")[0]
    assert identifier in server.run("token", "list").stdout


def test_an_agent_token_of_its_own_joins_and_stands_in_its_file(machines: Machines):
    server = machines.server()
    server.up(agent_token="for-agents-only")  # noqa: S106 (a password of this test alone)
    token = (server.data / "server/agent-token").read_text().strip()
    assert token.endswith("::node:for-agents-only")
    joined(server, machines.agent(server, "spark-2", token=token), "spark-2")


def test_an_agent_waits_for_a_server_that_is_down(machines: Machines, server: Server):
    agent = machines.agent(server, "spark-2")
    server.stop()
    agent.start("agent")
    eventually(lambda: agent.said("connect: connection refused"))
    server.up()
    eventually(lambda: "spark-2" in nodes(server))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"token": ""}, "--token is required"),
        ({"server": ""}, "--server is required"),
        ({"server": "http://127.0.0.1:6443"}, "only https:// URLs are supported"),
        ({"token": "K10abc"}, "invalid token format"),
    ],
)
def test_settings_that_cannot_work_end_the_start(
    machines: Machines, server: Server, settings: dict[str, str], words: str
):
    done = machines.agent(server, "spark-2", **settings).run("agent")
    assert done.returncode == 1
    assert words in done.stderr


def test_a_wiped_node_is_rejected_until_its_secret_is_deleted(machines: Machines, server: Server):
    agent = machines.agent(server, "spark-2")
    joined(server, agent, "spark-2")
    agent.stop()
    (agent.root / "etc/rancher/node/password").unlink()
    server.kubectl("delete", "node", "spark-2")

    agent.start("agent")
    eventually(lambda: agent.said(REJECTED))
    assert nodes(server) == {"spark-1"}

    server.kubectl("delete", "secret", "spark-2.node-password.k3s", "-n", "kube-system")
    eventually(lambda: "spark-2" in nodes(server))


def test_two_nodes_cannot_have_one_name(machines: Machines, server: Server):
    joined(server, machines.agent(server, "spark-2"), "spark-2")
    twin = machines.agent(server, "twin", node_name="spark-2")
    twin.start("agent")
    eventually(lambda: twin.said(REJECTED))
    twin.stop()
    twin.start("agent", "--with-node-id")
    eventually(lambda: any(name.startswith("spark-2-") for name in nodes(server)))


def test_a_node_whose_heartbeat_stops_is_unknown_and_its_pods_are_not_ready_until_it_is_back(
    machines: Machines, server: Server
):
    agent = machines.agent(server, "spark-2")
    joined(server, agent, "spark-2")
    spec = {"nodeName": "spark-2", "containers": [{"name": "c", "image": "i"}]}
    server.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": spec})
    server.kubectl("wait", "--for=condition=Ready", "pod/p", "--timeout=10s")
    assert agent.process
    agent.process.send_signal(signal.SIGSTOP)
    server.kubectl("wait", "--for=condition=Ready=Unknown", "node/spark-2", "--timeout=15s")
    server.kubectl("wait", "--for=condition=Ready=False", "pod/p", "--timeout=10s")
    agent.process.send_signal(signal.SIGCONT)
    server.kubectl("wait", "--for=condition=Ready", "node/spark-2", "pod/p", "--timeout=10s")


def test_a_restart_of_the_server_makes_no_node_unknown(machines: Machines, server: Server):
    agent = machines.agent(server, "spark-2")
    joined(server, agent, "spark-2")
    server.stop()
    server.up()
    changed = server.get("node", "spark-2")["status"]["conditions"][-1]["reason"]
    assert changed == "KubeletReady"


def test_an_agent_with_a_newer_binary_reports_the_new_version(machines: Machines, server: Server, tmp_path: Path):
    agent = machines.agent(server, "spark-2")
    joined(server, agent, "spark-2")
    server.kubectl("label", "node", "spark-2", "mine=kept")
    agent.stop()
    agent.binary = tmp_path / "newer"
    build_k3s(agent.binary, NEWER)
    agent.start("agent")
    eventually(lambda: server.get("node", "spark-2")["status"]["nodeInfo"]["kubeletVersion"] == NEWER)
    assert server.get("node", "spark-2")["metadata"]["labels"]["mine"] == "kept"


def test_a_node_that_is_deleted_while_it_runs_comes_back_only_with_a_restart(machines: Machines, server: Server):
    agent = machines.agent(server, "spark-2")
    joined(server, agent, "spark-2")
    server.kubectl("delete", "node", "spark-2")
    time.sleep(3)  # at least one heartbeat
    assert nodes(server) == {"spark-1"}
    agent.stop()
    joined(server, agent, "spark-2")


def test_a_node_may_change_neither_secrets_nor_other_nodes(machines: Machines, server: Server):
    agent = machines.agent(server, "spark-2")
    joined(server, agent, "spark-2")
    # A kubeconfig with nothing but the credential of a node, which only the server can make.
    from gb10.lab.kube.identity import Gatekeeper  # noqa: PLC0415 (used here alone)
    from gb10.lab.kube.store import Store  # noqa: PLC0415

    password = server.token().rpartition(":")[2]
    credential = Gatekeeper(Store(), password, password).node_credential("spark-2")
    ca = server.data / "server/tls/server-ca.crt"
    config = {
        "clusters": [{"name": "c", "cluster": {"server": server.url, "certificate-authority": str(ca)}}],
        "users": [{"name": "u", "user": {"token": credential}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    server.kubeconfig = server.root / "node.json"
    server.kubeconfig.write_text(json.dumps(config))
    assert nodes(server) == {"spark-1", "spark-2"}
    assert "forbidden" in server.refused("get", "secrets", "-A")
    assert "forbidden" in server.refused("label", "node", "spark-1", "a=b")
    server.kubectl("label", "node", "spark-2", "a=b")
    config["users"] = [{"name": "u", "user": {"token": "wrong"}}]
    server.kubeconfig.write_text(json.dumps(config))
    assert "Unauthorized" in server.refused("get", "nodes")
