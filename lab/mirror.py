"""The lab's download mirror: an HTTP server for a folder that fails on request, as real mirrors do.

`python -m gb10.lab.mirror FOLDER ADDRESS PORT READY` serves FOLDER on ADDRESS. It writes its process id and the address
of its control endpoint (reachable from this machine only) to the file READY. `MirrorControl` uses that endpoint.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

CHUNK = 16384
FaultKind = Literal["drop", "status", "truncate", "alter", "slow"]


@dataclass
class Fault:
    """A fault for requests whose path matches `path` (a regular expression), `times` times (None: always).

    drop: the connection ends after `after_bytes` of the body, although more were announced.
    status: the answer is `status`, without the file.
    truncate: the file seems to end after `after_bytes`.
    alter: one byte in the middle is changed; the size stays.
    slow: at most `bytes_per_second`.
    """

    path: str
    kind: FaultKind
    times: int | None = None
    after_bytes: int = 0
    status: int = 503
    bytes_per_second: int = 0


@dataclass
class Request:
    """One answered request. `range` is its Range header."""

    path: str
    range: str | None
    status: int
    bytes_sent: int


class Memory:
    """Pending faults and answered requests, shared by the server's threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._faults: list[Fault] = []
        self._requests: list[Request] = []

    def add_fault(self, fault: Fault) -> None:
        with self._lock:
            self._faults.append(fault)

    def take_fault(self, path: str) -> Fault | None:
        """Return the first pending fault for this path and count it."""
        with self._lock:
            for fault in self._faults:
                if re.search(fault.path, path) and fault.times != 0:
                    if fault.times is not None:
                        fault.times -= 1
                    return fault
        return None

    def add_request(self, request: Request) -> None:
        with self._lock:
            self._requests.append(request)

    def requests(self) -> list[dict[str, Any]]:
        with self._lock:
            return [asdict(request) for request in self._requests]

    def clear(self) -> None:
        with self._lock:
            self._faults.clear()
            self._requests.clear()


def byte_range(header: str | None, size: int) -> tuple[int, int] | None:
    """Return the start and end (exclusive) of a Range header in a file of this size.

    The whole file if the header is missing or has another form; None if the range is outside the file.
    """
    match = re.fullmatch(r"bytes=(\d+)-(\d*)", header or "")
    if not match:
        return 0, size
    first = int(match[1])
    end = min(int(match[2]) + 1, size) if match[2] else size
    return (first, end) if first < end else None


class MirrorHandler(BaseHTTPRequestHandler):
    """Serves files below `root`, with faults."""

    root: Path
    memory: Memory
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  name from the base class
        """Do nothing: requests are kept in memory."""

    def _answer(self, with_body: bool) -> None:
        path = unquote(urlsplit(self.path).path)
        file = self._file(path)
        fault = self.memory.take_fault(path)
        if fault and fault.kind == "status":
            self._refuse(path, HTTPStatus(fault.status))
        elif file is None:
            self._refuse(path, HTTPStatus.NOT_FOUND)
        else:
            self._send(path, file.read_bytes(), fault, with_body)

    def _file(self, path: str) -> Path | None:
        """Return the file at this path, or None if it does not exist or is outside the folder."""
        parts = path.split("/")
        file = self.root.joinpath(*(part for part in parts if part))
        return None if ".." in parts or not file.is_file() else file

    def _refuse(self, path: str, status: HTTPStatus) -> None:
        # Record it before the client sees the answer.
        self.memory.add_request(Request(path, self.headers.get("Range"), status, 0))
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _send(self, path: str, content: bytes, fault: Fault | None, with_body: bool) -> None:
        kind = fault.kind if fault else None
        if fault and kind == "truncate":
            content = content[: fault.after_bytes]
        if kind == "alter":
            content = altered(content)
        wanted = self.headers.get("Range")
        span = byte_range(wanted, len(content))
        if span is None:
            self._refuse(path, HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE)
            return
        body = content[span[0] : span[1]]
        status = HTTPStatus.PARTIAL_CONTENT if len(body) < len(content) else HTTPStatus.OK
        request = Request(path, wanted, status, 0)
        self.memory.add_request(request)
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Accept-Ranges", "bytes")
        if status == HTTPStatus.PARTIAL_CONTENT:
            self.send_header("Content-Range", f"bytes {span[0]}-{span[1] - 1}/{len(content)}")
        self.end_headers()
        if with_body:
            self._send_body(request, body, fault)

    def _send_body(self, request: Request, body: bytes, fault: Fault | None) -> None:
        kind = fault.kind if fault else None
        sent = body[: fault.after_bytes] if fault and kind == "drop" else body
        rate = fault.bytes_per_second if fault and kind == "slow" else 0
        with suppress(ConnectionError):  # the client may close the connection early
            for chunk in _chunks(sent, rate):
                request.bytes_sent += len(chunk)  # before the client can see it
                self.wfile.write(chunk)
        if kind == "drop":
            self.close_connection = True


class ControlHandler(BaseHTTPRequestHandler):
    """The control endpoint: POST /faults, GET /requests, POST /clear."""

    memory: Memory

    def do_GET(self) -> None:
        self._answer(self.memory.requests())

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        if self.path == "/faults":
            self.memory.add_fault(Fault(**json.loads(content)))
        elif self.path == "/clear":
            self.memory.clear()
        self._answer({})

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  name from the base class
        """Do nothing."""

    def _answer(self, value: object) -> None:
        body = json.dumps(value).encode()
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class MirrorControl:
    """A client of a mirror's control endpoint: order faults and read the requests."""

    def __init__(self, url: str, root: Path) -> None:
        self._url = url
        self._root = root

    def drop(self, path: str, after_bytes: int, times: int | None = 1) -> None:
        """End the connection after this many bytes of the body."""
        self._fault(Fault(path, "drop", times, after_bytes=after_bytes))

    def status(self, path: str, status: int = 503, times: int | None = 1) -> None:
        """Answer with this status instead of the file."""
        self._fault(Fault(path, "status", times, status=status))

    def truncate(self, path: str, after_bytes: int, times: int | None = None) -> None:
        """Serve only this many bytes, as if the file ended there."""
        self._fault(Fault(path, "truncate", times, after_bytes=after_bytes))

    def alter(self, path: str, times: int | None = None) -> None:
        """Serve the file with one byte changed."""
        self._fault(Fault(path, "alter", times))

    def slow(self, path: str, bytes_per_second: int, times: int | None = None) -> None:
        """Serve the file at most at this speed."""
        self._fault(Fault(path, "slow", times, bytes_per_second=bytes_per_second))

    def requests(self, path: str = "") -> list[Request]:
        """Return the requests since the last clear() whose path matches, in order."""
        return [request for request in self._requests() if re.search(path, request.path)]

    def clear(self) -> None:
        """Forget all faults and all requests."""
        self._call("/clear", b"")

    def size(self, path: str) -> int:
        """Return the size in bytes of a served file, given its path below the mirror's folder."""
        return (self._root / path.lstrip("/")).stat().st_size

    def answers(self) -> bool:
        """Return True if the mirror answers."""
        try:
            self._requests()
        except (OSError, ValueError):
            return False
        return True

    def _fault(self, fault: Fault) -> None:
        self._call("/faults", json.dumps(asdict(fault)).encode())

    def _requests(self) -> list[Request]:
        return [Request(**entry) for entry in json.loads(self._call("/requests", None))]

    def _call(self, path: str, body: bytes | None) -> bytes:
        # Without the environment's proxy: the address is this machine's.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(self._url + path, data=body, timeout=10) as answer:
            content: bytes = answer.read()
        return content


def altered(content: bytes) -> bytes:
    """Return the content with one bit in its middle flipped."""
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :] if content else content


def serve(root: Path, address: str, port: int, ready: Path) -> None:
    """Serve until SIGTERM or SIGINT. Write `ready` once both endpoints listen."""
    memory = Memory()
    mirror = ThreadingHTTPServer((address, port), type("Handler", (MirrorHandler,), {"root": root, "memory": memory}))
    control = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (ControlHandler,), {"memory": memory}))
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    for server in (mirror, control):
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
    unfinished = ready.with_suffix(".new")
    unfinished.write_text(json.dumps({"pid": os.getpid(), "control": f"http://127.0.0.1:{control.server_address[1]}"}))
    os.replace(unfinished, ready)
    signal.sigwait({signal.SIGTERM, signal.SIGINT})


def _chunks(content: bytes, bytes_per_second: int) -> Iterator[bytes]:
    size = min(CHUNK, max(1, bytes_per_second // 10)) if bytes_per_second else CHUNK
    for start in range(0, len(content), size):
        yield content[start : start + size]
        if bytes_per_second:
            time.sleep(size / bytes_per_second)


if __name__ == "__main__":
    serve(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), Path(sys.argv[4]))
