"""The catalogue of errors: complete, printable, and documented."""

from __future__ import annotations

import json
import re
import string
from pathlib import Path

import pytest

from gb10.controller.errors import (
    CATALOGUE,
    DEFAULT_DETAILS,
    ExitStatus,
    Gb10Error,
    decisive,
    markdown_statuses,
    markdown_table,
)

ROOT = Path(__file__).parents[3]
EMITTED = (
    re.compile(r"gb10: ([A-Z][A-Z0-9_]+):"),
    re.compile(r"""\b(?:refuse|Refused|RefusedError|RefusedDeploy|say)\(\s*(?:\w+, )?"([A-Z][A-Z0-9_]+)\""""),
    re.compile(r"\b(?:refuse|fail) ([A-Z][A-Z0-9]*_[A-Z0-9_]+)\b"),
    re.compile(r"\bcode=([A-Z][A-Z0-9_]+)\b"),
    re.compile(r"""\b(?:trial|write_checked)\([^)]*"([A-Z][A-Z0-9_]+)\""""),  # the code is passed on
)


def emitted() -> set[str]:
    """Codes that the layers below print."""
    folders = ("facts", "operations", "deploys", "programs", "templates")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*") if path.suffix in (".py", ".sh", ".j2")]
    texts = [path.read_text() for path in files]
    return {code for text in texts for pattern in EMITTED for code in pattern.findall(text)} - {"CODE"}


def test_every_code_that_a_lower_layer_prints_is_in_the_catalogue() -> None:
    assert emitted() - CATALOGUE.keys() == set()


@pytest.mark.parametrize("code", CATALOGUE)
def test_every_template_can_be_printed_without_a_detail(code: str) -> None:
    entry = CATALOGUE[code]
    for template in (entry.summary, entry.remedy):
        names = {name for _, name, _, _ in string.Formatter().parse(template) if name}
        assert names <= DEFAULT_DETAILS.keys()
    error = Gb10Error(code)
    assert "{" not in error.summary + error.remedy
    assert "\n" not in error.summary + error.remedy


def test_an_error_says_what_it_knows() -> None:
    error = Gb10Error("HOST_UNKNOWN", wanted="spark-9", inventory="inventory.py", known=["spark-1", "spark-2"])
    assert error.summary == "spark-9 matches no host of inventory.py"
    assert error.remedy == "Choose from: spark-1, spark-2"


def test_details_that_are_added_later_do_not_replace_known_ones() -> None:
    error = Gb10Error("NODE_UNREACHABLE", host="spark-1").with_details(host="other", reason="no route")
    assert error.summary == "spark-1 does not answer: no route"


def test_json_holds_everything_a_script_needs() -> None:
    document = json.loads(json.dumps(Gb10Error("LOCKED", owner="me", since="now").to_json()))
    assert document["code"] == "LOCKED"
    assert document["status"] == 8
    assert document["summary"] == "me has been working on the same nodes since now"
    assert document["details"] == {"owner": "me", "since": "now"}


def test_a_cause_goes_before_its_consequences() -> None:
    vague, left_out = Gb10Error("OPERATION_FAILED", host="a"), Gb10Error("NOT_RUN", host="b")
    cause, later = Gb10Error("DISK_FULL", host="c"), Gb10Error("CHECKSUM_MISMATCH", host="d")
    assert decisive((left_out, vague, cause, later)) is cause
    assert decisive((left_out, vague)) is vague
    assert decisive(()) is None


def test_the_exit_statuses_are_distinct_and_usage_is_that_of_click() -> None:
    assert len({int(status) for status in ExitStatus}) == len(ExitStatus)
    assert int(ExitStatus.USAGE) == 2


def test_the_documentation_has_the_tables_and_a_paragraph_for_every_code() -> None:
    text = (ROOT / "docs" / "troubleshooting.md").read_text()
    assert markdown_statuses() in text, "run python -m gb10.controller.errors and paste its tables"
    assert markdown_table() in text, "run python -m gb10.controller.errors and paste its tables"
    assert set(re.findall(r"^### ([A-Z0-9_]+)$", text, re.MULTILINE)) == CATALOGUE.keys()
