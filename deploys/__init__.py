"""What should be: deploys for the pyinfra CLI, for other pyinfra projects, and for the gb10 command."""

from gb10.deploys.backup import backup, fetch_backup, prove_backup
from gb10.deploys.cluster import cluster
from gb10.deploys.gpu_operator import gpu_operator, gpu_operator_teardown
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
