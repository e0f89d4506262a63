"""The progress and the proof of copies of images."""

from __future__ import annotations

from typing import Any

import pytest

from gb10.cli.screen.transfer import Bars, TransferView
from gb10.controller.run.messages import Reported
from gb10.operations.copying.reports import CopyMoved, CopySent, ImageMoved, ImageProven
from gb10.operations.kit.reports import Note
from gb10.programs.images.contents import Contents


def shown(reports: list[Any], capsys: pytest.CaptureFixture[str]) -> tuple[TransferView, list[str]]:
    view = TransferView(Bars(None), verbosity=0)
    for report in reports:
        view.hear(Reported("spark-1", report))
    return view, capsys.readouterr().err.splitlines()


def test_saving_prints_a_line_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    moved = [ImageMoved("saved", count * 10**9, 4 * 10**9, float(count)) for count in (1, 2, 3)]
    assert shown(moved, capsys)[1] == ["  spark-1 saved 953.7 MiB of 3.7 GiB, 1.00 GB/s"]


def test_a_proof_is_kept_and_printed_once(capsys: pytest.CaptureFixture[str]) -> None:
    proof = ImageProven("spark-1", "spark-2", "a:1", Contents("arm64", ("sha256:0",), "5ba"))
    told = Note("proven: spark-2 has a:1 as spark-1 has it: 2 layers, arm64")
    view, printed = shown([told, proof, told], capsys)
    assert view.found.images == [proof]
    assert printed == [f"  {told.text}"]


def test_progress_at_time_zero_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert shown([ImageMoved("saved", 0, 0, 0.0), CopyMoved(0, 0, 0.0, {})], capsys)[1] == []


def test_the_end_of_a_copy_prints_its_rate(capsys: pytest.CaptureFixture[str]) -> None:
    sent = CopySent(10**9, 10**9, 0, 1.0, {"a": 5 * 10**8, "b": 5 * 10**8}, ())
    assert shown([sent], capsys)[1] == ["  sent 953.7 MiB in 1.0 s, 8.0 Gb/s  a 4.0 Gb/s  b 4.0 Gb/s"]
