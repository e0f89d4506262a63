"""The backups on this controller, the proofs of their copies, and what a restore needs before and after it."""

from __future__ import annotations

from collections.abc import Collection
from typing import get_args

from gb10.controller.host_keys import settle_host_key, shown_keys
from gb10.controller.inventory import InventoryHost
from gb10.facts.reading.backups import BackupCopy, BackupProof, read_backups
from gb10.facts.reading.printable import made_printable
from gb10.group_data.settings import Acceptable, BackupSettings
from gb10.operations.backups.restore_plan import HOST_KEYS
from gb10.operations.backups.restore_source import LATEST, open_backup
from gb10.operations.backups.state_folder import backups_folder
from gb10.operations.kit.host_proof import ssh_host
from gb10.operations.kit.known_hosts import HostKey, KnownHosts, public_keys
from gb10.programs.answer import RefusedError
from gb10.programs.backups.listing import listing

CONTROLLER = "controller"  # the name of this place in evidence
ACCEPTABLE: tuple[str, ...] = get_args(Acceptable)  # refusals of a restore that a person may overrule


def local_backups(node: str | None = None) -> tuple[BackupCopy, ...]:
    """Return the controller's own copies, of one node or of all; oldest first within each node."""
    found = made_printable(read_backups(listing(str(backups_folder())), CONTROLLER)) or ()  # nodes made them
    return tuple(copy for copy in found if node is None or copy.node == node.lower())


def evidence_for(node: str) -> list[BackupProof]:
    """Return the last proof of each copy of a node's newest backup; nothing if there is no backup.

    A proof counts only if the file still has the digest that was proven, and one of another node's copy only if this
    controller has proven its own, with the same digest.
    """
    copies = local_backups(node)
    if not copies:
        return []
    newest = max(copies, key=lambda copy: copy.id.rpartition("-")[2])
    return [
        one
        for one in newest.evidence
        if newest.complete
        and one.sha256 in (None, newest.sha256)
        and (newest.proven or one.where == CONTROLLER or not one.proven)
    ]


def know_host(host: InventoryHost, backup: str | None = None) -> None:
    """Put a host's old key back into known_hosts if the host proves to have it.

    The key comes from saved lines of known_hosts or from a backup. A restore that is killed right after the node got
    its old key back leaves another key in known_hosts.
    """
    if settle_host_key(host) != "strange":
        return
    keys = _backed_up_keys(host, backup or LATEST)
    shown = {key.kind: key.blob for key in shown_keys(host, (HostKey(*key) for key in keys.items()))}
    if shown:
        where = ssh_host(host.address, host.login)
        KnownHosts(where.known_hosts).follow(where.name, shown, {})


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


def k3s_deploy(host: InventoryHost, steps: Collection[str]) -> str | None:
    """Return the deploy that starts K3s after a restore with these steps, or None if it restored no K3s."""
    if "k3s" not in steps or not {"head", "workers"} & set(host.groups):
        return None
    return "gb10.deploys.k3s_server" if "head" in host.groups else "gb10.deploys.k3s_agent"
