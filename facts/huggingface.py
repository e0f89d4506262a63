"""What a node's Hugging Face cache holds, and whether it is complete.

The layout is that of huggingface_hub: hub/models--org--name/{refs,blobs,snapshots,trees}. Since 1.32 the content of
most files lies in a store that all repositories share, hub/blobs, and a repository's own blobs are links into it.
"""

from __future__ import annotations

from pyinfra.api import FactBase, StringCommand

from gb10.facts.reading.huggingface import HuggingFaceCache, read_cache
from gb10.facts.reading.launcher import understood
from gb10.facts.reading.tree import LOCKS
from gb10.facts.tree import FileTree

SMALL_FILES = ("*--*/refs/*", "*--*/trees/*.json")


class HuggingFaceModels(FactBase[HuggingFaceCache | None]):
    """The Hugging Face cache whose hub is the folder `hub`, or None where there is no such folder.

    Raises FactProcessError for the host whose output is not understood.
    """

    def command(self, hub: str) -> StringCommand:
        return FileTree().command(hub, exclude=LOCKS, read=SMALL_FILES)

    @understood
    def process(self, output: list[str]) -> HuggingFaceCache | None:
        tree = FileTree().process(output)
        return None if tree.absent else read_cache(tree)
