"""The points of the fault campaign, and their distribution to rebuilds."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

Kill = Literal["before", "inside", "after"]

# Other faults: kind, node, and the steps at which they happen (if the rebuild has them).
OTHERS: tuple[tuple[str, str, Sequence[str]], ...] = (
    ("ssh", "target", ("sync-models", "backup", "provision", "restore", "models")),
    ("ssh", "survivor", ("sync-images", "images")),
    ("reboot", "target", ("sync-models", "backup", "provision", "rejoin")),
    ("reboot", "survivor", ("save-images", "models")),
    ("disk", "survivor", ("sync-models",)),
    ("disk", "target", ("models",)),
    ("docker", "survivor", ("sync-images", "save-images")),
    ("docker", "target", ("images", "rejoin")),
    ("k3s", "survivor", ("drain", "rejoin")),
    ("k3s", "target", ("drain", "admit")),
    ("host-keys", "target", ("restore",)),
    ("lost", "survivor", ("sync-models", "settle", "images", "rejoin")),
)
UNKNOWN_SECONDS = 2.0  # assumed duration of a step without a measurement


@dataclass(frozen=True)
class Point:
    """One fault at one step. `delay`: seconds after the step's begin, or None right before or after it."""

    step: str
    fault: str  # "kill", or a name of OTHERS
    where: str  # "before", "inside", "after" for a kill; "target" or "survivor" for the others
    delay: float | None = None

    @property
    def name(self) -> str:
        return f"{self.step}.{self.fault}-{self.where}"

    def to_hook(self, node: str) -> dict[str, Any]:
        """Return the point in the form that hook.py reads."""
        moment = "after" if self.where == "after" else "before"
        return {**asdict(self), "name": self.name, "hook": moment, "node": node}


def all_points(steps: Sequence[str], seconds: Mapping[str, float], seed: int) -> list[Point]:
    """Return all points for these steps and their durations. The seed gives the times within the steps."""
    chance = random.Random(seed)  # noqa: S311 - no secret
    points = [Point(step, "kill", "before") for step in steps]
    for step in steps:
        within = seconds.get(step, UNKNOWN_SECONDS)
        points.append(Point(step, "kill", "inside", round(within * chance.uniform(0.15, 0.85), 2)))
    points += [Point(step, "kill", "after") for step in steps]
    return points + [Point(step, fault, where) for fault, where, places in OTHERS for step in places if step in steps]


def chosen(points: Sequence[Point], subset: str | None, seed: int) -> list[Point]:
    """Return the points of --subset: a number of random ones, or those whose name contains one of the texts."""
    if subset is None:
        return list(points)
    if subset.isdigit():
        lot = random.Random(seed).sample(range(len(points)), min(int(subset), len(points)))  # noqa: S311 - no secret
        return [points[index] for index in sorted(lot)]
    return [point for point in points if any(text in point.name for text in subset.split(","))]


def batches(points: Iterable[Point], most: int) -> Iterator[list[Point]]:
    """Distribute points to rebuilds, at most `most` to each.

    Faults of one kind on the same node, each at another step, share a rebuild, since it continues after each of them.
    Different kinds get different rebuilds, so that their effects do not mix.
    """
    kinds: dict[tuple[str, str], list[Point]] = {}
    for point in points:
        kinds.setdefault((point.fault, point.where), []).append(point)
    for alike in kinds.values():
        pieces = -(-len(alike) // most)
        # Each takes every n-th step, so that faults of one rebuild are not at adjacent steps.
        yield from (alike[first::pieces] for first in range(pieces))
