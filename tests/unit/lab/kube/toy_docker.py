"""The part of Docker's API that the stand-in's kubelet uses, on its own socket, so that tests need no engine."""

from __future__ import annotations

import json
import socketserver
import threading
import uuid
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit


class ToyDocker(socketserver.ThreadingUnixStreamServer):
    """An engine whose containers are entries of a dict. While `broken`, it answers every call with 500."""

    daemon_threads = True

    def __init__(self, path: Path) -> None:
        self.containers: dict[str, dict[str, Any]] = {}
        self.images: set[str] = set()
        self.broken = False
        super().__init__(str(path), _Handler)
        threading.Thread(target=self.serve_forever, args=(0.1,), daemon=True).start()

    def names(self) -> set[str]:
        return {container["Name"] for container in self.containers.values()}

    def forget(self) -> None:
        """Remove all containers behind the kubelet's back."""
        self.containers.clear()


class _Handler(BaseHTTPRequestHandler):
    server: ToyDocker

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - name from the base class
        pass

    def address_string(self) -> str:
        return "unix"

    def _answer(self, code: int, body: Any = None) -> None:
        raw = b"" if body is None else json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def _handle(self) -> None:
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        url = urlsplit(self.path)
        if self.server.broken:
            self._answer(500, {"message": "out of order"})
        elif url.path.startswith("/images/"):
            self._image(url.path, parse_qs(url.query))
        elif url.path == "/version":
            self._answer(200, {"Version": "26.1.5"})
        else:
            self._container(url.path, parse_qs(url.query), raw)

    def _image(self, path: str, query: dict[str, list[str]]) -> None:
        if self.command == "POST":
            self.server.images.add(f"{query['repo'][0]}:{query['tag'][0]}")
            self._answer(200)
        else:
            self._answer(200 if path.removeprefix("/images/").removesuffix("/json") in self.server.images else 404, {})

    def _container(self, path: str, query: dict[str, list[str]], raw: bytes) -> None:
        containers, identifier = self.server.containers, path.split("/")[2]
        if path == "/containers/json":
            self._answer(200, [{"Id": i, "State": "running", **c} for i, c in containers.items()])
        elif path == "/containers/create":
            identifier = uuid.uuid4().hex
            containers[identifier] = {"Name": query["name"][0], "Labels": json.loads(raw)["Labels"]}
            self._answer(201, {"Id": identifier})
        elif self.command == "DELETE":
            self._answer(204 if containers.pop(identifier, None) else 404, None)
        else:
            self._answer(204 if identifier in containers else 404)

    do_GET = do_POST = do_DELETE = _handle  # noqa: N815 - names that http.server looks for
