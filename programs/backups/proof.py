"""The proof that a backup can be restored: unpacked as a restore would, compared file by file, its database opened.

The contract: nothing is proven if one reason speaks against it, and nothing is ever assumed: what could not be read
speaks against it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from gb10.programs.answer import RefusedError
from gb10.programs.archive.comparing import compare
from gb10.programs.archive.files import FULL, file_digest
from gb10.programs.archive.manifest import Manifest, damaged, seconds, shown
from gb10.programs.archive.reading import unpack
from gb10.programs.archive.summary import agree
from gb10.programs.backups.datastore import examine
from gb10.programs.backups.evidence import Evidence, Findings, Reason
from gb10.programs.backups.node_paths import AGENT_CONFIG, AUTHORITY, DATABASE, NODE_PASSWORD, TOKEN
from gb10.programs.backups.store import archive_name, read_summary
from gb10.programs.backups.workshop import workshop

MOST_DIFFERENCES = 5


def prove(root: str, job: Mapping[str, Any], plain: str | None = None) -> Evidence:
    """Prove a backup of a store; return what came of it.

    + job: node, id, where (the name of this store), expected, trusted: see `prove_copy`
    + plain: of an encrypted one, its archive, decrypted
    """
    with workshop(root) as scratch:
        found = prove_copy(root, job["node"], job["id"], job["expected"], scratch, plain, job.get("trusted"))
    return Evidence(job["where"], job["node"], job["id"], time.time(), found)


def prove_copy(
    root: str,
    node: str,
    backup: str,
    expected: Mapping[str, Any],
    scratch: str,
    plain: str | None = None,
    trusted: str | None = None,
) -> Findings:
    """Prove one copy of a backup; return what was found, and what speaks against it.

    + root, node, backup: where it lies, in which node's folder, and its id
    + expected: what it must be: node; and if they are known macs, architecture, machine_id, and most_age_seconds
    + scratch: an empty folder to unpack in
    + plain: of an encrypted one, its archive, decrypted
    + trusted: the sha256 of an encrypted one that was opened and proven elsewhere: here it is read, not opened
    """
    found = Findings()
    reasons: list[Reason] = []
    try:
        summary = read_summary(root, node, backup)
        found = replace(found, created=summary["created"], encrypted=summary["encrypted"])
        path = os.path.join(root, node, archive_name(summary))
        found = replace(found, sha256=_same_file(path, summary))
        reasons += _strange(summary, backup, expected)
        if summary["encrypted"] and plain is None:
            _trust(found.sha256, trusted)
        else:
            manifest = _unpacked(plain or path, scratch, summary)
            found = replace(found, opened=True)
            reasons += [("BACKUP_DAMAGED", line) for line in compare(scratch, manifest)[:MOST_DIFFERENCES]]
            reasons += _incomplete(manifest)
            if manifest.about.get("role") == "server":
                nodes, more = examine(scratch, manifest)
                found = replace(found, nodes=nodes)
                reasons += more
    except RefusedError as error:
        reasons.append((error.code, error.reason))
    except OSError as error:
        code = "KEEPER_FULL" if error.errno in FULL else "BACKUP_DAMAGED"
        reasons.append((code, f"it cannot be read: {error.strerror or error}"))
    return replace(found, reasons=tuple((code, shown(text)) for code, text in reasons))


def _same_file(path: str, summary: Mapping[str, Any]) -> str:
    """Read the whole file; return its sha256. Raise RefusedError if its summary tells of another one."""
    try:
        size = os.path.getsize(path)
    except FileNotFoundError:
        raise damaged(f"{os.path.basename(path)} is missing") from None
    if size != summary["size"]:
        raise damaged(f"it has {size} bytes, and had {summary['size']}")
    sha256 = file_digest(path)
    if sha256 != summary["sha256"]:
        raise damaged("its content has changed: it has another sha256")
    return sha256


def _strange(summary: Mapping[str, Any], backup: str, expected: Mapping[str, Any]) -> Iterator[Reason]:
    """Yield the reasons why this is not the wanted backup of the wanted node."""
    if summary["id"] != backup:
        yield "BACKUP_FOREIGN", f"it is {summary['id']}"
    if summary["node"] != expected["node"]:
        yield "BACKUP_FOREIGN", f"it is of the node {summary['node']}, not of {expected['node']}"
    machine = summary.get("machine") or {}
    wanted, macs = set(expected.get("macs") or ()), set((machine.get("macs") or {}).values())
    if wanted and not wanted & macs:
        yield "BACKUP_FOREIGN", f"it is of another machine, with the MACs {', '.join(sorted(macs)) or 'of none'}"
    architecture = expected.get("architecture")
    if architecture and machine.get("architecture") != architecture:
        yield "BACKUP_FOREIGN", f"it is of a machine with {machine.get('architecture')}, not {architecture}"
    if expected.get("machine_id") and machine.get("machine_id") != expected["machine_id"]:
        yield "BACKUP_STALE", "it is of an installation that the node no longer has"
    yield from _too_old(summary["created"], expected.get("most_age_seconds"))


def _too_old(created: str, most: float | None) -> Iterator[Reason]:
    try:
        age = time.time() - seconds(created)
    except ValueError:
        yield "BACKUP_DAMAGED", "its summary names no time"
        return
    if most is not None and age > most:
        yield "BACKUP_STALE", f"it was made {age / 3600:.0f} hours ago"


def _trust(sha256: str | None, trusted: str | None) -> None:
    if trusted is None:
        raise RefusedError("BACKUP_KEY", "it is encrypted, and no copy of it was opened and proven")
    if sha256 != trusted:
        raise damaged("it is not the file that was opened and proven on the controller")


def _unpacked(path: str, scratch: str, summary: Mapping[str, Any]) -> Manifest:
    with open(path, "rb") as file:
        manifest = unpack(file, scratch)
    agree(manifest, summary)
    return manifest


def _incomplete(manifest: Manifest) -> Iterator[Reason]:
    """Yield what a backup lacks without which its node does not come back."""
    for note in manifest.notes:
        if note.harms:
            yield "BACKUP_INCOMPLETE", f"{note.path} {note.text}"
    there = {member.node_path for member in manifest.members}
    role = manifest.about.get("role")
    wanted = ["/etc/hostname"]
    wanted += [DATABASE, TOKEN, AUTHORITY] if role == "server" else []
    wanted += [AGENT_CONFIG, NODE_PASSWORD] if role == "agent" else []
    for path in wanted:
        if path not in there:
            yield "BACKUP_INCOMPLETE", f"{path} is not in it"
    if not any(path and path.startswith("/etc/ssh/ssh_host_") for path in there):
        yield "BACKUP_INCOMPLETE", "it has no SSH host key"
