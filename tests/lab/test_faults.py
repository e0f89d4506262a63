"""Some points of the campaign (make faults): one rebuild, killed twelve times, and once surprised."""

from __future__ import annotations

from pathlib import Path

from tests.faults.campaign import Ward
from tests.faults.points import Point
from tests.lab.conftest import LabUnderTest

# What was killed before a step, in it or right behind it goes on there.
POINTS = [
    Point("sync-models", "kill", "before"),
    Point("sync-images", "kill", "inside", 1.5),
    Point("solo", "kill", "after"),
    Point("drain", "kill", "inside", 1.0),
    Point("backup", "kill", "inside", 2.0),
    Point("gate", "kill", "after"),
    Point("wipe", "kill", "inside", 1.0),
    Point("settle", "kill", "after"),
    Point("provision", "kill", "inside", 3.0),
    Point("restore", "host-keys", "target"),
    Point("restore", "kill", "inside", 2.0),
    Point("models", "kill", "before"),
    Point("rejoin", "kill", "inside", 2.5),
]


def test_a_rebuild_that_is_killed_twelve_times_goes_on_to_its_end(lab: LabUnderTest, tmp_path: Path) -> None:
    ward = Ward(lab.lab, tmp_path)
    ward.converge()
    verdicts = ward.course(POINTS)
    lab.wipe_all()
    failed = [f"{verdict.point.name}: {verdict.happened}" for verdict in verdicts if verdict.ok is not True]
    assert not failed, "\n".join(failed)
