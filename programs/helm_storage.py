"""Helm's releases out of the Secrets that helm keeps, without the manifests.

This file runs on a node, as text for its own python3: standard library only. It reads a list of Secrets, as the API
gives it, and prints the releases, as JSON. What a chart rendered may hold secrets and is large: it stays on the node.
So may values: only those of the charts named as arguments leave it.
"""

import base64
import gzip
import json
import sys

GZIP = b"\x1f\x8b\x08"


def read_release(data: str, charts: list[str]) -> dict[str, object]:
    """Given the `release` of a Secret, return what is worth knowing of it, in helm's own layout.

    Values come along for the named charts alone.
    """
    blob = base64.b64decode(base64.b64decode(data))
    release = json.loads(gzip.decompress(blob) if blob.startswith(GZIP) else blob)
    info, metadata = release["info"], release["chart"]["metadata"]
    return {
        "name": release["name"],
        "namespace": release["namespace"],
        "version": release["version"],
        "info": {key: info.get(key) for key in ("status", "description", "last_deployed")},
        "chart": {key: metadata.get(key) for key in ("name", "version", "appVersion")},
        "config": release.get("config") if metadata.get("name") in charts else None,
    }


if __name__ == "__main__":
    print(
        json.dumps([read_release(secret["data"]["release"], sys.argv[1:]) for secret in json.load(sys.stdin)["items"]])
    )
