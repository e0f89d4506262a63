"""Docker images: in the engine, and saved on the node's data disk."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, ClassVar

from gb10.facts.reading.docker import STORE, SavedImage, SavedStore
from gb10.facts.reading.launcher import Launch, ProgramFact, SectionsFact
from gb10.facts.reading.reports import Checked
from gb10.facts.reading.values import Sections
from gb10.programs.images.contents import EngineImage, Record

LIST_SECONDS, CHECK_SECONDS = 120, 4 * 3600


class DockerImages(SectionsFact[tuple[EngineImage, ...] | None]):
    """Every image in the Docker engine that has a tag, or None if no engine answers."""

    commands: ClassVar = {
        "engine": "timeout 20 docker version --format '{{.Server.Version}}'",
        # An image that goes between the two commands is no error.
        "images": "ids=$(docker image ls --quiet --no-trunc | sort -u); "
        """[ -z "$ids" ] || docker image inspect --format '{{json .}}' $ids""",
    }

    def read_sections(self, found: Sections) -> tuple[EngineImage, ...] | None:
        if not found["engine"].first:
            return None
        images = (EngineImage.inspected(json.loads(line)) for line in found["images"].lines if line.startswith("{"))
        return tuple(sorted((image for image in images if image.tags), key=lambda image: image.tags))


class SavedImages(ProgramFact[SavedStore | None]):
    """The node's store of saved images; None if there is no store.

    + deep: read every blob and compare its sha256, not only its size: as long as the disk takes
    + remembered: do so, but do not read a blob again that has not changed since
    """

    def command(self, deep: bool = False, remembered: bool = False) -> Launch:
        job = {"root": STORE, "deep": deep, "remembered": remembered}
        seconds = CHECK_SECONDS if deep or remembered else LIST_SECONDS
        return Launch("gb10.programs.images.commands:look", job, seconds=seconds, reports=Checked, guarded=[STORE])

    def read(self, answer: Any) -> SavedStore | None:
        if answer is None:
            return None
        blobs: dict[str, int] = answer["blobs"]
        records = (Record.from_json(document) for document in answer["images"])
        images = (_saved(record, blobs, answer["damaged"]) for record in records)
        return SavedStore(
            images=tuple(images),
            blobs=blobs,
            strange=tuple(answer["strange"]),
            set_aside_bytes=int(answer["set_aside_bytes"]),
            free_bytes=int(answer["free_bytes"]),
        )


def _saved(record: Record, blobs: dict[str, int], damaged: Sequence[str]) -> SavedImage:
    spoiled = tuple(digest for digest in damaged if digest in record.blobs)
    return SavedImage(record, tuple(record.missing(blobs)), spoiled)
