"""Secrets on a node: written through stdin, compared by digest, never shown."""

from __future__ import annotations

import hashlib
from collections.abc import Generator

from pyinfra.api import StringCommand, operation
from pyinfra.api.hiddenvalue import HiddenValue
from pyinfra.context import host

from gb10.facts.file import SecretFile, SecretFileState
from gb10.operations.file import replace_file
from gb10.operations.kit.failures import guarded, known


@operation()
@guarded
def secret_file(path: str, content: HiddenValue) -> Generator[StringCommand, None, None]:
    """
    Keep a secret in a file that only root can read.

    + path: absolute path on the node
    + content: the secret; a final newline is added if it has none

    The file is never wider than 0600, not even while it is written, and a reader sees the old secret or the new one,
    never half of it.
    """
    wanted = content.unmask().removesuffix("\n") + "\n"
    state = known(SecretFile, path=path)
    if state == SecretFileState(hashlib.sha256(wanted.encode()).hexdigest(), mode="600", owner="root"):
        host.noop(f"{path} holds the wanted secret")
        return
    yield replace_file(path, wanted, "600")
