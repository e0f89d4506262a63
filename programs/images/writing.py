"""The archive that `docker load` reads."""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections.abc import Mapping
from contextlib import suppress
from typing import IO

from gb10.programs.answer import RefusedError
from gb10.programs.images.contents import Record
from gb10.programs.images.meter import Meter
from gb10.programs.images.names import blob_path, full_name
from gb10.programs.images.store import Store, chunks


def write_archive(
    store: Store, record: Record, blobs: Mapping[str, int], meter: Meter | None, output: IO[bytes]
) -> None:
    """Write an image as `docker load` of every engine takes it.

    What names the blobs comes last: without it, nothing is loaded, so a blob that turns out to be damaged on the way
    does no harm. Raise RefusedError with IMAGE_BLOB_DAMAGED, the blob put aside, if one is not what its name says.
    """
    for digest, size in blobs.items():
        output.write(header(blob_path(digest), size))
        found = hashlib.sha256()
        with store.path(digest).open("rb", buffering=0) as file, suppress(EOFError):
            for chunk in chunks(file, size):
                found.update(chunk)
                if meter:
                    meter.count(len(chunk))
                output.write(chunk)
        if f"sha256:{found.hexdigest()}" != digest:
            store.put_aside(digest)
            raise RefusedError("IMAGE_BLOB_DAMAGED", f"{record.tag}: {digest} is damaged; it was put aside")
        output.write(_padding(size))
    for name, document in _descriptions(record).items():
        content = json.dumps(document).encode()
        output.write(header(name, len(content)) + content + _padding(len(content)))
    output.write(bytes(2 * tarfile.BLOCKSIZE))


def _descriptions(record: Record) -> dict[str, object]:
    names: dict[str, object] = {}
    if record.manifests:  # containerd's store then keeps the digest
        annotations = {
            "io.containerd.image.name": full_name(record.tag),
            "org.opencontainers.image.ref.name": record.tag.rpartition(":")[2],
        }
        roots = [{**descriptor, "annotations": annotations} for descriptor in record.manifests]
        names["oci-layout"] = {"imageLayoutVersion": "1.0.0"}
        names["index.json"] = {"schemaVersion": 2, "manifests": roots}
    entry = {"Config": blob_path(record.config), "RepoTags": [record.tag], "Layers": [*map(blob_path, record.layers)]}
    names["manifest.json"] = [entry]
    return names


def header(name: str, size: int) -> bytes:
    """Return what comes before a file of an archive."""
    member = tarfile.TarInfo(name)
    member.size = size
    return member.tobuf(tarfile.PAX_FORMAT)


def _padding(size: int) -> bytes:
    return bytes(-size % tarfile.BLOCKSIZE)
