"""The parts of a backup that can be restored, and the steps that restore them."""

from __future__ import annotations

# In this order: who may come in, what the node is called, how it is reached; then what runs there. sshd is the last:
# with its keys the node shows another face to everybody who knows only the one of its new installation.
STEPS = ("users", "identity", "network", "docker", "system", "extra", "k3s", "sshd")
# What can be restored. "serving" and "inventory-of" are written down about a node, and are no files of it.
RESTORABLE = ("identity", "users", "network", "docker", "k3s", "system", "extra")
TITLES = {
    "users": "accounts and their files",
    "identity": "the node's names",
    "network": "the network",
    "docker": "Docker's configuration",
    "system": "system settings",
    "extra": "further paths",
    "k3s": "K3s' configuration and state",
    "sshd": "the SSH host keys",
}
ACCOUNTS = "gb10/users.json"  # lines of passwd, shadow and group of the accounts of people
SSHD = "/etc/ssh"
HOST_KEYS = f"{SSHD}/ssh_host_"
NETPLAN = "/etc/netplan/"
