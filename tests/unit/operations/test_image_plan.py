"""What moves between two nodes so that one has the images of the other."""

from __future__ import annotations

from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from gb10.facts.reading.docker import SavedImage, SavedStore
from gb10.operations.copying.image_plan import Action, Side, engine_bytes, plan_images
from gb10.programs.images.contents import Contents, EngineImage, Record, blob_path

LAYER_BYTES = 1000
CONFIG_BYTES = 10


def layer(name: str) -> str:
    return f"sha256:{name:0>64}"


def contents(layers: str) -> Contents:
    return Contents("arm64", tuple(map(layer, layers)), "settings")


def image(tag: str, layers: str) -> EngineImage:
    return EngineImage(f"id of {layers}", (tag,), contents(layers), LAYER_BYTES * len(layers), ())


def record(tag: str, layers: str) -> Record:
    config = layer(f"c0{''.join(layers)}".encode().hex()[-60:])
    blobs = {**dict.fromkeys(map(layer, layers), LAYER_BYTES), config: CONFIG_BYTES}
    return Record(tag, contents(layers), LAYER_BYTES * len(layers), (), config, contents(layers).layers, (), blobs)


def store(images: dict[str, str], lost: Iterable[str] = ()) -> SavedStore:
    records = [record(tag, layers) for tag, layers in images.items()]
    there = {digest: size for saved in records for digest, size in saved.blobs.items() if digest not in lost}
    saved = tuple(SavedImage(r, tuple(sorted(r.blobs.keys() - there.keys())), ()) for r in records)
    return SavedStore(saved, there, (), 0, 10**12)


def side(engine: dict[str, str] | None = None, saved: dict[str, str] | None = None) -> Side:
    images = tuple(image(tag, layers) for tag, layers in (engine or {}).items())
    return Side(images, None if saved is None else store(saved))


def test_an_image_that_the_engine_has_is_left_alone() -> None:
    plan = plan_images(["a:1"], side({"a:1": "12"}), side({"a:1": "12"}))
    assert plan.of(Action.NOTHING) == ["a:1"]
    assert not plan.blobs
    assert not plan.to_load
    assert plan.at_most_bytes == 0


def test_an_engine_needs_space_for_the_layers_it_lacks() -> None:
    source = side({"a:1": "123", "b:1": "9"}, {"a:1": "123"})
    assert engine_bytes(["a:1"], source, side({})) == 3 * LAYER_BYTES
    assert engine_bytes(["a:1"], source, side({"old:1": "124"})) == LAYER_BYTES
    assert engine_bytes(["a:1", "b:1"], source, side({})) == 3 * LAYER_BYTES, "one is loaded after the other"
    assert engine_bytes(["b:1"], source, side({})) == LAYER_BYTES, "as the engine says, where nothing is saved"
    assert engine_bytes(["none:1"], source, side({})) == engine_bytes([], source, side({})) == 0


def test_another_image_under_the_same_tag_is_replaced() -> None:
    plan = plan_images(["a:1"], side({"a:1": "13"}), side({"a:1": "12"}))
    assert plan.of(Action.MOVE) == plan.to_save == ["a:1"]


def test_an_image_of_the_own_store_is_only_loaded() -> None:
    plan = plan_images(["a:1"], side({"a:1": "12"}), side(saved={"a:1": "12"}))
    assert plan.of(Action.LOAD) == plan.to_load == ["a:1"]
    assert not plan.to_save
    assert not plan.paths


def test_only_blobs_that_the_target_lacks_are_moved() -> None:
    source = side({"a:2": "123"}, {"a:2": "123"})
    plan = plan_images(["a:2"], source, side({"a:1": "12"}, {"a:1": "12"}))
    assert blob_path(layer("3")) in plan.paths
    assert len(plan.paths) == 2
    assert plan.at_most_bytes == LAYER_BYTES + CONFIG_BYTES
    assert not plan.to_save


def test_blobs_that_two_images_share_are_moved_once() -> None:
    images = {"a:1": "12", "a:2": "123"}
    plan = plan_images(["a:1", "a:2", "a:1"], side(images, images), side())
    assert plan.at_most_bytes == 3 * LAYER_BYTES + 2 * CONFIG_BYTES
    assert [tag.tag for tag in plan.tags] == ["a:1", "a:2"]


def test_the_size_of_an_unsaved_image_is_estimated() -> None:
    plan = plan_images(["a:2"], side({"a:2": "123"}, {"a:1": "12"}), side(saved={"a:1": "1"}))
    assert plan.to_save == ["a:2"]
    assert plan.at_most_bytes == 2 * LAYER_BYTES


def test_a_store_that_is_older_than_the_engine_is_saved_anew() -> None:
    plan = plan_images(["a:1"], side({"a:1": "13"}, {"a:1": "12"}), side(saved={"a:1": "12"}))
    assert plan.to_save == ["a:1"]
    assert plan.at_most_bytes == LAYER_BYTES


def test_an_image_that_only_the_store_has_comes_from_it() -> None:
    plan = plan_images(["a:1"], side(saved={"a:1": "12"}), side())
    assert plan.of(Action.MOVE) == ["a:1"]
    assert not plan.to_save


def test_an_incomplete_image_of_a_store_counts_as_absent() -> None:
    broken = Side((), store({"a:1": "12"}, lost=[layer("1")]))
    assert plan_images(["a:1"], broken, side()).of(Action.ABSENT) == ["a:1"]
    assert plan_images(["a:1"], broken, broken).of(Action.ABSENT) == ["a:1"]


def test_a_damaged_blob_is_moved_again() -> None:
    source = side({"a:1": "12"}, {"a:1": "12"})
    target = Side((), store({"a:1": "12"}, lost=[layer("1")]))
    assert plan_images(["a:1"], source, target).paths == [blob_path(layer("1"))]


def test_without_a_source_any_image_of_the_tag_will_do() -> None:
    for node, action in (
        (side({"a:1": "12"}, {"a:1": "13"}), Action.NOTHING),
        (side({}, {"a:1": "13"}), Action.LOAD),
        (side({}, {"a:2": "13"}), Action.ABSENT),
    ):
        assert plan_images(["a:1"], node, node).of(action) == ["a:1"]


nodes = st.dictionaries(st.sampled_from(["a:1", "a:2", "b:1"]), st.text("123456", min_size=1, max_size=4), max_size=3)


@given(nodes, nodes, nodes, nodes)
def test_after_a_plan_nothing_is_left_to_do(
    engine: dict[str, str], saved: dict[str, str], target_engine: dict[str, str], target_saved: dict[str, str]
) -> None:
    source, target = side(engine, saved), side(target_engine, target_saved)
    plan = plan_images([*engine, *saved], source, target)
    assert not plan.of(Action.ABSENT)
    source_after = side(engine, {**saved, **{tag: engine[tag] for tag in plan.to_save}})
    moved = plan_images(plan.of(Action.MOVE), source_after, target)
    assert not moved.to_save
    assert sum(moved.blobs.values()) <= plan.at_most_bytes + CONFIG_BYTES * len(plan.to_save)
    wanted = {**saved, **engine}
    moved_tags = {tag: wanted[tag] for tag in plan.of(Action.MOVE)}
    target_after = side({**target_engine, **wanted}, {**target_saved, **moved_tags})
    assert set(plan_images(wanted, source_after, target_after).of(Action.NOTHING)) == set(wanted)
    assert not moved.blobs.keys() & target.blobs.keys()
