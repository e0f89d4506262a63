"""Before and after the restore of a node: know it by its host key, and start K3s with the restored state."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

from gb10.controller.host_keys import settle_host_key, shown_keys
from gb10.controller.inventory import InventoryHost
from gb10.controller.run.results import RunResult
from gb10.group_data.settings import Acceptable, BackupSettings
from gb10.operations.backups.restore_plan import HOST_KEYS, TITLES
from gb10.operations.backups.restore_source import LATEST, open_backup
from gb10.operations.backups.state_folder import backups_folder
from gb10.operations.kit.known_hosts import HostKey, KnownHosts, host_name, public_keys
from gb10.programs.answer import RefusedError

# What a person may agree to.
ACCEPTABLE: tuple[str, ...] = get_args(Acceptable)


def know_host(host: InventoryHost, backup: str | None = None) -> None:
    """Know a host by its old key again, if it proves to have it. The key is in lines kept aside, or in a backup.

    A restore that is killed right after the node has its old key back leaves another key in known_hosts.
    """
    if settle_host_key(host) != "strange":
        return
    keys = _backed_up_keys(host, backup or LATEST)
    shown = {key.kind: key.blob for key in shown_keys(host, (HostKey(*key) for key in keys.items()))}
    if shown:
        path = Path(host.known_hosts or "~/.ssh/known_hosts").expanduser()
        KnownHosts(path).follow(host_name(host.address, host.port), shown, {})


def _backed_up_keys(host: InventoryHost, backup: str) -> dict[str, str]:
    """Return the public host keys in a backup by type; none if it cannot be opened."""
    try:
        identity_file = host.settings(BackupSettings).identity_file
        found = open_backup(str(backups_folder()), host.node_name, backup, identity_file).contents(
            lambda member: str(member.node_path).startswith(HOST_KEYS) and member.path.endswith(".pub")
        )
    except RefusedError:
        return {}
    return public_keys(line for content in found.values() for line in content.decode().splitlines())


def k3s_deploy(host: InventoryHost, result: RunResult) -> str | None:
    """Return the deploy that starts K3s after a successful restore, or None if the restore brought no K3s back."""
    restored = any(operation.name.endswith(TITLES["k3s"]) for operation in result.operations)
    if not restored or not {"head", "workers"} & set(host.groups):
        return None
    return "gb10.deploys.k3s_server" if "head" in host.groups else "gb10.deploys.k3s_agent"
