"""The real helm works on the stand-in, with a chart repository on the loopback interface."""

from __future__ import annotations

import functools
import http.server
import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.lab.kube.kube_machines import Server

CHART = Path(__file__).parent / "chart"


class Helm:
    """Runs helm for one release in one namespace."""

    def __init__(self, cluster: Server, repository: str) -> None:
        self._cluster = cluster
        self.repository = repository

    def run(self, *arguments: str) -> str:
        done = self._cluster.client("helm", *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def fails(self, *arguments: str) -> str:
        done = self._cluster.client("helm", *arguments)
        assert done.returncode != 0, done.stdout
        return done.stderr

    def upgrade(self, release: str, version: str, *more: str) -> tuple[str, ...]:
        """Return the arguments of an upgrade or install. Each release has a namespace of its own name."""
        place = ("--repo", self.repository, "-n", release, "--create-namespace")
        return ("upgrade", "--install", release, "demo-operator", *place, "--version", version, *more)


WAIT = ("--wait", "--timeout", "30s")


@pytest.fixture(scope="module")
def helm(cluster: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Helm]:
    """helm, and a repository with two versions of one chart."""
    folder = tmp_path_factory.mktemp("charts")
    (folder / "packed").mkdir()
    plain = Helm(cluster, "")
    for version in ("1.2.3", "1.3.0"):
        shutil.copytree(CHART, folder / version)
        plain.run("package", str(folder / version), "--version", version, "-d", str(folder / "packed"))
    plain.run("repo", "index", str(folder / "packed"))

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the base class's name)
            pass

    handler = functools.partial(Quiet, directory=str(folder / "packed"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield Helm(cluster, f"http://127.0.0.1:{server.server_port}")
        server.shutdown()


def test_a_release_is_installed_and_can_be_read_back(helm: Helm, cluster: Server, tmp_path: Path) -> None:
    (tmp_path / "values.yaml").write_text("driver: {enabled: false}\n")
    helm.run(*helm.upgrade("first", "1.2.3", "-f", str(tmp_path / "values.yaml"), *WAIT))
    (listed,) = json.loads(helm.run("list", "-n", "first", "-o", "json"))
    assert (listed["chart"], listed["status"], listed["revision"]) == ("demo-operator-1.2.3", "deployed", "1")
    assert json.loads(helm.run("get", "values", "first", "-n", "first", "-o", "json")) == {"driver": {"enabled": False}}
    assert cluster.get("gadget", "policy", "-n", "first")["spec"] == {"driver": False}
    assert cluster.get("deployment", "op", "-n", "first")["status"]["readyReplicas"] == 1


def test_an_upgrade_changes_objects_and_a_rollback_restores_them(helm: Helm, cluster: Server) -> None:
    helm.run(*helm.upgrade("second", "1.2.3", *WAIT))
    helm.run(*helm.upgrade("second", "1.3.0", "--set", "replicas=2", *WAIT))
    assert cluster.get("deployment", "op", "-n", "second")["spec"]["replicas"] == 2
    helm.run("rollback", "second", "1", "-n", "second", *WAIT)
    spec = cluster.get("deployment", "op", "-n", "second")["spec"]
    assert (spec["replicas"], spec["template"]["spec"]["containers"][0]["image"]) == (1, "op:1.2.3")


def test_a_version_missing_in_the_repository_is_refused(helm: Helm) -> None:
    assert "9.9.9" in helm.fails(*helm.upgrade("missing", "9.9.9"))


def test_a_release_that_never_gets_ready_times_out(helm: Helm) -> None:
    why = helm.fails(*helm.upgrade("stuck", "1.3.0", "--set", "hold=true", "--wait", "--timeout", "2s"))
    assert "deadline" in why
    assert json.loads(helm.run("status", "stuck", "-n", "stuck", "-o", "json"))["info"]["status"] == "failed"


def test_anothers_edit_is_a_conflict_unless_forced(helm: Helm, cluster: Server) -> None:
    helm.run(*helm.upgrade("edited", "1.3.0", *WAIT))
    cluster.kubectl("patch", "deployment", "op", "-n", "edited", "--type=merge", "-p", '{"spec": {"replicas": 3}}')
    assert "conflict with" in helm.fails(*helm.upgrade("edited", "1.3.0", *WAIT))
    helm.run(*helm.upgrade("edited", "1.3.0", "--force-conflicts", *WAIT))
    assert cluster.get("deployment", "op", "-n", "edited")["spec"]["replicas"] == 1


def test_an_uninstall_leaves_only_the_definitions(helm: Helm, cluster: Server) -> None:
    helm.run(*helm.upgrade("passing", "1.3.0", *WAIT))
    helm.run("uninstall", "passing", "-n", "passing", *WAIT)
    assert cluster.kubectl("get", "deployments,daemonsets,pods,gadgets", "-n", "passing", "-o", "name") == ""
    assert cluster.get("crd", "gadgets.demo.example")


def test_the_error_names_a_repository_that_is_down(helm: Helm) -> None:
    gone = Helm(helm._cluster, "http://127.0.0.1:9")
    assert "cannot be reached" in gone.fails(*gone.upgrade("none", "1.3.0"))
