"""The commands that errors of a copy advise exist."""

from __future__ import annotations

import re

import pytest

from gb10.cli.sync import images, models
from gb10.controller.errors import CATALOGUE

HINTS = sorted({hint for entry in CATALOGUE.values() for hint in re.findall(r"\{copy\} (--\S+ ?\w*)", entry.remedy)})


@pytest.mark.parametrize("hint", HINTS)
def test_the_command_has_the_options_that_errors_advise(hint: str) -> None:
    for command in (models, images):
        if command is images and hint.startswith("--dangling"):
            continue  # a store of images has no links
        command.parse_args(command.make_context("sync", ["a", "b"]), ["a", "b", *hint.split()])


def test_errors_advise_copy_options_only_for_copies() -> None:
    assert len(HINTS) == 4
    for entry in CATALOGUE.values():
        assert not re.search(r"\{again\} --(force|network|dangling|verify)", entry.remedy), entry.code
