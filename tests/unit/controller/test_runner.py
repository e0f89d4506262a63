"""The runner, with real pyinfra runs over real SSH."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gb10.controller.errors import ExitStatus, Gb10Error
from gb10.controller.inventory import load_inventory
from gb10.controller.run.messages import Event, FactQuery, OperationStarted, Ready
from gb10.controller.run.results import RunRecord
from gb10.controller.run.runner import RunLog, Runner
from tests.unit.processes import is_running
from tests.unit.pyinfra_project import Project

TARGET = "tiny.cluster"
ABSENT: FactQuery[Any] = FactQuery("tiny.Absent")
FAILING: FactQuery[Any] = FactQuery("tiny.Failing")
FINE: FactQuery[Any] = FactQuery("tiny.Fine")
UNREADABLE: FactQuery[Any] = FactQuery("tiny.Unreadable")


def runner(source: str, limit: tuple[str, ...] = (), verbosity: int = 0) -> Runner:
    return Runner(
        load_inventory(source), RunLog("test"), limit=limit, verbosity=verbosity, known={"again": "gb10 test"}
    )


def codes(errors: tuple[Gb10Error, ...]) -> list[str]:
    return [error.code for error in errors]


@pytest.fixture
def two(project: Project) -> str:
    return project.inventory(spark_1={}, spark_2={})


def test_a_second_run_changes_nothing(project: Project, two: str) -> None:
    first = runner(two).run(TARGET, kwargs={"folder": str(project.folder)})
    second = runner(two).run(TARGET, kwargs={"folder": str(project.folder)})

    assert first.ok
    assert second.ok
    assert [operation.name for operation in first.changed] == ["Tiny | Write a mark", "Tiny | Write another mark"]
    assert first.operations[0].changed == ("spark-1", "spark-2")
    assert first.operations[1].unchanged == ("spark-1", "spark-2")
    assert second.changed == ()
    assert first.seconds >= sum(operation.seconds for operation in first.operations) > 0


def test_a_dry_run_lists_what_the_run_then_changes_and_writes_nothing(
    project: Project, two: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYINFRA_YES", "1")  # would make pyinfra skip the plan
    plan = runner(two).run(TARGET, dry=True, kwargs={"folder": str(project.folder)})
    assert not project.folder.exists()

    run = runner(two).run(TARGET, kwargs={"folder": str(project.folder)})
    assert [(o.name, o.changed) for o in plan.changed] == [(o.name, o.changed) for o in run.changed]


@pytest.mark.parametrize("dry", [True, False])
def test_diffs_of_files_are_in_the_result_and_nothing_else(project: Project, two: str, dry: bool) -> None:
    destination = project.root / "there.txt"
    kwargs = {"path": str(destination), "old": "one\n", "new": "one\ntwo\n"}
    run = runner(two, limit=("spark-1",), verbosity=1)
    result = run.run("tiny.rewritten", dry=dry, diff=True, kwargs=kwargs)
    assert result.diff[0] == f"[spark-1] Will modify {destination}"
    assert [line.strip() for line in result.diff[1:] if line.strip()] == ["@@ -1 +1,2 @@", "one", "+ two"]


def test_the_ssh_config_of_the_user_still_counts(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    home = project.root / "home"
    (home / ".ssh").mkdir(parents=True)
    server = project.server
    lines = ["Host alias", "HostName 127.0.0.1", f"Port {server.port}", f"IdentityFile {server.key}", "User nvidia"]
    (home / ".ssh" / "config").write_text("\n".join(lines) + "\n")
    (project.root / "inventory.py").write_text(
        f"head = [('alias', {{'ssh_known_hosts_file': {str(server.known_hosts)!r}}})]"
    )
    monkeypatch.setenv("HOME", str(home))
    result = runner("inventory.py").run(TARGET, kwargs={"folder": str(project.folder)})
    assert result.ok
    assert (project.folder / "alias" / "mark").exists()


def test_an_ssh_config_of_the_inventory_is_the_only_one(project: Project) -> None:
    (project.root / "ssh_config").write_text("Host *\n  ConnectTimeout 5\n")
    source = project.inventory(spark_1={"ssh_config_file": str(project.root / "ssh_config")})
    result = runner(source).run(TARGET, kwargs={"folder": str(project.folder)})
    assert result.ok
    assert result.log
    assert "ssh_config_file=" not in result.log.read_text()


def test_events_come_while_the_run_goes_on(project: Project, two: str) -> None:
    seen: list[tuple[str, bool]] = []

    def hear(event: Event) -> None:
        if isinstance(event, OperationStarted):
            seen.append((event.name, (project.folder / "spark-1" / "another").exists()))

    runner(two).run(TARGET, kwargs={"folder": str(project.folder), "run": "sleep 1", "on": "spark-1"}, on_event=hear)
    assert seen == [
        ("Tiny | Write a mark", False),
        ("Tiny | Run a command", False),
        ("Tiny | Write another mark", False),
    ]


def test_a_failure_names_its_cause_and_stops_the_run_on_every_host(project: Project, two: str) -> None:
    script = "echo Failing >&2; refuse CHECKSUM_MISMATCH 'k3s is not what the list says'"
    kwargs = {"folder": str(project.folder), "run_script": script, "on": "spark-2"}
    result = runner(two).run(TARGET, kwargs=kwargs)

    assert codes(result.errors) == ["CHECKSUM_MISMATCH"]
    assert result.error is not None
    assert (result.error.host, result.error.status) == ("spark-2", ExitStatus.UNVERIFIED)
    assert result.error.summary == "k3s is not what the list says"
    assert "gb10 test" in result.error.remedy
    assert result.operations[1].failed == ("spark-2",)
    assert result.operations[1].unchanged == ("spark-1",)
    assert "Failing" in result.output["spark-2"]
    assert not (project.folder / "spark-1" / "another").exists()


REFUSAL = "gb10: DISK_FULL: there is no room"
REPORTS = (REFUSAL, "refused DISK_FULL: no", 'gb10-0123456789abcdef refused ["DISK_FULL", "no"]')


@pytest.mark.parametrize("text", REPORTS)
def test_no_text_of_a_node_is_taken_for_a_refusal(project: Project, two: str, text: str) -> None:
    printing = f"echo '{text}'; echo '{text}' >&2; exit 1"
    for kwargs in ({"run": printing}, {"run_script": printing}):
        result = runner(two).run(TARGET, kwargs={"folder": str(project.folder), "on": "spark-1", **kwargs})
        assert codes(result.errors) == ["OPERATION_FAILED"]


def test_a_failure_without_a_code_shows_what_the_host_said_last(project: Project, two: str) -> None:
    kwargs = {"folder": str(project.folder), "run": "echo no such thing >&2; exit 4", "on": "spark-1"}
    result = runner(two).run(TARGET, kwargs=kwargs)
    assert codes(result.errors) == ["OPERATION_FAILED"]
    assert "no such thing" in result.errors[0].summary


def test_what_an_operation_says_while_errors_are_ignored_is_no_error(two: str) -> None:
    result = runner(two).run("tiny.tolerant", kwargs={"run_script": "refuse DISK_FULL full"})
    assert result.ok


def test_a_refusal_in_a_callback_brings_its_code(two: str) -> None:
    result = runner(two, limit=("spark-1",)).run("tiny.refuse_in_callback", kwargs={"text": "old"})
    assert codes(result.errors) == ["TOKEN_REJECTED"]
    assert result.errors[0].summary == "old"


def test_an_exception_in_a_callback_is_told(two: str) -> None:
    result = runner(two, limit=("spark-1",)).run("tiny.raise_in_callback", kwargs={"text": "a bug"})
    assert codes(result.errors) == ["OPERATION_FAILED"]
    assert "RuntimeError('a bug',)" in result.errors[0].summary


def test_a_code_that_we_do_not_know_stays_in_the_text(two: str) -> None:
    result = runner(two, limit=("spark-1",)).run("tiny.refuse_in_callback", kwargs={"text": "no", "code": "NEW_CODE"})
    assert [error.summary for error in result.errors] == ["NEW_CODE: no"]


def test_what_was_said_before_a_retry_is_forgotten(two: str) -> None:
    script = "test -e tried && refuse DISK_FULL 'no room'; touch tried; refuse K3S_ABSENT 'there is none'"
    result = runner(two, limit=("spark-1",)).run("tiny.tried_again", kwargs={"run_script": script})
    assert codes(result.errors) == ["DISK_FULL"]


def test_a_dry_run_foresees_a_refusal_and_goes_on(two: str) -> None:
    result = runner(two, limit=("spark-1",)).run("tiny.refuse_in_callback", dry=True, kwargs={"text": "spark-1: old"})
    assert result.ok
    assert [(error.code, error.host, error.summary) for error in result.foreseen] == [
        ("TOKEN_REJECTED", "spark-1", "old")
    ]


def test_a_deploy_that_refuses_its_settings_touches_nothing(two: str) -> None:
    result = runner(two).run("tiny.refuse")
    assert codes(result.errors) == ["SETTINGS_INVALID"]
    assert result.errors[0].summary == "k3s_version is not a version"


def test_a_bug_in_a_deploy_is_internal_and_its_traceback_moves_into_the_log(project: Project, two: str) -> None:
    result = runner(two).run("tiny.crash")
    assert codes(result.errors) == ["INTERNAL"]
    assert "ZeroDivisionError: a bug" in result.errors[0].summary
    assert result.log
    assert "ZeroDivisionError: a bug" in result.log.read_text()
    assert not (project.root / "pyinfra-debug.log").exists()


def test_a_deploy_that_does_not_exist_is_an_error(two: str) -> None:
    assert codes(runner(two).run("tiny.absent").errors) == ["OPERATION_FAILED"]


def test_a_host_on_which_there_is_nothing_to_do_has_run_all_the_same(two: str) -> None:
    assert runner(two).run("tiny.nothing").ok


def test_limit_leaves_the_others_alone(project: Project, two: str) -> None:
    result = runner(two, limit=("workers",)).run(TARGET, kwargs={"folder": str(project.folder)})
    assert result.hosts == ("spark-2",)
    assert sorted(path.name for path in project.folder.iterdir()) == ["spark-2"]


def test_limit_means_the_host_and_not_the_group_of_that_name(project: Project) -> None:
    source = project.inventory(spark_1={}, workers={}, spark_3={})
    inventory = load_inventory(source)
    chosen = Runner(inventory, RunLog("test"), limit=["work[e]rs"])
    result = chosen.run(TARGET, kwargs={"folder": str(project.folder)})
    assert result.hosts == ("workers",)
    assert sorted(path.name for path in project.folder.iterdir()) == ["workers"]


def test_an_unknown_limit_names_the_hosts_there_are(two: str) -> None:
    with pytest.raises(Gb10Error) as raised:
        runner(two, limit=("spark-9",))
    assert raised.value.code == "HOST_UNKNOWN"
    assert "spark-1, spark-2" in raised.value.remedy


def test_no_node_is_changed_when_one_cannot_be_reached(project: Project) -> None:
    source = project.inventory(spark_1={}, spark_2={"ssh_port": 1})
    result = runner(source).run(TARGET, kwargs={"folder": str(project.folder)})
    assert codes(result.errors) == ["NODE_UNREACHABLE"]
    assert result.errors[0].host == "spark-2"
    assert "ssh -p 1 " in result.errors[0].remedy
    assert not project.folder.exists()


def test_every_reason_not_to_get_in_has_its_code(project: Project, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    stranger = type(project.server)(other)
    known = tmp_path / "known_hosts"
    known.write_text(f"[127.0.0.1]:{project.server.port} {_public(stranger.key)}\n")
    try:
        source = project.inventory(
            good={},
            refused={"ssh_port": 1},
            nameless={"ssh_hostname": "no.such.name.invalid"},
            wrong_key={"ssh_key": str(stranger.key)},
            changed={"ssh_known_hosts_file": str(known)},
            strict={"ssh_known_hosts_file": "/dev/null", "ssh_strict_host_key_checking": "yes"},
        )
        result = runner(source).run(TARGET, dry=True, kwargs={"folder": str(project.folder)})
    finally:
        stranger.stop()
    assert {error.host: error.code for error in result.errors} == {
        "refused": "NODE_UNREACHABLE",
        "nameless": "NODE_UNREACHABLE",
        "wrong-key": "SSH_AUTH",
        "changed": "SSH_HOST_KEY",
        "strict": "SSH_HOST_KEY",
    }
    assert all(error.status is ExitStatus.UNREACHABLE for error in result.errors)


def test_a_key_file_that_is_not_there_is_laid_to_its_host(project: Project) -> None:
    source = project.inventory(spark_1={}, spark_2={"ssh_key": "/no/such/key"})
    result = runner(source).run(TARGET, kwargs={"folder": str(project.folder)})
    assert codes(result.errors) == ["SSH_AUTH"]
    assert result.errors[0].host == "spark-2"


def test_a_key_with_a_passphrase_is_not_asked_for(project: Project, tmp_path: Path) -> None:
    key = tmp_path / "locked"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "secret", "-f", key], check=True)
    result = runner(project.inventory(spark_1={"ssh_key": str(key)})).run(TARGET, kwargs={"folder": "/nowhere"})
    assert codes(result.errors) == ["SSH_AUTH"]
    assert "passphrase" in result.errors[0].summary


@pytest.mark.parametrize("dry", [True, False])
def test_sudo_that_wants_a_password_is_not_waited_for(project: Project, tmp_path: Path, dry: bool) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "sudo").write_text("#!/bin/sh\necho 'sudo: a password is required' >&2\nexit 1\n")
    (tools / "sudo").chmod(0o755)
    strict = type(project.server)(tools, path=str(tools))
    try:
        project.server = strict
        source = project.inventory(spark_1={})
        result = runner(source).run(TARGET, dry=dry, kwargs={"folder": str(project.folder), "sudo": True})
    finally:
        strict.stop()
    assert codes(result.errors) == ["SUDO_PASSWORD"]
    assert result.errors[0].host == "spark-1"


def test_a_host_that_vanishes_in_the_middle_is_unreachable(project: Project, two: str) -> None:
    def hear(event: Event) -> None:
        if isinstance(event, OperationStarted) and event.name.endswith("Run a command"):
            time.sleep(0.5)
            project.server.stop()

    kwargs = {"folder": str(project.folder), "run": "sleep 5", "on": "spark-2"}
    result = runner(two).run(TARGET, kwargs=kwargs, on_event=hear)
    assert set(codes(result.errors)) == {"NODE_UNREACHABLE"}


def test_facts_tell_absent_from_not_had(two: str) -> None:
    facts = runner(two).facts([FINE, ABSENT, FAILING, UNREADABLE])
    assert facts.of("spark-1", FINE) == {"said": ["word"]}
    assert facts.has("spark-1", ABSENT)
    assert facts.of("spark-1", ABSENT) is None
    assert not facts.has("spark-1", FAILING)
    assert not facts.has("spark-1", UNREADABLE)
    assert sorted(codes(facts.errors)) == ["K3S_ABSENT", "K3S_ABSENT", "OPERATION_FAILED", "OPERATION_FAILED"]


def test_facts_of_an_unreachable_host_are_missing_and_the_others_are_there(project: Project) -> None:
    facts = runner(project.inventory(spark_1={}, spark_2={"ssh_port": 1})).facts([FINE])
    assert facts.has("spark-1", FINE)
    assert not facts.has("spark-2", FINE)
    assert codes(facts.errors) == ["NODE_UNREACHABLE"]


def test_facts_when_no_host_answers_are_an_error_and_no_crash(project: Project) -> None:
    facts = runner(project.inventory(spark_1={"ssh_port": 1})).facts([FINE])
    assert facts.values == {FINE: {}}
    assert codes(facts.errors) == ["NODE_UNREACHABLE"]


def test_the_log_is_whole_plain_and_private(project: Project, two: str) -> None:
    result = runner(two, verbosity=3).run(
        TARGET, kwargs={"folder": str(project.folder), "run": "echo hi", "on": "spark-1"}
    )
    assert result.log
    text = result.log.read_text()
    assert text.startswith("$ pyinfra -vvv -y")
    assert ">>> sh -c" in text
    assert "[spark-1] hi" in text
    assert "\x1b" not in text
    assert result.log.stat().st_mode & 0o777 == 0o600
    assert result.log.parent.stat().st_mode & 0o777 == 0o700


WRAPPER = """
    import json, sys
    from gb10.controller.inventory import load_inventory
    from gb10.controller.run.runner import RunLog
    from gb10.controller.run.runner import Runner
    from gb10.controller.run.messages import OperationStarted
    def hear(event):
        if isinstance(event, OperationStarted):
            print(event.name, flush=True)
    run = Runner(load_inventory("inventory.py"), RunLog("test"))
    result = run.run("tiny.cluster", kwargs={"folder": sys.argv[1], "run": "sleep 60", "on": "spark-1"}, on_event=hear)
    print(json.dumps(result.to_json()["errors"]), flush=True)
    sys.exit(result.error.status if result.error else 0)
"""


@pytest.fixture
def in_the_middle(project: Project, two: str) -> Iterator[subprocess.Popen[str]]:
    """A process in the middle of a run."""
    command = [sys.executable, "-c", textwrap.dedent(WRAPPER), str(project.folder)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    while "Run a command" not in process.stdout.readline():
        pass
    yield process
    process.kill()
    process.wait()


def _pyinfra(wrapper: subprocess.Popen[str]) -> int:
    """The pyinfra process of a wrapper."""
    found = subprocess.run(["pgrep", "-P", str(wrapper.pid)], capture_output=True, text=True, check=False)
    return int(found.stdout)


def _gone(pid: int) -> bool:
    deadline = time.monotonic() + 10
    while is_running(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not is_running(pid)


def test_an_interrupted_run_ends_soon_and_says_so(project: Project, in_the_middle: subprocess.Popen[str]) -> None:
    pyinfra = _pyinfra(in_the_middle)
    began = time.monotonic()
    in_the_middle.send_signal(signal.SIGINT)
    output, _ = in_the_middle.communicate(timeout=30)
    assert in_the_middle.returncode == ExitStatus.INTERRUPTED
    assert '"INTERRUPTED"' in output
    assert time.monotonic() - began < 10
    assert _gone(pyinfra)


def test_an_interrupted_look_is_not_taken_for_nodes_that_do_not_answer(two: str) -> None:
    asking = runner(two)
    with pytest.raises(Gb10Error, match="interrupted") as ended:
        asking.facts([FINE], on_event=lambda event: os.kill(os.getpid(), signal.SIGINT))
    assert ended.value.code == "INTERRUPTED"


def test_a_pyinfra_that_somebody_else_interrupts_is_not_taken_for_success(
    project: Project, in_the_middle: subprocess.Popen[str]
) -> None:
    pyinfra = _pyinfra(in_the_middle)
    os.kill(pyinfra, signal.SIGINT)
    project.server.stop()
    output, _ = in_the_middle.communicate(timeout=60)
    assert in_the_middle.returncode == ExitStatus.INTERRUPTED
    assert '"INTERRUPTED"' in output


def test_a_pyinfra_that_is_killed_is_not_taken_for_success(
    project: Project, in_the_middle: subprocess.Popen[str]
) -> None:
    pyinfra = _pyinfra(in_the_middle)
    os.kill(pyinfra, signal.SIGKILL)
    output, _ = in_the_middle.communicate(timeout=30)
    assert in_the_middle.returncode == ExitStatus.FAILED
    assert "signal 9" in output


def test_a_killed_wrapper_leaves_no_pyinfra_behind(project: Project, in_the_middle: subprocess.Popen[str]) -> None:
    pyinfra = _pyinfra(in_the_middle)
    in_the_middle.kill()
    in_the_middle.wait()
    assert _gone(pyinfra)


def _public(key: Path) -> str:
    made = subprocess.run(["ssh-keygen", "-y", "-f", key], capture_output=True, text=True, check=True)
    return " ".join(made.stdout.split()[:2])


def test_a_host_that_pyinfra_left_out_without_a_word_is_named() -> None:
    record = RunRecord(("spark-1", "spark-2"))
    record.hear(Ready("spark-1"))
    record.check_hosts()
    assert [(error.code, error.host) for error in record.errors] == [("NOT_RUN", "spark-2")]
