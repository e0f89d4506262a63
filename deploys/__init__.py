"""What should be: deploys for the pyinfra CLI, for other pyinfra projects, and for the gb10 command.

Each deploy is imported when it is first asked for: a run of one of them need not wait for the libraries of the others.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gb10.deploys.backup import backup, fetch_backup, prove_backup, restore
    from gb10.deploys.cluster import cluster
    from gb10.deploys.images import images, prune_images, save_images, sync_images
    from gb10.deploys.k3s import forget_node, k3s_agent, k3s_server, k3s_teardown, kubeconfig
    from gb10.deploys.models import download_models, models
    from gb10.deploys.node import node
    from gb10.deploys.operators import (
        gpu_operator,
        gpu_operator_teardown,
        helm,
        network_operator,
        network_operator_teardown,
    )
    from gb10.deploys.rebuild import admit_node, drain_node, keep_journal, lock_nodes, start_services, unlock_nodes
    from gb10.deploys.serving import serving
    from gb10.deploys.validate import validate

# Module -> its deploys.
_DEPLOYS = {
    "backup": ("backup", "fetch_backup", "prove_backup", "restore"),
    "cluster": ("cluster",),
    "images": ("images", "prune_images", "save_images", "sync_images"),
    "k3s": ("forget_node", "k3s_agent", "k3s_server", "k3s_teardown", "kubeconfig"),
    "models": ("download_models", "models"),
    "node": ("node",),
    "operators": ("gpu_operator", "gpu_operator_teardown", "helm", "network_operator", "network_operator_teardown"),
    "rebuild": ("admit_node", "drain_node", "keep_journal", "lock_nodes", "start_services", "unlock_nodes"),
    "serving": ("serving",),
    "validate": ("validate",),
}
_MODULES = {name: module for module, names in _DEPLOYS.items() for name in names}
__all__ = list(_MODULES)


class _Deploys(ModuleType):
    """This package. Where a deploy and its module have one name, that name means the deploy."""

    def __getattr__(self, name: str) -> Any:
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        found = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
        setattr(self, name, found)
        return found

    def __setattr__(self, name: str, value: object) -> None:
        # An import of a module binds its name here, too.
        if not (isinstance(value, ModuleType) and name in _MODULES):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Deploys
