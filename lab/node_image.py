"""The node image: Debian with the software of a DGX OS node, built once and cached by the digest of its recipe."""

from __future__ import annotations

import hashlib
import os
import shlex
import subprocess
import time
from pathlib import Path

from filelock import FileLock

from gb10.lab.paths import cache_root, package_folder
from gb10.lab.problem import LabError
from gb10.lab.shell import Docker

# Docker 26 of trixie saves images in OCI layout, as Docker on DGX OS does; the Docker of bookworm does not.
SUITE = "trixie"
PACKAGES = [
    "busybox-static",
    "ca-certificates",
    "curl",
    "dbus",
    "docker-cli",
    "docker.io",
    "fish",
    "inotify-tools",
    "iperf3",
    "iproute2",
    "iptables",
    "iputils-ping",
    "kmod",
    "less",
    "locales",
    "netplan.io",
    "network-manager",
    "openssh-server",
    "openssl",
    "procps",
    "python3",
    "rsync",
    "sqlite3",
    "sudo",
    "systemd-sysv",
    "ufw",
]
OPTIONS = [
    "--variant=minbase",
    "--format=tar",
    '--aptopt=Acquire::Retries "5"',
    "--dpkgopt=path-exclude=/usr/share/man/*",
    "--dpkgopt=path-exclude=/usr/share/doc/*",
    "--dpkgopt=path-exclude=/usr/share/locale/*",
    "--dpkgopt=path-include=/usr/share/locale/fr/*",
    f"--include={','.join(PACKAGES)}",
]
ATTEMPTS = 4
BUILD_SECONDS = 600
KEPT_TARS = 3
REPOSITORY = "gb10-lab"


def image_key() -> str:
    """Return a digest of everything that the image is built from."""
    folder = package_folder() / "image"
    digest = hashlib.sha256(repr([SUITE, *OPTIONS]).encode())
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.suffix != ".pyc":
            digest.update(f"{path.relative_to(folder)}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def image_tar() -> Path:
    """Return the path of the image's tar in the cache, whether it exists or not."""
    return cache_root() / "image" / f"node-{image_key()}.tar"


def build_image() -> Path:
    """Return the image's tar. Build it if it is not cached; raise LabError if that fails."""
    tar = image_tar()
    tar.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(tar.parent / "build.lock"):
        if not tar.exists():
            _build(tar)
            # Keep some: checkouts of different age may take turns on this machine.
            newest_first = sorted(tar.parent.glob("node-*.tar"), key=lambda path: path.stat().st_mtime, reverse=True)
            for old in newest_first[KEPT_TARS:]:
                old.unlink()
    return tar


def ensure_image(docker: Docker) -> str:
    """Return the image's name in the engine. Import it if the engine does not have it."""
    name, folder = f"{REPOSITORY}:{image_key()}", image_tar().parent
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "import.lock"):  # several labs may come up at once
        if not docker("image", "ls", "--quiet", name).strip():
            docker("import", str(build_image()), name, timeout=300)
    return name


def remove_image(docker: Docker) -> None:
    """Remove the lab's images from the engine. The tar stays in the cache."""
    names = docker("image", "ls", "--format", "{{.Repository}}:{{.Tag}}", REPOSITORY).split()
    if names:
        docker("image", "rm", *names)


def _build(tar: Path) -> None:
    unfinished = tar.with_suffix(".unfinished")
    files = package_folder() / "image"
    command = [
        "mmdebstrap",
        *OPTIONS,
        f"--customize-hook=sync-in {shlex.quote(str(files / 'files'))} /",
        f'--customize-hook=sh {shlex.quote(str(files / "customize.sh"))} "$1"',
        SUITE,
        str(unfinished),
    ]
    log = tar.with_suffix(".log")
    for attempt in range(ATTEMPTS):
        if _ran(command, log):
            os.replace(unfinished, tar)
            log.unlink()
            return
        unfinished.unlink(missing_ok=True)
        time.sleep(2**attempt)
    end = "\n".join(log.read_text(errors="replace").splitlines()[-8:])
    raise LabError(f"The build of the node image failed {ATTEMPTS} times: {end}", f"The log is {log}.")


def _ran(command: list[str], log: Path) -> bool:
    try:
        with log.open("ab") as output:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, timeout=BUILD_SECONDS, check=False
            )
    except FileNotFoundError as error:
        raise LabError(
            "mmdebstrap is not installed, and the node image is not in the cache.",
            "Install it (Debian, Ubuntu: apt-get install mmdebstrap debian-archive-keyring).",
        ) from error
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0
