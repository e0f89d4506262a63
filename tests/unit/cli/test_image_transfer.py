"""How saving, loading and the proof of images are shown."""

from __future__ import annotations

import json

import pytest

from gb10.cli.screen.transfer import Transfer
from gb10.controller.run.messages import HostOutput


def shown(lines: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[Transfer, list[str]]:
    view = Transfer(None, quiet=False, verbosity=0)
    for line in lines:
        view.hear(HostOutput("spark-1", line))
    return view, capsys.readouterr().err.splitlines()


def test_saving_is_a_line_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    lines = [f"gb10-images: saved={count}000000000 of=4000000000 seconds={count}.0" for count in (1, 2, 3)]
    assert shown(lines, capsys)[1] == ["  spark-1 saved 953.7 MiB of 3.7 GiB, 1.00 GB/s"]


def test_a_proof_is_kept_and_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    proof = {"source": "spark-1", "target": "spark-2", "tag": "a:1", "contents": {}}
    told = "proven: spark-2 has a:1 as spark-1 has it: 2 layers, arm64"
    view, printed = shown([told, f"gb10-images-proof: {json.dumps(proof)}", told], capsys)
    assert view.images == [proof]
    assert printed == [f"  {told}"]


@pytest.mark.parametrize("text", ["saved=x of=1 seconds=1", "saved=1 of=0 seconds=0.0", ""])
def test_a_line_that_is_not_understood_does_no_harm(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    shown([f"gb10-images: {text}"], capsys)
