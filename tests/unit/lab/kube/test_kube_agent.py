"""`k3s agent`: which nodes may join, and what happens to a node that stops."""

from __future__ import annotations

import copy
import json
import signal
import time
import zlib
from pathlib import Path

import pytest

from gb10.lab.kube.build import build_k3s
from gb10.lab.kube.identity import Authenticator
from gb10.lab.kube.store import Store
from tests.unit.lab.kube.kube_machines import GRACE, NEWER, Machine, Machines, Server, eventually

REJECTED = "Node password rejected, duplicate hostname or contents of '/etc/rancher/node/password'"


@pytest.fixture
def server(cluster: Server) -> Server:
    """The module's server, for tests that do not stop it."""
    return cluster


@pytest.fixture
def own_server(machines: Machines) -> Server:
    """A separate server, for a test that stops it."""
    made = machines.server()
    made.up(disable=["traefik"])
    return made


@pytest.fixture
def node(request: pytest.FixtureRequest) -> str:
    """A node name that no other test uses."""
    return f"node-{zlib.crc32(request.node.nodeid.encode()):x}"


def nodes(server: Server) -> set[str]:
    return {node["metadata"]["name"] for node in server.get("nodes")["items"]}


def joined(server: Server, agent: Machine, name: str) -> None:
    agent.start("agent")
    eventually(lambda: name in nodes(server))
    eventually(lambda: server.ready(name) == "True")


def test_an_agent_joins_and_shows_its_settings(machines: Machines, node: str, server: Server) -> None:
    agent = machines.agent(server, node, node_label=["rack=a", "zone=b"], node_taint=["x=y:NoSchedule"])
    joined(server, agent, node)
    seen = server.get("node", node)
    labels, status = seen["metadata"]["labels"], seen["status"]
    assert {"type": "Hostname", "address": node} in status["addresses"]
    assert {"type": "InternalIP", "address": "127.0.0.2"} in status["addresses"]
    assert status["nodeInfo"]["containerRuntimeVersion"] == "containerd://2.1.5-k3s1"
    assert labels.items() >= {"rack": "a", "zone": "b", "kubernetes.io/hostname": node}.items()
    assert seen["spec"]["taints"] == [{"key": "x", "value": "y", "effect": "NoSchedule"}]
    assert set(status["allocatable"]) >= {"cpu", "memory", "pods"}
    assert "node-role.kubernetes.io/control-plane" not in labels
    assert server.get("node", "spark-1")["metadata"]["labels"]["node-role.kubernetes.io/control-plane"] == "true"


def test_the_environment_of_the_official_script_is_enough(machines: Machines, node: str, server: Server) -> None:
    agent = machines.agent(server, node)
    (agent.etc / "config.yaml").unlink()
    agent.start("agent", "--node-name", node, "--node-ip=127.0.0.2", K3S_URL=server.url, K3S_TOKEN=server.token())
    eventually(lambda: node in nodes(server))


def test_a_wrong_password_is_refused_at_each_attempt(machines: Machines, node: str, server: Server) -> None:
    agent = machines.agent(server, node, token=server.token() + "x")
    agent.start("agent")
    words = f"{server.url}/v1-k3s/serving-kubelet.crt: 401 Unauthorized"
    eventually(lambda: agent.journal.exists() and agent.journal.read_text().count(words) >= 2)
    assert node not in nodes(server)


def test_the_agent_refuses_a_token_of_another_cluster(machines: Machines, node: str, server: Server) -> None:
    stale = f"K10{'0' * 64}::{server.token().partition('::')[2]}"
    agent = machines.agent(server, node, token=stale)
    agent.start("agent")
    eventually(
        lambda: agent.has_logged(f"token CA hash does not match the Cluster CA certificate hash: {'0' * 64} != ")
    )
    assert node not in nodes(server)


def test_a_short_token_and_a_bootstrap_token_are_accepted(machines: Machines, node: str, server: Server) -> None:
    joined(server, machines.agent(server, node, token=server.token().rpartition(":")[2]), node)
    bootstrap = server.run("token", "create").stdout.strip()
    joined(server, machines.agent(server, f"{node}-b", token=bootstrap), f"{node}-b")
    identifier = bootstrap.rpartition("::")[2].partition(".")[0]
    assert identifier in server.run("token", "list").stdout


def test_a_separate_agent_token_joins_and_has_its_own_file(machines: Machines, node: str) -> None:
    server = machines.server()
    server.up(agent_token="for-agents-only")  # noqa: S106 (a password of this test alone)
    token = (server.data / "server/agent-token").read_text().strip()
    assert token.endswith("::node:for-agents-only")
    joined(server, machines.agent(server, node, token=token), node)


def test_an_agent_waits_for_a_server_that_is_down(machines: Machines, node: str, own_server: Server) -> None:
    agent = machines.agent(own_server, node)
    own_server.stop()
    agent.start("agent")
    eventually(lambda: agent.has_logged("connect: connection refused"))
    own_server.up()
    eventually(lambda: node in nodes(own_server))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"token": ""}, "--token is required"),
        ({"server": ""}, "--server is required"),
        ({"server": "http://127.0.0.1:6443"}, "only https:// URLs are supported"),
        ({"token": "K10abc"}, "invalid token format"),
    ],
)
def test_invalid_settings_stop_the_start(
    machines: Machines, node: str, server: Server, settings: dict[str, str], words: str
) -> None:
    done = machines.agent(server, node, **settings).run("agent")
    assert done.returncode == 1
    assert words in done.stderr


def test_a_wiped_node_is_rejected_until_its_secret_is_deleted(machines: Machines, node: str, server: Server) -> None:
    agent = machines.agent(server, node)
    joined(server, agent, node)
    agent.stop()
    (agent.root / "etc/rancher/node/password").unlink()
    server.kubectl("delete", "node", node)

    agent.start("agent")
    eventually(lambda: agent.has_logged(REJECTED))
    assert node not in nodes(server)

    server.kubectl("delete", "secret", f"{node}.node-password.k3s", "-n", "kube-system")
    eventually(lambda: node in nodes(server))


def test_two_nodes_cannot_share_a_name(machines: Machines, node: str, server: Server) -> None:
    joined(server, machines.agent(server, node), node)
    twin = machines.agent(server, "twin", node_name=node)
    twin.start("agent")
    eventually(lambda: twin.has_logged(REJECTED))
    twin.stop()
    twin.start("agent", "--with-node-id")
    eventually(lambda: any(name.startswith(f"{node}-") for name in nodes(server)))


def test_a_node_without_heartbeat_is_unknown_with_its_pods(machines: Machines, node: str, server: Server) -> None:
    agent = machines.agent(server, node)
    joined(server, agent, node)
    spec = {"nodeName": node, "containers": [{"name": "c", "image": "i"}]}
    server.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": spec})
    server.kubectl("wait", "--for=condition=Ready", "pod/p", "--timeout=10s")
    assert agent.process
    agent.process.send_signal(signal.SIGSTOP)
    server.kubectl("wait", "--for=condition=Ready=Unknown", f"node/{node}", "--timeout=15s")
    server.kubectl("wait", "--for=condition=Ready=False", "pod/p", "--timeout=10s")
    agent.process.send_signal(signal.SIGCONT)
    server.kubectl("wait", "--for=condition=Ready", f"node/{node}", "pod/p", "--timeout=10s")


def test_a_pause_of_the_server_leaves_nodes_ready(machines: Machines, node: str, own_server: Server) -> None:
    agent = machines.agent(own_server, node)
    joined(own_server, agent, node)
    before = own_server.get("node", node)["status"]["conditions"]
    own_server.stop()
    time.sleep(float(GRACE) + 1)
    own_server.up()
    eventually(lambda: agent.has_logged("Connection to the server is back"))
    assert own_server.get("node", node)["status"]["conditions"] == before


def test_an_agent_with_a_newer_binary_reports_the_new_version(
    machines: Machines, node: str, server: Server, tmp_path: Path
) -> None:
    agent = machines.agent(server, node)
    joined(server, agent, node)
    server.kubectl("label", "node", node, "mine=kept")
    agent.stop()
    agent.binary = tmp_path / "newer"
    build_k3s(agent.binary, NEWER)
    agent.start("agent")
    eventually(lambda: server.get("node", node)["status"]["nodeInfo"]["kubeletVersion"] == NEWER)
    assert server.get("node", node)["metadata"]["labels"]["mine"] == "kept"


def test_a_deleted_node_comes_back_only_with_a_restart(machines: Machines, node: str, server: Server) -> None:
    agent = machines.agent(server, node)
    joined(server, agent, node)
    server.kubectl("delete", "node", node)
    time.sleep(2.5)  # at least one heartbeat
    assert node not in nodes(server)
    agent.stop()
    joined(server, agent, node)


def test_a_node_may_change_neither_secrets_nor_other_nodes(machines: Machines, node: str, server: Server) -> None:
    agent = machines.agent(server, node)
    joined(server, agent, node)
    # A kubeconfig with only the credential of a node.
    password = server.token().rpartition(":")[2]
    credential = Authenticator(Store(), password, password).node_credential(node)
    ca = server.data / "server/tls/server-ca.crt"
    config = {
        "clusters": [{"name": "c", "cluster": {"server": server.url, "certificate-authority": str(ca)}}],
        "users": [{"name": "u", "user": {"token": credential}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    as_node = copy.copy(server)
    as_node.kubeconfig = agent.root / "node.json"
    as_node.kubeconfig.write_text(json.dumps(config))
    assert node in nodes(as_node)
    assert "forbidden" in as_node.refused("get", "secrets", "-A")
    assert "forbidden" in as_node.refused("label", "node", "spark-1", "a=b")
    as_node.kubectl("label", "node", node, "a=b")
    config["users"] = [{"name": "u", "user": {"token": "wrong"}}]
    as_node.kubeconfig.write_text(json.dumps(config))
    assert "Unauthorized" in as_node.refused("get", "nodes")
