"""Images loaded from the store into the engine."""

from __future__ import annotations

import functools
from collections.abc import Iterable

from gb10.programs.answer import Outlet, RefusedError
from gb10.programs.images.contents import EngineImage, Json, Record, known_layers, needed_blobs
from gb10.programs.images.engine import Engine
from gb10.programs.images.meter import Meter
from gb10.programs.images.room import check_room
from gb10.programs.images.store import Store
from gb10.programs.images.writing import write_archive
from gb10.programs.room import free_bytes


def load(store: Store, tags: Iterable[str], engine: Engine, outlet: Outlet) -> Json:
    """Load tags of the store; return {"loaded", "skipped", "read_bytes"}."""
    result: Json = {"loaded": [], "skipped": [], "read_bytes": 0}
    with store.locked():
        records = store.records()[0]
        wanted = list(dict.fromkeys(tags))
        if absent := [tag for tag in wanted if tag not in records]:
            raise RefusedError("IMAGE_MISSING", f"{store.root} holds no {', '.join(absent)}")
        for tag in wanted:
            images, record = engine.images(), records[tag]
            same = [image for image in images if image.contents == record.contents]
            if any(tag in image.tags for image in same):
                result["skipped"].append(tag)
                continue
            if same:
                engine.tag(same[0], tag)
            else:
                result["read_bytes"] += _load(store, record, engine, images, outlet)
            if not any(tag in image.tags and image.contents == record.contents for image in engine.images()):
                raise RefusedError("IMAGE_LOAD_FAILED", f"{tag} is not in the engine as the store has it")
            result["loaded"].append(tag)
    return result


def _load(store: Store, record: Record, engine: Engine, images: Iterable[EngineImage], outlet: Outlet) -> int:
    """Load an image without the layers that the engine has, or whole if it does not take that."""
    known = known_layers(record.contents.layers, images) if engine.takes_parts else 0
    for left_out in sorted({known, 0}, reverse=True):
        needed = needed_blobs(record, left_out)
        if missing := [digest for digest in needed if not store.has(digest, record.blobs[digest])]:
            raise RefusedError("IMAGE_INCOMPLETE", f"{record.tag}: {store.root} lacks {', '.join(sorted(missing))}")
        size = sum(needed.values())
        # the engine unpacks the archive, and then the layers
        check_room(engine.root, free_bytes(engine.root), 2 * size)
        try:
            engine.load(functools.partial(write_archive, store, record, needed, Meter(outlet, "loaded", size)))
            return size
        except RefusedError as error:
            if error.code != "IMAGE_LOAD_FAILED" or not left_out:
                raise
    raise AssertionError("the last try returns or raises")
