"""The archives of images: reads those of `docker save` and writes those for `docker load`."""

from __future__ import annotations

import hashlib
import io
import json
import posixpath
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import IO

from gb10.programs.answer import RefusedError
from gb10.programs.images.contents import BLOBS, HEX, Contents, EngineImage, Json, Record, blob_path, full_name
from gb10.programs.images.engine import Metered
from gb10.programs.images.store import BUFFER_BYTES, Store, chunks
from gb10.programs.meter import Meter

SMALL_BYTES = 4 << 20  # configurations and manifests: in memory until it is known which are needed
MOST_SMALL_BYTES = 64 << 20
DESCRIPTIONS = ("manifest.json", "index.json")
COMPRESSED = (b"\x1f\x8b", b"\x28\xb5\x2f\xfd")  # gzip, zstd


def take(store: Store, archive: IO[bytes] | Metered, tag: str, image: EngineImage) -> Record:
    """Read the archive of one image into the store; return its record.

    It has the legacy layout (ID/layer.tar, listed in manifest.json, which comes last) or OCI's (blobs/sha256/HEX).
    """
    members = Members(store)
    try:
        with tarfile.open(fileobj=archive, mode="r|", bufsize=BUFFER_BYTES) as tar:
            for member in tar:
                members.take(tar, member)
        return members.record(tag, image)
    except (tarfile.TarError, EOFError, KeyError, ValueError, TypeError, RecursionError) as error:
        raise RefusedError("IMAGE_SAVE_FAILED", f"docker save of {tag} is not understood: {error!r}") from error


class Members:
    """The files of one archive: the small ones in memory, the large ones in the store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._small: dict[str, bytes] = {}
        self._small_bytes = 0
        self._digests: dict[str, tuple[str, int]] = {}  # name -> digest and size
        self._links: dict[str, str] = {}

    def take(self, tar: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        """Read the next file of the archive."""
        name = posixpath.normpath(member.name)
        if member.issym():  # a layer that occurs twice, in the legacy layout
            self._links[name] = posixpath.normpath(posixpath.join(posixpath.dirname(name), member.linkname))
        elif member.islnk():
            self._links[name] = posixpath.normpath(member.linkname)
        file = tar.extractfile(member) if member.isreg() else None
        if file is None:
            return
        folder, base = posixpath.split(name)
        digest = f"sha256:{base}" if folder == BLOBS and HEX.fullmatch(base) else None
        fits = member.size <= SMALL_BYTES and self._small_bytes + member.size <= MOST_SMALL_BYTES
        if fits or name in DESCRIPTIONS:
            content = b"".join(chunks(file, member.size))
            found = f"sha256:{hashlib.sha256(content).hexdigest()}"
            if digest not in (None, found):
                raise RefusedError("IMAGE_SAVE_FAILED", f"the engine gave {found} where {digest} belongs")
            self._small[name] = content
            self._small_bytes += member.size
            self._digests[name] = (found, member.size)
        elif digest and self._store.has(digest, member.size):
            self._digests[name] = (digest, member.size)
        else:
            self._digests[name] = (self._store.add(file, member.size, digest), member.size)

    def record(self, tag: str, image: EngineImage) -> Record:
        """Put the small files of the image into the store; return its record."""
        for entry in json.loads(self._small["manifest.json"]):
            config = self._document(entry["Config"])
            diff_ids = config["rootfs"]["diff_ids"] or ()
            contents = Contents.of(config, diff_ids, config.get("config"))
            layers = [self._blob(name) for name in entry["Layers"] or ()]
            if contents.layers == image.contents.layers and len(layers) == len(contents.layers):
                break
        else:
            raise RefusedError("IMAGE_SAVE_FAILED", f"docker save of {tag} holds another image")
        config_blob = self._blob(entry["Config"])
        manifests, below = self._manifests(config_blob[0])
        record = Record(
            tag=tag,
            contents=contents,
            size_bytes=image.size_bytes,
            digests=image.digests,
            config=config_blob[0],
            layers=tuple(digest for digest, _ in layers),
            manifests=tuple(manifests),
            blobs=dict(sorted({**dict([config_blob, *layers]), **below}.items())),
        )
        self._put_small(record.blobs)
        self._check_layers(record)
        return record

    def _resolved(self, name: str) -> str:
        name = posixpath.normpath(name)
        return self._links.get(name, name)

    def _blob(self, name: str) -> tuple[str, int]:
        return self._digests[self._resolved(name)]

    def _document(self, name: str) -> Json:
        """Return a JSON file of the archive, from memory or from the store."""
        name = self._resolved(name)
        content = self._small.get(name) or self._store.path(self._digests[name][0]).read_bytes()
        document: Json = json.loads(content)
        return document

    def _manifests(self, config: str) -> tuple[list[Json], dict[str, int]]:
        """Return the descriptors in index.json that lead to a configuration, and all their blobs that are here."""
        if "index.json" not in self._small:
            return [], {}
        roots: dict[str, Json] = {}
        below: dict[str, int] = {}
        for entry in json.loads(self._small["index.json"])["manifests"]:
            descriptor = {key: value for key, value in entry.items() if key != "annotations"}
            reached = dict(self._reached(descriptor))
            if config in reached:
                roots[descriptor["digest"]] = descriptor
                below.update(reached)
        return list(roots.values()), below

    def _reached(self, descriptor: Json) -> Iterator[tuple[str, int]]:
        name = blob_path(descriptor["digest"])
        if name not in self._digests:
            return  # of another platform
        yield self._digests[name]
        if any(kind in descriptor["mediaType"] for kind in (".manifest.", ".index.")):
            document = self._document(name)
            config = document.get("config")
            for child in (*document.get("manifests", ()), *document.get("layers", ()), *([config] if config else ())):
                yield from self._reached(child)

    def _put_small(self, blobs: Mapping[str, int]) -> None:
        for name, content in self._small.items():
            digest, size = self._digests[name]
            if digest in blobs and not self._store.has(digest, size):
                self._store.add(io.BytesIO(content), size, digest)

    def _check_layers(self, record: Record) -> None:
        """Raise RefusedError if a layer has another digest than in the configuration and is not compressed."""
        for layer, blob in record.layer_blobs().items():
            if layer != blob:
                with self._store.path(blob).open("rb") as file:
                    if not file.read(4).startswith(COMPRESSED):
                        raise RefusedError("IMAGE_SAVE_FAILED", f"the engine gave {blob} where {layer} belongs")


def write_archive(store: Store, record: Record, blobs: Mapping[str, int], meter: Meter, output: IO[bytes]) -> None:
    """Write an archive of an image for `docker load`, in both layouts.

    If a blob turns out to be damaged, put it aside and raise RefusedError: nothing is loaded then, since the files that
    name the blobs come last.
    """
    for digest, size in blobs.items():
        output.write(header(blob_path(digest), size))
        found = hashlib.sha256()
        with store.path(digest).open("rb", buffering=0) as file, suppress(EOFError):
            for chunk in chunks(file, size):
                found.update(chunk)
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
    """Return the tar header of a file."""
    member = tarfile.TarInfo(name)
    member.size = size
    return member.tobuf(tarfile.PAX_FORMAT)


def _padding(size: int) -> bytes:
    return bytes(-size % tarfile.BLOCKSIZE)
