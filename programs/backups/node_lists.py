"""Descriptions of a node that are in its backup: containers, images, models, cluster."""

from __future__ import annotations

import glob
import json
import os
import subprocess
from typing import Any

from gb10.programs.archive.writing import TRIES, Writer

K3S = "/usr/local/bin/k3s"


def output(*command: str, seconds: int = 20) -> str | None:
    """Return what a command prints, or None if it fails."""
    try:
        done = subprocess.run(command, capture_output=True, timeout=seconds, stdin=subprocess.DEVNULL, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode("utf-8", "surrogateescape") if done.returncode == 0 else None


def cluster_names() -> dict[str, list[str]] | None:
    """Return the nodes and Helm releases that the API server names, or None if it does not answer."""
    kubectl = (K3S, "kubectl", "--request-timeout=5s", "get", "--no-headers")
    nodes = output(*kubectl, "nodes", "-o", "custom-columns=NAME:.metadata.name")
    releases = output(
        *kubectl, "secrets", "-A", "-l", "owner=helm", "-o", "custom-columns=S:.metadata.namespace,NAME:.metadata.name"
    )
    if nodes is None or releases is None:
        return None
    names = sorted("/".join(line.split()) for line in releases.splitlines())
    return {"nodes": sorted(nodes.split()), "releases": names}


# Docker ---------------------------------------------------------------------------------------------------------------


def own_containers(writer: Writer) -> list[Any] | None:
    """Return the settings of every container outside Kubernetes, or None if Docker does not answer."""
    found = _inspected(writer, ("docker", "container", "ls", "--all"), ("docker", "container", "inspect"))
    if found is None:
        return None
    kubernetes = ("io.kubernetes.pod.namespace", "io.kubernetes.docker.type")
    return [one for one in found if not set(kubernetes) & set(one["Config"].get("Labels") or {})]


def images(writer: Writer) -> list[dict[str, Any]] | None:
    """Return tags, digests and layers of the engine's images, or None if Docker does not answer."""
    found = _inspected(writer, ("docker", "image", "ls"), ("docker", "image", "inspect"))
    if found is None:
        return None
    return [
        {
            "tags": image.get("RepoTags") or [],
            "digests": image.get("RepoDigests") or [],
            "id": image.get("Id"),
            "layers": (image.get("RootFS") or {}).get("Layers") or [],
            "size": image.get("Size"),
        }
        for image in found
    ]


def _inspected(writer: Writer, listing: tuple[str, ...], inspection: tuple[str, ...]) -> list[Any] | None:
    """Inspect all that Docker lists. Return None if there is no engine, or after noting that inspecting failed.

    If one is removed between the two commands, the second fails for all: then both are tried again.
    """
    for _ in range(TRIES):
        names = output(*listing, "--quiet", "--no-trunc")
        if names is None:
            return None
        unique = sorted(set(names.split()))
        printed = output(*inspection, *unique) if unique else "[]"
        if printed is not None:
            found: list[Any] = json.loads(printed)
            return found
    writer.note(f"gb10/{inspection[1]}s.json", f"{' '.join(inspection)} failed {TRIES} times")
    return None


# Models ---------------------------------------------------------------------------------------------------------------


def models(hub: str) -> list[dict[str, Any]]:
    """Return the repositories of the Hugging Face cache with their revisions, and the files of each: size and blob."""
    return [_repository(path) for path in sorted(glob.glob(f"{glob.escape(hub)}/*--*")) if os.path.isdir(path)]


def _repository(path: str) -> dict[str, Any]:
    refs = {os.path.relpath(ref, f"{path}/refs"): _first_line(ref) for ref in below(f"{path}/refs")}
    revisions = {
        os.path.basename(folder): {os.path.relpath(file, folder): _blob(file) for file in below(folder)}
        for folder in sorted(glob.glob(f"{glob.escape(path)}/snapshots/*"))
    }
    return {"name": os.path.basename(path), "refs": refs, "revisions": revisions}


def _first_line(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.readline().rstrip("\n")
    except OSError:
        return ""


def _blob(file: str) -> dict[str, Any]:
    end = os.path.realpath(file)
    return {"blob": os.path.basename(end), "size": os.path.getsize(end) if os.path.exists(end) else None}


def below(folder: str) -> list[str]:
    """Return the files below a folder, sorted."""
    return sorted(os.path.join(place, name) for place, _, names in os.walk(folder) for name in names)
