"""helm reads the values that the template writes."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from gb10.lab.clients import helm
from gb10.templates import render

# Texts for PyYAML that a YAML parser in Go reads as numbers or booleans, and similar ones.
AMBIGUOUS = ["1e3", "1e+3", "-1E3", "12345e67", "0o14", "-0o14", "0b1_1", "0x1F", "08", "09", "1_000", "+1", ".5", "1."]
AMBIGUOUS += ["y", "n", "Y", "N", "yes", "off", "null", "~", "", "1:20", "2026-11-25", ".inf", "=", "<<", "v1.2"]


@pytest.fixture
def chart(tmp_path: Path) -> Path:
    """A chart that prints the values as helm has read them."""
    folder = tmp_path / "chart"
    (folder / "templates").mkdir(parents=True)
    (folder / "Chart.yaml").write_text("apiVersion: v2\nname: echo\nversion: 1.0.0\n")
    (folder / "templates" / "values.yaml").write_text("values: {{ .Values | toJson | quote }}\n")
    return folder


def read_by_helm(chart: Path, values: dict[str, Any]) -> Any:
    file = chart.parent / "values.yaml"
    file.write_text(render("operators/values.yaml.j2", values=values, key="gpu_operator_values"))
    shown = subprocess.run(
        [helm(), "template", "echo", chart, "--values", file], capture_output=True, text=True, check=True
    ).stdout
    return json.loads(json.loads(shown.partition("values: ")[2]))


def test_helm_reads_the_same_values(chart: Path) -> None:
    values: dict[str, Any] = {
        "texts": AMBIGUOUS,
        "keys": {text: text for text in AMBIGUOUS},
        "numbers": [0, -7, 2**40, 0.5, 1e16, 1.5e-7],
        "others": [True, False, None, "Straße \N{GRINNING FACE}", "a\nb: c\n", "trailing \n\n"],
    }
    assert read_by_helm(chart, values) == values
