"""The paths of a node that are in its backup."""

from __future__ import annotations

SERVER = "/var/lib/rancher/k3s/server"
DATABASE = f"{SERVER}/db/state.db"
TOKEN = f"{SERVER}/token"
AUTHORITY = f"{SERVER}/tls/server-ca.crt"
CERTIFICATES = (TOKEN, f"{SERVER}/tls", f"{SERVER}/cred")
# Not copied as files: charts that K3s brings itself, and its database, which is added as a consistent copy.
DISPENSABLE = (f"{SERVER}/static", f"{SERVER}/db")
AGENT_CONFIG = "/etc/rancher/k3s/config.yaml"
NODE_PASSWORD = "/etc/rancher/node/password"  # noqa: S105 - a path
NEVER = ("/proc", "/sys", "/dev", "/run", "/tmp")  # noqa: S108 - not even if they are listed

PATHS = {
    "identity": ("/etc/ssh", "/etc/hostname", "/etc/hosts"),
    "users": (
        "/etc/sudoers",
        "/etc/sudoers.d",
        "/root/.ssh",
        "/root/.cache/huggingface/token",
        "/root/.cache/huggingface/stored_tokens",
        "/root/.netrc",
    ),
    "network": (
        "/etc/netplan",
        "/etc/NetworkManager/conf.d",
        "/etc/NetworkManager/system-connections",
        "/etc/systemd/network",
        "/etc/ufw",
        "/etc/default/ufw",
    ),
    "docker": (
        "/etc/docker",
        "/root/.docker/config.json",
        "/etc/nvidia-container-runtime",
        "/etc/systemd/system/docker*",
    ),
    "k3s": ("/etc/rancher", "/etc/systemd/system/k3s*", "/etc/systemd/system/*/k3s*"),
    "system": (
        "/etc/sysctl.conf",
        "/etc/sysctl.d",
        "/etc/security/limits.conf",
        "/etc/security/limits.d",
        "/etc/modules-load.d",
        "/etc/modprobe.d",
        "/etc/udev/rules.d",
        "/etc/environment",
        "/etc/default/locale",
        "/etc/default/grub",
        "/etc/localtime",
        "/etc/timezone",
        "/etc/fstab",
        "/etc/crontab",
        "/etc/cron.d",
        "/var/spool/cron/crontabs",
        "/etc/systemd/system",
        "/etc/systemd/user",
        "/etc/systemd/*.conf.d",
        "/etc/apt/sources.list",
        "/etc/apt/sources.list.d",
        "/etc/apt/preferences.d",
        "/etc/apt/keyrings",
    ),
}
TOKENS = ("token", "stored_tokens")  # of the Hugging Face Hub, in the folder HF_HOME
# Below the home of each person: keys, and credentials for registries and hubs.
HOMES = {
    "users": (".ssh", *(f".cache/huggingface/{name}" for name in TOKENS), ".netrc"),
    "docker": (".docker/config.json",),
}
