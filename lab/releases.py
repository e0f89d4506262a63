"""The mirror's content: K3s releases (stand-ins or real ones), the helm archive, the chart repository."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import platform
import shutil
import tarfile
from pathlib import Path

from filelock import FileLock

from gb10.group_data.all import k3s_version as default_version
from gb10.lab.chart_repository import build_charts
from gb10.lab.clients import helm
from gb10.lab.kube.build import build_k3s
from gb10.lab.paths import cache_root
from gb10.lab.problem import LabError
from gb10.lab.shell import run

# The default, the next patch release, the next minor release, the previous one, and one that skips a minor release.
STAND_IN_VERSIONS = (
    "v1.36.4+k3s1",
    "v1.36.5+k3s1",
    "v1.37.1+k3s1",
    "v1.35.8+k3s1",
    "v1.38.0+k3s1",
)
# Architecture -> name of the K3s binary.
BINARIES = {"amd64": "k3s", "arm64": "k3s-arm64"}


def publish(root: Path, k3s_release: Path | None) -> str:
    """Fill the mirror's folder and return the K3s version that the lab installs.

    `k3s_release` is a folder of real releases, which the mirror then serves instead of stand-ins: one folder a version,
    such as "v1.36.4+k3s1", with that release's files (`k3s`, `k3s-arm64`, `sha256sum-amd64.txt`, ...). Raise LabError
    if it holds none.
    """
    root.mkdir(parents=True, exist_ok=True)
    version = _publish_real(root / "k3s", k3s_release) if k3s_release else _publish_stand_ins(root / "k3s")
    _publish_helm(root / "helm")
    build_charts(root / "charts")
    return version


def _publish_real(folder: Path, release: Path) -> str:
    versions = sorted(path.parent.name for path in release.glob("v*/sha256sum-*.txt"))
    if not versions:
        raise LabError(
            f"There is no K3s release in {release}.",
            f"Put the release's files into {release}/{default_version}/ (k3s, sha256sum-amd64.txt, ...).",
        )
    _remove(folder)
    folder.symlink_to(release.resolve())
    return default_version if default_version in versions else versions[-1]


def _publish_stand_ins(folder: Path) -> str:
    if folder.is_symlink():
        folder.unlink()
    for version in {*STAND_IN_VERSIONS, default_version}:
        release = folder / version
        release.mkdir(parents=True, exist_ok=True)
        # The stand-in is a Python archive, so one file works on both architectures.
        build_k3s(release / "k3s.new", version)
        digest = hashlib.sha256((release / "k3s.new").read_bytes()).hexdigest()
        for architecture, binary in BINARIES.items():
            shutil.copyfile(release / "k3s.new", release / f"{binary}.copy")
            os.replace(release / f"{binary}.copy", release / binary)
            (release / f"sha256sum-{architecture}.txt").write_text(f"{digest}  {binary}\n")
        (release / "k3s.new").unlink()
    return default_version


def _publish_helm(folder: Path) -> None:
    """Publish helm as get.helm.sh does, only for the architecture of this machine and its nodes."""
    folder.mkdir(exist_ok=True)
    architecture = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    program = helm()
    version = run([str(program), "version", "--template", "{{.Version}}"]).strip()
    archive = cache_root() / "clients" / f"helm-{version}-linux-{architecture}.tar.gz"
    with FileLock(f"{archive}.lock"):
        if not archive.exists():
            unfinished = archive.with_suffix(".new")
            unfinished.write_bytes(_helm_archive(program, architecture))
            os.replace(unfinished, archive)
    published = folder / archive.name
    if not published.exists():
        published.symlink_to(archive)
        digest = hashlib.sha256(archive.read_bytes()).hexdigest()
        (folder / f"{archive.name}.sha256sum").write_text(f"{digest}  {archive.name}\n")


def _helm_archive(program: Path, architecture: str) -> bytes:
    """Return an archive of helm without timestamps, so that the same helm gives the same bytes."""
    packed = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=1, mtime=0) as compressed,
        tarfile.open(fileobj=compressed, mode="w") as tar,
    ):
        entry = tarfile.TarInfo(f"linux-{architecture}/helm")
        entry.mode, entry.size = 0o755, program.stat().st_size
        with program.open("rb") as content:
            tar.addfile(entry, content)
    return packed.getvalue()


def _remove(path: Path) -> None:
    if path.is_symlink():
        path.unlink()
    elif path.exists():
        shutil.rmtree(path)
