"""What should be: deploys for the pyinfra CLI, for other pyinfra projects, and for the gb10 command.

Each deploy is imported when it is first asked for: a run of one of them need not wait for the libraries of the others.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gb10.deploys.backup import backup, fetch_backup, prove_backup
    from gb10.deploys.cluster import cluster
    from gb10.deploys.gpu_operator import gpu_operator, gpu_operator_teardown
    from gb10.deploys.helm import helm
    from gb10.deploys.images import images, prune_images, save_images, sync_images
    from gb10.deploys.k3s import forget_node, k3s_agent, k3s_server, k3s_teardown, kubeconfig
    from gb10.deploys.model_download import download_models
    from gb10.deploys.models import models
    from gb10.deploys.network_operator import network_operator, network_operator_teardown
    from gb10.deploys.node import node
    from gb10.deploys.rebuild import admit_node, drain_node, lock_nodes, start_services, unlock_nodes
    from gb10.deploys.restore import restore
    from gb10.deploys.serving import serving
    from gb10.deploys.validate import validate

__all__ = [
    "admit_node",
    "backup",
    "cluster",
    "download_models",
    "drain_node",
    "fetch_backup",
    "forget_node",
    "gpu_operator",
    "gpu_operator_teardown",
    "helm",
    "images",
    "k3s_agent",
    "k3s_server",
    "k3s_teardown",
    "kubeconfig",
    "lock_nodes",
    "models",
    "network_operator",
    "network_operator_teardown",
    "node",
    "prove_backup",
    "prune_images",
    "restore",
    "save_images",
    "serving",
    "start_services",
    "sync_images",
    "unlock_nodes",
    "validate",
]

# Deploys whose module has another name.
_MODULES = {
    "admit_node": "rebuild",
    "download_models": "model_download",
    "drain_node": "rebuild",
    "fetch_backup": "backup",
    "forget_node": "k3s",
    "gpu_operator_teardown": "gpu_operator",
    "k3s_agent": "k3s",
    "k3s_server": "k3s",
    "k3s_teardown": "k3s",
    "kubeconfig": "k3s",
    "lock_nodes": "rebuild",
    "network_operator_teardown": "network_operator",
    "prove_backup": "backup",
    "prune_images": "images",
    "save_images": "images",
    "start_services": "rebuild",
    "sync_images": "images",
    "unlock_nodes": "rebuild",
}


class _Deploys(ModuleType):
    """This package. Where a deploy and its module have one name, that name means the deploy."""

    def __getattr__(self, name: str) -> Any:
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        found = getattr(import_module(f"{__name__}.{_MODULES.get(name, name)}"), name)
        setattr(self, name, found)
        return found

    def __setattr__(self, name: str, value: object) -> None:
        # An import of a module binds its name here, too.
        if not (isinstance(value, ModuleType) and name in __all__):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Deploys
