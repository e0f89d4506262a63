"""What makes a node this node, kept off it and proven."""

from __future__ import annotations

from pyinfra.api import Host
from pyinfra.context import host

from gb10.group_data.settings import BackupSettings, ServingSettings
from gb10.operations import backup as operations
from gb10.operations.backups.age import recipient
from gb10.operations.backups.making import BackupPolicy, BackupRequest
from gb10.operations.backups.state_folder import backups_folder
from gb10.operations.kit.inventory import deploy, hub_of, invalid, named, node_name, read_settings


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


@deploy("Prove backup")
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


@deploy("Fetch backup")
def fetch_backup(node: str, backup: str = "latest") -> None:
    """
    Have a backup on the controller that another node keeps: for a controller that lost its own, or is another one.

    + node: whose backup; it may be away
    + backup: its id, or "latest"
    """
    operations.fetched(name="Fetch the backup", policy=policy(named(node), backup_settings()), backup=backup)


def backup_settings() -> BackupSettings:
    """Return this host's settings. Raise RefusedDeploy for what cannot be."""
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
