"""What should be: deploys for the pyinfra CLI, for other pyinfra projects, and for the gb10 command."""

from gb10.deploys.cluster import cluster
from gb10.deploys.k3s import forget_node, k3s_agent, k3s_server, k3s_teardown, kubeconfig
from gb10.deploys.node import node

__all__ = ["cluster", "forget_node", "k3s_agent", "k3s_server", "k3s_teardown", "kubeconfig", "node"]
