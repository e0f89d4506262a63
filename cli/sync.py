"""gb10 sync: what one node has, straight to another."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any

import click

from gb10.cli.screen import console
from gb10.cli.screen.session import Session, command_options
from gb10.cli.screen.transfer import Found, transfer
from gb10.controller.errors import ExitStatus, Gb10Error
from gb10.operations.copying.plan import human


@click.group()
def sync() -> None:
    """Copy models and images from node to node, over the ConnectX-7 rails.

    What is there already is not sent again, and what was interrupted goes on where it stopped.
    """


def copy_options(command: Callable[..., None]) -> Callable[..., None]:
    """The options of every copy."""
    options = (
        click.option("--dry-run", is_flag=True, help="Only show what would be sent."),
        click.option(
            "--verify",
            type=click.Choice(["size", "hash"]),
            default="size",
            show_default=True,
            help="How to prove the copy: hash reads everything on both nodes.",
        ),
        click.option("--network", type=click.Choice(["rails", "management"]), default="rails", show_default=True),
        click.option(
            "--transport",
            type=click.Choice(["rsyncd", "ssh"]),
            default="rsyncd",
            show_default=True,
            help="ssh is encrypted, and slower.",
        ),
        click.option("--force", is_flag=True, help="Also over a rail that is found to be throttled."),
    )
    for option in reversed(options):
        command = option(command)
    return command


@sync.command()
@click.argument("source", metavar="SRC")
@click.argument("target", metavar="DST")
@click.argument("names", metavar="[NAME]...", nargs=-1)
@copy_options
@click.option(
    "--dangling",
    type=click.Choice(["refuse", "list"]),
    default="refuse",
    show_default=True,
    help="What to do about links on SRC that lead nowhere.",
)
@command_options(limit=False)
def models(session: Session, source: str, target: str, names: tuple[str, ...], dry_run: bool, **options: Any) -> None:
    """Copy models of the Hugging Face cache from node SRC to node DST.

    NAME is as on the Hub: org/name, or datasets/org/name. Without any, all that SRC has is copied. The plan comes
    first, the proof last: all files, of the right size, and no link that leads nowhere.
    """
    copy_between(session, "gb10.deploys.models", source, target, dry_run, {"names": list(names) or ["*"], **options})


@sync.command()
@click.argument("source", metavar="SRC")
@click.argument("target", metavar="DST")
@click.argument("tags", metavar="[TAG]...", nargs=-1)
@copy_options
@command_options(limit=False)
def images(session: Session, source: str, target: str, tags: tuple[str, ...], dry_run: bool, **options: Any) -> None:
    """Copy Docker images from node SRC to node DST.

    TAG is as in docker image ls. Without any, those that the inventory declares (images). Only layers that DST lacks
    are sent; what SRC has in its engine is saved to its data disk first. The plan comes first, the proof last: DST's
    engine has the same layers, architecture and settings.
    """
    kwargs = {"tags": list(tags)} if tags else {}
    copy_between(session, "gb10.deploys.sync_images", source, target, dry_run, {**kwargs, **options})


def copy_between(
    session: Session, deploy: str, source: str, target: str, dry_run: bool, kwargs: Mapping[str, Any]
) -> None:
    """Run a deploy on the target that takes something from the source, and show the copy."""
    for node in (source, target):
        session.inventory.select([node])
    if source == target:
        raise Gb10Error("COPY_SAME_NODE", f"{source} is both source and target")
    session.known["copy"] = session.known["again"]  # which takes the options of a copy
    arguments = {"source": source, "progress_seconds": 0.5, **kwargs}
    with (
        nullcontext() if dry_run else session.lock(),
        transfer(quiet=session.as_json, verbosity=session.verbosity) as view,
    ):
        result = session.runner([target]).run(deploy, dry=dry_run, kwargs=arguments, on_event=view.hear)
    if not session.as_json:
        for error in (*result.errors, *result.foreseen):
            console.print_error(error)
        if result.ok and not result.foreseen:
            _conclude(dry_run, view.found)
    document = {"run": result.to_json(), **view.found.to_json()}
    status = next((error.status for error in result.foreseen), ExitStatus.OK)
    session.finish(document, result.error, status)


def _conclude(dry_run: bool, found: Found) -> None:
    if dry_run:
        size = sum(plan.bytes for plan in found.plans)
        told = f"{size} bytes would be sent; nothing was changed." if found.plans else "Nothing to send."
        console.stdout().print(told)
        return
    for proof in found.proofs:
        what = f"all {proof.files} files ({human(proof.bytes)}) and {proof.links} links"
        how = "sha256 of both nodes compared" if proof.hashed else "sizes compared"
        sent = "" if found.plans else ", nothing had to be sent"
        console.print_done(f"{proof.target} has {what} of {proof.source}: {how}{sent}")
