"""A Hugging Face cache as huggingface_hub 2 writes it: shared blobs, several revisions, unfinished downloads."""

from __future__ import annotations

import hashlib
import json
import os
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

MARKER = "blobs/.huggingface-shared-blobs"


@dataclass
class Hub:
    """Fills the folder hub/ of a cache. The content depends only on the names, so it is the same everywhere."""

    root: Path
    commits: dict[tuple[str, str], str] = field(default_factory=dict)

    def content(self, name: str, size: int) -> bytes:
        return random.Random(name).randbytes(size)  # noqa: S311 - no secret, and reproducible

    def classic(self, repository: str, revision: str, files: Mapping[str, int]) -> Path:
        """Add a revision whose blobs are files of the repository itself."""
        folder = self.folder(repository)
        for name, size in files.items():
            content = self.content(f"{repository} {revision if name == 'config.json' else ''} {name}", size)
            etag = hashlib.sha256(content).hexdigest()
            write(folder / "blobs" / etag, content)
            self.link(folder, revision, name, etag)
        self.finish(folder, revision, files)
        return folder

    def shared(self, repository: str, revision: str, files: Mapping[str, int], content_of: str = "") -> Path:
        """Add a revision whose blobs are links into the store of all repositories."""
        folder = self.folder(repository)
        write(self.root / MARKER, b"1\n")
        for name, size in files.items():
            content = self.content(f"{content_of or repository} {name}", size)
            etag = hashlib.sha256(content).hexdigest()
            stored = hashlib.sha256(b"xet" + content).hexdigest()  # a Xet hash is not the sha256 of the content
            write(self.root / "blobs" / stored[:2] / stored, content)
            blob = folder / "blobs" / etag
            blob.parent.mkdir(parents=True, exist_ok=True)
            if not blob.is_symlink():
                blob.symlink_to(f"../../blobs/{stored[:2]}/{stored}")
            refs = self.root / "blobs" / stored[:2] / f"{stored}.refs"
            line = f"{blob.relative_to(self.root)}\n"
            if not refs.exists() or line not in refs.read_text():
                with refs.open("a") as file:
                    file.write(line)
            (self.root / "blobs" / stored[:2] / f"{stored}.lock").touch()
            self.link(folder, revision, name, etag)
        self.finish(folder, revision, files)
        return folder

    def unfinished(self, repository: str, size: int) -> Path:
        """Add a repository with one small file and an unfinished download."""
        folder = self.folder(repository)
        etag = hashlib.sha256(repository.encode()).hexdigest()
        write(folder / "blobs" / f"{etag}.{'0' * 8}.incomplete", self.content(repository, size))
        write(self.root / ".locks" / folder.name / f"{etag}.lock", b"")
        self.classic(repository, "main", {"config.json": 600})
        return folder

    def folder(self, repository: str) -> Path:
        kind = "datasets" if repository.startswith("datasets/") else "models"
        return self.root / f"{kind}--{repository.removeprefix('datasets/').replace('/', '--')}"

    def commit(self, folder: Path, revision: str) -> str:
        return hashlib.sha1(f"{folder.name} {revision}".encode()).hexdigest()  # noqa: S324 - as in git

    def link(self, folder: Path, revision: str, name: str, etag: str) -> None:
        link = folder / "snapshots" / self.commit(folder, revision) / name
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.is_symlink():
            link.symlink_to(os.path.relpath(folder / "blobs" / etag, link.parent))

    def finish(self, folder: Path, revision: str, files: Mapping[str, int]) -> None:
        commit = self.commit(folder, revision)
        write(folder / "refs" / revision, commit.encode())
        listing = {name: {"size": size, "blob_id": "0" * 40} for name, size in files.items()}
        write(folder / "trees" / f"{commit}.json", json.dumps({"format_version": 1, "files": listing}).encode())
        write(folder / ".no_exist" / commit / "adapter_config.json", b"")


def write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def fill(root: Path, shard: int = 3 << 20) -> Hub:
    """Fill a folder with a hub that has every kind of repository. `shard` is the size of a large file in bytes."""
    hub = Hub(root)
    weights = {"config.json": 700, "tokenizer/vocab.txt": 90_000, "model-1.safetensors": shard}
    hub.classic("acme/classic", "main", weights)
    hub.classic("acme/classic", "v1.0", weights)
    hub.shared("acme/shared", "main", {**weights, "model-2.safetensors": 2 * shard})
    hub.shared("acme/quantized", "main", {"config.json": 650, "model-1.safetensors": shard}, content_of="acme/shared")
    hub.classic("datasets/acme/questions", "main", {"train.parquet": 200_000})
    hub.unfinished("acme/unfinished", 500_000)
    write(root / "CACHEDIR.TAG", b"Signature: 8a477f597d28d172789f06886806bc55\n")
    write(root / "version.txt", b"1\n")
    return hub
