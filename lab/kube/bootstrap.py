"""Bootstrap data: the cluster's CAs and passwords in the datastore, encrypted with the server token.

As with K3s, the database and the token together are the cluster: missing files are restored from the datastore, another
token is refused, and files newer than the datastore stop the start. The encryption is a keystream of HMAC-SHA256, which
is enough for a lab; K3s uses AES-GCM.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
from pathlib import Path

from gb10.lab.kube.errors import StartError
from gb10.lab.kube.paths import write_secret
from gb10.lab.kube.persistence import Database

FILES = ("tls/server-ca.crt", "tls/server-ca.key", "tls/client-ca.crt", "tls/client-ca.key", "cred/passwd")


def _digest(password: str) -> str:
    return hashlib.sha256(password.encode()).hexdigest()[:12]


def _seal(data: bytes, password: str) -> bytes:
    """Encrypt or decrypt, which is the same operation."""
    key = hashlib.scrypt(password.encode(), salt=b"gb10-lab-bootstrap", n=1024, r=8, p=1)
    blocks = range(0, len(data), 32)
    stream = b"".join(hmac.digest(key, block.to_bytes(8, "big"), "sha256") for block in blocks)
    return bytes(a ^ b for a, b in zip(data, stream, strict=False))


def save(database: Database, folder: Path, password: str) -> None:
    """Save the cluster's files in the datastore."""
    files = {name: {"content": (folder / name).read_text(), "mtime": (folder / name).stat().st_mtime} for name in FILES}
    sealed = base64.b64encode(_seal(json.dumps(files).encode(), password)).decode()
    database.write_bootstrap(_digest(password), sealed)


def restore(database: Database, folder: Path, password: str | None) -> bool:
    """Restore the cluster's files from the datastore. Return False if it has none.

    Raise StartError for another token, and for changed files that are newer than those in the datastore.
    """
    stored = database.bootstrap()
    if stored is None:
        return False
    digest, sealed = stored
    if password is None or digest != _digest(password):
        raise StartError(
            "starting kubernetes: preparing server: bootstrap data already found and encrypted with different token"
        )
    files = json.loads(_seal(base64.b64decode(sealed), password))
    newer = [str(folder / name) for name, kept in files.items() if _is_newer(folder / name, kept)]
    if newer:
        raise StartError(
            f"starting kubernetes: preparing server: {', '.join(newer)} newer than datastore and could cause a "
            "cluster outage. Remove the file(s) from disk and restart to be recreated from datastore."
        )
    for name, kept in files.items():
        path = folder / name
        if not path.exists() or path.read_text() != kept["content"]:
            write_secret(path, kept["content"], 0o644 if name.endswith(".crt") else 0o600)
            os.utime(path, (kept["mtime"], kept["mtime"]))
    return True


def _is_newer(path: Path, kept: dict[str, object]) -> bool:
    return path.exists() and path.read_text() != kept["content"] and path.stat().st_mtime > float(str(kept["mtime"]))
