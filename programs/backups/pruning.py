"""Throwing away old backups, and what runs left that died."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence

from gb10.programs.answer import RefusedError
from gb10.programs.backups.evidence import is_proven
from gb10.programs.backups.store import PART, PROOF, SUFFIXES, SUMMARY, ids, made_at, made_seconds, read_summary

LEFT_SECONDS = 3600  # after which what a dead run left is thrown away
DAY_SECONDS = 86400


def prune(root: str, node: str, count: int | None, days: int | None, now: float, where: str) -> list[str]:
    """Throw away what is not among the newest `count`, or older than `days`; return the ids.

    None switches one of them off. The newest that was proven in this store, called `where`, stays, and so does the
    newest. Backups of another machine that once had the name stay, too.
    """
    found = same_machine(root, node, sorted(ids(root, node), key=made_at, reverse=True))
    proven = next((backup for backup in found if is_proven(root, node, backup, where)), None)
    gone = [
        backup
        for place, backup in enumerate(found)
        if place > 0
        and backup != proven
        and (
            (count is not None and place >= count)
            or (days is not None and now - made_seconds(backup) > days * DAY_SECONDS)
        )
    ]
    for backup in gone:
        # The summary goes first: without it there is no backup.
        for suffix in (SUMMARY, PROOF, *SUFFIXES):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(os.path.join(root, node, backup + suffix))
    _remove_leftovers(root, node, now)
    return gone


def same_machine(root: str, node: str, found: Sequence[str]) -> list[str]:
    """Return those of some backups that are of the first one's machine: they have a MAC in common."""
    macs = {backup: _macs(root, node, backup) for backup in found}
    return [backup for backup in found if backup == found[0] or macs[backup] & macs[found[0]]]


def _macs(root: str, node: str, backup: str) -> set[str]:
    with contextlib.suppress(RefusedError):
        machine = read_summary(root, node, backup).get("machine") or {}
        return set((machine.get("macs") or {}).values())
    return set()


def _remove_leftovers(root: str, node: str, now: float) -> None:
    """Throw away parts of files, and archives that never got a summary."""
    folder = os.path.join(root, node)
    known = set(ids(root, node))
    for name in os.listdir(folder) if os.path.isdir(folder) else []:
        suffix = next((suffix for suffix in (PART, *reversed(SUFFIXES)) if name.endswith(suffix)), None)
        path = os.path.join(folder, name)
        if suffix and name[: -len(suffix)] not in known and now - os.lstat(path).st_mtime > LEFT_SECONDS:
            os.unlink(path)
