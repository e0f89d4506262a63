"""Samples: see samples/README.md."""

from __future__ import annotations

import errno
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyinfra.api.exceptions import FactProcessError

from gb10.facts.identity import DgxRelease
from gb10.facts.reading.node import Release, parse_release
from tests.unit.facts.reading import damaged, printed, process, run, sample, shell_accepts, words


def release(lines: list[str]) -> Release | None:
    return DgxRelease().process(printed({"release": (lines, 0)}))


def test_a_spark_after_its_first_update_runs_the_updates_version() -> None:
    found = release(sample("dgx-release-spark.txt"))
    assert found == Release(
        name="DGX Spark",
        pretty_name="NVIDIA DGX Spark",
        factory_version="7.2.3",
        factory_date="2025-09-10-13-50-03",
        ota_version="7.3.1",
        ota_date="Wed Nov 19 05:05:30 PM CET 2025",
        commit="833b4a7",
        platform="DGX Server for KVM",
        serial_number="XXXXXXXXXXXX",
    )
    assert found.version == "7.3.1"
    assert json.loads(json.dumps(found.to_json()))["version"] == "7.3.1"


def test_of_several_updates_the_last_one_holds() -> None:
    found = parse_release(sample("dgx-release-two-updates.txt"))
    assert (found.ota_version, found.ota_date) == ("7.5.0", "Wed Jul 15 09:06:56 AM PDT 2026")


def test_before_the_first_update_the_factory_version_runs() -> None:
    found = parse_release(line for line in sample("dgx-release-spark.txt") if not line.startswith("DGX_OTA"))
    assert (found.ota_version, found.version) == (None, "7.2.3")


def test_values_may_stand_without_quotes_and_lines_may_be_missing() -> None:
    found = parse_release(sample("dgx-release-server.txt"))
    assert (found.serial_number, found.factory_version, found.version) == ("C438G0K05B10182", None, "22.02-1")


def test_comments_are_passed_over() -> None:
    assert parse_release(["# written by the factory", 'DGX_NAME="DGX Spark" # for now']).name == "DGX Spark"


def test_another_system_has_no_release() -> None:
    assert DgxRelease().process(printed({"release": ([], errno.ENOENT)})) is None


@pytest.mark.parametrize("line", ["DGX_NAME", 'DGX_NAME="DGX', "DGX_NAME=DGX Spark"])
def test_a_file_of_another_shape_is_refused(line: str) -> None:
    with pytest.raises(FactProcessError):
        release([line])


def test_a_file_that_cannot_be_read_is_refused() -> None:
    with pytest.raises(FactProcessError):
        DgxRelease().process(printed({"release": ([], errno.EACCES)}))


def test_the_command_runs_in_a_posix_shell_on_another_system() -> None:
    command = DgxRelease().command()
    assert shell_accepts(command)
    assert DgxRelease().process(run(command)) is None


@settings(deadline=None)
@given(damaged(sample("dgx-release-two-updates.txt")) | st.lists(words))
def test_garbage_is_understood_or_refused_and_nothing_else(lines: list[str]) -> None:
    process(DgxRelease(), printed({"release": (lines, 0)}))
