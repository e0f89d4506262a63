"""Every command on the pages exists, and accepts the documented arguments."""

from __future__ import annotations

import importlib
import inspect
import itertools
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import click
import pytest

from gb10.cli import main as gb10

ROOT = Path(__file__).parents[3]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "lab" / "README.md"]
PROGRAMS = ("gb10 ", "pyinfra ")
INLINE = re.compile(rf"`((?:{'|'.join(PROGRAMS)})[^`]+)`")
CHOICE = re.compile(r"(\w+)\\?\|\w+")
# Values for the placeholders that a command would reject.
PLACEHOLDERS = {"N": "2", "CHECK": "nccl"}


class Command(NamedTuple):
    place: str
    words: tuple[str, ...]
    is_whole: bool  # in a code block; in a sentence arguments may be left out


def documented() -> Iterator[Command]:
    """Yield the commands in the code blocks and sentences of all pages."""
    for page in PAGES:
        fenced = False
        for number, line in enumerate(page.read_text().splitlines(), 1):
            place = f"{page.relative_to(ROOT)}:{number}"
            fenced ^= line.lstrip().startswith("```")
            if (fenced or line.startswith("    ")) and line.strip().startswith(PROGRAMS):
                yield Command(place, words_of(line), True)
            for text in INLINE.findall(line):
                yield Command(place, words_of(text), False)


def words_of(text: str) -> tuple[str, ...]:
    """Split a command: of a choice take the first, and include optional arguments."""
    plain = re.sub(r"[\[\]]|\.\.\.", " ", CHOICE.sub(r"\1", text))
    return tuple(PLACEHOLDERS.get(word, word) for word in shlex.split(plain, comments=True))


COMMANDS = list(documented())


def check_gb10(command: Command) -> None:
    """Parse the command as gb10 does, without running it. Raise click.UsageError as gb10 does."""
    found: click.Command = gb10
    parent: click.Context | None = None
    rest = list(command.words[1:])
    while True:
        try:
            context = found.make_context(found.name, rest, parent=parent)
        except (click.MissingParameter, click.exceptions.NoArgsIsHelpError):
            assert not command.is_whole
            return
        rest = [*context._protected_args, *context.args]  # the arguments of the subcommand of a group
        if not isinstance(found, click.Group) or not rest:
            return
        _, named, rest = found.resolve_command(context, rest)
        assert named is not None
        found, parent = named, context


def check_pyinfra(command: Command) -> None:
    """Check that the deploy or fact exists and accepts these arguments."""
    data = {after for word, after in itertools.pairwise(command.words) if word == "--data"}
    words = [word for word in command.words if word not in data]
    for name in (word for word in words if word.startswith("gb10.")):
        module, _, attribute = name.rpartition(".")
        found: Any = getattr(importlib.import_module(module), attribute)
        takes = inspect.signature(found.command if "fact" in words else found).parameters
        given = {word.partition("=")[0] for word in words if re.match(r"[a-z_]+=", word)}
        assert given <= set(takes) or any(one.kind is one.VAR_KEYWORD for one in takes.values())


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: f"{command.place}: {' '.join(command.words)}")
def test_a_documented_command_exists(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "inventory.py").touch()
    (tmp_path / "releases").mkdir()
    if command.words[0] == "gb10":
        check_gb10(command)
    else:
        check_pyinfra(command)


def test_the_documentation_shows_every_command() -> None:
    shown = {command.words[1] for command in COMMANDS if command.words[0] == "gb10" and len(command.words) > 1}
    assert set(gb10.list_commands(click.Context(gb10))) <= shown
    assert len(COMMANDS) > 100
