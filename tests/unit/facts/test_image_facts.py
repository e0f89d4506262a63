"""Images as Docker engines of several kinds show them, and the store as its program prints it."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyinfra.api.exceptions import FactProcessError

from gb10.facts.images import DockerImages, SavedImages
from gb10.facts.reading.docker import with_tag
from tests.unit.facts.reading import ABSENT, altered, damaged, process, sample, shell_accepts

ENGINES = ["docker-images-20.10.txt", "docker-images-26.txt", "docker-images-26-containerd.txt"]
DIGEST = f"sha256:{'0' * 64}"
STORE = {
    "images": [
        {
            "format": 1,
            "tag": "a:1",
            "contents": {"architecture": "arm64", "layers": [DIGEST], "settings": "x"},
            "size_bytes": 7,
            "digests": [],
            "config": DIGEST,
            "layers": [DIGEST],
            "manifests": [],
            "blobs": {DIGEST: 7},
        }
    ],
    "blobs": {DIGEST: 7},
    "strange": [],
    "damaged": [],
    "set_aside_bytes": 0,
    "free_bytes": 1000,
}


def engine(lines: Sequence[str], version: str = "29.6.2", statuses: tuple[int, int] = (0, 0)) -> list[str]:
    """What the node answers for the images of an engine."""
    return [json.dumps({"engine": [statuses[0], version], "images": [statuses[1], "\n".join(lines)]})]


def store(text: str) -> list[str]:
    """What the node answers for its store."""
    return [text]


@pytest.mark.parametrize("name", ENGINES)
def test_one_image_is_the_same_in_every_engine(name: str) -> None:
    images = DockerImages().process(engine(sample(name)))
    assert images
    image = with_tag(images, "gb10-t/a:1")
    assert image
    assert image.contents.architecture == "amd64"
    assert len(image.contents.layers) == 3
    first = DockerImages().process(engine(sample(ENGINES[0])))
    assert first
    assert image.contents == with_tag(first, "gb10-t/a:1").contents  # type: ignore[union-attr] # it is there
    assert with_tag(images, "gb10-t/a:9") is None


def test_images_without_a_tag_are_left_out() -> None:
    lines = sample("docker-images-20.10.txt")
    images = DockerImages().process(engine(lines))
    assert images
    assert len(images) < len(lines)
    old = json.dumps({**json.loads(lines[0]), "RepoTags": ["<none>:<none>"], "RepoDigests": ["<none>@<none>"]})
    assert DockerImages().process(engine([old])) == ()


def test_no_engine_is_none_and_no_image_is_empty() -> None:
    assert DockerImages().process(engine([], "", (1, 1))) is None
    assert DockerImages().process(engine([], "", (ABSENT, ABSENT))) is None
    assert DockerImages().process(engine([])) == ()


def test_an_image_that_went_while_they_were_read_is_left_out() -> None:
    lines = sample("docker-images-26.txt")
    images = DockerImages().process(engine(lines, "26.1.5", (0, 1)))
    assert images
    assert len(images) == 2


@given(st.sampled_from(ENGINES).flatmap(lambda name: damaged(sample(name))))
def test_garbage_from_an_engine_fails_one_host_only(lines: list[str]) -> None:
    process(DockerImages(), engine(lines))


def test_no_store_is_none() -> None:
    assert SavedImages().process(store("null")) is None


def test_a_store_tells_what_is_whole() -> None:
    found = SavedImages().process(store(json.dumps(STORE)))
    assert found
    image = found.image("a:1")
    assert image
    assert image.intact
    assert found.surplus_bytes == 0
    assert found.image("a:2") is None


@pytest.mark.parametrize("change", [{"blobs": {}}, {"blobs": {DIGEST: 6}}, {"damaged": [DIGEST]}])
def test_an_image_is_not_intact_without_its_blobs_as_they_should_be(change: dict[str, object]) -> None:
    found = SavedImages().process(store(json.dumps({**STORE, **change})))
    assert found
    assert not found.images[0].intact


def test_what_a_prune_would_free_is_told() -> None:
    other = {f"sha256:{'1' * 64}": 5}
    document = {**STORE, "blobs": {DIGEST: 7, **other}, "set_aside_bytes": 3}
    found = SavedImages().process(store(json.dumps(document)))
    assert found
    assert found.surplus_bytes == 8


@pytest.mark.parametrize("text", ["5", "[]", "{}", '"no"'])
def test_a_store_that_cannot_be_read_is_an_error_and_not_absent(text: str) -> None:
    with pytest.raises(FactProcessError):
        SavedImages().process(store(text))


@given(altered(json.dumps(STORE)))
def test_garbage_from_the_store_fails_one_host_only(lines: list[str]) -> None:
    process(SavedImages(), store("\n".join(lines)))


def test_the_commands_are_shell() -> None:
    assert shell_accepts(DockerImages().command())
    assert shell_accepts(SavedImages().command(deep=True))
