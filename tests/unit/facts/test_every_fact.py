"""What holds for every fact that there is, whoever adds one."""

from __future__ import annotations

import importlib
import inspect
import json
import pkgutil
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyinfra.api import FactBase
from pyinfra.api.exceptions import FactProcessError

from gb10 import facts
from gb10.facts.rdma import RdmaLinks
from gb10.programs.connectx7 import sysfs
from tests.unit.facts.reading import answered, printed, scalars, shell_accepts, words

# For whatever has no default.
ARGUMENTS: dict[str, Any] = {
    "charts": ["gpu-operator"],
    "folders": ["hub"],
    "groups": ["nvidia.com"],
    "hub": "/data/huggingface/hub",
    "interfaces": ["enp1s0f0np0"],
    "manifest": "{}",
    "names": ["rsync"],
    "namespace": "gpu-operator",
    "path": "/etc/a file",
    "peers": {"enp1s0f0np0": ("198.18.1.12", 8860)},
    "release": "gpu-operator",
    "role": "server",
    "root": "/data/models",
    "user": "nvidia",
}


def every_fact() -> list[type[FactBase[Any]]]:
    """Return all facts of gb10.facts, those in its sub-rooms too."""
    found = []
    for module in pkgutil.walk_packages(facts.__path__, "gb10.facts."):
        loaded = importlib.import_module(module.name)
        found += [
            each
            for name, each in vars(loaded).items()
            if inspect.isclass(each)
            and issubclass(each, FactBase)
            and each.__module__ == loaded.__name__
            and not name.startswith("_")
            and "reading" not in each.__module__  # bases of facts
        ]
    return found


EVERY = pytest.mark.parametrize("fact", every_fact(), ids=lambda fact: fact.__name__)


def command_of(fact: type[FactBase[Any]]) -> Any:
    """The fact's command, with something for each of its arguments."""
    wanted = inspect.signature(fact.command).parameters
    return fact().command(**{name: ARGUMENTS[name] for name in wanted if name in ARGUMENTS})


def section_names(fact: type[FactBase[Any]]) -> list[str]:
    """The sections that the fact reads; none for a fact that has no such."""
    job = command_of(fact).job
    return [*job.get("commands", ()), *job.get("files", ()), *(sysfs() if fact is RdmaLinks else ())]


documents = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3), max_leaves=8
)
lines = st.lists(words | documents.map(json.dumps) | words.map(lambda word: f"{word} 1 {word}"), min_size=1, max_size=6)


def told(value: Any) -> Any:
    """What pyinfra's CLI asks of a value that json does not know."""
    return value.to_json()


@EVERY
@settings(max_examples=30)
@given(data=st.data())
def test_garbage_fails_one_host_or_is_a_value_that_can_be_printed(
    fact: type[FactBase[Any]], data: st.DataObject
) -> None:
    output = answered(data.draw(documents))
    if names := section_names(fact):
        some = {name: (data.draw(lines), data.draw(st.sampled_from([0, 0, 1, 127]))) for name in names}
        output = printed(some)
    try:
        value = fact().process(output)
    except FactProcessError:
        return
    json.dumps(value, default=told)


@EVERY
def test_a_shell_parses_the_command_of_every_fact(fact: type[FactBase[Any]]) -> None:
    assert shell_accepts(command_of(fact))


def test_most_facts_have_sections_and_they_are_found() -> None:
    having = {fact.__name__: names for fact in every_fact() if (names := section_names(fact))}
    assert len(having) > len(every_fact()) / 2
    assert {"NodeIdentity", "K3sInstall", "HelmClient", "RdmaLinks"} <= having.keys()
