"""The inventory: settings of hosts, their names, addresses and roles, and a check for misspelt names."""

from __future__ import annotations

import ast
import functools
import inspect
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from ipaddress import ip_address
from pathlib import Path
from typing import Any, ParamSpec
from weakref import WeakSet

from pyinfra.api import Host, Inventory
from pyinfra.api import deploy as pyinfra_deploy
from pyinfra.api.arguments import all_argument_meta
from pyinfra.api.operation import PyinfraOperation
from pyinfra.context import host

from gb10.group_data.settings import (
    PYINFRA_SSH,
    SETTINGS,
    AnyTopic,
    HostSettings,
    NodeWorkplace,
    Proxy,
    RailSettings,
    RailsSettings,
    SettingsError,
    SshSettings,
    Topic,
    did_you_mean,
    settings_of,
)
from gb10.operations.kit.operation import RefusedDeploy
from gb10.operations.node_lock import heed_lock

HEAD, WORKERS = "head", "workers"
KNOWN = (*SETTINGS, *PYINFRA_SSH)
# The border between a misspelt setting of ours and a name of other people, who may share the inventory:
# - It must be nearly one of ours, by difflib's ratio, and begin with the same letter. A common prefix is not enough:
#   node_exporter_port and k3s_token are other people's.
# - One or two words that differ from ours by a plural alone (image, node_users, ssh_keys) are other people's, too.
NEARLY = 0.85
MOST_WORDS = 2

Arguments = ParamSpec("Arguments")
_read: WeakSet[Inventory] = WeakSet()  # inventories without a misspelt name


def read_settings(topic: type[AnyTopic], of: Host | None = None, /, **instead: Any) -> AnyTopic:
    """
    Return a topic of a host's settings. Raise RefusedDeploy for invalid ones.

    + of: the host; None: the current one
    + instead: arguments of a deploy that replace settings of the inventory, unless they are None
    """
    node = host if of is None else of
    try:
        return settings_of(node.data.dict(), topic, **instead)
    except SettingsError as error:
        raise invalid(f"{node.name}: {error}") from error


def invalid(reason: str) -> RefusedDeploy:
    """Return the error for invalid settings."""
    return RefusedDeploy("SETTINGS_INVALID", reason)


def named(name: str) -> Host:
    """Return the host of this name. Raise RefusedDeploy if the inventory has none."""
    found = host.inventory.get_host(name, default=None)
    if found is None:
        raise invalid(f"the inventory has no host {name!r}")
    return found


def head() -> Host:
    """Return the head of the cluster. Raise RefusedDeploy if the inventory names none or several."""
    heads = host.inventory.groups.get(HEAD, [])
    if len(heads) != 1:
        raise invalid(f"the inventory's group {HEAD!r} has {len(heads)} hosts, not one")
    return heads[0]


def nodes() -> list[Host]:
    """Return the nodes of the cluster, the head first; all hosts if the inventory has no such groups."""
    groups = host.inventory.groups
    return [*groups.get(HEAD, []), *groups.get(WORKERS, [])] or list(host.inventory)


def is_node() -> bool:
    """Return True if this host is a node of the cluster."""
    return host.name in [node.name for node in nodes()]


def is_in(group: str) -> bool:
    """Return True if this host belongs to a group of the inventory."""
    return group in host.groups


def k3s_role() -> str | None:
    """Return the role of this host, "server" or "agent"; None outside the groups head and workers."""
    return "server" if is_in(HEAD) else "agent" if is_in(WORKERS) else None


def node_name(node: Host) -> str:
    """Return the name of a host in Kubernetes: pinned, since a wiped node comes back with its factory hostname."""
    return (read_settings(HostSettings, node).node_name or node.name).lower()


def node_ip(node: Host) -> str:
    """Return the address at which the other nodes reach a host on the management network."""
    return read_settings(HostSettings, node).node_ip or ssh_address(node)


def is_address(text: str) -> bool:
    """Return True for an IP address, False for a name."""
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def ssh_address(node: Host) -> str:
    """Return the address or name at which the controller reaches a host."""
    return read_settings(SshSettings, node).hostname or node.name


def kubernetes_ip(node: Host) -> str:
    """Return the IP address of a host in K3s, which takes no name. Raise RefusedDeploy if only a name is known.

    A name need not mean the same on the other nodes as on the controller.
    """
    address = node_ip(node)
    try:
        return str(ip_address(address))
    except ValueError as error:
        text = f"{node.name}: {address!r} is no IP address: set node_ip to its address on the management network"
        raise invalid(text) from error


def rails_of(node: Host) -> dict[str, RailSettings]:
    """Return the rails of a host by name. Raise RefusedDeploy for invalid ones."""
    return read_settings(RailsSettings, node).rails


def meeting_address(node: Host) -> str:
    """Return the address at which engines meet on a node: on its first rail, else on the management network."""
    rails = rails_of(node)
    return rails[min(rails)].ip if rails else node_ip(node)


def hub_of(node: Host) -> str:
    """Return the folder hub/ of the Hugging Face cache of a host."""
    return read_settings(NodeWorkplace, node).hub


def downloads_proxy() -> dict[str, str]:
    """Return the environment in which this host downloads."""
    return read_settings(Proxy).environment([node_ip(peer) for peer in host.inventory])


def merged(base: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """Return values with more values over them: mappings are merged, all else is replaced."""
    result = dict(base)
    for key, value in more.items():
        below = result.get(key)
        both = isinstance(below, Mapping) and isinstance(value, Mapping)
        result[key] = merged(below, value) if both else value  # type: ignore[arg-type] # `both` says so
    return result


# Deploys, and misspelt names ------------------------------------------------------------------------------------------


def deploy(
    title: str, *topics: type[Topic], also: Iterable[str] = (), changes_nodes: bool = True
) -> Callable[[Callable[Arguments, Any]], PyinfraOperation[Arguments]]:
    """Make a deploy of a function, as pyinfra's decorator does. Misspelt settings and arguments end it at once.

    + topics: their fields are arguments beside those that the function names
    + also: more names of such arguments
    + changes_nodes: it is refused on a node that a run of another controller has locked
    """

    def declare(function: Callable[Arguments, Any]) -> PyinfraOperation[Arguments]:
        parameters = inspect.signature(function).parameters.values()
        own = [one.name for one in parameters if one.kind is not inspect.Parameter.VAR_KEYWORD]
        known = {*own, *also, *(field for topic in topics for field in topic.model_fields)}

        @pyinfra_deploy(title)
        @functools.wraps(function)
        def checked(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Any:
            check_inventory(host.inventory)
            check_arguments(function.__name__, kwargs, known)
            if changes_nodes:
                heed_lock()
            return function(*args, **kwargs)

        return checked

    return declare


def check_inventory(inventory: Inventory) -> None:
    """Raise RefusedDeploy for the misspelt settings of an inventory; look for them once in a run."""
    if inventory in _read:
        return
    if found := misspelt(inventory, [argument for argument in sys.argv[1:] if argument.endswith(".py")]):
        raise invalid("; ".join(found))
    _read.add(inventory)


def check_arguments(function: str, given: Iterable[str], known: Collection[str]) -> None:
    """Raise RefusedDeploy for unknown arguments of a deploy. pyinfra has removed its own already."""
    wrong = [
        f"{function} has no argument {name!r}{did_you_mean(name, all_argument_meta if name.startswith('_') else known)}"
        for name in given
        if name not in known
    ]
    if wrong:
        raise invalid("; ".join(wrong))


def is_misspelt(name: str) -> bool:
    """Return True if a name of an inventory is meant to be a setting, and is none."""
    if name in KNOWN or name.startswith("_"):  # those are pyinfra's own
        return False
    near = [known for known in get_close_matches(name, KNOWN, cutoff=NEARLY) if known[0] == name[0]]
    is_plural = any(name.removesuffix("s") == known.removesuffix("s") for known in near)
    return bool(near) and not (is_plural and name.count("_") < MOST_WORDS)


def misspelt(inventory: Inventory, files: Sequence[str]) -> list[str]:
    """Return one line for each misspelt setting of an inventory: where it is, and what was probably meant.

    + files: of the inventory; group_data/ beside them and in the current folder is searched as well
    """
    found: dict[str, list[str]] = {}
    for place, data in _places(inventory):
        for name in filter(is_misspelt, data):
            found.setdefault(name, []).append(place)
    return [
        f"{', '.join(places)}: {name} is no setting{did_you_mean(name, KNOWN)}{_written(name, files)}"
        for name, places in found.items()
    ]


def _places(inventory: Inventory) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield each place where an inventory holds data, and those data."""
    yield "--data", inventory.override_data
    yield "all", inventory.data
    for group, data in inventory.group_data.items():
        if group in inventory.groups:  # group_data/ may have a file for a group without hosts
            yield f"group {group}", data
    for each in inventory:
        yield each.name, inventory.get_host_data(each.name)


def _written(name: str, files: Iterable[str]) -> str:
    """Return " (FILE, line N)" for the first place where a name is written as a setting, "" if there is none."""
    folders = dict.fromkeys(folder / "group_data" for folder in (Path(), *(Path(file).parent for file in files)))
    group_data = (path for folder in folders for path in sorted(folder.glob("*.py")))
    for path in (*map(Path, files), *group_data):
        for line in _lines(path, name):
            return f" ({path}, line {line})"
    return ""


def _lines(path: Path, name: str) -> Iterator[int]:
    """Yield the lines of a Python file that assign a name or have it as a key."""
    try:
        tree = ast.parse(path.read_text())
    except (OSError, SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        keys = node.keys if isinstance(node, ast.Dict) else []
        yield from (key.lineno for key in keys if isinstance(key, ast.Constant) and key.value == name)
        if isinstance(node, ast.keyword) and node.arg == name:
            yield node.lineno
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node.id == name:
            yield node.lineno
