"""List, check, complete and clean the store."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from gb10.programs.answer import RefusedError
from gb10.programs.images.contents import Json, Record
from gb10.programs.images.names import BLOBS
from gb10.programs.images.store import BUFFER_BYTES, Store
from gb10.programs.room import free_bytes


def listing(store: Store) -> Json | None:
    """Return what lies in the store, or None if there is no store."""
    if not (store.root / BLOBS).is_dir():
        return None
    records, strange = store.records()
    return {
        "images": [record.to_json() for record in records.values()],
        "blobs": store.blobs(),
        "strange": strange,
        "damaged": [],
        "set_aside_bytes": sum(path.stat().st_size for path in (store.root / "damaged").glob("*")),
        "free_bytes": free_bytes(store.root),
    }


def check(store: Store, digests: Iterable[str]) -> Json | None:
    """Return the listing after reading these blobs, or all of them: "damaged" names those that are."""
    found = listing(store)
    if found:
        found["damaged"] = damaged(store, digests or found["blobs"])
    return found


def damaged(store: Store, digests: Iterable[str]) -> list[str]:
    """Return which of these blobs are there and are not what their names say."""
    names = sorted(set(digests) & store.blobs().keys())
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = pool.map(lambda name: _read(store.path(name)), names)
        return [name for name, read in zip(names, found, strict=True) if read != name]


def expel(store: Store, digests: Iterable[str]) -> Json:
    """Put aside the damaged ones among these blobs."""
    with store.locked():
        found = damaged(store, digests)
        for digest in found:
            store.put_aside(digest)
    return {"expelled": found}


def _read(path: Path) -> str:
    found = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(BUFFER_BYTES):
            found.update(chunk)
    return f"sha256:{found.hexdigest()}"


def adopt(store: Store, record: Record) -> Json:
    """Add the record of an image whose blobs have come from another store."""
    with store.locked():
        store.write_record(record)
    return {"adopted": record.tag}


def prune(store: Store) -> Json:
    """Remove blobs that belong to no image, and what was put aside. Do not call it while another node sends blobs."""
    with store.locked():
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
