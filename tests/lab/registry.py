"""A registry on a node, at 127.0.0.1:5000: `python3 registry.py ARCHITECTURE FILE`. FILE says what cuda:13 is.

It runs on the node: the standard library alone.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import sys
import tarfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

PORT = 5000
MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
CONFIG = "application/vnd.docker.container.image.v1+json"
LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
WORDS = ("old", "new")


def digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def image(word: str, architecture: str) -> tuple[bytes, bytes, bytes]:
    """Return manifest, configuration and layer of an image with one file, which holds a word."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        entry = tarfile.TarInfo("word")
        entry.size = len(word)
        tar.addfile(entry, io.BytesIO(word.encode()))
    layer = gzip.compress(packed.getvalue(), mtime=0)
    rootfs = {"type": "layers", "diff_ids": [digest(packed.getvalue())]}
    config = json.dumps({"architecture": architecture, "os": "linux", "config": {}, "rootfs": rootfs}).encode()
    described = {"mediaType": CONFIG, "size": len(config), "digest": digest(config)}
    layers = [{"mediaType": LAYER, "size": len(layer), "digest": digest(layer)}]
    manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": described, "layers": layers}
    return json.dumps(manifest).encode(), config, layer


class Handler(BaseHTTPRequestHandler):
    """Answers as a registry does: manifests by tag or digest, blobs by digest."""

    contents: dict[str, bytes]
    manifests: dict[str, bytes]  # by word
    tagged: Path

    def do_GET(self) -> None:
        name = self.path.rpartition("/")[2]
        body = self.manifests[self.tagged.read_text().strip()] if name == "13" else self.contents.get(name, b"")
        self.send_response(200 if body or self.path == "/v2/" else 404)
        self.send_header("Content-Type", MANIFEST if "/manifests/" in self.path else "application/octet-stream")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Docker-Content-Digest", digest(body))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def do_HEAD(self) -> None:
        self.do_GET()


if __name__ == "__main__":
    images = {word: image(word, sys.argv[1]) for word in WORDS}
    Handler.manifests = {word: parts[0] for word, parts in images.items()}
    Handler.contents = {digest(part): part for parts in images.values() for part in parts}
    Handler.tagged = Path(sys.argv[2])
    ThreadingHTTPServer(("127.0.0.1", PORT), Handler).serve_forever()
