"""gb10 trust, and what other commands do with a host key that nobody has confirmed."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
from pathlib import Path

import paramiko
import pytest

from gb10.controller.errors import ExitStatus
from gb10.operations.kit.known_hosts import HostKey
from tests.unit.cli.test_gb10_command import gb10, in_terminal
from tests.unit.pyinfra_project import Project

ROOT = Path(__file__).parents[3]
CANARY = "canary"
BROKEN = "broken ssh-ed25519 AAAA!=\n"


@pytest.fixture
def unknown(project: Project) -> Project:
    """A node whose key is not in known_hosts, with a password that it must not get."""
    project.server.known_hosts.write_text("# mine\n")
    project.inventory(spark_1={"ssh_password": CANARY})
    return project


def fingerprint(project: Project) -> str:
    (key,) = project.server.host_keys
    return HostKey(key.get_name(), key.get_base64()).fingerprint


def revoked(project: Project) -> str:
    return f"@revoked {project.server.known_line()}"


@pytest.mark.parametrize("said", [{}, {"ssh_strict_host_key_checking": "accept-new"}])
def test_an_unknown_key_is_refused_before_a_login(unknown: Project, said: dict[str, object]) -> None:
    unknown.inventory(spark_1={"ssh_password": CANARY, **said})
    for command in ("provision", "backup"):
        done = gb10(command, "spark-1")
        assert done.returncode == ExitStatus.UNREACHABLE
        assert "gb10 trust spark-1. Then:" in done.stderr
    assert "shows an unexpected SSH host key" in gb10("status").stdout
    assert unknown.server.attempts == []
    assert unknown.server.known_hosts.read_text() == "# mine\n"


@pytest.mark.parametrize("line", ["broken", "revoked"])
def test_a_bad_line_before_the_right_one_admits_nobody(unknown: Project, line: str) -> None:
    other = f"@revoked 127.0.0.9 ssh-ed25519 {paramiko.ECDSAKey.generate().get_base64()}\n"
    before = (BROKEN if line == "broken" else other) + unknown.server.known_line()
    unknown.server.known_hosts.write_text(before)
    right = unknown.server.host_keys
    unknown.server.host_keys = [paramiko.ECDSAKey.generate()]
    assert "SSH_HOST_KEY" in gb10("provision", "spark-1").stderr
    assert (unknown.server.known_hosts.read_text(), unknown.server.attempts) == (before, [])

    unknown.server.host_keys = right
    assert gb10("trust", "spark-1", "--fingerprint", fingerprint(unknown)).returncode == ExitStatus.OK
    assert "SSH_HOST_KEY" not in gb10("provision", "spark-1", "--dry-run").stderr
    assert unknown.server.attempts


def test_a_revoked_key_is_refused_before_a_login(unknown: Project) -> None:
    unknown.server.known_hosts.write_text(unknown.server.known_line() + revoked(unknown))
    done = gb10("provision", "spark-1")
    assert (done.returncode, "is revoked in known_hosts" in done.stderr) == (ExitStatus.UNREACHABLE, True)
    assert unknown.server.attempts == []


def test_without_a_terminal_the_option_is_named(unknown: Project) -> None:
    for options in ([], ["--json"]):
        done = gb10("trust", "spark-1", *options)
        assert done.returncode == ExitStatus.USAGE
        assert "--fingerprint" in done.stdout + done.stderr
    assert unknown.server.known_hosts.read_text() == "# mine\n"


def test_a_dry_run_shows_the_key_and_writes_nothing(unknown: Project) -> None:
    done = gb10("trust", "spark-1", "--dry-run", "--json")
    assert done.returncode == ExitStatus.OK
    (node,) = json.loads(done.stdout)["nodes"]
    assert (node["node"], node["state"], node["key"]["fingerprint"]) == ("spark-1", "new", fingerprint(unknown))
    assert unknown.server.known_hosts.read_text() == "# mine\n"


def test_the_right_fingerprint_lets_a_script_in(unknown: Project) -> None:
    done = gb10("trust", "spark-1", "--fingerprint", fingerprint(unknown))
    assert done.returncode == ExitStatus.OK
    assert unknown.server.known_hosts.read_text() == f"{unknown.server.known_line()}# mine\n"
    again = gb10("trust", "spark-1")
    assert (again.returncode, "is known" in again.stderr) == (ExitStatus.OK, True)
    assert unknown.server.attempts == [], "it needs no login"


def test_a_wrong_fingerprint_is_refused(unknown: Project) -> None:
    done = gb10("trust", "spark-1", "--fingerprint", "SHA256:x")
    assert done.returncode == ExitStatus.REFUSED
    assert "HOST_KEY_REFUSED" in done.stderr
    assert unknown.server.known_hosts.read_text() == "# mine\n"


def test_a_revoked_key_is_not_trusted(unknown: Project) -> None:
    unknown.server.known_hosts.write_text(revoked(unknown))
    done = gb10("trust", "spark-1", "--fingerprint", fingerprint(unknown))
    assert (done.returncode, "is revoked" in done.stderr) == (ExitStatus.REFUSED, True)
    assert unknown.server.known_hosts.read_text() == revoked(unknown)


def test_a_person_at_a_terminal_decides(unknown: Project) -> None:
    code, seen = in_terminal("trust", "spark-1", answer="n\n")
    assert (code, fingerprint(unknown) in seen) == (ExitStatus.REFUSED, True)
    assert unknown.server.known_hosts.read_text() == "# mine\n"
    code, _ = in_terminal("trust", "spark-1", answer="y\n")
    assert code == ExitStatus.OK
    assert unknown.server.known_hosts.read_text() == f"{unknown.server.known_line()}# mine\n"


def test_a_changed_key_is_shown_with_the_old_one(unknown: Project) -> None:
    old, line = fingerprint(unknown), unknown.server.known_line()
    names = f"spark-1.lan,{line.split()[0]}"
    unknown.server.known_hosts.write_text(f"{line.replace(line.split()[0], names)}other {' '.join(line.split()[1:])}\n")
    unknown.server.host_keys = [paramiko.ECDSAKey.generate()]
    assert "gb10 trust spark-1" in gb10("provision", "spark-1").stderr
    code, seen = in_terminal("trust", "spark-1", answer="y\n")
    assert code == ExitStatus.OK
    assert old in seen
    assert fingerprint(unknown) in seen
    new = unknown.server.known_line().replace(line.split()[0], names)
    assert unknown.server.known_hosts.read_text() == f"{new}other {' '.join(line.split()[1:])}\n"


def test_nothing_is_trusted_unless_every_node_is(unknown: Project) -> None:
    unknown.inventory(spark_1={}, spark_2={"ssh_port": 1})
    done = gb10("trust", "spark-1", "spark-2", "--fingerprint", fingerprint(unknown))
    assert (done.returncode, "NODE_UNREACHABLE" in done.stderr) == (ExitStatus.UNREACHABLE, True)
    assert unknown.server.known_hosts.read_text() == "# mine\n"


def test_pyinfra_itself_refuses_hosts_of_our_inventory(unknown: Project) -> None:
    ours = runpy.run_path(str(ROOT / "inventory.py"))
    hosts = [data for group in ("head", "workers") for _, data in ours[group]]
    strict = {name: data[name] for data in hosts for name in ("ssh_strict_host_key_checking",)}
    assert len(hosts) == 2
    assert all(strict.items() <= data.items() for data in hosts)
    unknown.inventory(spark_1={"ssh_password": CANARY, **strict})
    command = [str(Path(sys.executable).with_name("pyinfra")), "-y", "inventory.py", "tiny.nothing"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert (unknown.server.known_hosts.read_text(), unknown.server.attempts) == ("# mine\n", [])
