"""Images saved from the engine into the store."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from gb10.programs.answer import Outlet, RefusedError
from gb10.programs.images.contents import Contents, Json, Record
from gb10.programs.images.engine import Engine
from gb10.programs.images.meter import Meter, Metered
from gb10.programs.images.reading import take
from gb10.programs.images.room import check_room
from gb10.programs.images.store import Store
from gb10.programs.room import free_bytes


def save(store: Store, tags: Iterable[str], engine: Engine, outlet: Outlet) -> Json:
    """Save tags of the engine; return {"saved", "skipped", "written_bytes"}."""
    by_tag = {tag: image for image in engine.images() for tag in image.tags}
    wanted = list(dict.fromkeys(tags))
    if absent := [tag for tag in wanted if tag not in by_tag]:
        raise RefusedError("IMAGE_MISSING", f"the engine has no {', '.join(absent)}")
    result: Json = {"saved": [], "skipped": [], "written_bytes": 0}
    with store.locked():
        before = sum(store.blobs().values())
        for tag in wanted:
            image, records = by_tag[tag], store.records()[0]
            record = _saved_as(store, records.values(), image.contents, tag)
            if record is None:
                needed = image.size_bytes - _stored(store, records.values(), image.contents)
                check_room(store.root, free_bytes(store.root), needed)
                with engine.save(tag) as archive:
                    meter = Meter(outlet, "saved", image.size_bytes)
                    record = take(store, Metered(archive, meter), tag, image)
            elif record.tag == tag:
                result["skipped"].append(tag)
                continue
            store.write_record(replace(record, tag=tag, digests=image.digests, size_bytes=image.size_bytes))
            result["saved"].append(tag)
        result["written_bytes"] = sum(store.blobs().values()) - before
    return result


def _saved_as(store: Store, records: Iterable[Record], contents: Contents, tag: str) -> Record | None:
    """Return an image of these contents that is whole: under this tag, or another."""
    same = [record for record in records if record.contents == contents and not store.missing(record)]
    return min(same, key=lambda record: record.tag != tag, default=None)


def _stored(store: Store, records: Iterable[Record], contents: Contents) -> int:
    """Return how many bytes of an image's layers are there."""
    known = {layer: blob for record in records for layer, blob in record.layer_blobs().items()}
    blobs = store.blobs()
    return sum(blobs.get(known.get(layer, ""), 0) for layer in set(contents.layers))
