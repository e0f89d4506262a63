"""The Hugging Face cache of a node: its models, and if they are complete.

The layout is that of huggingface_hub: hub/models--org--name/{refs,blobs,snapshots,trees}. Since 1.32 the content of
most files lies in a store that all repositories share, hub/blobs, and a repository's own blobs are links into it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gb10.facts.copy import FileTree
from gb10.facts.reading.copy import LOCKS, read_tree
from gb10.facts.reading.huggingface import Content, HuggingFaceCache, read_cache, read_contents
from gb10.facts.reading.launcher import Launch, ProgramFact

SMALL_FILES = ("*--*/refs/*", "*--*/trees/*.json")


class HuggingFaceModels(ProgramFact[HuggingFaceCache | None]):
    """The Hugging Face cache whose hub is the folder `hub`, or None if there is no such folder."""

    def command(self, hub: str) -> Launch:
        return FileTree().command(hub, exclude=LOCKS, read=SMALL_FILES)

    def read(self, answer: Any) -> HuggingFaceCache | None:
        tree = read_tree(answer)
        return None if tree.absent else read_cache(tree)


class ModelContents(ProgramFact[dict[str, Content]]):
    """Folder -> content of the repositories in the hub, by sha256. A repository that is not there is left out.

    + hub: absolute path
    + folders: of the repositories, below the hub

    A file that has not changed since it was last read for this is not read again.
    """

    def command(self, hub: str, folders: Sequence[str]) -> Launch:
        return FileTree().command(hub, paths=(), also=folders, exclude=LOCKS, remembered=True)

    def read(self, answer: Any) -> dict[str, Content]:
        return read_contents(read_tree(answer))
