"""Some points of the fault campaign (`make faults`): one rebuild with twelve kills and one other fault."""

from __future__ import annotations

from pathlib import Path

from tests.faults.campaign import CampaignLab
from tests.faults.points import Point
from tests.lab.conftest import LabUnderTest

# Kills before, inside and after steps. The rebuild resumes where it was killed.
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


def test_a_rebuild_completes_after_twelve_kills(lab: LabUnderTest, tmp_path: Path) -> None:
    campaign = CampaignLab(lab.lab, tmp_path)
    campaign.converge()
    verdicts = campaign.run_batch(POINTS)
    lab.wipe_all()
    failed = [f"{verdict.point.name}: {verdict.happened}" for verdict in verdicts if verdict.ok is not True]
    assert not failed, "\n".join(failed)
