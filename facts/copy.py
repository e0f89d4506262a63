"""Copies between nodes: listings of folders, and copies that run now."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from gb10.facts.reading.copy import UNFINISHED, RunningCopy, Tree, read_running, read_tree
from gb10.facts.reading.launcher import Launch, ProgramFact
from gb10.facts.reading.reports import Checked

LIST_SECONDS = 2 * 3600
HASH_SECONDS = 24 * 3600  # terabytes, from a slow disk
MEMORY_BYTES, ANSWER_BYTES = 8 << 30, 1 << 30  # for millions of files


class FileTree(ProgramFact[Tree]):
    """Everything in the folder `root`.

    + root: absolute path on the node
    + paths: only these below it, with what their links reach inside the root
    + also: more of them, where they exist
    + exclude: names that are left out, as the shell matches them; with a leading slash, whole paths below the root
    + read: paths, as the shell matches them, of small files whose text is wanted
    + hashed: with the sha256 of every file, read at the speed of the storage
    + remembered: hashed, but a file that has not changed since it was last read for this is not read again
    + brief: without the entries themselves
    + copied_to: folder of another node that is to get a copy: absolute links that do not lead into it are broken
    """

    def command(
        self,
        root: str,
        paths: Sequence[str] | None = None,
        also: Sequence[str] = (),
        exclude: Sequence[str] = UNFINISHED,
        read: Sequence[str] = (),
        hashed: bool = False,
        remembered: bool = False,
        brief: bool = False,
        copied_to: str | None = None,
    ) -> Launch:
        job: dict[str, Any] = {"root": root, "paths": paths, "also": also, "exclude": exclude, "read": read}
        job |= {
            "hash": hashed,
            "remembered": remembered,
            "brief": brief,
            "copied_to": copied_to and os.path.normpath(copied_to),
        }
        return Launch(
            "gb10.programs.tree.listing:main",
            job,
            seconds=HASH_SECONDS if hashed or remembered else LIST_SECONDS,
            reports=Checked,
            memory_bytes=MEMORY_BYTES,
            answer_bytes=ANSWER_BYTES,
            guarded=[root],
        )

    def read(self, answer: Any) -> Tree:
        return read_tree(answer)


class CopyProgress(ProgramFact[tuple[RunningCopy, ...]]):
    """The copies that this node receives now; none is an empty tuple."""

    default = tuple

    def command(self) -> Launch:
        return Launch("gb10.programs.copying.receiving.run_folder:main", {}, guarded=["/run"])

    def read(self, answer: Any) -> tuple[RunningCopy, ...]:
        return tuple(map(read_running, answer))
