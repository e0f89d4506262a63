"""The gb10 command as a user types it."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from gb10.cli.app import Gb10Group
from gb10.cli.screen.session import Options, Session
from gb10.controller.errors import ExitStatus
from gb10.controller.lock import cluster_lock
from tests.unit.pyinfra_project import Project

GB10 = str(Path(sys.executable).with_name("gb10"))


def gb10(*arguments: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run gb10 with pipes, as a script does."""
    return subprocess.run(
        [GB10, *arguments], input=text or "", capture_output=True, text=True, check=False, timeout=120
    )


def in_terminal(*arguments: str, answer: str = "") -> tuple[int, str]:
    """Run gb10 in a terminal, and type an answer."""
    main, secondary = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "120"}
    process = subprocess.Popen(
        [GB10, *arguments], stdin=secondary, stdout=secondary, stderr=secondary, env=environment, start_new_session=True
    )
    os.close(secondary)
    os.write(main, answer.encode())
    seen = b""
    while True:
        try:
            data = os.read(main, 4096)
        except OSError:  # the other end is closed
            break
        if not data:
            break
        seen += data
    os.close(main)
    return process.wait(), seen.decode()


@pytest.fixture
def down(project: Project) -> Project:
    """A cluster in which no node answers."""
    project.inventory(spark_1={"ssh_port": 1}, spark_2={"ssh_port": 1})
    return project


def test_help_is_fast_and_names_the_commands() -> None:
    gb10("--help")
    best = min(_seconds("--help") for _ in range(3))
    assert best < 0.4
    help_text = gb10("--help").stdout
    for command in ("bootstrap", "status", "kubeconfig", "teardown"):
        assert command in help_text


def _seconds(*arguments: str) -> float:
    began = time.monotonic()
    gb10(*arguments)
    return time.monotonic() - began


def test_every_command_has_help() -> None:
    for command in ("bootstrap", "status", "kubeconfig", "teardown"):
        assert gb10(command, "--help").returncode == 0


def test_version_is_the_version_of_the_distribution() -> None:
    assert gb10("--version").stdout.startswith("gb10, version ")


def test_commands_do_not_import_pyinfra() -> None:
    """pyinfra loads gevent, which patches the whole process."""
    code = "import sys; from gb10.cli import cluster, rebuild, status, sync; sys.exit('gevent' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("command", [["bootstrap"], ["status"], ["kubeconfig"], ["teardown", "--yes"]])
def test_a_missing_inventory_has_a_remedy(project: Project, command: list[str]) -> None:
    found = gb10(*command)
    assert found.returncode == ExitStatus.USAGE
    assert "INVENTORY_MISSING" in found.stderr
    assert "→ Name yours: gb10 status -i PATH/TO/inventory.py" in found.stderr
    assert found.stdout == ""


def test_json_errors(project: Project) -> None:
    found = gb10("bootstrap", "--json")
    assert json.loads(found.stdout)["error"]["code"] == "INVENTORY_MISSING"


def test_an_unknown_option_is_a_usage_error(project: Project) -> None:
    assert gb10("bootstrap", "--no-such-option").returncode == ExitStatus.USAGE


@pytest.mark.parametrize(
    ("command", "advice"),
    [
        (["status"], "gb10 status"),
        (["bootstrap"], "gb10 bootstrap --dry-run --diff"),
        (["sync", "models", "spark-1", "spark-2"], "gb10 sync models spark-1 spark-2 --dry-run"),
    ],
)
def test_a_misspelt_setting_advises_an_existing_command(project: Project, command: list[str], advice: str) -> None:
    project.inventory(spark_1={"node_rails_mtuu": 9000}, spark_2={})
    found = gb10(*command)
    assert found.returncode == ExitStatus.USAGE
    assert "SETTINGS_INVALID" in found.stderr
    assert f"then: {advice}\n" in found.stderr


def test_an_unknown_limit_names_the_hosts(down: Project) -> None:
    found = gb10("bootstrap", "--limit", "spark-9")
    assert found.returncode == ExitStatus.USAGE
    assert "→ Choose from: spark-1, spark-2" in found.stderr


def test_the_inventory_can_come_from_the_environment(down: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    (down.root / "inventory.py").rename(down.root / "other.py")
    monkeypatch.setenv("GB10_INVENTORY", "other.py")
    assert "NODE_UNREACHABLE" in gb10("bootstrap").stderr


def test_an_unreachable_node_shows_ssh_command_and_log(down: Project) -> None:
    found = gb10("bootstrap", "-i", "inventory.py")
    assert found.returncode == ExitStatus.UNREACHABLE
    assert "→ Check power and network until this works: ssh -p 1 -i " in found.stderr
    assert "Then: gb10 bootstrap -i inventory.py" in found.stderr
    log = Path(found.stderr.strip().splitlines()[-1].removeprefix("The whole log: "))
    assert "Could not connect" in log.read_text()


@pytest.mark.parametrize("as_json", [False, True])
def test_success_names_the_log_except_under_json(
    as_json: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GB10_STATE", str(tmp_path))
    session = Session("bootstrap", Options(as_json=as_json))
    session.log.write("what was done")
    with pytest.raises(SystemExit) as ended:
        session.finish({}, None)
    assert ended.value.code == 0
    assert capfd.readouterr().err == ("" if as_json else f"The whole log: {session.log.path}\n")


def test_a_failed_bootstrap_prints_one_json_document(down: Project) -> None:
    found = gb10("bootstrap", "--json")
    document = json.loads(found.stdout)
    assert document["error"]["code"] == "NODE_UNREACHABLE"
    assert document["run"]["hosts"] == ["spark-1", "spark-2"]
    assert document["status"] is None
    assert found.stderr == ""


def test_status_prints_a_table_or_json(project: Project) -> None:
    project.inventory(spark_1={}, spark_2={})
    found = gb10("status")
    assert "spark-2" in found.stdout
    assert "head" in found.stdout
    document = json.loads(gb10("status", "--json", "--limit", "workers").stdout)
    assert [node["name"] for node in document["nodes"]] == ["spark-2"]
    assert document["nodes"][0]["reachable"] is True
    assert document["nodes"][0]["hostname"]


def test_status_exits_unverified_if_a_node_is_missing(project: Project) -> None:
    project.inventory(spark_1={}, spark_2={"ssh_port": 1})
    found = gb10("status")
    assert found.returncode == ExitStatus.UNVERIFIED
    assert "✗ spark-2 does not answer" in found.stdout
    assert "ssh -p 1 " in found.stdout
    assert json.loads(gb10("status", "--json").stdout)["healthy"] is False


def test_status_of_healthy_nodes_keeps_no_log(project: Project) -> None:
    project.inventory(spark_1={})
    if gb10("status").returncode == 0:
        assert list((project.root.parent / "state" / "log").iterdir()) == []


def test_a_second_run_is_refused_and_names_the_first(down: Project) -> None:
    with cluster_lock(["127.0.0.1:1"], "gb10 bootstrap"):
        found = gb10("teardown", "--yes")
    assert found.returncode == ExitStatus.LOCKED
    assert f"pid {os.getpid()}: gb10 bootstrap" in found.stderr


def test_a_dry_run_ignores_the_lock(down: Project) -> None:
    with cluster_lock(["127.0.0.1:1"], "gb10 bootstrap"):
        assert gb10("bootstrap", "--dry-run").returncode == ExitStatus.UNREACHABLE


def test_teardown_without_a_terminal_needs_yes(down: Project) -> None:
    found = gb10("teardown")
    assert found.returncode == ExitStatus.WAITING
    assert "gb10 teardown --yes" in found.stderr


def test_teardown_asks_for_the_name_of_the_head(down: Project) -> None:
    status, seen = in_terminal("teardown", answer="spark-2\n")
    assert status == ExitStatus.REFUSED
    assert "Type spark-1 to go on" in seen
    assert "DECLINED" in seen

    status, seen = in_terminal("teardown", answer="spark-1\n")
    assert status == ExitStatus.UNREACHABLE
    assert "NODE_UNREACHABLE" in seen


def test_teardown_of_a_worker_asks_for_a_yes(down: Project) -> None:
    status, seen = in_terminal("teardown", "--limit", "spark-2", answer="n\n")
    assert status == ExitStatus.REFUSED
    assert "Remove K3s from spark-2 (127.0.0.1)?" in seen


def test_a_broken_kubeconfig_is_not_touched(down: Project) -> None:
    (down.root / "config").write_text("not a kubeconfig")
    found = gb10("kubeconfig", "--output", "config")
    assert found.returncode == ExitStatus.USAGE
    assert "config is not a kubeconfig" in found.stderr
    assert (down.root / "config").read_text() == "not a kubeconfig"


def test_a_failed_fetch_leaves_no_kubeconfig(down: Project) -> None:
    found = gb10("kubeconfig", "--output", "config")
    assert found.returncode == ExitStatus.UNREACHABLE
    assert not (down.root / "config").exists()


def test_an_unusable_state_folder_is_an_error(down: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    (down.root / "state").write_text("a file where a folder has to be")
    monkeypatch.setenv("GB10_STATE", str(down.root / "state"))
    found = gb10("bootstrap")
    assert found.returncode == ExitStatus.USAGE
    assert "where gb10 keeps its state, is unusable" in found.stderr


class Buggy(Gb10Group):
    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command:
        return click.Command("buggy", callback=lambda: dict[str, str]()["a bug"])


def test_the_traceback_of_a_bug_is_only_in_the_log(project: Project) -> None:
    result = CliRunner().invoke(Buggy("gb10"), ["buggy"])
    assert result.exit_code == ExitStatus.INTERNAL
    assert "✗ a bug in gb10: KeyError: 'a bug'  INTERNAL" in result.output
    assert "Traceback" not in result.output
    (log,) = (project.root.parent / "state" / "log").iterdir()
    assert "Traceback" in log.read_text()
    assert str(log) in result.output


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_gb10_with_a_remedy(project: Project, number: signal.Signals) -> None:
    (project.root / "inventory.py").write_text("import time\nprint('loading', flush=True)\ntime.sleep(60)\n")
    process = subprocess.Popen([GB10, "bootstrap"], stderr=subprocess.PIPE, text=True, start_new_session=True)
    time.sleep(1.5)
    process.send_signal(number)
    _, stderr = process.communicate(timeout=20)
    assert process.returncode == ExitStatus.INTERRUPTED
    assert "→ Continue: gb10 bootstrap" in stderr


def test_a_terminal_shows_each_step(project: Project) -> None:
    project.inventory(spark_1={"ssh_port": 1})
    status, seen = in_terminal("bootstrap")
    assert status == ExitStatus.UNREACHABLE
    assert "Connect" in seen
    assert "spark-1 ✗" in seen


def test_no_color_gives_plain_lines(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.inventory(spark_1={"ssh_port": 1})
    monkeypatch.setenv("NO_COLOR", "1")
    _, seen = in_terminal("bootstrap")
    assert "   failed  Connect (spark-1 failed)" in seen
    assert "\x1b[3" not in seen
