"""gb10 serving: what is served, and in which mode."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import click

from gb10.cli.screen import console
from gb10.cli.screen.session import Session, command_options, run_options, run_status
from gb10.controller.cluster.serving import DEPLOY, ServingStatus, described, serving_status
from gb10.controller.errors import ExitStatus, Gb10Error


@click.group()
def serving() -> None:
    """Show what is served, or switch it.

    The modes "cluster" (over all nodes) and "solo" (on one) are described by serving_modes in the inventory.
    """


@serving.command()
@command_options()
def show(session: Session) -> None:
    """Show what is served, where, and whether it answers.

    The exit status tells it too: 0 for a model that answers.
    """
    with console.waiting("Asking the nodes", quiet=session.as_json):
        found = serving_status(session.runner())
    if not session.as_json:
        console.print_serving(found)
    status = ExitStatus.OK if found.healthy else ExitStatus.UNVERIFIED
    session.finish({"serving": found.model_dump(mode="json")}, None, status)


@serving.command()
@command_options()
@run_options
def cluster(session: Session, **options: Any) -> None:
    """Serve over all nodes together."""
    switch(session, "cluster", None, **options)


@serving.command()
@click.argument("node")
@command_options()
@run_options
def solo(session: Session, node: str, **options: Any) -> None:
    """Serve on NODE alone."""
    switch(session, "solo", session.inventory.select([node])[0].name, **options)


@serving.command()
@command_options()
@run_options
def off(session: Session, **options: Any) -> None:
    """Serve nothing."""
    switch(session, "off", None, **options)


def switch(
    session: Session, mode: str, node: str | None, *, dry_run: bool, diff: bool, detailed_exitcode: bool
) -> None:
    """Bring a mode about and say where it answers. What serves is stopped only when all that it needs is there."""
    if not described(session.inventory):
        raise Gb10Error("SERVING_UNDESCRIBED")
    before = serving_status(session.runner(), complete=False)
    title = f"{'Dry run of serving' if dry_run else 'Serving'} {mode}{f' on {node}' if node else ''}"
    with nullcontext() if dry_run else session.lock():
        result = session.run(DEPLOY, title, dry=dry_run, diff=diff, kwargs={"mode": mode, "node": node})
    after = serving_status(session.runner()) if result.ok and not dry_run else None
    if not session.as_json:
        console.print_result(result, diff)
        if after:
            console.print_serving(after)
            print_move(before, after)
    document = {"run": result.to_json(), "serving": after.model_dump(mode="json") if after else None}
    session.finish(document, result.error, run_status([result], detailed_exitcode))


def print_move(before: ServingStatus, after: ServingStatus) -> None:
    """Say so where clients have to ask another address than before."""
    if before.address and after.address and before.address != after.address:
        console.print_note(f"It was at {before.address}: tell those who ask it.")
