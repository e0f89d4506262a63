"""Every file that lands on a node, and every script that runs on one."""

from __future__ import annotations

import functools
import json
from importlib.resources import files

import jinja2
import yaml


@functools.cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(lambda name: (files(__package__) / name).read_text()),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,  # noqa: S701 - the files are YAML, shell and systemd units
    )
    environment.filters["yaml"] = _yaml
    environment.filters["quoted"] = json.dumps
    return environment


def _yaml(value: object) -> str:
    return yaml.safe_dump(value, sort_keys=True, default_flow_style=False).removesuffix("...\n")


def render(name: str, **values: object) -> str:
    """Given a template below this folder and its values, return the text. Raise UndefinedError for a missing value."""
    return _environment().get_template(name).render(**values)


def script(name: str) -> str:
    """Given a script's name, return its text."""
    return (files(__package__) / "scripts" / name).read_text()
