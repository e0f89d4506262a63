"""Volumes and containers of users in a Docker engine."""

from __future__ import annotations

from dataclasses import dataclass

from gb10.facts.reading.values import FactValue


@dataclass(frozen=True)
class Belongings(FactValue):
    """Volumes by name, those without one shortened; and containers, running or not, that nobody makes again."""

    volumes: tuple[str, ...]
    containers: tuple[str, ...]  # neither of Kubernetes nor what gb10 serves with
