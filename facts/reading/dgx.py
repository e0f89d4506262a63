"""The release of DGX OS."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from gb10.facts.reading.values import FactValue

FILE = "/etc/dgx-release"


@dataclass(frozen=True)
class Release(FactValue):
    """The content of /etc/dgx-release. None is a line that is not there."""

    name: str | None  # "DGX Spark"
    pretty_name: str | None
    factory_version: str | None  # of the image that was installed
    factory_date: str | None
    ota_version: str | None  # of the last update over the air; None before the first
    ota_date: str | None
    commit: str | None
    platform: str | None
    serial_number: str | None

    @property
    def version(self) -> str | None:
        """The version that runs: of the last update, or of the image."""
        return self.ota_version or self.factory_version

    def to_json(self) -> dict[str, Any]:
        return {**super().to_json(), "version": self.version}


def parse_release(lines: Iterable[str]) -> Release:
    """Given the lines of /etc/dgx-release, return the release. Raise ValueError for a line that sets nothing.

    Each update over the air appends its lines, so a key may stand there several times: the last one holds.
    """
    values: dict[str, str] = {}
    for line in filter(str.strip, lines):
        words = shlex.split(line, comments=True)
        if not words:
            continue
        key, equals, value = words[0].partition("=")
        if len(words) != 1 or not equals:
            raise ValueError(f"{FILE} contains {line!r}")
        values[key] = value
    return Release(
        name=values.get("DGX_NAME"),
        pretty_name=values.get("DGX_PRETTY_NAME"),
        factory_version=values.get("DGX_SWBUILD_VERSION"),
        factory_date=values.get("DGX_SWBUILD_DATE"),
        ota_version=values.get("DGX_OTA_VERSION"),
        ota_date=values.get("DGX_OTA_DATE"),
        commit=values.get("DGX_COMMIT_ID"),
        platform=values.get("DGX_PLATFORM"),
        serial_number=values.get("DGX_SERIAL_NUMBER"),
    )
