"""The cause of a failed start of K3s, found in its journal. systemctl and journalctl are replaced."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.unit.launched import Launched, launched, shell_program

UNIT = {"server": "k3s", "agent": "k3s-agent"}
UNREACHABLE = (
    'level=error msg="Failed to validate connection to cluster at https://10.0.0.1:6443: failed to get CA certs: '
    'Get \\"https://10.0.0.1:6443/cacerts\\": dial tcp 10.0.0.1:6443: connect: connection refused"'
)
UNAUTHORIZED = (
    'level=error msg="Waiting to retrieve agent configuration; server is not ready: '
    'https://127.0.0.1:6444/v1-k3s/serving-kubelet.crt: 401 Unauthorized"'
)
OTHER_CA = 'level=fatal msg="Error: token CA hash does not match the Cluster CA certificate hash: a1 != b2"'
KNOWN_NAME = (
    "level=error msg=\"Node password rejected, duplicate hostname or contents of '/etc/rancher/node/password' may not "
    'match server node-passwd entry, try enabling a unique node name with the --with-node-id flag"'
)
OTHER_KEY = (
    'level=fatal msg="Error: preparing server: failed to bootstrap cluster data: bootstrap data already found and '
    'encrypted with different token"'
)
IN_USE = 'level=fatal msg="Error: listen tcp :6443: bind: address already in use"'
WORK = [f'level=info msg="Handler {number} has been started"' for number in range(30)]


@dataclass
class Node:
    """A folder with the tools that the script calls."""

    folder: Path

    def start(self, role: str, journal: list[str], starts: bool = False) -> Launched:
        """Run the script for a unit that writes this journal, and starts or not."""
        tools = {
            "systemctl": f"""echo "$*" >>{self.folder}/calls
case $1 in
restart) exit {0 if starts else 1} ;;
is-active) echo active ;;
esac""",
            # what a unit just said is there when the journal has been told to read it
            "journalctl": f"""cd {self.folder}
if [ "$*" = --sync ]; then mv said journal; else cat journal; fi""",
        }
        for name, text in tools.items():
            (self.folder / name).write_text(f"#!/bin/sh\n{text}\n")
            (self.folder / name).chmod(0o755)
        (self.folder / "said").write_text("".join(f"{line}\n" for line in journal))
        return launched(shell_program("start-unit.sh", UNIT[role], "5"), tools=self.folder)

    def code(self, role: str, journal: list[str]) -> str | None:
        """Return the code of a failed start with this journal."""
        done = self.start(role, journal)
        assert done.status == 1
        assert f"stop {UNIT[role]}" in (self.folder / "calls").read_text()
        return done.code


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


@pytest.mark.parametrize(
    ("role", "line", "code"),
    [
        ("agent", UNREACHABLE, "SERVER_UNREACHABLE"),
        ("agent", UNAUTHORIZED, "TOKEN_REJECTED"),
        ("agent", OTHER_CA, "TOKEN_REJECTED"),
        ("agent", KNOWN_NAME, "NODE_PASSWORD_REJECTED"),
        ("agent", IN_USE, "PORT_TAKEN"),
        ("agent", 'level=fatal msg="Error: flag provided but not defined: -x"', "SERVICE_FAILED"),
        ("server", OTHER_KEY, "TOKEN_CHANGED"),
        ("server", IN_USE, "PORT_TAKEN"),
        ("server", 'level=fatal msg="Error: flag provided but not defined: -x"', "SERVICE_FAILED"),
    ],
)
def test_a_failed_start_has_the_code_of_its_cause(node: Node, role: str, line: str, code: str) -> None:
    assert node.code(role, [*WORK, line, "Stopped."]) == code


@pytest.mark.parametrize("line", [UNREACHABLE, UNAUTHORIZED, OTHER_CA.replace("fatal", "error"), KNOWN_NAME])
def test_a_server_never_gets_a_code_with_a_remedy_for_agents(node: Node, line: str) -> None:
    assert node.code("server", [*WORK, line]) == "SERVICE_FAILED"


@pytest.mark.parametrize("line", [UNREACHABLE, UNAUTHORIZED])
def test_errors_that_a_slow_start_survived_are_not_its_cause(node: Node, line: str) -> None:
    assert node.code("agent", [line, *WORK]) == "SERVICE_FAILED"


def test_the_fatal_error_counts_more_than_later_ones(node: Node) -> None:
    assert node.code("agent", [OTHER_CA, *WORK, UNREACHABLE]) == "TOKEN_REJECTED"


def test_the_journal_is_quoted_without_a_token(node: Node) -> None:
    done = node.start("agent", [f'level=fatal msg="Error: invalid token K10{"f" * 64}::server:canary"'])
    assert done.refusal
    for said in (done.others, done.refusal[1]):
        assert "invalid token *MASKED*" in said
        assert "canary" not in said


def test_a_unit_that_starts_keeps_running_without_output(node: Node) -> None:
    done = node.start("server", WORK, starts=True)
    assert (done.status, done.others) == (0, "")
    assert "stop" not in (node.folder / "calls").read_text()
