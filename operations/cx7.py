"""The ConnectX-7 link put to use: files go straight from node to node, over both rails, and are proven to be there."""

from __future__ import annotations

from collections.abc import Generator, Sequence

from pyinfra.api import FunctionCommand, Host, operation

from gb10.facts.reading.tree import UNFINISHED
from gb10.operations.copying.between import copy_commands
from gb10.operations.copying.survey import STREAMS, Dangling, Network, Transport, Verify, Wanted
from gb10.operations.kit.failures import guarded, refuse
from gb10.operations.kit.peers import node, this_node


@operation()
@guarded
def sync(
    src_path: str,
    dest_host: Host | str,
    dest_path: str,
    paths: Sequence[str] | None = None,
    also: Sequence[str] = (),
    exclude: Sequence[str] = UNFINISHED,
    transport: Transport = "rsyncd",
    network: Network = "rails",
    verify: Verify = "size",
    dangling: Dangling = "refuse",
    delete: bool = False,
    force: bool = False,
    streams: int = STREAMS,
    progress_seconds: float = 10.0,
) -> Generator[FunctionCommand, None, None]:
    """
    Have a folder of this node on another node, sent over both rails and proven.

    + src_path: folder on this node
    + dest_host: the other node, or its name in the inventory
    + dest_path: folder there; it may hold more
    + paths: only these below src_path, with whatever their links reach inside it
    + also: more of them, where they exist
    + exclude: names that are left out, as the shell matches them
    + transport: "rsyncd" (an rsync daemon for this copy alone; not encrypted) or "ssh" (encrypted, and slower)
    + network: "rails", or "management" where there are none
    + verify: "size", or "hash" to read everything on both nodes and compare sha256
    + dangling: "refuse" a source with links that lead nowhere, or "list" them and go on
    + delete: remove what is on the target alone, below src_path or the paths
    + force: also over a link that is found to be throttled
    + streams: how many on each rail, 1 to 64
    + progress_seconds: how often to say how far it is

    What has arrived is never sent again: not whole files, and not pieces of large ones after a kill of any side.
    """
    target = node(dest_host) if isinstance(dest_host, str) else dest_host
    if target is None:
        yield from refuse("COPY_PATH", f"the inventory has no node {dest_host}")
        return
    chosen = None if paths is None else tuple(paths)
    wanted = Wanted(
        src_path=src_path,
        dest_path=dest_path,
        paths=chosen,
        also=tuple(also),
        exclude=tuple(exclude),
        transport=transport,
        network=network,
        verify=verify,
        dangling=dangling,
        delete=delete,
        force=force,
        streams=streams,
        progress_seconds=progress_seconds,
    )
    yield from copy_commands(this_node(), target, wanted)
