"""What makes a node this node, kept off it and proven."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, Field
from pyinfra.api import Host, deploy
from pyinfra.api.exceptions import DeployError
from pyinfra.context import host

from gb10.deploys.models import hub_of
from gb10.deploys.settings import checked, node_name, value
from gb10.operations import backup as operations
from gb10.operations.backups.age import recipient
from gb10.operations.backups.state_folder import backups_folder


def _absolute(path: str) -> str:
    if not path.startswith("/") or "\0" in path:
        raise ValueError(f"{path!r} is no absolute path")
    return path


def _public(key: str) -> str:
    recipient(key)
    return key


class BackupSettings(BaseModel):
    """What goes into backups and where they are kept: the keys of group_data/all.py."""

    backup_paths: list[Annotated[str, AfterValidator(_absolute)]]
    backup_keepers: list[str] | None
    backup_folder: Annotated[str, AfterValidator(_absolute)]
    backup_recipients: list[Annotated[str, AfterValidator(_public)]]
    backup_identity_file: str | None
    backup_keep_count: int | None = Field(ge=1)
    backup_keep_days: int | None = Field(ge=1)
    backup_fresh_hours: float | None = Field(gt=0)


@deploy("Backup")
def backup(progress_seconds: float = 10.0) -> None:
    """
    Make a backup of a node: streamed to the controller, and from there to other nodes.

    + progress_seconds: how often to say how far it is

    Nothing is changed on the node. Every run makes a new backup; old ones are thrown away as backup_keep_count and
    backup_keep_days say.
    """
    settings = backup_settings()
    operations.made(
        name="Back up the node",
        keeping=keeping(host, settings),
        wanted=operations.Wanted(
            paths=tuple(settings.backup_paths),
            recipients=tuple(settings.backup_recipients),
            hub=hub_of(host),
            serving=value("serving_modes") or None,
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
    of = host if node is None else _host(node)
    hours = None if any_age else settings.backup_fresh_hours
    operations.proven(
        name="Prove the backup",
        keeping=keeping(of, settings),
        identity_file=settings.backup_identity_file,
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
    operations.fetched(name="Fetch the backup", keeping=keeping(_host(node), backup_settings()), backup=backup)


def backup_settings() -> BackupSettings:
    """Return this host's settings. Raise DeployError for what cannot be."""
    return checked(BackupSettings, {key: value(key) for key in BackupSettings.model_fields})


def keeping(of: Host, settings: BackupSettings) -> operations.Keeping:
    """Given a node, return where its backups are kept: never on itself."""
    names: Any = settings.backup_keepers
    found = list(host.inventory) if names is None else [_host(name) for name in names]
    return operations.Keeping(
        node=node_name(of),
        folder=str(backups_folder()),
        keepers=tuple(sorted((one for one in found if one.name != of.name), key=lambda one: str(one.name))),
        keeper_folder=settings.backup_folder,
        count=settings.backup_keep_count,
        days=settings.backup_keep_days,
    )


def _host(name: str) -> Host:
    found = host.inventory.get_host(name, default=None)
    if found is None:
        raise DeployError(f"gb10: SETTINGS_INVALID: the inventory has no host {name!r}")
    return found
