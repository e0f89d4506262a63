"""The store of blobs that Hugging Face models share, as far as a listing knows it.

Beside the blobs lies what the store's owner notes about them: it is merged by a copy, never copied.
"""

from __future__ import annotations

import re

STORE_BLOB = re.compile(r"blobs/[0-9a-f]{2}/[0-9a-f]{64}")
CLASSIC_BLOB = re.compile(r"(?:models|datasets|spaces)--[^/]+/blobs/([0-9a-f]{64})")
STORE_MARKER = "blobs/.huggingface-shared-blobs"
STORE_OWN = re.compile(
    STORE_BLOB.pattern + r"\.(refs|lock(\.soft)?)|blobs/\.huggingface-shared-blobs\.[0-9a-f]{8}\.tmp"
)


def is_noted(blob: str, links: list[str]) -> bool:
    """Return True if the notes of a blob, given by its full path, name all of these links."""
    try:
        with open(f"{blob}.refs", errors="surrogateescape") as notes:
            return set(links) <= set(notes.read().splitlines())
    except OSError:
        return False
