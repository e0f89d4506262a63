"""A deploy of ours: it looks for misspelt names in the inventory and in its arguments before anything happens."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Collection, Iterable
from typing import Any, ParamSpec
from weakref import WeakSet

from pyinfra.api import Inventory
from pyinfra.api import deploy as pyinfra_deploy
from pyinfra.api.arguments import all_argument_meta
from pyinfra.api.operation import PyinfraOperation
from pyinfra.context import host

from gb10.group_data.settings import Topic, did_you_mean
from gb10.operations.kit.inventory import invalid
from gb10.operations.kit.spelling import misspelt

Arguments = ParamSpec("Arguments")

_read: WeakSet[Inventory] = WeakSet()  # inventories without a misspelt name


def deploy(
    title: str, *topics: type[Topic], also: Iterable[str] = ()
) -> Callable[[Callable[Arguments, Any]], PyinfraOperation[Arguments]]:
    """
    Make a deploy of a function, as pyinfra's decorator does.

    + topics: their fields are arguments beside those that the function names
    + also: more names of such arguments
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
            return function(*args, **kwargs)

        return checked

    return declare


def check_inventory(inventory: Inventory) -> None:
    """Look for misspelt settings, once in a run. Raise RefusedDeploy with all of them."""
    if inventory in _read:
        return
    if found := misspelt(inventory, [word for word in sys.argv[1:] if word.endswith(".py")]):
        raise invalid("; ".join(found))
    _read.add(inventory)


def check_arguments(function: str, given: Iterable[str], known: Collection[str]) -> None:
    """Raise RefusedDeploy for arguments that a deploy does not have. pyinfra has taken its own out of them already."""
    wrong = [
        f"{function} has no argument {name!r}{did_you_mean(name, all_argument_meta if name.startswith('_') else known)}"
        for name in given
        if name not in known
    ]
    if wrong:
        raise invalid("; ".join(wrong))
