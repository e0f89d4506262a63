"""The parser of pyinfra's log, on logs that pyinfra 3.10 really wrote (samples/)."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gb10.controller.run.events import (
    Aborted,
    Connected,
    ConnectFailed,
    Event,
    FactFailed,
    Foreseen,
    HostFailed,
    HostOutput,
    HostResult,
    LogParser,
    OperationStarted,
    Ready,
    StageStarted,
    Text,
)

SAMPLES = Path(__file__).with_name("samples")
HOSTS = ("spark-1", "spark-2", "spark-3-long")


def events(sample: str, hosts: tuple[str, ...] = HOSTS) -> list[Event]:
    parser = LogParser(hosts)
    lines = (SAMPLES / f"{sample}.log").read_text().splitlines(keepends=True)
    return [event for line in lines for event in parser.feed(line)]


def feed(*lines: str) -> list[Event]:
    parser = LogParser(HOSTS)
    return [event for line in lines for event in parser.feed(line)]


def failures(found: list[Event]) -> list[tuple[str, list[str]]]:
    return [(e.host, [error.code for error in e.errors]) for e in found if isinstance(e, HostFailed)]


def test_a_run_goes_through_its_stages_and_operations() -> None:
    found = events("run_first")
    assert [event.stage for event in found if isinstance(event, StageStarted)] == [
        "load",
        "load",
        "connect",
        "prepare",
        "execute",
        "results",
        "disconnect",
    ]
    assert {event.host for event in found if isinstance(event, Connected)} == set(HOSTS)
    assert {event.host for event in found if isinstance(event, Ready)} == set(HOSTS)
    assert [event.name for event in found if isinstance(event, OperationStarted)] == [
        "Cluster | Folder",
        "Cluster | Write a marker",
        "Cluster | Put a file",
        "Cluster | May fail",
        "Cluster | May boom",
        "Cluster | Only head",
    ]
    last = [(event.host, event.outcome) for event in found if isinstance(event, HostResult)][-3:]
    assert sorted(last) == [("spark-1", "changed"), ("spark-2", "skipped"), ("spark-3-long", "skipped")]


def test_a_run_without_changes_says_unchanged() -> None:
    results = [event.outcome for event in events("run_second") if isinstance(event, HostResult)]
    assert results.count("unchanged") == 15
    assert results.count("changed") == 1  # the shell command on the head


@pytest.mark.parametrize("sample", ["run_failed", "run_failed_others_go_on", "run_verbose_failed"])
def test_a_failed_operation_brings_the_code_that_its_host_printed(sample: str) -> None:
    assert failures(events(sample)) == [("spark-2", ["CHECKSUM_MISMATCH"])]


def test_giving_up_because_hosts_failed_is_no_error_of_its_own() -> None:
    assert [event.error for event in events("run_failed") if isinstance(event, Aborted)] == [None]


def test_an_exception_in_a_callback_brings_the_code_in_its_text() -> None:
    found = events("callback_raised")
    assert failures(found) == [("spark-2", ["TOKEN_REJECTED"])]
    (failed,) = (event for event in found if isinstance(event, HostFailed))
    assert failed.errors[0].summary == "no"


def test_a_deploy_that_refuses_brings_its_code() -> None:
    (aborted,) = (event for event in events("deploy_refused") if isinstance(event, Aborted))
    assert aborted.error
    assert (aborted.error.code, aborted.error.summary) == ("SETTINGS_INVALID", "k3s_version is not a version")


@pytest.mark.parametrize(
    ("sample", "text"),
    [
        ("deploy_crashed", "KeyError: 'x' (/project/dep.py line 37)"),
        ("fact_crashed", "IndexError: list index out of range (/project/myfacts.py line 12)"),
    ],
)
def test_a_crash_is_internal_and_says_where(sample: str, text: str) -> None:
    (aborted,) = (event for event in events(sample) if isinstance(event, Aborted))
    assert aborted.error
    assert aborted.error.code == "INTERNAL"
    assert text in aborted.error.summary


@pytest.mark.parametrize("sample", ["sudo_password_run", "sudo_password_dry", "sudo_password_fact"])
def test_a_prompt_of_sudo_is_recognised_and_the_crash_that_follows_is_not_a_bug(sample: str) -> None:
    found = events(sample)
    assert {codes[0] for _, codes in failures(found)} == {"SUDO_PASSWORD"}
    assert [event.error for event in found if isinstance(event, Aborted)] == [None]
    assert found[-1] == Aborted(None) or isinstance(found[-1], Text)


def test_a_key_that_asks_for_its_passphrase_is_an_authentication_error() -> None:
    found = [event for event in events("key_passphrase") if isinstance(event, ConnectFailed)]
    assert {(event.host, event.error.code) for event in found} == {(host, "SSH_AUTH") for host in HOSTS}


def test_connect_errors_are_told_apart() -> None:
    hosts = ("good", "refused", "noroute", "wrongkey", "nokeyfile", "changed", "unresolved", "strict", "cutoff")
    found = events("connect_errors", hosts)
    assert {event.host: event.error.code for event in found if isinstance(event, ConnectFailed)} == {
        "refused": "NODE_UNREACHABLE",
        "noroute": "NODE_UNREACHABLE",
        "unresolved": "NODE_UNREACHABLE",
        "cutoff": "NODE_UNREACHABLE",
        "wrongkey": "SSH_AUTH",
        "changed": "SSH_HOST_KEY",
        "strict": "SSH_HOST_KEY",
    }
    (aborted,) = (event.error for event in found if isinstance(event, Aborted))
    assert aborted
    assert (aborted.code, aborted.summary) == (
        "SSH_AUTH",
        "the SSH key cannot be used: no such private key file: /keys/absent",
    )


def test_facts_that_failed_are_named_although_pyinfra_then_calls_them_loaded() -> None:
    found = [(event.host, event.fact) for event in events("facts_failed") if isinstance(event, FactFailed)]
    assert sorted(found) == sorted((host, fact) for host in HOSTS for fact in ("myfacts.Exits", "myfacts.Unparsed"))


def test_a_diff_is_output_of_its_host_and_plain_lines() -> None:
    found = events("dry_run_diff")
    assert HostOutput("spark-1", "Will modify /project/out2/spark-1/f") in found
    assert Text("  + three") in found


@pytest.mark.parametrize("sample", ["limit_matches_nothing", "inventory_absent"])
def test_a_run_of_nobody_looks_like_a_success_to_pyinfra(sample: str) -> None:
    assert not [event for event in events(sample) if isinstance(event, HostResult | Ready | Aborted)]


def test_a_command_that_is_shown_is_not_taken_for_its_output() -> None:
    found = feed(
        "--> Starting operation: Fail ",
        "[spark-1] >>> sh -c 'echo gb10: DISK_FULL: no room'",
        "    [spark-1] Error: executed 0 commands",
    )
    assert failures(found) == [("spark-1", ["OPERATION_FAILED"])]


def test_a_code_that_we_do_not_know_stays_in_the_text() -> None:
    found = feed("    [spark-1] gb10: NEW_CODE: something", "    [spark-1] Error: executed 0 commands")
    (failed,) = (event for event in found if isinstance(event, HostFailed))
    assert failed.errors[0].summary == "NEW_CODE: something"


def test_what_was_said_before_a_retry_is_forgotten() -> None:
    found = feed(
        "    [spark-1] gb10: DOWNLOAD_FAILED: 503",
        "    [spark-1] Retrying Download (attempt 1/2) after 1s...",
        "    [spark-1] gb10: DISK_FULL: no room",
        "    [spark-1] Error: executed 0 commands (failed after 2/2 retries)",
    )
    assert failures(found) == [("spark-1", ["DISK_FULL"])]


def test_an_error_that_is_ignored_leaves_no_cause_behind() -> None:
    found = feed(
        "    [spark-1] gb10: DISK_FULL: no room",
        "    [spark-1] Error (ignored): executed 0 commands",
        "    [spark-1] Error: executed 0 commands",
    )
    assert failures(found) == [("spark-1", ["OPERATION_FAILED"])]


def test_what_a_dry_run_foresees_is_no_failure() -> None:
    (event,) = feed("    [spark-1] would be refused: PORT_TAKEN: spark-1: nginx listens on port 6443")
    assert isinstance(event, Foreseen)
    assert (event.error.code, event.error.summary) == ("PORT_TAKEN", "nginx listens on port 6443")


def test_a_nested_operation_belongs_to_its_host() -> None:
    assert feed("    [spark-1] nested  Success") == [HostResult("spark-1", "changed")]


def test_a_run_once_or_serial_operation_starts_like_any_other() -> None:
    assert feed("--> Starting serial, run once operation: Upgrade (x=1)") == [OperationStarted("Upgrade (x=1)")]


def test_colours_do_not_matter() -> None:
    assert feed("\x1b[0m    [\x1b[1mspark-1\x1b[0m]  \x1b[32mSuccess\x1b[0m") == [HostResult("spark-1", "changed")]


def test_a_bracket_that_is_no_host_is_text() -> None:
    assert feed("    [nobody] Success") == [Text("[nobody] Success")]


@given(
    st.lists(st.text() | st.sampled_from([line for p in SAMPLES.glob("*.log") for line in p.read_text().splitlines()]))
)
def test_no_line_whatever_breaks_the_parser(lines: list[str]) -> None:
    feed(*lines)
