"""Files straight from node to node over the ConnectX-7 rails, proven afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from pyinfra.api import Host
from pyinfra.context import host

from gb10.facts.reading.copy import UNFINISHED
from gb10.operations.copying.folder_copy import copy_commands
from gb10.operations.copying.options import CopyOptions, CopyRequest
from gb10.operations.kit.operation import Commands, operation
from gb10.operations.kit.peers import this_node
from gb10.programs.answer import RefusedError


@operation()
def sync(
    src_path: str,
    dest_host: Host | str,
    dest_path: str,
    paths: Sequence[str] | None = None,
    also: Sequence[str] = (),
    exclude: Sequence[str] = UNFINISHED,
    delete: bool = False,
    **options: Any,
) -> Commands:
    """
    Have a folder of this node on another node, sent over both rails and proven.

    + src_path: folder on this node
    + dest_host: the other node, or its name in the inventory
    + dest_path: folder there; it may hold more
    + paths: only these below src_path, with whatever their links reach inside it
    + also: more of them, where they exist
    + exclude: names that are left out, as the shell matches them
    + delete: remove what is on the target alone, below src_path or the paths
    + options: those of gb10.operations.copying.options.CopyOptions: verify="hash", network="management" ...

    What has arrived is never sent again: not whole files, and not pieces of large ones after a kill of any side.
    """
    target = host.inventory.get_host(dest_host, default=None) if isinstance(dest_host, str) else dest_host
    if target is None:
        raise RefusedError("COPY_PATH", f"the inventory has no node {dest_host}")
    request = CopyRequest(
        src_path=src_path,
        dest_path=dest_path,
        paths=None if paths is None else tuple(paths),
        also=tuple(also),
        exclude=tuple(exclude),
        delete=delete,
        **asdict(CopyOptions.of(options)),
    )
    yield from copy_commands(this_node(), target, request)
