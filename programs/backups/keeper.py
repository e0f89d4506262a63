"""A node that keeps backups of others: it receives, proves and returns them."""

from __future__ import annotations

import os
import sys
import time
from typing import Any

from gb10.programs.answer import Outlet, RefusedError
from gb10.programs.archive.files import CHUNK, FULL
from gb10.programs.archive.manifest import decode_summary, encode_summary
from gb10.programs.backups.proof import prove
from gb10.programs.backups.store import archive_name, check_names, prune, read_summary, receive, write_proofs
from gb10.programs.files import free_bytes, is_short

ROOM_BYTES = 32 << 20  # must stay free


def keep(job: dict[str, Any], outlet: Outlet) -> None:
    """Receive an archive from standard input.

    + job: root, where (the name of this node's store), summary, count, days
    """
    root, summary = job["root"], decode_summary(encode_summary(job["summary"]))
    check_names(summary["node"], summary["id"])
    try:
        if is_short(free_bytes(root), summary["size"], ROOM_BYTES):
            raise RefusedError(
                "KEEPER_FULL", f"{root} has {free_bytes(root)} bytes left, and {summary['size']} are to come"
            )
        receive(root, summary, iter(lambda: sys.stdin.buffer.read(CHUNK), b""))
        prune(root, summary["node"], job["count"], job["days"], time.time(), job["where"])
    except OSError as error:
        code = "KEEPER_FULL" if error.errno in FULL else "BACKUP_FAILED"
        raise RefusedError(code, f"{root}: {error.strerror}") from error


def prove_here(job: dict[str, Any], outlet: Outlet) -> dict[str, Any]:
    """Prove a backup that this node keeps; return the result.

    + job: root, and as for `prove`
    """
    check_names(job["node"], job["id"])
    result = prove(job["root"], job)
    write_proofs(job["root"], job["node"], job["id"], [result])
    return result.to_json()


def give(job: dict[str, Any], outlet: Outlet) -> dict[str, Any]:
    """Send the archive of a backup; return its summary.

    + job: root, node, id
    """
    try:
        summary = read_summary(job["root"], job["node"], job["id"])
        with open(os.path.join(job["root"], job["node"], archive_name(summary)), "rb") as file:
            while chunk := file.read(CHUNK):
                outlet.write(chunk)
    except OSError as error:
        raise RefusedError("BACKUP_MISSING", f"it cannot be read: {error.strerror}") from error
    return summary
