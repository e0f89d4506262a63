"""What both ends of a copy agree on: the proof of the secret, frames, words, ranges of files, error codes.

A connection begins with a greeting that says what it is for:

    control     lines of JSON. The sender says {"do": WORD, ...}, the receiver answers, see ANSWERS; it may also send
                {"completed": INDEX} and {"failed": INDEX, "code": ..., "reason": ...}
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

FRAME = struct.Struct("!IQQI")  # index, offset, length, number of extents; a bundle: its list's length, its length
EXTENT = struct.Struct("!QQ")  # offset, length: between extents the file has holes
BUNDLE = 0xFFFFFFFF  # in place of an index: a bundle of small files, whose list (JSON) comes before them
ARRIVED = b"+"  # the receiver's answer to each frame
PIECE_BYTES = 8 << 20
LINE_BYTES = 256  # of a greeting

# What a sender asks for, and the key of the answer: what is there, notes in the shared store, the end.
ANSWERS = {"hello": "have", "note": "noted", "end": "ended"}

Range = tuple[int, int]
Wanted = dict[str, Any]  # a file as it was planned: path, size, mtime, mode, uid, gid; of a large one also key, sparse


class TurnedAwayError(ConnectionError):
    """The receiver refuses to talk to us."""


def greet(stream: socket.socket, kind: str, secret: bytes) -> None:
    """Prove that both ends know the secret, without sending it: the sender's part. Raise ConnectionError."""
    lines = stream.makefile("rb", buffering=0)
    ours = secrets.token_hex(16)
    stream.sendall(f"GB10 {kind} {ours}\n".encode())
    theirs = lines.readline(LINE_BYTES).decode().strip()
    if not theirs:
        raise TurnedAwayError("it hangs up")
    stream.sendall((proven(secret, "sender", kind, ours, theirs) + "\n").encode())
    proof = lines.readline(LINE_BYTES).decode().strip()
    if not hmac.compare_digest(proof, proven(secret, "receiver", kind, ours, theirs)):
        raise TurnedAwayError("one side does not know the secret of this copy")


def authenticate(stream: socket.socket, secret: bytes) -> str:
    """Do the receiver's part of `greet`; return what the connection is for. Raise RefusedError."""
    lines = stream.makefile("rb", buffering=0)
    word, kind, theirs = lines.readline(LINE_BYTES).decode().split()
    ours = secrets.token_hex(16)
    stream.sendall(f"{ours}\n".encode())
    proof = lines.readline(LINE_BYTES).decode().strip()
    if word != "GB10" or not hmac.compare_digest(proof, proven(secret, "sender", kind, theirs, ours)):
        raise RefusedError("COPY_REFUSED", "refused a connection that does not know the secret of this copy")
    stream.sendall((proven(secret, "receiver", kind, theirs, ours) + "\n").encode())
    return kind


def proven(secret: bytes, *words: str) -> str:
    """Return the proof that an end knows the secret, for these words."""
    return hmac.new(secret, " ".join(words).encode(), hashlib.sha256).hexdigest()


def said(document: dict[str, Any]) -> bytes:
    """Return a line of a control connection."""
    return json.dumps(document).encode() + b"\n"


def received(stream: socket.socket, count: int) -> bytes:
    """Receive so many bytes; return b"" at the end of the stream. Raise ConnectionError if none come in time."""
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
    """Given the size of a file and the ranges (start, end) that have arrived, return the rest as (offset, length)."""
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
