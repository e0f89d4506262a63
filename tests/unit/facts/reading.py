"""How the tests of facts feed them: samples, sections as a node prints them, and garbage."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from pyinfra.api import FactBase, StringCommand
from pyinfra.api.exceptions import FactProcessError

SAMPLES = Path(__file__).parent / "samples"
ABSENT = 127

Printed = tuple[Sequence[str], int]


def sample(name: str) -> list[str]:
    """The lines of a sample."""
    return (SAMPLES / name).read_text().splitlines()


def printed(sections: Mapping[str, Printed]) -> list[str]:
    """What a node prints for sections of these lines and statuses."""
    lines = []
    for name, (body, status) in sections.items():
        lines += [f"@@gb10 {name}", *body, "", f"@@gb10= {status}"]
    return lines


def run(command: StringCommand, **environment: str) -> list[str]:
    """What this machine prints for a fact's command: POSIX shell, no terminal."""
    raw = command.get_raw_value()
    result = subprocess.run(["sh", "-c", raw], capture_output=True, text=True, check=True, env=environment)
    return result.stdout.splitlines()


def shell_accepts(command: StringCommand) -> bool:
    """Whether a POSIX shell parses the command and each of the commands in it."""
    return subprocess.run(["sh", "-n", "-c", command.get_raw_value()], check=False).returncode == 0


def process(fact: FactBase[Any], output: list[str]) -> Any:
    """The fact's value, or None for output that it refuses. Whatever else it raises would abort a whole run."""
    try:
        return fact.process(output)
    except FactProcessError:
        return None


words = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n\r"), max_size=30)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | words


@st.composite
def damaged(draw: st.DrawFn, lines: Sequence[str]) -> list[str]:
    """Lines of a sample with some lost, doubled, torn or replaced."""
    result: list[str] = []
    for line in lines:
        match draw(st.sampled_from(["keep", "keep", "keep", "keep", "lose", "double", "tear", "garbage", "spoil"])):
            case "keep":
                result.append(line)
            case "double":
                result += [line, line]
            case "tear":
                result.append(line[: draw(st.integers(0, len(line)))])
            case "garbage":
                result += [draw(words), line]
            case "spoil":
                at = draw(st.integers(0, len(line)))
                result.append(line[:at] + draw(words) + line[at + 1 :])
    return result


@st.composite
def altered(draw: st.DrawFn, text: str) -> list[str]:
    """JSON with some value in it replaced by one of another type, or left out."""
    document = json.loads(text)
    for _ in range(draw(st.integers(1, 3))):
        document = _alter(draw, document)
    return [json.dumps(document)]


def _alter(draw: st.DrawFn, node: Any) -> Any:
    children = list(node) if isinstance(node, dict) else list(range(len(node))) if isinstance(node, list) else []
    if not children or draw(st.integers(0, 9)) == 0:
        return draw(scalars | st.just([]) | st.just({}))
    child = draw(st.sampled_from(children))
    if draw(st.integers(0, 9)) == 0:
        rest = [key for key in children if key != child]
        return {key: node[key] for key in rest} if isinstance(node, dict) else [node[key] for key in rest]
    if isinstance(node, dict):
        return {**node, child: _alter(draw, node[child])}
    return [*node[:child], _alter(draw, node[child]), *node[child + 1 :]]
