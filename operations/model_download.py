"""Models taken from the Hugging Face Hub, by the client that is on the node."""

from __future__ import annotations

from collections.abc import Generator, Sequence

from pyinfra.api import StringCommand, operation
from pyinfra.context import host

from gb10.facts.huggingface import HuggingFaceModels
from gb10.operations.kit.failures import guarded, known
from gb10.operations.kit.scripts import run_script
from gb10.operations.models import split_name

MEMORY_BYTES = 32 << 30  # the client may take a lot to be fast


@operation()
@guarded
def downloaded(names: Sequence[str], home: str, seconds: int) -> Generator[StringCommand, None, None]:
    """
    Have models in the Hugging Face cache of this node, downloaded where they are not whole.

    + names: as on the Hub: "org/name", "datasets/org/name"
    + home: the folder of the cache (HF_HOME)
    + seconds: how long one of them may take

    What was interrupted goes on where it stopped. For a model that one has to be let in to, the client's own login is
    used; gb10 never sees the token.
    """
    cache = known(HuggingFaceModels, hub=f"{home}/hub")
    lacking = []
    for name in names:
        found = cache.repository(*split_name(name)) if cache else None
        if found is None or not found.complete:
            lacking.append(name)
    if not lacking:
        host.noop("all of them are there")
    for name in lacking:
        repository, kind = split_name(name)
        yield run_script("download-model.sh", repository, kind, home, seconds=seconds, memory_bytes=MEMORY_BYTES)
