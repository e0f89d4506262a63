"""Helm's releases out of the Secrets that helm keeps, without the manifests.

What a chart rendered may hold secrets and is large: it stays on the node. So may values: only those of the charts that
are named leave it.
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


Releases = list[dict[str, Any]]


def main(job: dict[str, Any], outlet: Outlet) -> Releases | dict[str, str] | None:
    """Return the releases in the Secrets that job["command"] prints, with the values of job["charts"]."""
    (printed,) = sections.run([job["command"]])
    return releases(printed, job["charts"])


def releases(printed: Sequence[Any], charts: Sequence[str]) -> Releases | dict[str, str] | None:
    """Given status and output of what prints Secrets, return the releases in them.

    None if it failed: no API server answers. {"error"} if a Secret cannot be read.
    """
    status, text = printed
    if status:
        return None
    try:
        return [read_release(secret["data"]["release"], charts) for secret in json.loads(text)["items"]]
    except (ValueError, LookupError, TypeError, EOFError, zlib.error) as error:
        return {"error": f"the node cannot read helm's Secrets: {error!r}"}


def read_release(data: str, charts: Sequence[str]) -> dict[str, Any]:
    """Given the `release` of a Secret, return what is worth knowing of it, in helm's own layout."""
    blob = base64.b64decode(base64.b64decode(data))
    release = json.loads(zlib.decompress(blob, zlib.MAX_WBITS | 16) if blob.startswith(GZIP) else blob)
    info, metadata = release["info"], release["chart"]["metadata"]
    return {
        "name": release["name"],
        "namespace": release["namespace"],
        "version": release["version"],
        "info": {key: info.get(key) for key in ("status", "description", "last_deployed")},
        "chart": {key: metadata.get(key) for key in ("name", "version", "appVersion")},
        "config": release.get("config") if metadata.get("name") in charts else None,
    }
