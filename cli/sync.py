"""gb10 sync: copy models and images straight from node to node."""

from __future__ import annotations

from typing import Any

import click

from gb10.cli.screen import console
from gb10.cli.screen.session import Session, command_options, options
from gb10.cli.screen.transfer import Found, transfer
from gb10.controller.errors import Gb10Error
from gb10.operations.copying.plan import human


@click.group()
def sync() -> None:
    """Copy models and images from node to node, over the ConnectX-7 rails.

    What is there already is not sent again, and an interrupted copy continues where it stopped.
    """


copy_options = options(
    click.argument("source", metavar="SRC"),
    click.argument("target", metavar="DST"),
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
        type=click.Choice(["auto", "rsyncd", "ssh"]),
        default="auto",
        show_default=True,
        help="ssh is encrypted, and slower; auto is ssh over management, and rsyncd over the rails.",
    ),
    click.option("--force", is_flag=True, help="Copy even over a rail that is throttled."),
)


@sync.command()
@copy_options
@click.argument("names", metavar="[NAME]...", nargs=-1)
@click.option(
    "--dangling",
    type=click.Choice(["refuse", "list"]),
    default="refuse",
    show_default=True,
    help="What to do about links on SRC that lead nowhere.",
)
@command_options(limit=False)
def models(session: Session, source: str, target: str, names: tuple[str, ...], **arguments: Any) -> None:
    """Copy models of the Hugging Face cache from node SRC to node DST.

    NAME is as on the Hub: org/name, or datasets/org/name. Without one, all that SRC has is copied. The plan comes
    first, the proof last: all files are there, of the right size, and no link leads nowhere.
    """
    _copy(session, "gb10.deploys.models", source, target, names=list(names) or ["*"], **arguments)


@sync.command()
@copy_options
@click.argument("tags", metavar="[TAG]...", nargs=-1)
@command_options(limit=False)
def images(session: Session, source: str, target: str, tags: tuple[str, ...], **arguments: Any) -> None:
    """Copy Docker images from node SRC to node DST.

    TAG is as in docker image ls. Without one, the images that the inventory declares (images) are copied. Only layers
    that DST lacks are sent; images in SRC's engine are saved to its data disk first. The plan comes first, the proof
    last: DST's engine has the same layers, architecture and settings.
    """
    named = {"tags": list(tags)} if tags else {}
    _copy(session, "gb10.deploys.sync_images", source, target, **named, **arguments)


def _copy(session: Session, deploy: str, source: str, target: str, **arguments: Any) -> None:
    """Run a deploy on the target that copies from the source, and show the copy."""
    for node in (source, target):
        session.inventory.select([node])
    if source == target:
        raise Gb10Error("COPY_SAME_NODE", f"{source} is both source and target")
    session.known["copy"] = session.known["again"]
    kwargs = {"source": source, "progress_seconds": 0.5, **arguments}
    dry_run = session.options.dry_run
    with session.lock(), transfer(session.options.verbosity) as view:
        result = session.runner([target]).run(deploy, dry=dry_run, kwargs=kwargs, on_event=view.hear)
    for error in (*result.errors, *result.foreseen):
        console.print_error(error)
    if result.ok and not result.foreseen:
        _print_summary(dry_run, view.found)
    session.finish({"run": result.to_json(), **view.found.to_json()}, results=[result])


def _print_summary(dry_run: bool, found: Found) -> None:
    if dry_run:
        size = sum(plan.bytes for plan in found.plans)
        console.stdout.print(f"{size} bytes would be sent; nothing was changed." if found.plans else "Nothing to send.")
        return
    for proof in found.proofs:
        what = f"all {proof.files} files ({human(proof.bytes)}) and {proof.links} links"
        how = "sha256 of both nodes compared" if proof.hashed else "sizes compared"
        sent = "" if found.plans else ", nothing had to be sent"
        console.print_done(f"{proof.target} has {what} of {proof.source}: {how}{sent}")
