"""The commands of the image store that run on a node.

Each job has "root", the path of the store. Everything streams in small buffers. `save` and `load` report progress.
"""

from __future__ import annotations

import errno
import functools
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from gb10.programs.answer import Outlet, RefusedError
from gb10.programs.files import free_bytes
from gb10.programs.images.archives import take, write_archive
from gb10.programs.images.contents import Contents, EngineImage, Json, Record, known_layers, needed_blobs
from gb10.programs.images.engine import Engine, Metered
from gb10.programs.images.store import Store, check_room
from gb10.programs.meter import Meter


@contextmanager
def opened(job: dict[str, Any]) -> Iterator[Store]:
    """Open the store of a job. Raise RefusedError if it cannot be written for lack of space."""
    try:
        yield Store(Path(job["root"]))
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        text = f"no room left while writing below {job['root']}: {error.strerror}"
        raise RefusedError("DISK_FULL", text) from error


def look(job: dict[str, Any], outlet: Outlet) -> Json | None:
    """Return the listing of the store, or None if there is no store.

    With job["deep"], read all blobs to check them; with job["remembered"], those that changed since they were read.
    """
    with opened(job) as store:
        found = store.listing()
        if found and job.get("remembered"):
            found["damaged"] = store.changed(outlet)
        elif found and job["deep"]:
            found["damaged"] = store.damaged(found["blobs"])
        return found


def expel(job: dict[str, Any], outlet: Outlet) -> Json:
    """Put aside the damaged ones among the blobs job["digests"]."""
    with opened(job) as store, store.locked():
        found = store.damaged(job["digests"])
        for digest in found:
            store.put_aside(digest)
    return {"expelled": found}


def adopt(job: dict[str, Any], outlet: Outlet) -> Json:
    """Add job["record"]: an image whose blobs have come from another store."""
    record = Record.from_json(job["record"])
    with opened(job) as store, store.locked():
        store.write_record(record)
    return {"adopted": record.tag}


def prune(job: dict[str, Any], outlet: Outlet) -> Json:
    """Remove blobs that belong to no image, and damaged ones. Do not call it while another node sends blobs."""
    with opened(job) as store, store.locked():
        records, strange = store.records()
        if strange:
            raise RefusedError("STORE_BROKEN", f"{store.root}/images holds what is no record: {', '.join(strange)}")
        needed = {digest for record in records.values() for digest in record.blobs}
        surplus = [store.path(digest) for digest in store.blobs() if digest not in needed]
        surplus += (store.root / "damaged").iterdir()
        freed = sum(path.stat().st_size for path in surplus)
        for path in surplus:
            path.unlink()
    return {"removed": len(surplus), "freed_bytes": freed}


def save(job: dict[str, Any], outlet: Outlet) -> Json:
    """Save job["tags"] from the engine; skip those that are saved. Return {"saved", "skipped", "written_bytes"}."""
    result: Json = {"saved": [], "skipped": [], "written_bytes": 0}
    engine, wanted = Engine(), list(dict.fromkeys(job["tags"]))
    by_tag = {tag: image for image in engine.images() for tag in image.tags}
    if absent := [tag for tag in wanted if tag not in by_tag]:
        raise RefusedError("IMAGE_MISSING", f"the engine has no {', '.join(absent)}")
    with opened(job) as store, store.locked():
        before = sum(store.blobs().values())
        for tag in wanted:
            image, records = by_tag[tag], store.records()[0].values()
            same = [one for one in records if one.contents == image.contents and not store.missing(one)]
            if any(record.tag == tag for record in same):
                result["skipped"].append(tag)
                continue
            record = same[0] if same else _save(store, records, engine, tag, image, outlet)
            store.write_record(replace(record, tag=tag, digests=image.digests, size_bytes=image.size_bytes))
            result["saved"].append(tag)
        result["written_bytes"] = sum(store.blobs().values()) - before
    return result


def _save(
    store: Store, records: Iterable[Record], engine: Engine, tag: str, image: EngineImage, outlet: Outlet
) -> Record:
    needed = image.size_bytes - _stored_bytes(store, records, image.contents)
    check_room(store.root, free_bytes(store.root), needed)
    with engine.save(tag) as archive:
        return take(store, Metered(archive, Meter(outlet, "saved", image.size_bytes)), tag, image)


def _stored_bytes(store: Store, records: Iterable[Record], contents: Contents) -> int:
    """Return how many bytes of an image's layers are in the store."""
    known = {layer: blob for record in records for layer, blob in record.layer_blobs().items()}
    blobs = store.blobs()
    return sum(blobs.get(known.get(layer, ""), 0) for layer in set(contents.layers))


def load(job: dict[str, Any], outlet: Outlet) -> Json:
    """Load job["tags"] into the engine; skip those that it has. Return {"loaded", "skipped", "read_bytes"}."""
    result: Json = {"loaded": [], "skipped": [], "read_bytes": 0}
    engine, wanted = Engine(), list(dict.fromkeys(job["tags"]))
    with opened(job) as store, store.locked():
        records = store.records()[0]
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
    """Load an image without the layers that the engine has, or whole if the engine does not accept that."""
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
