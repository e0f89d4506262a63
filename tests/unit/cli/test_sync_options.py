"""What the errors of a copy tell people to type can be typed."""

from __future__ import annotations

import re

import pytest

from gb10.cli.sync import images, models
from gb10.controller.errors import CATALOGUE

HINTS = sorted(
    {hint for trouble in CATALOGUE.values() for hint in re.findall(r"\{copy\} (--\S+ ?\w*)", trouble.remedy)}
)


@pytest.mark.parametrize("hint", HINTS)
def test_an_option_that_an_error_names_belongs_to_the_command(hint: str) -> None:
    for command in (models, images):
        if command is images and hint.startswith("--dangling"):
            continue  # a store of images has no links
        command.parse_args(command.make_context("sync", ["a", "b"]), ["a", "b", *hint.split()])


def test_options_of_a_copy_stand_in_no_hint_that_other_commands_get() -> None:
    assert len(HINTS) == 4
    for trouble in CATALOGUE.values():
        assert not re.search(r"\{again\} --(force|network|dangling|verify)", trouble.remedy), trouble.code
