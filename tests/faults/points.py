"""The points at which a rebuild is hurt, and how they are put together into rebuilds."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

Kill = Literal["before", "inside", "after"]

# What else may happen, at which steps (those of them that a rebuild has), and to whom.
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
UNKNOWN_SECONDS = 2.0  # how long a step may take of which nobody knows


@dataclass(frozen=True)
class Point:
    """One fault at one step. `delay` is how far into the step, in seconds; None is right before or after it."""

    step: str
    fault: str  # "kill", or a name of OTHERS
    where: str  # "before", "inside", "after" for a kill; "target" or "survivor" for the others
    delay: float | None = None

    @property
    def name(self) -> str:
        return f"{self.step}.{self.fault}-{self.where}"

    def to_hook(self, node: str) -> dict[str, Any]:
        """As hook.py wants it."""
        moment = "after" if self.where == "after" else "before"
        return {**asdict(self), "name": self.name, "hook": moment, "node": node}


def all_points(steps: Sequence[str], seconds: Mapping[str, float], seed: int) -> list[Point]:
    """Given the steps in order and how long each took, return every point. The seed says when, within a step."""
    chance = random.Random(seed)  # noqa: S311 - no secret
    points = [Point(step, "kill", "before") for step in steps]
    for step in steps:
        within = seconds.get(step, UNKNOWN_SECONDS)
        points.append(Point(step, "kill", "inside", round(within * chance.uniform(0.15, 0.85), 2)))
    points += [Point(step, "kill", "after") for step in steps]
    return points + [Point(step, fault, where) for fault, where, places in OTHERS for step in places if step in steps]


def chosen(points: Sequence[Point], subset: str | None, seed: int) -> list[Point]:
    """Given what --subset says, return so many points by lot, or those whose name has one of its texts in it."""
    if subset is None:
        return list(points)
    if subset.isdigit():
        lot = random.Random(seed).sample(range(len(points)), min(int(subset), len(points)))  # noqa: S311 - no secret
        return [points[index] for index in sorted(lot)]
    return [point for point in points if any(text in point.name for text in subset.split(","))]


def courses(points: Iterable[Point], most: int) -> Iterator[list[Point]]:
    """Put points together into rebuilds of at most so many.

    Several faults of one kind to the same node, each at another step, fit into one rebuild, since it goes on behind
    each of them. Others get rebuilds of their own, so that what one does to the nodes is not mixed up with the next.
    """
    kinds: dict[tuple[str, str], list[Point]] = {}
    for point in points:
        kinds.setdefault((point.fault, point.where), []).append(point)
    for alike in kinds.values():
        pieces = -(-len(alike) // most)
        # Each takes every n-th step, so that no two faults of a rebuild stand side by side.
        yield from (alike[first::pieces] for first in range(pieces))
