"""The protocol between the two ends of a copy: proof of the secret, messages, frames, ranges of files, error codes.

A connection begins with a greeting that names its kind:

    control     lines of JSON. The sender sends {"do": REQUEST, ...}, the receiver answers as in ANSWERS. It may also
                send {"completed": INDEX} and {"failed": INDEX, "code": ..., "reason": ...}
    data        frames: pieces of large files and bundles of small ones, each answered by one byte

Large files are known by their index in the job, which both ends have.
"""

from __future__ import annotations

import errno
import hashlib
import hmac
import json
import secrets
import socket
import struct
from typing import Any

from gb10.programs.answer import RefusedError

FRAME = struct.Struct("!IQQI")  # index, offset, length, number of extents; or BUNDLE, length of its list, length, 0
EXTENT = struct.Struct("!QQ")  # offset, length: between extents the file has holes
BUNDLE = 0xFFFFFFFF  # in place of an index: a bundle of small files, after their list (JSON)
ARRIVED = b"+"  # the receiver's answer to each frame
PIECE_BYTES = 8 << 20
LINE_BYTES = 256  # of a greeting

# Request of the sender -> key of the answer: what has arrived, notes of the shared store, the end.
ANSWERS = {"hello": "have", "note": "noted", "end": "ended"}

Range = tuple[int, int]
Wanted = dict[str, Any]  # a planned file: path, size, mtime, mode, uid, gid; a large one also has key, sparse


class RejectedError(ConnectionError):
    """The receiver refuses the connection."""


def greet(stream: socket.socket, kind: str, secret: bytes) -> None:
    """As the sender, prove that both ends know the secret, without sending it. Raise ConnectionError."""
    lines = stream.makefile("rb", buffering=0)
    ours = secrets.token_hex(16)
    stream.sendall(f"GB10 {kind} {ours}\n".encode())
    theirs = lines.readline(LINE_BYTES).decode().strip()
    if not theirs:
        raise RejectedError("it hangs up")
    stream.sendall((_proof(secret, "sender", kind, ours, theirs) + "\n").encode())
    proof = lines.readline(LINE_BYTES).decode().strip()
    if not hmac.compare_digest(proof, _proof(secret, "receiver", kind, ours, theirs)):
        raise RejectedError("one side does not know the secret of this copy")


def authenticate(stream: socket.socket, secret: bytes) -> str:
    """As the receiver, do the same; return the kind of the connection. Raise RefusedError."""
    lines = stream.makefile("rb", buffering=0)
    word, kind, theirs = lines.readline(LINE_BYTES).decode().split()
    ours = secrets.token_hex(16)
    stream.sendall(f"{ours}\n".encode())
    proof = lines.readline(LINE_BYTES).decode().strip()
    if word != "GB10" or not hmac.compare_digest(proof, _proof(secret, "sender", kind, theirs, ours)):
        raise RefusedError("COPY_REFUSED", "refused a connection that does not know the secret of this copy")
    stream.sendall((_proof(secret, "receiver", kind, theirs, ours) + "\n").encode())
    return kind


def _proof(secret: bytes, *words: str) -> str:
    return hmac.new(secret, " ".join(words).encode(), hashlib.sha256).hexdigest()


def encoded(document: dict[str, Any]) -> bytes:
    """Return a message as a line of a control connection."""
    return json.dumps(document).encode() + b"\n"


def receive_exactly(stream: socket.socket, count: int) -> bytes:
    """Receive this many bytes; return b"" at the end of the stream. Raise ConnectionError if none come in time."""
    found = b""
    while len(found) < count:
        try:
            more = stream.recv(count - len(found))
        except OSError as error:
            raise ConnectionError(f"nothing comes from the sender: {error.strerror}") from error
        if not more:
            return b""
        found += more
    return found


def merged(ranges: list[Range]) -> list[Range]:
    """Sort ranges (start, end) and join those that touch."""
    found: list[Range] = []
    for start, end in sorted(ranges):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((start, end))
    return found


def pieces(size: int, have: list[Range], piece: int = PIECE_BYTES) -> list[Range]:
    """Return the pieces (offset, length) of a file that are left to send.

    + have: ranges (start, end) that have arrived
    """
    found: list[Range] = []
    at = 0
    for start, end in [*sorted(have), (size, size)]:
        while at < start:
            # pieces end at multiples of their size, so a later copy has the same pieces
            stop = min(start, (at // piece + 1) * piece)
            found.append((at, stop - at))
            at = stop
        at = max(at, end)
    return found


def code_of(error: Exception) -> str:
    """Return the code of the error catalogue for an error of a copy."""
    if isinstance(error, RefusedError):
        return error.code
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    return "DISK_FULL" if full else "COPY_FAILED"


def reason_of(error: Exception) -> str:
    """Return the text of an error, without its code."""
    return error.reason if isinstance(error, RefusedError) else str(error)
