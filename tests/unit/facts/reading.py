"""How the tests of facts feed them: samples, sections as a node prints them, and garbage."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from pyinfra.api import FactBase
from pyinfra.api.exceptions import FactProcessError

from gb10.facts.reading.launcher import Launch
from tests.unit.launched import launched

SAMPLES = Path(__file__).parent / "samples"
ABSENT = 127

Printed = tuple[Sequence[str], int]


def sample(name: str) -> list[str]:
    """The lines of a sample."""
    return (SAMPLES / name).read_text().splitlines()


def printed(sections: Mapping[str, Printed]) -> list[str]:
    """What a fact reads of sections of these lines and statuses."""
    return answered(
        {name: [status, "".join(f"{line}\n" for line in body)] for name, (body, status) in sections.items()}
    )


def section(name: str, text: str = "", status: int = 0) -> dict[str, Printed]:
    """One section of a text."""
    return {name: (text.splitlines(), status)}


def answered(value: Any) -> list[str]:
    """What a fact reads of a program's answer."""
    return [json.dumps(value)]


def run(launch: Launch, tools: Path | None = None) -> list[str]:
    """What a fact reads after its command has run on this machine, with the tools of a folder before all others."""
    done = launched(launch, tools)
    assert done.status == 0, done.others
    return answered(done.answer)


def shell_commands(value: Any) -> Iterator[str]:
    """Yield all shell commands in a job."""
    for key, inner in value.items() if isinstance(value, Mapping) else ():
        if key == "commands":
            yield from inner.values()
        elif key == "command":
            yield inner
        else:
            yield from shell_commands(inner)


def shell_accepts(launch: Launch) -> bool:
    """Whether a POSIX shell parses the command line, and each of the commands that it runs."""
    texts = [launch.line, *shell_commands(launch.job)]
    return all(subprocess.run(["sh", "-n", "-c", text], check=False).returncode == 0 for text in texts)


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
def spoiled(draw: st.DrawFn, output: list[str]) -> list[str]:
    """What a fact reads of sections whose lines are damaged, and of which some are lost or have failed."""
    some = {
        name: (draw(damaged(text.splitlines())), draw(st.sampled_from([status, status, status, 0, 1, ABSENT])))
        for name, (status, text) in json.loads(output[0]).items()
        if draw(st.integers(0, 15))
    }
    return printed(some)


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
