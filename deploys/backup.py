"""Backups of what makes a node this node: made, proven, fetched and restored."""

from __future__ import annotations

from collections.abc import Sequence

from pyinfra.api import Host
from pyinfra.context import host

from gb10.group_data.settings import BackupSettings, K3sSettings, NodeNetwork, RestoreSettings, ServingSettings
from gb10.operations import backup as operations
from gb10.operations import restore as restore_operations
from gb10.operations.backups.age import recipient
from gb10.operations.backups.making import BackupPolicy, BackupRequest
from gb10.operations.backups.restoration import Restoration
from gb10.operations.backups.restore_plan import TITLES
from gb10.operations.backups.restore_source import open_backup
from gb10.operations.backups.state_folder import backups_folder
from gb10.operations.kit.inventory import deploy, hub_of, invalid, named, node_name, read_settings
from gb10.operations.kit.peers import this_node
from gb10.programs.answer import RefusedError


@deploy("Backup")
def backup(progress_seconds: float = 10.0) -> None:
    """
    Make a backup of a node: streamed to the controller, and from there to other nodes.

    + progress_seconds: how often to say how far it is

    Nothing is changed on the node. Every run makes a new backup; old ones are thrown away as backup_keep_count and
    backup_keep_days say.
    """
    settings, modes = backup_settings(), read_settings(ServingSettings).modes
    operations.made(
        name="Back up the node",
        policy=policy(host, settings),
        request=BackupRequest(
            paths=tuple(settings.paths),
            recipients=tuple(settings.recipients),
            hub=hub_of(host),
            serving={name: mode.model_dump(mode="json", exclude_unset=True) for name, mode in modes.items()} or None,
            progress_seconds=progress_seconds,
        ),
    )


@deploy("Prove backup", changes_nodes=False)
def prove_backup(backup: str = "latest", node: str | None = None, any_age: bool = False) -> None:
    """
    Prove a backup in every place where it is: unpacked as a restore would, compared, its database opened.

    + backup: its id, or "latest"
    + node: of another host than this one, which may be away
    + any_age: also one that is older than backup_fresh_hours, or of an installation that was wiped since
    """
    settings = backup_settings()
    of = host if node is None else named(node)
    hours = None if any_age else settings.fresh_hours
    operations.proven(
        name="Prove the backup",
        policy=policy(of, settings),
        identity_file=settings.identity_file,
        backup=backup,
        most_age_seconds=None if hours is None else hours * 3600,
        stand_in=of.name != host.name,
        any_installation=any_age,
    )


@deploy("Fetch backup", changes_nodes=False)
def fetch_backup(node: str, backup: str = "latest") -> None:
    """
    Have a backup on the controller that another node keeps: for a controller that lost its own, or is another one.

    + node: whose backup; it may be away
    + backup: its id, or "latest"
    """
    settings = backup_settings()
    operations.fetched(
        name="Fetch the backup",
        policy=policy(named(node), settings),
        identity_file=settings.identity_file,
        backup=backup,
    )


def backup_settings() -> BackupSettings:
    """Return this host's settings. Raise RefusedDeploy for invalid ones."""
    settings = read_settings(BackupSettings)
    for key in settings.recipients:
        try:
            recipient(key)
        except ValueError as error:
            raise invalid(f"{host.name}: backup_recipients: {error}") from error
    return settings


def policy(of: Host, settings: BackupSettings) -> BackupPolicy:
    """Given a node, return where its backups are kept: never on itself."""
    names = settings.keepers
    found = list(host.inventory) if names is None else [named(name) for name in names]
    return BackupPolicy(
        node=node_name(of),
        folder=str(backups_folder()),
        keepers=tuple(sorted((one for one in found if one.name != of.name), key=lambda one: str(one.name))),
        keeper_folder=settings.folder,
        count=settings.keep_count,
        days=settings.keep_days,
    )


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
        restore_operations.unusable(name="Open the backup", code=error.code, reason=error.reason)
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
    restore_operations.settled(name="Wait for the node's installation")
    restore_operations.fits(
        name="Compare the node with the backup",
        restoration=restoration,
        disturb=nodes.restart_while_serving,
        patterns=nodes.serving_containers,
    )
    restore_operations.brought(name=f"Bring {restoration.backup.id}", restoration=restoration)
    for step in restoration.steps:
        restore_operations.step(
            name=f"Restore {TITLES[step]}",
            restoration=restoration,
            step=step,
            disturb=nodes.restart_while_serving,
            patterns=nodes.serving_containers,
            seconds=nodes.confirm_seconds,
        )
    restore_operations.removed(name="Remove the backup from the node", restoration=restoration)
