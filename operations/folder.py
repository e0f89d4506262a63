"""Folders for data on a node, on /data, which is never formatted or mounted over."""

from __future__ import annotations

from collections.abc import Generator, Mapping

from pyinfra.api import FunctionCommand, StringCommand, operation
from pyinfra.api.command import QuoteString
from pyinfra.context import host

from gb10.facts.data_mount import DataMount
from gb10.facts.node import UserAccount
from gb10.facts.reading.node import DataPlace
from gb10.operations.kit.failures import guarded, known, refuse


@operation()
@guarded
def folders(path: str, names: Mapping[str, str], user: str) -> Generator[StringCommand | FunctionCommand, None, None]:
    """
    Make folders below a path, and say whether they survive a reinstallation.

    + path: a mounted partition or a plain directory; if nothing is there, a directory is made
    + names: folder -> mode of a new one, octal
    + user: owner of new ones; existing ones keep their owner and mode

    Refused if a file system belongs at the path and is not mounted: it would hide what is written now.
    """
    place = known(DataMount, path=path, folders=list(names))
    if place.kind == "other":
        yield from refuse("DATA_BLOCKED", f"{host.name}: {path} is no directory")
        return
    if place.is_unmounted:
        yield from refuse("DATA_NOT_MOUNTED", f"{host.name}: {place.expected} belongs at {path} and is not mounted")
        return
    host.log(told(place))
    blocked = [name for name, kind in place.folders.items() if kind == "other"]
    if blocked:
        yield from refuse("DATA_BLOCKED", f"{host.name}: {', '.join(blocked)} below {path} is no directory")
        return
    missing = [name for name, kind in place.folders.items() if kind is None]
    if not missing:
        host.noop(f"{path} has its folders")
        return
    account = known(UserAccount, user=user)
    group = account.group if account else user
    if place.kind is None:
        yield StringCommand("install -d -m 755", QuoteString(path))
    for name in missing:
        yield StringCommand(f"install -d -m {names[name]} -o {user} -g {group}", QuoteString(f"{path}/{name}"))


def told(place: DataPlace) -> str:
    """Given where /data is, return a sentence on whether its content survives a reinstallation."""
    free = f"{place.free_bytes / 2**30:.0f} GiB free"
    if place.own_device:
        return f"{place.path} is on a device of its own ({place.source}, {place.filesystem}, {free})"
    what = "is a directory" if place.kind else "will be a directory"
    return f"{place.path} {what} on the root file system ({free}): a reinstallation of the node erases it"
