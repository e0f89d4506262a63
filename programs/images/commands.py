"""The functions of the image store that are run on a node.

Each job has "root", its path. Everything streams, in small buffers. `save` and `load` report how far they are.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gb10.programs.answer import Outlet, RefusedError
from gb10.programs.images import keeping, loading, saving
from gb10.programs.images.contents import Json, Record
from gb10.programs.images.engine import Engine
from gb10.programs.images.store import Store


@contextmanager
def opened(job: dict[str, Any]) -> Iterator[Store]:
    """Open the store of a job. Raise RefusedError if writing into it fails for lack of space."""
    try:
        yield Store(Path(job["root"]))
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        text = f"no room left while writing below {job['root']}: {error.strerror}"
        raise RefusedError("DISK_FULL", text) from error


def look(job: dict[str, Any], outlet: Outlet) -> Json | None:
    """Return what lies in the store, or None if there is no store.

    With job["deep"] after reading all of it: "damaged" names the blobs that are not what their names say.
    """
    with opened(job) as store:
        return keeping.check(store, []) if job["deep"] else keeping.listing(store)


def expel(job: dict[str, Any], outlet: Outlet) -> Json:
    """Put aside the damaged ones among the blobs job["digests"]."""
    with opened(job) as store:
        return keeping.expel(store, job["digests"])


def save(job: dict[str, Any], outlet: Outlet) -> Json:
    """Save job["tags"] from the engine; skip those that are saved."""
    with opened(job) as store:
        return saving.save(store, job["tags"], Engine(), outlet)


def adopt(job: dict[str, Any], outlet: Outlet) -> Json:
    """Add the record of an image whose blobs have come from another store."""
    with opened(job) as store:
        return keeping.adopt(store, Record.from_json(job["record"]))


def load(job: dict[str, Any], outlet: Outlet) -> Json:
    """Load job["tags"] into the engine; skip those that it has."""
    with opened(job) as store:
        return loading.load(store, job["tags"], Engine(), outlet)


def prune(job: dict[str, Any], outlet: Outlet) -> Json:
    """Remove blobs that belong to no image."""
    with opened(job) as store:
        return keeping.prune(store)
