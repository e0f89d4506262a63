"""The fault campaign succeeds only if all points are ok."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.campaign import Verdict
from tests.faults.points import Point
from tests.faults.run import ended


@pytest.mark.parametrize(
    ("verdicts", "status"), [([], 0), ([True, True], 0), ([True, False], 1), ([True, None], 1), ([None], 1)]
)
def test_only_ok_points_give_exit_status_0(verdicts: list[bool | None], status: int, tmp_path: Path) -> None:
    point = Point("drain", "kill", "before")
    assert ended([Verdict(point, ok, "so", 1.0) for ok in verdicts], tmp_path) == status
