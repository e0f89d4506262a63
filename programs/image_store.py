"""Docker images in a store of blobs: saved, listed, checked, loaded. One blob lies there once, whoever shares it.

This file runs on the nodes, as text for their own python3: standard library only. Everything streams, in small
buffers. What it reports is one line of JSON, at last; what it refuses is `gb10: CODE: reason` on stderr, and status 1.
Meanwhile it says how far it is: `gb10-images: saved=1048576 of=300000000 seconds=1.5`.

    list STORE                    what lies there, and whether it is whole
    check STORE [DIGEST ...]      the same after reading these blobs, or all: "damaged" names the damaged ones
    expel STORE DIGEST ...        put aside those that are damaged
    save STORE TAG ...            from the engine; what is there is skipped
    adopt STORE RECORD            the record of an image whose blobs have come from another store
    load STORE TAG ...            into the engine; what it has is skipped
    prune STORE                   without blobs that no record names

With --inner before the command no result is printed, and a refusal is `gb10-refused: CODE: reason`: the caller may
know what to do about it.

In the store:

    blobs/sha256/HEX              layers, configurations and manifests, as the engine gave them
    images/TAG.json               the record of one tag: what it consists of; TAG is quoted as in a URL
    partial/ damaged/             what is being written, and what was found not to be what its name says

The contract: a blob has its final name only when it is whole and on the disk, and a record only when its blobs are.
So a kill at any time leaves a store that is intact, and the next `save` goes on with the blobs that are complete.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import io
import json
import os
import posixpath
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from itertools import takewhile
from pathlib import Path
from typing import IO, Any, NoReturn
from urllib.parse import quote

FORMAT = 1
BUFFER_BYTES = 1 << 17  # larger ones do not fit into the cache
SMALL_BYTES = 4 << 20  # configurations and manifests, kept in memory until it is known which are needed
MOST_SMALL_BYTES = 64 << 20
SPARE_BYTES = 256 << 20  # room that must stay free
LOCK_SECONDS = 20
PROGRESS_SECONDS = 2.0
HEX = re.compile(r"[0-9a-f]{64}")
BLOBS = "blobs/sha256"
DESCRIPTIONS = ("manifest.json", "index.json")  # of an archive
COMPRESSED = (b"\x1f\x8b", b"\x28\xb5\x2f\xfd")  # gzip, zstd
# What `docker run` takes from an image beside its layers. Engines show the rest of the configuration differently.
RUN_SETTINGS = (
    *("Cmd", "Entrypoint", "Env", "ExposedPorts", "Healthcheck", "Labels", "Shell"),
    *("StopSignal", "User", "Volumes", "WorkingDir"),
)

Json = dict[str, Any]


class RefusedError(Exception):
    """What cannot be done: a code of the catalogue, and what happened."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


# What an image is -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Contents:
    """What makes two images the same. Not the ID, which depends on the engine and changes between save and load."""

    architecture: str
    layers: tuple[str, ...]  # digests of the layers as uncompressed tars
    settings: str  # digest of what `docker run` takes from the image

    @classmethod
    def of(cls, image: Json, layers: Sequence[str], settings: Json | None) -> Contents:
        """Given an image as `docker inspect` or its configuration tells it, return what it is."""
        kept = {key: (settings or {}).get(key) for key in RUN_SETTINGS}
        text = json.dumps({key: value for key, value in kept.items() if value}, sort_keys=True)
        return cls(
            architecture=str(image.get("Architecture") or image.get("architecture") or ""),
            layers=tuple(layers),
            settings=hashlib.sha256(text.encode()).hexdigest(),
        )

    @classmethod
    def from_json(cls, document: Json) -> Contents:
        """Given the JSON of contents, return them."""
        return cls(str(document["architecture"]), tuple(document["layers"]), str(document["settings"]))


@dataclass(frozen=True)
class EngineImage:
    """An image in the engine."""

    id: str
    tags: tuple[str, ...]
    contents: Contents
    size_bytes: int
    digests: tuple[str, ...]  # as a registry knows them, "repository@sha256:..."; lost by save and load

    @classmethod
    def inspected(cls, image: Json) -> EngineImage:
        """Given what `docker image inspect` prints of one image, return it. Raise KeyError for anything else."""
        layers = (image.get("RootFS") or {}).get("Layers") or ()
        return cls(
            id=str(image["Id"]),
            tags=tuple(sorted(tag for tag in image.get("RepoTags") or () if "<none>" not in tag)),
            contents=Contents.of(image, layers, image.get("Config")),
            size_bytes=int(image.get("Size") or 0),
            digests=tuple(sorted({name for name in image.get("RepoDigests") or () if "<none>" not in name})),
        )

    def to_json(self) -> Json:
        return asdict(self)

    @classmethod
    def from_json(cls, document: Json) -> EngineImage:
        """Given what `to_json` returned, return the image."""
        return cls(
            id=document["id"],
            tags=tuple(document["tags"]),
            contents=Contents.from_json(document["contents"]),
            size_bytes=document["size_bytes"],
            digests=tuple(document["digests"]),
        )


@dataclass(frozen=True)
class Record:
    """What a tag in the store consists of."""

    tag: str
    contents: Contents
    size_bytes: int  # in the engine it came from
    digests: tuple[str, ...]
    config: str  # digest
    layers: tuple[str, ...]  # blobs, in the order of contents.layers: another digest where they are compressed
    manifests: tuple[Json, ...]  # OCI descriptors; none from an engine that writes the legacy layout
    blobs: dict[str, int]  # digest -> size in bytes, of everything above

    def layer_blobs(self) -> dict[str, str]:
        """Each layer, by the digest that images know it by, with the blob that holds it."""
        return dict(zip(self.contents.layers, self.layers, strict=True))

    def to_json(self) -> Json:
        return {"format": FORMAT, **asdict(self)}

    @classmethod
    def from_json(cls, document: Json) -> Record:
        """Given a record's JSON, return it. Raise ValueError for anything else."""
        try:
            record = cls(
                tag=str(document["tag"]),
                contents=Contents.from_json(document["contents"]),
                size_bytes=int(document["size_bytes"]),
                digests=tuple(document["digests"]),
                config=str(document["config"]),
                layers=tuple(document["layers"]),
                manifests=tuple(document["manifests"]),
                blobs={str(digest): int(size) for digest, size in document["blobs"].items()},
            )
            named = {record.config, *record.layers, *(str(entry["digest"]) for entry in record.manifests)}
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"no record of an image: {error!r}") from error
        consistent = named <= record.blobs.keys() and len(record.layers) == len(record.contents.layers)
        if document.get("format") != FORMAT or not consistent or not all(map(is_digest, record.blobs)):
            raise ValueError("a record that this version does not understand")
        return record


def is_digest(text: str) -> bool:
    """Tell whether a text is a sha256 digest as Docker writes it."""
    return text.startswith("sha256:") and HEX.fullmatch(text[7:]) is not None


def blob_path(digest: str) -> str:
    """Given a digest, return where its blob lies below the store."""
    return f"{BLOBS}/{digest.removeprefix('sha256:')}"


def familiar(tag: str) -> str:
    """Given a tag as people type it, return it as the engine lists it: "docker.io/library/a" is "a:latest".

    Raise ValueError for what is no tag.
    """
    if not re.fullmatch(r"[\w.:/-]+", tag) or tag.startswith(("-", "/")):
        raise ValueError(f"{tag!r} is no tag of an image")
    hub = "index.docker.io/" if tag.startswith("index.") else "docker.io/"
    name = tag.removeprefix(hub).removeprefix("library/")
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"


def full_name(tag: str) -> str:
    """Given a familiar tag, return it with registry and folder, as containerd knows it."""
    first, slash, _ = tag.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        return tag
    return f"docker.io/{tag}" if slash else f"docker.io/library/{tag}"


# The store ------------------------------------------------------------------------------------------------------------


class Store:
    """The folder with blobs and records."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._count = 0

    def create(self) -> None:
        """Have its folders."""
        self.root.mkdir(parents=True, exist_ok=True, mode=0o711)
        for name in (BLOBS, "images", "partial", "damaged"):
            (self.root / name).mkdir(parents=True, exist_ok=True)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep others out; without what somebody who was killed left half written."""
        self.create()
        with (self.root / ".lock").open("w") as lock:
            deadline = time.monotonic() + LOCK_SECONDS
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise RefusedError("LOCKED", f"another gb10 works in {self.root}") from None
                    time.sleep(0.2)
            for left in (self.root / "partial").iterdir():
                left.unlink()
            yield

    def path(self, digest: str) -> Path:
        return self.root / blob_path(digest)

    def has(self, digest: str, size: int) -> bool:
        """Tell whether a blob of this name and size is there."""
        try:
            return self.path(digest).stat().st_size == size
        except FileNotFoundError:
            return False

    def blobs(self) -> dict[str, int]:
        """Digest -> size in bytes of every blob, named in a record or not."""
        found = {}
        with os.scandir(self.root / BLOBS) as entries:
            for entry in entries:
                if HEX.fullmatch(entry.name) and entry.is_file():
                    found[f"sha256:{entry.name}"] = entry.stat().st_size
        return found

    def missing(self, record: Record) -> list[str]:
        """The blobs of an image that are not there, or not of their size."""
        return sorted(digest for digest, size in record.blobs.items() if not self.has(digest, size))

    def records(self) -> tuple[dict[str, Record], list[str]]:
        """The records by tag, and the names of files that are no records."""
        found, strange = {}, []
        for path in sorted((self.root / "images").glob("*.json")):
            try:
                record = Record.from_json(json.loads(path.read_text()))
                if path != self._record_path(record.tag):
                    raise ValueError("a record under the name of another")
                found[record.tag] = record
            except ValueError:
                strange.append(path.name)
        return found, strange

    def add(self, source: IO[bytes], size: int, digest: str | None = None) -> str:
        """Take a blob from a stream; return its digest. Raise RefusedError where it is not what it should be."""
        with self._partial() as partial:
            found = hashlib.sha256()
            with partial.open("xb") as file:
                for chunk in chunks(source, size):
                    found.update(chunk)
                    file.write(chunk)
                _sync(file)
            name = f"sha256:{found.hexdigest()}"
            if digest not in (None, name):
                raise RefusedError("IMAGE_SAVE_FAILED", f"the engine gave {name} where {digest} belongs")
            _rename(partial, self.path(name))
        return name

    def write_record(self, record: Record) -> None:
        """Make an image known, whose blobs are all there."""
        if missing := self.missing(record):
            raise RefusedError("IMAGE_INCOMPLETE", f"{record.tag}: the store lacks {', '.join(missing)}")
        with self._partial() as partial:
            with partial.open("x") as file:
                json.dump(record.to_json(), file, indent=1, sort_keys=True)
                _sync(file)
            _rename(partial, self._record_path(record.tag))

    def put_aside(self, digest: str) -> None:
        """Take a damaged blob away from its name, so that it is missing from now on."""
        _rename(self.path(digest), self.root / "damaged" / digest.removeprefix("sha256:"))

    def _record_path(self, tag: str) -> Path:
        name = quote(tag, safe="")
        if len(name) > 200:  # a file's name has an end
            name = f"{name[:120]}-{hashlib.sha256(tag.encode()).hexdigest()}"
        return self.root / "images" / f"{name}.json"

    @contextmanager
    def _partial(self) -> Iterator[Path]:
        self._count += 1
        partial = self.root / "partial" / f"{os.getpid()}-{self._count}"
        try:
            yield partial
        finally:
            partial.unlink(missing_ok=True)


def _sync(file: IO[Any]) -> None:
    file.flush()
    os.fsync(file.fileno())


def _rename(old: Path, new: Path) -> None:
    os.replace(old, new)
    folder = os.open(new.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def chunks(source: IO[bytes], size: int) -> Iterator[bytes]:
    """Yield so many bytes of a stream. Raise EOFError where it ends before."""
    while size:
        chunk = source.read(min(BUFFER_BYTES, size))
        if not chunk:
            raise EOFError("the stream ends within a file")
        size -= len(chunk)
        yield chunk


def check_room(folder: Path, needed: int) -> None:
    """Raise RefusedError where a folder has no room for so many bytes more."""
    free = shutil.disk_usage(folder).free
    if needed > 0 and free < needed + SPARE_BYTES:
        raise RefusedError("DISK_FULL", f"{folder} has {free / 1e9:.1f} GB free; {needed / 1e9:.1f} GB are needed")


class Meter:
    """Says now and then how far something is."""

    def __init__(self, verb: str, total: int) -> None:
        self._verb = verb
        self._total = total
        self._done = 0
        self._began = self._said = time.monotonic()

    def count(self, size: int) -> None:
        """So many bytes more are done."""
        self._done += size
        now = time.monotonic()
        if now - self._said >= PROGRESS_SECONDS:
            self._said = now
            seconds = f"{now - self._began:.1f}"
            try:
                print(f"gb10-images: {self._verb}={self._done} of={self._total} seconds={seconds}", flush=True)
            except BrokenPipeError:
                sys.exit("nobody waits for this any more")


class Metered(io.RawIOBase):
    """A stream that is read with a meter."""

    def __init__(self, stream: IO[bytes], meter: Meter) -> None:
        self._stream = stream
        self._meter = meter

    def read(self, size: int = -1) -> bytes:
        chunk = self._stream.read(size)
        self._meter.count(len(chunk))
        return chunk


# The engine -----------------------------------------------------------------------------------------------------------


class Engine:
    """The node's Docker engine."""

    def __init__(self) -> None:
        info = json.loads(self._docker("info", "--format", "{{json .}}") or "{}")
        if not info.get("ServerVersion"):
            raise RefusedError("DOCKER_STOPPED", "no Docker engine answers")
        self.root = Path(info.get("DockerRootDir") or "/var/lib/docker")
        # containerd's own image store wants archives whole
        self.takes_parts = "io.containerd.snapshotter" not in json.dumps(info.get("DriverStatus"))

    def images(self) -> list[EngineImage]:
        """Every image, those without a tag as well."""
        ids = sorted(set(self._docker("image", "ls", "--quiet", "--no-trunc").split()))
        lines: list[str] = []
        for start in range(0, len(ids), 100):
            inspect = ("image", "inspect", "--format", "{{json .}}", *ids[start : start + 100])
            lines += self._docker(*inspect).splitlines()
        return [EngineImage.inspected(json.loads(line)) for line in lines if line.startswith("{")]

    def tag(self, image: EngineImage, tag: str) -> None:
        """Give an image one more tag."""
        self._docker("image", "tag", image.id, tag)

    @contextmanager
    def save(self, tag: str) -> Iterator[IO[bytes]]:
        """The archive of an image. Raise RefusedError where the engine does not give all of it."""
        with tempfile.TemporaryFile() as said:
            process = subprocess.Popen(["docker", "image", "save", tag], stdout=subprocess.PIPE, stderr=said, bufsize=0)
            assert process.stdout  # noqa: S101 - for the type checker: it is a pipe
            try:
                yield process.stdout
                while process.stdout.read(BUFFER_BYTES):
                    pass  # padding
            except RefusedError:
                # An archive that ends too early is the engine's doing, and it knows better why.
                if process.stdout.read(1) or process.wait() == 0:
                    raise
            finally:
                process.stdout.close()  # an engine that still writes ends by that
                process.wait()
            if process.returncode != 0:
                raise RefusedError("IMAGE_SAVE_FAILED", f"docker save of {tag}: {_last_line(said)}")

    def load(self, write: Callable[[IO[bytes]], None]) -> None:
        """Give the engine the archive that `write` writes. Raise RefusedError where it does not take it."""
        command = ["docker", "image", "load", "--quiet"]
        with tempfile.TemporaryFile() as said:
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=said, stderr=said)
            assert process.stdin  # noqa: S101 - for the type checker: it is a pipe
            try:
                with suppress(BrokenPipeError):  # the engine says why
                    write(process.stdin)
                    process.stdin.close()
                status = process.wait()
            except BaseException:
                process.kill()  # before its input ends: half an archive must not look like a whole one
                raise
            finally:
                process.wait()
                with suppress(BrokenPipeError):
                    process.stdin.close()
            if status != 0:
                reason = _last_line(said)
                code = "DISK_FULL" if "no space left" in reason else "IMAGE_LOAD_FAILED"
                raise RefusedError(code, f"docker load: {reason}")

    @staticmethod
    def _docker(*arguments: str) -> str:
        result = subprocess.run(["docker", *arguments], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
        return result.stdout.decode()


def _last_line(file: IO[bytes]) -> str:
    file.seek(0)
    lines = file.read(BUFFER_BYTES).decode(errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")


# Saving ---------------------------------------------------------------------------------------------------------------


def save(store: Store, tags: Iterable[str], engine: Engine) -> Json:
    """Have tags of the engine in the store; return {"saved", "skipped", "written_bytes"}."""
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
                check_room(store.root, image.size_bytes - _stored(store, records.values(), image.contents))
                with engine.save(tag) as archive:
                    record = take(store, Metered(archive, Meter("saved", image.size_bytes)), tag, image)
            elif record.tag == tag:
                result["skipped"].append(tag)
                continue
            store.write_record(_renamed(record, tag, image))
            result["saved"].append(tag)
        result["written_bytes"] = sum(store.blobs().values()) - before
    return result


def _saved_as(store: Store, records: Iterable[Record], contents: Contents, tag: str) -> Record | None:
    """An image of these contents that is whole: under this tag, or another."""
    same = [record for record in records if record.contents == contents and not store.missing(record)]
    return min(same, key=lambda record: record.tag != tag, default=None)


def _stored(store: Store, records: Iterable[Record], contents: Contents) -> int:
    """How many bytes of an image's layers are there."""
    known = {layer: blob for record in records for layer, blob in record.layer_blobs().items()}
    blobs = store.blobs()
    return sum(blobs.get(known.get(layer, ""), 0) for layer in set(contents.layers))


def _renamed(record: Record, tag: str, image: EngineImage) -> Record:
    return Record(**{**vars(record), "tag": tag, "digests": image.digests, "size_bytes": image.size_bytes})


def take(store: Store, archive: IO[bytes] | Metered, tag: str, image: EngineImage) -> Record:
    """Given what `docker save` writes of one image, put what it consists of into the store; return its record.

    Both layouts: legacy (ID/layer.tar, known by manifest.json, which comes last) and OCI (blobs/sha256/HEX).
    """
    members = Members(store)
    try:
        with tarfile.open(fileobj=archive, mode="r|", bufsize=BUFFER_BYTES) as tar:
            for member in tar:
                members.take(tar, member)
        return members.record(tag, image)
    except (tarfile.TarError, EOFError, KeyError, ValueError, TypeError) as error:
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
        """Take the next file of the archive."""
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
        """Given all files, return the record of the image, with its small files in the store."""
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
        """A JSON file of the archive, wherever it is."""
        name = self._resolved(name)
        content = self._small.get(name) or self._store.path(self._digests[name][0]).read_bytes()
        document: Json = json.loads(content)
        return document

    def _manifests(self, config: str) -> tuple[list[Json], dict[str, int]]:
        """The descriptors of index.json that lead to a configuration, and every blob below them that is here."""
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
            return  # of a platform that this engine does not have
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
        """A layer that is not compressed must be the one that the configuration names."""
        for layer, blob in record.layer_blobs().items():
            if layer != blob:
                with self._store.path(blob).open("rb") as file:
                    if not file.read(4).startswith(COMPRESSED):
                        raise RefusedError("IMAGE_SAVE_FAILED", f"the engine gave {blob} where {layer} belongs")


# Loading --------------------------------------------------------------------------------------------------------------


def load(store: Store, tags: Iterable[str], engine: Engine) -> Json:
    """Have tags of the store in the engine; return {"loaded", "skipped", "read_bytes"}."""
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
                result["read_bytes"] += _load(store, record, engine, images)
            if not any(tag in image.tags and image.contents == record.contents for image in engine.images()):
                raise RefusedError("IMAGE_LOAD_FAILED", f"{tag} is not in the engine as the store has it")
            result["loaded"].append(tag)
    return result


def _load(store: Store, record: Record, engine: Engine, images: Iterable[EngineImage]) -> int:
    """Load an image without the layers that the engine has, or whole where it does not take that."""
    known = known_layers(record.contents.layers, images) if engine.takes_parts else 0
    for left_out in sorted({known, 0}, reverse=True):
        needed = needed_blobs(record, left_out)
        if missing := [digest for digest in needed if not store.has(digest, record.blobs[digest])]:
            raise RefusedError("IMAGE_INCOMPLETE", f"{record.tag}: {store.root} lacks {', '.join(sorted(missing))}")
        size = sum(needed.values())
        check_room(engine.root, 2 * size)  # the engine unpacks the archive, and then the layers
        try:
            engine.load(lambda pipe, needed=needed: write_archive(store, record, needed, pipe))  # type: ignore[misc] # the default binds the loop's variable
            return size
        except RefusedError as error:
            if error.code != "IMAGE_LOAD_FAILED" or not left_out:
                raise
    raise AssertionError("the last try returns or raises")


def known_layers(layers: Sequence[str], images: Iterable[EngineImage]) -> int:
    """Given an image's layers, return how many of them, from the lowest on, the engine has in this order.

    An engine keeps a layer together with those below it, so it needs none of these again.
    """
    return max((_common(layers, image.contents.layers) for image in images), default=0)


def _common(one: Sequence[str], other: Sequence[str]) -> int:
    pairs = zip(one, other)  # noqa: B905 - as far as both go
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def needed_blobs(record: Record, known: int) -> dict[str, int]:
    """Given how many of the lowest layers are known, return the blobs that an archive has to hold."""
    left_out = set(record.layers[:known]) - set(record.layers[known:])
    return {digest: size for digest, size in record.blobs.items() if digest not in left_out}


def write_archive(store: Store, record: Record, blobs: Mapping[str, int], output: IO[bytes]) -> None:
    """Write an image as `docker load` of every engine takes it. What names the blobs comes last: without it, nothing
    is loaded, so a blob that turns out to be damaged on the way does no harm.

    Raise RefusedError with IMAGE_BLOB_DAMAGED, the blob put aside, where one is not what its name says.
    """
    meter = Meter("loaded", sum(blobs.values()))
    for digest, size in blobs.items():
        output.write(_header(blob_path(digest), size))
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
        output.write(_header(name, len(content)) + content + _padding(len(content)))
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


def _header(name: str, size: int) -> bytes:
    member = tarfile.TarInfo(name)
    member.size = size
    return member.tobuf(tarfile.PAX_FORMAT)


def _padding(size: int) -> bytes:
    return bytes(-size % tarfile.BLOCKSIZE)


# Looking, adopting, pruning -------------------------------------------------------------------------------------------


def listing(store: Store) -> Json | None:
    """What lies in the store, or None where there is none."""
    if not (store.root / BLOBS).is_dir():
        return None
    records, strange = store.records()
    return {
        "images": [record.to_json() for record in records.values()],
        "blobs": store.blobs(),
        "strange": strange,
        "damaged": [],
        "set_aside_bytes": sum(path.stat().st_size for path in (store.root / "damaged").glob("*")),
        "free_bytes": shutil.disk_usage(store.root).free,
    }


def check(store: Store, digests: Iterable[str]) -> Json | None:
    """The listing, after reading blobs of the store, or all of them: "damaged" names those that are."""
    found = listing(store)
    if found:
        found["damaged"] = damaged(store, digests or found["blobs"])
    return found


def damaged(store: Store, digests: Iterable[str]) -> list[str]:
    """Which of these blobs are there and are not what their names say."""
    names = sorted(set(digests) & store.blobs().keys())
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = pool.map(lambda name: _read(store.path(name)), names)
        return [name for name, read in zip(names, found, strict=True) if read != name]


def expel(store: Store, digests: Iterable[str]) -> Json:
    """Put aside those of these blobs that are damaged."""
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
    """Make an image known whose blobs have come from another store."""
    with store.locked():
        store.write_record(record)
    return {"adopted": record.tag}


def prune(store: Store) -> Json:
    """Remove blobs that no record names, and what was put aside. Not while another node sends blobs."""
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


COMMANDS: dict[str, Callable[[Store, list[str]], Json | None]] = {
    "list": lambda store, _: listing(store),
    "check": check,
    "expel": expel,
    "save": lambda store, tags: save(store, tags, Engine()),
    "adopt": lambda store, records: adopt(store, Record.from_json(json.loads(records[0]))),
    "load": lambda store, tags: load(store, tags, Engine()),
    "prune": lambda store, _: prune(store),
}


def main(arguments: Sequence[str]) -> None:
    """Print what came of a command line, or why it is refused."""
    inner = arguments[0] == "--inner"
    try:
        command, root, *names = arguments[1:] if inner else arguments
        result = COMMANDS[command](Store(Path(root)), names)
        if not inner:
            print(json.dumps(result))
    except RefusedError as error:
        refuse(error.code, str(error), inner)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        refuse("DISK_FULL", f"no room left while writing below {root}: {error.strerror}", inner)


def refuse(code: str, message: str, inner: bool) -> NoReturn:
    """End with a code of the catalogue."""
    print(f"{'gb10-refused' if inner else 'gb10'}: {code}: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(1)


if __name__ == "__main__":
    main(sys.argv[1:])
