"""The lab's chart repository: small charts with NVIDIA's names, packaged without helm, and archives that users add."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import tarfile
from pathlib import Path
from typing import Any

import yaml

from gb10.lab.paths import package_folder

# The versions that group_data pins, older ones, and one that does not support GB10.
VERSIONS = {
    "gpu-operator": ("v26.7.0", "v26.3.3", "v25.3.4"),
    "network-operator": ("26.4.1", "26.1.1"),
}
SUBCHART = "node-feature-discovery"
LONG_AGO = "1980-01-01T00:00:00Z"


def build_charts(folder: Path) -> None:
    """Write the charts into a folder, and an index.yaml of all archives there.

    Equal sources give equal bytes. An archive from elsewhere with the name of one of our charts is kept: put NVIDIA's
    own charts there, and the lab installs them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for chart, versions in VERSIONS.items():
        for version in versions:
            archive = folder / f"{chart}-{version}.tgz"
            if not archive.exists() or _is_ours(archive):
                _write(archive, package_chart(chart, version))
    _write(folder / "index.yaml", yaml.safe_dump(index(folder)).encode())


def package_chart(chart: str, version: str) -> bytes:
    """Return the archive of one of our charts, with this version."""
    source = package_folder() / "charts"
    files = {f"{chart}/{name}": content for name, content in _files(source / chart).items()}
    below = f"{chart}/charts/{SUBCHART}"
    files |= {f"{below}/{name}": content for name, content in _files(source / SUBCHART).items()}
    description = yaml.safe_load(files[f"{chart}/Chart.yaml"]) | {"version": version, "appVersion": version}
    files[f"{chart}/Chart.yaml"] = yaml.safe_dump(description).encode()
    return _archived(files)


def index(folder: Path) -> dict[str, Any]:
    """Return the content of index.yaml for a folder of charts, as helm writes it."""
    entries: dict[str, list[dict[str, Any]]] = {}
    for archive in sorted(folder.glob("*.tgz")):
        digest = hashlib.sha256(archive.read_bytes()).hexdigest()
        entry = {**_description(archive), "created": LONG_AGO, "digest": digest, "urls": [archive.name]}
        entries.setdefault(entry["name"], []).append(entry)
    return {"apiVersion": "v1", "entries": entries, "generated": LONG_AGO}


def _files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _archived(files: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=packed, mode="wb", mtime=0) as compressed,
        tarfile.open(fileobj=compressed, mode="w") as tar,
    ):
        for name, content in sorted(files.items()):
            entry = tarfile.TarInfo(name)
            entry.mode, entry.size = 0o644, len(content)
            tar.addfile(entry, io.BytesIO(content))
    return packed.getvalue()


def _description(archive: Path) -> dict[str, Any]:
    """Read the Chart.yaml in the top folder of an archive."""
    with tarfile.open(archive) as tar:
        member = next(entry for entry in tar if entry.name.count("/") == 1 and entry.name.endswith("/Chart.yaml"))
        content = tar.extractfile(member)
        described: dict[str, Any] = yaml.safe_load(content or b"")
    return described


def _is_ours(archive: Path) -> bool:
    return str(_description(archive).get("description", "")).startswith("Stand-in ")


def _write(path: Path, content: bytes) -> None:
    """Replace a file in one step, unless it already has this content."""
    if path.exists() and path.read_bytes() == content:
        return
    unfinished = path.with_name(f".{path.name}.new")
    unfinished.write_bytes(content)
    os.replace(unfinished, path)
