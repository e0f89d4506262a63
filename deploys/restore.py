"""A backup of the controller put back onto the node that it was made of."""

from __future__ import annotations

from collections.abc import Sequence

from pyinfra.context import host

from gb10.group_data.settings import BackupSettings, K3sSettings, NodeNetwork, RestoreSettings
from gb10.operations import restore as operations
from gb10.operations.backups.restoration import Restoration
from gb10.operations.backups.restore_plan import TITLES
from gb10.operations.backups.restore_source import open_backup
from gb10.operations.backups.state_folder import backups_folder
from gb10.operations.kit.inventory import deploy, node_name, read_settings
from gb10.operations.kit.peers import this_node
from gb10.programs.answer import RefusedError


@deploy("Restore")
def restore(backup: str | None = None, only: Sequence[str] | None = None, accept: Sequence[str] | None = None) -> None:
    """
    Have on a node what a backup of it holds: over the management network, and sshd's host keys last.

    + backup: instead of `restore_from` of group_data/all.py: the id of a backup, or "latest": this node's
      newest proven one
    + only: instead of `restore_only`: parts of it
    + accept: instead of `restore_accept`: codes of what speaks against it, and is to count for nothing

    What the node has beyond the backup stays, and what is replaced is kept beside. K3s is not installed by this: where
    it was not running, k3s_server or k3s_agent does that afterwards, with the state that was restored.
    """
    settings = read_settings(RestoreSettings, restore_from=backup, restore_only=only, restore_accept=accept)
    name, key_file = node_name(host), read_settings(BackupSettings).identity_file
    try:
        found = open_backup(str(backups_folder()), name, settings.restore_from, key_file)
    except RefusedError as error:
        operations.unusable(name="Open the backup", code=error.code, reason=error.reason)
        return
    restoration = Restoration(
        node=this_node(),
        name=name,
        backup=found,
        only=None if settings.restore_only is None else tuple(settings.restore_only),
        k3s_version=read_settings(K3sSettings).version,
        accept=frozenset(settings.restore_accept),
    )
    restore_steps(restoration)


def restore_steps(restoration: Restoration) -> None:
    """Let the node settle, refuse what does not fit, then bring the backup, restore it step by step, and clear up."""
    nodes = read_settings(NodeNetwork)
    operations.settled(name="Wait for the node's installation")
    operations.fits(
        name="Compare the node with the backup",
        restoration=restoration,
        disturb=nodes.restart_while_serving,
        patterns=nodes.serving_containers,
    )
    operations.brought(name=f"Bring {restoration.backup.id}", restoration=restoration)
    for step in restoration.steps:
        operations.step(
            name=f"Restore {TITLES[step]}",
            restoration=restoration,
            step=step,
            disturb=nodes.restart_while_serving,
            patterns=nodes.serving_containers,
            seconds=nodes.confirm_seconds,
        )
    operations.removed(name="Remove the backup from the node", restoration=restoration)
