"""Docker images: in the engine, and saved on the node's data disk."""

from __future__ import annotations

import json
import shlex
from importlib.resources import files

from pyinfra.api import FactBase, StringCommand

from gb10.facts.reading.images import STORE, SavedStore, parse_store
from gb10.facts.reading.launcher import sections, understood
from gb10.facts.reading.sections import read_sections
from gb10.programs.image_store import EngineImage

LIST_SECONDS, CHECK_SECONDS = 120, 4 * 3600


class DockerImages(FactBase[tuple[EngineImage, ...] | None]):
    """Every image in the Docker engine that has a tag, or None where no engine answers.

    Raises FactProcessError for the host whose output is not understood.
    """

    def command(self) -> StringCommand:
        return sections(
            {
                "engine": "timeout 20 docker version --format '{{.Server.Version}}'",
                # An image that goes between the two commands is no error.
                "images": "ids=$(docker image ls --quiet --no-trunc | sort -u); "
                """[ -z "$ids" ] || docker image inspect --format '{{json .}}' $ids""",
            }
        )

    @understood
    def process(self, output: list[str]) -> tuple[EngineImage, ...] | None:
        found = read_sections(output)
        if not found["engine"].first:
            return None
        images = (EngineImage.inspected(json.loads(line)) for line in found["images"].lines if line.startswith("{"))
        return tuple(sorted((image for image in images if image.tags), key=lambda image: image.tags))


class SavedImages(FactBase[SavedStore | None]):
    """What lies in the node's store of images, and whether it is intact; None where there is no store.

    + deep: read every blob and compare its sha256, not only its size: as long as the disk takes

    Raises FactProcessError for the host whose output is not understood.
    """

    def command(self, deep: bool = False) -> StringCommand:
        command, seconds = ("check", CHECK_SECONDS) if deep else ("list", LIST_SECONDS)
        words = ("timeout", str(seconds), "python3", "-c", store_program(), command, STORE)
        return sections({"store": shlex.join(words)})

    @understood
    def process(self, output: list[str]) -> SavedStore | None:
        section = read_sections(output)["store"]
        if section.status != 0:
            raise ValueError(f"the store could not be read (status {section.status})")
        return parse_store(section.text)


def store_program() -> str:
    """The program that runs on the nodes."""
    return files("gb10.programs").joinpath("image_store.py").read_text()
