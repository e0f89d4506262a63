"""The python3 of Ubuntu 22.04 and 24.04 can import every program from its text."""

from __future__ import annotations

import ast
import importlib.resources
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.programs.launching import ubuntu_python

PROGRAMS = Path(str(importlib.resources.files("gb10.programs")))
ELSEWHERE = {"__init__.py", "all_reduce.py"}  # that one runs in the container that serves
IMPORT = (
    "import importlib,json,sys;texts=json.load(sys.stdin);names={'__name__':'bootstrap'};"
    "exec(texts['gb10.programs.bootstrap'],names);sys.meta_path.insert(0,names['Modules'](texts));"
    "[importlib.import_module(name) for name in texts]"
)


@pytest.mark.parametrize("version", ["3.10", "3.12"])
def test_every_program_can_be_imported(version: str) -> None:
    texts = {}
    for path in sorted(PROGRAMS.rglob("*.py")):
        if path.name not in ELSEWHERE:
            name = path.relative_to(PROGRAMS).with_suffix("").as_posix().replace("/", ".")
            texts[f"gb10.programs.{name}"] = path.read_text()
    if python := ubuntu_python(version):
        subprocess.run([python, "-I", "-S", "-c", IMPORT], input=json.dumps(texts), text=True, check=True)
    minor = min(int(version.partition(".")[2]), sys.version_info.minor)
    for text in texts.values():
        ast.parse(text, feature_version=(3, minor))
