"""The hostname of a node."""

from __future__ import annotations

from collections.abc import Generator

from pyinfra.api import StringCommand, operation
from pyinfra.context import host

from gb10.facts.file import TextFile
from gb10.facts.identity import NodeIdentity
from gb10.operations.file import replace_file
from gb10.operations.kit.failures import guarded, known

FILE = "/etc/hostname"


@operation()
@guarded
def hostname(wanted: str) -> Generator[StringCommand, None, None]:
    """
    Set the hostname, now and after a boot. A wiped node comes back with the one of its factory.

    + wanted: without a domain
    """
    file = known(TextFile, path=FILE)
    if file and file.content == f"{wanted}\n" and known(NodeIdentity).hostname == wanted:
        host.noop(f"the hostname is {wanted}")
        return
    yield replace_file(FILE, f"{wanted}\n", "644")
    yield StringCommand("hostname", wanted)
