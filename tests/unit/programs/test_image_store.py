"""The store of images on a node: both layouts of `docker save`, kills, damage, and archives for `docker load`."""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import os
import shutil
import sys
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gb10.programs import images
from gb10.programs.answer import RefusedError
from gb10.programs.images import store as stores
from gb10.programs.images.archives import SMALL_BYTES, header, take, write_archive
from gb10.programs.images.commands import adopt, expel, look, prune
from gb10.programs.images.contents import (
    EngineImage,
    Record,
    blob_path,
    familiar,
    full_name,
    known_layers,
    needed_blobs,
)
from gb10.programs.images.store import Store
from gb10.programs.meter import Meter
from tests.unit.programs.launching import SILENT

ROOM = os.path.dirname(str(images.__file__))
LEGACY, OCI = "legacy", "oci"


def sha(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


@dataclass(frozen=True)
class Image:
    """An image of a simulated engine."""

    tag: str
    layers: tuple[bytes, ...]
    environment: str = "A=1"

    @property
    def config(self) -> bytes:
        rootfs = {"type": "layers", "diff_ids": [sha(layer) for layer in self.layers]}
        settings = {"Env": [self.environment], "Cmd": None, "Image": "whatever"}
        return json.dumps({"architecture": "arm64", "config": settings, "rootfs": rootfs}).encode()

    @property
    def inspected(self) -> EngineImage:
        return EngineImage.inspected(
            {
                "Id": sha(self.config),
                "RepoTags": [self.tag],
                "Architecture": "arm64",
                "RootFS": {"Layers": [sha(layer) for layer in self.layers]},
                "Config": {"Env": [self.environment], "Labels": {}},
                "Size": sum(map(len, self.layers)),
            }
        )

    def archive(self, layout: str) -> bytes:
        """Return the output of `docker save`."""
        return tar_of(self._legacy() if layout == LEGACY else self._oci())

    def _legacy(self) -> list[tuple[str, bytes | str]]:
        """Return the layout of Docker 20.10: sorted by name, with links for repeated layers."""
        names = [hashlib.sha256(layer + bytes([number])).hexdigest() for number, layer in enumerate(self.layers)]
        files: list[tuple[str, bytes | str]] = []
        for name, layer in zip(names, self.layers, strict=True):
            first = names[self.layers.index(layer)]
            files += [(f"{name}/VERSION", b"1.0"), (f"{name}/json", b'{"id": 1}')]
            files.append((f"{name}/layer.tar", layer if first == name else f"../{first}/layer.tar"))
        config = f"{sha(self.config)[7:]}.json"
        entry = {"Config": config, "RepoTags": [self.tag], "Layers": [f"{name}/layer.tar" for name in names]}
        files += [(config, self.config), ("manifest.json", json.dumps([entry]).encode()), ("repositories", b"{}")]
        return sorted(files)

    def _oci(self) -> list[tuple[str, bytes | str]]:
        """Return the layout of Docker 26, with unused remains of the legacy layout."""
        manifest = json.dumps(
            {
                "config": {"digest": sha(self.config), "mediaType": "application/vnd.oci.image.config.v1+json"},
                "layers": [
                    {"digest": sha(layer), "mediaType": "application/vnd.oci.image.layer.v1.tar"}
                    for layer in self.layers
                ],
            }
        ).encode()
        root = {
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": sha(manifest),
            "size": len(manifest),
            "annotations": {"io.containerd.image.name": full_name(self.tag)},
        }
        blobs = {blob_path(sha(content)): content for content in (*self.layers, self.config, manifest, b'{"id": 1}')}
        entry = {
            "Config": blob_path(sha(self.config)),
            "RepoTags": [self.tag],
            "Layers": [blob_path(sha(layer)) for layer in self.layers],
        }
        return [
            *sorted(blobs.items()),
            ("index.json", json.dumps({"manifests": [root]}).encode()),
            ("manifest.json", json.dumps([entry]).encode()),
            ("oci-layout", b"{}"),
        ]


def tar_of(files: Sequence[tuple[str, bytes | str]]) -> bytes:
    """Return a tar of files (bytes) and links (text)."""
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w|") as tar:
        for name, content in files:
            member = tarfile.TarInfo(name)
            if isinstance(content, str):
                member.type, member.linkname = tarfile.SYMTYPE, content
                tar.addfile(member)
            else:
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return output.getvalue()


def files_of(archive: bytes) -> dict[str, bytes]:
    """Return the files of a tar."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        return {member.name: file.read() for member in tar if (file := tar.extractfile(member))}


def snapshot(root: Path) -> dict[str, tuple[bytes, int]]:
    """Return every file below a folder with its inode."""
    files = (path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): (path.read_bytes(), path.stat().st_ino) for path in files}


def saved(store: Store, image: Image, layout: str = OCI) -> Record:
    """Save an image in the store and return its record."""
    store.create()
    record = take(store, io.BytesIO(image.archive(layout)), image.tag, image.inspected)
    store.write_record(record)
    return record


def archive_for_load(store: Store, record: Record, known: int = 0) -> dict[str, bytes]:
    """Return the files that `docker load` receives."""
    output = io.BytesIO()
    write_archive(store, record, needed_blobs(record, known), METER, output)
    return files_of(output.getvalue())


def is_intact(store: Store) -> bool:
    """Return True if every record has its blobs, and every blob has the digest in its name."""
    records, strange = store.records()
    whole = all(not store.missing(record) for record in records.values())
    return whole and not strange and not store.damaged(store.blobs())


def job(store: Store, **more: Any) -> dict[str, Any]:
    """Return the job of a command for a store."""
    return {"root": str(store.root), **more}


BIG = bytes(range(256)) * 64
METER = Meter(SILENT, "loaded", 0)
IMAGE = Image("vllm:1", (b"base", BIG, b"base", b"top"))


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)
RECORD = Record(
    tag="vllm:1",
    contents=IMAGE.inspected.contents,
    size_bytes=1,
    digests=(),
    config=sha(IMAGE.config),
    layers=IMAGE.inspected.contents.layers,
    manifests=(),
    blobs={sha(content): len(content) for content in (IMAGE.config, *IMAGE.layers)},
)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.mark.parametrize("layout", [LEGACY, OCI])
def test_an_image_of_either_layout_is_loaded_as_saved(store: Store, layout: str) -> None:
    record = saved(store, IMAGE, layout)
    files = archive_for_load(store, record)
    (entry,) = json.loads(files["manifest.json"])
    assert entry["RepoTags"] == ["vllm:1"]
    assert files[entry["Config"]] == IMAGE.config
    assert tuple(files[name] for name in entry["Layers"]) == IMAGE.layers
    assert ("index.json" in files) == (layout == OCI)
    assert is_intact(store)


def test_only_what_the_image_needs_is_kept(store: Store) -> None:
    for layout in (LEGACY, OCI):
        record = saved(store, IMAGE, layout)
    assert store.blobs() == record.blobs
    assert not list((store.root / "partial").iterdir())


def test_both_layouts_give_the_same_layers_and_the_same_contents(tmp_path: Path) -> None:
    old, new = (saved(Store(tmp_path / layout), IMAGE, layout) for layout in (LEGACY, OCI))
    assert old.contents == new.contents == IMAGE.inspected.contents
    assert old.layers == new.layers
    assert old.config == new.config


def test_saving_twice_changes_nothing(store: Store) -> None:
    saved(store, IMAGE)
    before = snapshot(store.root / "blobs")
    saved(store, IMAGE)
    assert snapshot(store.root / "blobs") == before


def test_two_images_share_their_layers(store: Store) -> None:
    saved(store, IMAGE)
    saved(store, replace(IMAGE, tag="vllm:2", layers=(*IMAGE.layers, b"more")))
    assert sum(size == len(BIG) for size in store.blobs().values()) == 1


def with_layer(old: bytes, new: bytes) -> bytes:
    """Return the archive of IMAGE in the legacy layout, with other bytes for a layer."""
    return tar_of([(name, new if content == old else content) for name, content in IMAGE._legacy()])


def test_a_compressed_layer_stays_as_it_is(store: Store) -> None:
    zipped = b"\x1f\x8b" + BIG
    store.create()
    record = take(store, io.BytesIO(with_layer(BIG, zipped)), "vllm:1", IMAGE.inspected)
    assert record.contents == IMAGE.inspected.contents
    assert record.layers[1] == sha(zipped)


def test_a_layer_that_the_config_does_not_name_is_refused(store: Store) -> None:
    store.create()
    with pytest.raises(RefusedError, match="belongs"):
        take(store, io.BytesIO(with_layer(BIG, BIG[::-1])), "vllm:1", IMAGE.inspected)


@pytest.mark.parametrize("large", [False, True])
def test_a_blob_with_another_digest_is_refused(store: Store, large: bool) -> None:
    layer = b"x" * (SMALL_BYTES + 1) if large else b"x"
    image = Image("vllm:1", (layer,))
    store.create()
    archive = image.archive(OCI).replace(layer, b"y" * len(layer))
    with pytest.raises(RefusedError, match="where sha256:"):
        take(store, io.BytesIO(archive), "vllm:1", image.inspected)
    assert not store.blobs()


@settings(max_examples=60, deadline=None)
@given(st.sampled_from([LEGACY, OCI]), st.data())
def test_a_truncated_archive_is_refused(
    tmp_path_factory: pytest.TempPathFactory, layout: str, data: st.DataObject
) -> None:
    archive = IMAGE.archive(layout)
    end = archive.index(b"manifest.json")  # images need nothing after it
    cut = data.draw(st.integers(0, end))
    store = Store(tmp_path_factory.mktemp("store"))
    store.create()
    with pytest.raises(RefusedError) as refused:
        take(store, io.BytesIO(archive[:cut]), "vllm:1", IMAGE.inspected)
    assert refused.value.code == "IMAGE_SAVE_FAILED"
    assert not store.records()[0]
    assert is_intact(store)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from([LEGACY, OCI]), st.binary(min_size=1, max_size=40), st.data())
def test_garbage_in_an_archive_is_refused_or_harmless(
    tmp_path_factory: pytest.TempPathFactory, layout: str, garbage: bytes, data: st.DataObject
) -> None:
    archive = IMAGE.archive(layout)
    at = data.draw(st.integers(0, len(archive) - 1))
    store = Store(tmp_path_factory.mktemp("store"))
    store.create()
    spoiled = archive[:at] + garbage + archive[at + len(garbage) :]
    try:
        record = take(store, io.BytesIO(spoiled), "vllm:1", IMAGE.inspected)
    except RefusedError:
        pass
    else:
        assert record.contents.layers == IMAGE.inspected.contents.layers
    assert is_intact(store)


# Kills ----------------------------------------------------------------------------------------------------------------

BASE = Image("base:1", (b"base", BIG))
IMAGES = (BASE, IMAGE, replace(IMAGE, environment="A=2"), replace(BASE, tag="base:2", layers=(BIG, b"base")))


def save_and_die(store: Store, image: Image, layout: str, lines: int) -> bool:
    """Save an image in a process that is killed after this many lines of code. Return True if the save was done."""
    child = os.fork()
    if child == 0:
        left = itertools.count(lines, -1)

        def count(frame: FrameType, event: str, argument: object) -> Callable[[FrameType, str, object], Any]:
            if event == "line" and frame.f_code.co_filename.startswith(ROOM) and next(left) <= 0:
                os._exit(1)
            return count

        sys.settrace(count)
        with store.locked():
            record = take(store, io.BytesIO(image.archive(layout)), image.tag, image.inspected)
            store.write_record(record)
        os._exit(0)
    return os.waitpid(child, 0)[1] == 0


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(IMAGES), st.sampled_from([LEGACY, OCI]), st.integers(0, 900)), min_size=1, max_size=5
    )
)
def test_killed_saves_leave_a_store_that_the_next_one_completes(
    tmp_path_factory: pytest.TempPathFactory, saves: list[tuple[Image, str, int]]
) -> None:
    store = Store(tmp_path_factory.mktemp("store"))
    done: set[str] = set()
    written: dict[str, list[Image]] = {}  # tag -> the last saved image, then images whose save was killed
    for image, layout, lines in saves:
        if save_and_die(store, image, layout, lines):
            done.add(image.tag)
            written[image.tag] = [image]
        else:  # the save may have been done, too
            written.setdefault(image.tag, []).append(image)
        store.create()
        assert is_intact(store)
        records = store.records()[0]
        for tag in done:
            assert records[tag].contents in [last.inspected.contents for last in written[tag]]
    for image in IMAGES:
        with store.locked():
            assert not list((store.root / "partial").iterdir())
        record = saved(store, image)
        assert json.loads(archive_for_load(store, record)["manifest.json"])[0]["RepoTags"] == [image.tag]
    assert is_intact(store)


def test_a_second_process_waits_and_then_gives_up(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stores, "LOCK_SECONDS", 0)
    with store.locked(), pytest.raises(RefusedError) as refused, Store(store.root).locked():
        pass
    assert refused.value.code == "LOCKED"


# Damage ---------------------------------------------------------------------------------------------------------------


def test_loading_names_a_damaged_blob_and_moves_it_aside(store: Store) -> None:
    record = saved(store, IMAGE)
    store.path(sha(BIG)).write_bytes(BIG[::-1])
    with pytest.raises(RefusedError, match=sha(BIG)) as refused:
        archive_for_load(store, record)
    assert refused.value.code == "IMAGE_BLOB_DAMAGED"
    assert store.missing(record) == [sha(BIG)]
    assert saved(store, IMAGE) == record
    assert is_intact(store)


def test_an_archive_with_a_damaged_blob_describes_no_image(store: Store) -> None:
    record = saved(store, IMAGE)
    store.path(sha(BIG)).write_bytes(BIG[::-1])
    output = io.BytesIO()
    with pytest.raises(RefusedError):
        write_archive(store, record, record.blobs, METER, output)
    assert b"manifest.json" not in output.getvalue()
    assert b"index.json" not in output.getvalue()


def test_a_check_names_damaged_blobs_and_moves_nothing(store: Store) -> None:
    record = saved(store, IMAGE)
    store.path(sha(BIG)).write_bytes(BIG[::-1])
    found = look(job(store, deep=True), SILENT)
    assert found
    assert found["damaged"] == [sha(BIG)]
    assert not store.missing(record)
    assert expel(job(store, digests=[sha(BIG), sha(b"base")]), SILENT) == {"expelled": [sha(BIG)]}
    assert store.missing(record) == [sha(BIG)]


def test_a_blob_of_another_size_is_missing(store: Store) -> None:
    record = saved(store, IMAGE)
    store.path(sha(BIG)).write_bytes(BIG[:-1])
    assert store.missing(record) == [sha(BIG)]


def test_invalid_records_are_named(store: Store) -> None:
    saved(store, IMAGE)
    (record,) = (store.root / "images").iterdir()
    for name, text in {"a.json": "{}", "b.json": "no", "vllm%3A2.json": record.read_text()}.items():
        (store.root / "images" / name).write_text(text)
    assert store.records()[1] == ["a.json", "b.json", "vllm%3A2.json"]
    with pytest.raises(RefusedError, match=r"a\.json"):
        prune(job(store), SILENT)


# Moving, pruning, listing ---------------------------------------------------------------------------------------------


def test_an_image_is_adopted_only_with_all_its_blobs(tmp_path: Path, store: Store) -> None:
    source = Store(tmp_path / "source")
    record = Record.from_json(json.loads(json.dumps(saved(source, IMAGE).to_json())))
    with pytest.raises(RefusedError) as refused:
        adopt(job(store, record=record.to_json()), SILENT)
    assert refused.value.code == "IMAGE_INCOMPLETE"
    assert not store.records()[0]
    for digest in record.blobs:
        shutil.copy(source.path(digest), store.path(digest))
    adopt(job(store, record=record.to_json()), SILENT)
    assert store.records() == source.records()


def test_a_prune_keeps_what_images_need(store: Store) -> None:
    old = saved(store, replace(IMAGE, layers=(*IMAGE.layers, b"old")))
    record = saved(store, IMAGE)
    assert prune(job(store), SILENT)["removed"] == len(old.blobs.keys() - record.blobs.keys())
    assert store.blobs() == record.blobs
    assert prune(job(store), SILENT) == {"removed": 0, "freed_bytes": 0}


def test_without_a_store_the_list_is_empty(store: Store) -> None:
    assert look(job(store, deep=False), SILENT) is None
    assert look(job(store, deep=True), SILENT) is None
    assert not store.root.exists()


@given(anything, st.data())
def test_any_record_is_refused_or_consistent(value: object, data: st.DataObject) -> None:
    document = json.loads(json.dumps(RECORD.to_json()))
    key = data.draw(st.sampled_from(sorted(document)))
    try:
        record = Record.from_json({**document, key: value})
    except ValueError:
        return
    assert {record.config, *record.layers} <= record.blobs.keys()
    assert all(digest.startswith("sha256:") and "/" not in digest for digest in record.blobs)


# Layers and names -----------------------------------------------------------------------------------------------------


def test_the_archive_omits_layers_that_the_engine_has(store: Store) -> None:
    record = saved(store, IMAGE)
    known = known_layers(record.contents.layers, [BASE.inspected])
    files = archive_for_load(store, record, known)
    assert known == 2
    # "base" is needed again above the known layers
    assert {name for name in files if files[name] in IMAGE.layers} == {blob_path(sha(b"base")), blob_path(sha(b"top"))}
    assert len(json.loads(files["manifest.json"])[0]["Layers"]) == 4


def test_layers_are_known_only_above_known_layers() -> None:
    layers = IMAGE.inspected.contents.layers
    assert known_layers(layers, []) == 0
    assert known_layers(layers, [Image("a:1", (BIG, b"base")).inspected]) == 0
    assert known_layers(layers, [Image("a:1", (b"base", b"else", b"base")).inspected, BASE.inspected]) == 2
    assert known_layers(layers, [IMAGE.inspected]) == 4


def test_images_are_equal_by_layers_architecture_and_config() -> None:
    contents = IMAGE.inspected.contents
    assert replace(IMAGE, tag="other:1").inspected.contents == contents
    assert replace(IMAGE, environment="A=2").inspected.contents != contents
    assert replace(IMAGE, layers=IMAGE.layers[:-1]).inspected.contents != contents
    assert replace(contents, architecture="amd64") != contents


@pytest.mark.parametrize(
    ("typed", "listed"),
    [
        ("vllm-node", "vllm-node:latest"),
        ("vllm-node:cu130", "vllm-node:cu130"),
        ("docker.io/library/busybox:1", "busybox:1"),
        ("index.docker.io/library/busybox:1", "busybox:1"),
        ("index.mycorp.com/a:1", "index.mycorp.com/a:1"),
        ("docker.io/vllm/vllm-openai", "vllm/vllm-openai:latest"),
        ("nvcr.io/nvidia/vllm:25.11-py3", "nvcr.io/nvidia/vllm:25.11-py3"),
        ("localhost:5000/a", "localhost:5000/a:latest"),
    ],
)
def test_a_tag_is_normalized_as_the_engine_lists_it(typed: str, listed: str) -> None:
    assert familiar(typed) == listed
    assert familiar(listed) == listed


@pytest.mark.parametrize("typed", ["", "-a", "a b", "a@sha256:00", "a;b", "$(a)", "/a"])
def test_an_invalid_tag_is_refused(typed: str) -> None:
    with pytest.raises(ValueError, match="no tag"):
        familiar(typed)


def test_containerd_gets_the_full_name_of_a_tag() -> None:
    assert full_name("busybox:1") == "docker.io/library/busybox:1"
    assert full_name("vllm/vllm:1") == "docker.io/vllm/vllm:1"
    assert full_name("nvcr.io/nvidia/vllm:1") == "nvcr.io/nvidia/vllm:1"


@pytest.mark.parametrize("size", [0, 5, 9 << 30])
def test_layers_of_any_size_fit_into_an_archive(size: int) -> None:
    head = header("blobs/sha256/layer", size)
    with tarfile.open(fileobj=io.BytesIO(head), mode="r|") as tar:
        member = tar.next()
    assert member
    assert (member.name, member.size) == ("blobs/sha256/layer", size)


def test_a_blob_that_became_shorter_is_damaged(store: Store) -> None:
    record = saved(store, IMAGE)
    store.path(sha(BIG)).write_bytes(BIG[:100])
    with pytest.raises(RefusedError) as refused:
        write_archive(store, record, record.blobs, METER, io.BytesIO())
    assert refused.value.code == "IMAGE_BLOB_DAMAGED"
