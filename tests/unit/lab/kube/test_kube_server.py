"""`k3s server`: the files it writes, the starts it refuses, the data that survives a restart."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import socket
import sqlite3
import ssl
import subprocess
import time
from contextlib import closing
from pathlib import Path

import pytest

from gb10.lab.kube.build import build_k3s
from tests.unit.lab.kube.kube_machines import NEWER, VERSION, Machines, Server, eventually

CONFIG_MAP = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "kept"}, "data": {"a": "b"}}


def mode(path: Path) -> str:
    return oct(path.stat().st_mode & 0o777)


def fatal(server: Server, *arguments: str) -> str:
    """Start a server that cannot start and return its last log line."""
    done = server.run("server", *arguments)
    assert done.returncode == 1
    assert "level=fatal" in done.stderr
    return done.stderr.splitlines()[-1]


def test_a_servers_files_have_the_paths_and_modes_of_k3s(machines: Machines) -> None:
    server = machines.server()
    server.up()
    ca = (server.data / "server/tls/server-ca.crt").read_bytes()
    digest, _, credentials = server.token().removeprefix("K10").partition("::")
    assert digest == hashlib.sha256(ca).hexdigest()
    assert credentials.startswith("server:")
    assert (server.data / "server/node-token").read_text() == (server.data / "server/token").read_text()
    for name in ("server/token", "server/agent-token", "server/db/state.db", "server/cred/passwd"):
        assert mode(server.data / name) == "0o600", name
    assert mode(server.kubeconfig) == "0o600"
    password = server.root / "etc/rancher/node/password"
    eventually(password.exists)  # the node joins once the server is up
    assert mode(password) == "0o600"
    assert [str(key) for key in server.data.rglob("*.key") if mode(key) != "0o600"] == []


def test_the_settings_give_the_kubeconfigs_path_and_mode(machines: Machines) -> None:
    server = machines.server()
    server.kubeconfig = server.root / "mine.yaml"
    server.up(write_kubeconfig=str(server.kubeconfig), write_kubeconfig_mode="0640")
    assert mode(server.kubeconfig) == "0o640"
    assert server.get("nodes")


def test_the_serving_certificate_has_the_names_in_the_settings(machines: Machines) -> None:
    server = machines.server()
    server.up(tls_san=["head.lab", "198.18.9.9"])
    context = ssl.create_default_context(cafile=str(server.data / "server/tls/server-ca.crt"))
    for name in ("head.lab", "spark-1", "localhost", "198.18.9.9", "127.0.0.1"):
        with socket.create_connection(("127.0.0.1", server.port)) as plain:
            context.wrap_socket(plain, server_hostname=name).close()


def test_systemd_is_notified_only_once_the_server_answers(machines: Machines) -> None:
    server = machines.server()
    faults = server.root / "run/gb10-lab/kube-faults.json"
    faults.parent.mkdir(parents=True)
    faults.write_text(json.dumps({"ready": False}))
    address = server.root / "notify"
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as systemd:
        systemd.bind(str(address))
        systemd.settimeout(1.5)
        server.configure(https_listen_port=server.port, node_name="spark-1", node_ip="127.0.0.1")
        server.start("server", NOTIFY_SOCKET=str(address))
        with pytest.raises(TimeoutError):
            systemd.recv(100)
        faults.unlink()
        systemd.settimeout(5)
        assert systemd.recv(100) == b"READY=1"
        assert server.kubectl("get", "--raw", "/readyz") == "ok"


def test_a_server_starts_in_two_seconds_and_stops_in_one(machines: Machines) -> None:
    server = machines.server()
    started = time.monotonic()
    server.up()
    assert time.monotonic() - started < 4  # twice as long, since other tests run in parallel
    assert server.stop() < 1


def test_objects_survive_a_restart_and_the_token_stays(machines: Machines) -> None:
    server = machines.server()
    server.up()
    server.apply(CONFIG_MAP)
    before, token = server.get("configmap", "kept"), server.token()
    server.stop()
    server.up()
    assert server.get("configmap", "kept") == before
    assert server.token() == token
    assert server.ready("spark-1") == "True"


def test_objects_survive_a_kill(machines: Machines) -> None:
    server = machines.server()
    server.up()
    server.apply(CONFIG_MAP)
    server.stop(signal.SIGKILL)
    server.up()
    assert server.get("configmap", "kept")["data"] == {"a": "b"}


def test_an_online_backup_and_the_token_are_the_whole_cluster(machines: Machines) -> None:
    server = machines.server()
    server.up()
    server.apply(CONFIG_MAP)
    backup, token = server.root / "backup.db", server.token()
    with sqlite3.connect(server.data / "server/db/state.db") as source, sqlite3.connect(backup) as target:
        source.backup(target)
    server.stop()
    shutil.rmtree(server.data)
    (server.data / "server/db").mkdir(parents=True)
    shutil.copy(backup, server.data / "server/db/state.db")
    server.up(token=token)
    assert server.token() == token  # it contains the digest of the CA
    assert server.get("configmap", "kept")["data"] == {"a": "b"}


def test_a_database_is_refused_with_a_wrong_or_missing_token(machines: Machines) -> None:
    server = machines.server()
    server.up()
    server.stop()
    refusal = "bootstrap data already found and encrypted with different token"
    assert refusal in fatal(server, "--token=another")
    (server.data / "server/token").unlink()
    assert refusal in fatal(server)


def test_files_newer_than_the_datastore_stop_the_start(machines: Machines) -> None:
    server = machines.server()
    server.up()
    server.stop()
    passwd = server.data / "server/cred/passwd"
    passwd.write_text("changed\n")
    os.utime(passwd, (time.time() + 60, time.time() + 60))
    assert "newer than datastore and could cause a cluster outage" in fatal(server)


def test_the_token_can_come_from_a_file(machines: Machines) -> None:
    server = machines.server()
    (server.root / "secret").write_text("canary-token\n")
    server.up(token_file=str(server.root / "secret"))
    assert server.token().endswith("::server:canary-token")


def test_the_error_names_a_port_in_use(machines: Machines) -> None:
    server = machines.server()
    with socket.create_server(("127.0.0.1", server.port)):
        server.configure(https_listen_port=server.port, node_ip="127.0.0.1")
        assert f"listen tcp :{server.port}: bind: address already in use" in fatal(server)


def test_docker_must_answer_if_it_is_the_runtime(machines: Machines) -> None:
    server = machines.server()
    server.configure(docker=True, https_listen_port=server.port, node_ip="127.0.0.1")
    assert "Is the docker daemon running?" in fatal(server)
    assert not server.kubeconfig.exists()


def test_the_error_names_a_damaged_datastore(machines: Machines) -> None:
    server = machines.server()
    database = server.data / "server/db/state.db"
    database.parent.mkdir(parents=True)
    database.write_text("damaged" * 500)
    server.configure(https_listen_port=server.port, node_ip="127.0.0.1")
    assert "file is not a database" in fatal(server)


def test_addons_are_created_and_removed_when_disabled(machines: Machines) -> None:
    server = machines.server()
    server.up()
    there = server.kubectl("get", "deployments,daemonsets,services", "-n", "kube-system", "-o", "name")
    assert {"deployment.apps/coredns", "deployment.apps/traefik", "daemonset.apps/svclb-traefik"} <= set(there.split())
    server.stop()
    server.up(disable=["traefik", "servicelb"])
    left = server.kubectl("get", "deployments,daemonsets,services", "-n", "kube-system", "-o", "name")
    assert set(left.split()) == {"deployment.apps/coredns", "service/kube-dns"}


def test_a_newer_binary_changes_only_the_version(machines: Machines, tmp_path: Path) -> None:
    server = machines.server()
    server.up()
    server.apply(CONFIG_MAP)
    before = server.get("node", "spark-1")
    assert before["status"]["nodeInfo"]["kubeletVersion"] == VERSION
    server.stop()
    server.binary = tmp_path / "newer"
    build_k3s(server.binary, NEWER)
    server.up()
    eventually(lambda: server.get("node", "spark-1")["status"]["nodeInfo"]["kubeletVersion"] == NEWER)
    assert server.get("node", "spark-1")["metadata"]["uid"] == before["metadata"]["uid"]
    assert json.loads(server.kubectl("version", "-o", "json"))["serverVersion"]["gitVersion"] == NEWER


def test_a_broken_registries_file_stops_the_start(machines: Machines) -> None:
    server = machines.server()
    (server.etc / "registries.yaml").write_text("mirrors: [")
    server.configure(https_listen_port=server.port, node_ip="127.0.0.1")
    assert "registries.yaml: yaml" in fatal(server)


def test_a_name_is_refused_as_node_ip(machines: Machines) -> None:
    server = machines.server()
    server.configure(https_listen_port=server.port, node_ip="spark.lan")
    assert "invalid ip format 'spark.lan'" in fatal(server)


def test_the_binary_is_also_kubectl_by_its_name(machines: Machines) -> None:
    server = machines.server()
    server.up()
    assert "spark-1" in server.run("kubectl", "get", "nodes").stdout
    link = server.root / "kubectl"
    link.symlink_to(server.binary)
    done = subprocess.run([link, "get", "nodes"], env=server.environment, capture_output=True, text=True, check=True)
    assert "spark-1" in done.stdout
