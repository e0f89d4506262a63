"""Helm's releases, read from the Secrets that helm keeps, without the manifests.

Manifests are large and may hold secrets: they stay on the node. So do the values of a release, unless its chart is
named in the job.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Sequence
from typing import Any

from gb10.programs import sections
from gb10.programs.answer import Outlet

GZIP = b"\x1f\x8b\x08"
RELEASE_BYTES = 64 << 20  # a larger release is not read
Releases = list[dict[str, Any]]


def main(job: dict[str, Any], outlet: Outlet) -> Releases | dict[str, str] | None:
    """Return the releases in the Secrets that job["command"] prints, with the values of job["charts"]."""
    (printed,) = sections.run([job["command"]])
    return releases(printed, job["charts"])


def releases(printed: Sequence[Any], charts: Sequence[str]) -> Releases | dict[str, str] | None:
    """Given the exit status and output of the command that prints Secrets, return the releases in them.

    None if the command failed: no API server answers. {"error"} if a Secret cannot be read.
    """
    status, text = printed
    if status:
        return None
    try:
        return [read_release(secret["data"]["release"], charts) for secret in json.loads(text)["items"]]
    except (ValueError, LookupError, TypeError, EOFError, RecursionError, zlib.error) as error:
        return {"error": f"the node cannot read helm's Secrets: {error!r}"}


def read_release(data: str, charts: Sequence[str]) -> dict[str, Any]:
    """Decode the `release` of a Secret. Return the parts that gb10 needs, in helm's own layout."""
    blob = base64.b64decode(base64.b64decode(data))
    if blob.startswith(GZIP):
        inflater = zlib.decompressobj(zlib.MAX_WBITS | 16)
        blob = inflater.decompress(blob, RELEASE_BYTES)
        if not inflater.eof:
            raise ValueError(f"a release is larger than {RELEASE_BYTES >> 20} MiB, or cut off")
    release = json.loads(blob)
    info, metadata = release["info"], release["chart"]["metadata"]
    return {
        "name": release["name"],
        "namespace": release["namespace"],
        "version": release["version"],
        "info": {key: info.get(key) for key in ("status", "description", "last_deployed")},
        "chart": {key: metadata.get(key) for key in ("name", "version", "appVersion")},
        "config": release.get("config") if metadata.get("name") in charts else None,
    }
