"""Every file that lands on a node and stays there."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator
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


class _Dumper(yaml.SafeDumper):
    """Quotes what other readers of YAML than PyYAML take for a number or a boolean: helm and K3s, written in Go."""


_NUMBER = r"[-+]?(\.[0-9_]+|[0-9][0-9_]*(\.[0-9_]*)?)([eE][-+]?[0-9]+)?|[-+]?0[bBoOxX][0-9a-fA-F_]+"
_Dumper.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(rf"^({_NUMBER})$"), list("-+.0123456789"))
_Dumper.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^[yYnN]$"), list("yYnN"))


def _yaml(value: object) -> str:
    text: str = yaml.dump(value, Dumper=_Dumper, sort_keys=True, default_flow_style=False)
    return text.removesuffix("...\n")


def render(name: str, **values: object) -> str:
    """Given a template below this folder and its values, return the text. Raise UndefinedError for a missing value."""
    return _environment().get_template(name).render(**values)


def load() -> Iterator[jinja2.Template]:
    """Compile one template after the other, so that the next `render` of it need not."""
    for folder in files(__package__).iterdir():
        for entry in folder.iterdir() if folder.is_dir() else ():
            if entry.name.endswith(".j2"):
                yield _environment().get_template(f"{folder.name}/{entry.name}")
