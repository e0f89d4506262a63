"""gb10 serving: show what is served, or switch the mode."""

from __future__ import annotations

import click

from gb10.cli.screen import console, status_view
from gb10.cli.screen.session import Session, command_options, run_options
from gb10.controller.cluster.serving import DEPLOY, described, serving_status
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

    The exit status is 0 if a model answers.
    """
    with console.waiting("Asking the nodes"):
        found = serving_status(session.runner())
    status_view.print_serving(found)
    status = ExitStatus.OK if found.healthy else ExitStatus.UNVERIFIED
    session.finish({"serving": found.model_dump(mode="json")}, status=status)


@serving.command()
@command_options()
@run_options
def cluster(session: Session) -> None:
    """Serve over all nodes together."""
    _switch(session, "cluster")


@serving.command()
@click.argument("node")
@command_options()
@run_options
def solo(session: Session, node: str) -> None:
    """Serve on NODE alone."""
    _switch(session, "solo", session.inventory.select([node])[0].name)


@serving.command()
@command_options()
@run_options
def off(session: Session) -> None:
    """Serve nothing."""
    _switch(session, "off")


def _switch(session: Session, mode: str, node: str | None = None) -> None:
    """Switch to a mode and show where it answers."""
    if not described(session.inventory):
        raise Gb10Error("SERVING_UNDESCRIBED")
    before = serving_status(session.runner(), complete=False)
    with session.lock():
        result = session.run(DEPLOY, f"Serving {mode}{f' on {node}' if node else ''}", mode=mode, node=node)
    after = serving_status(session.runner()) if result.ok and not session.options.dry_run else None
    session.print_result(result)
    if after:
        status_view.print_serving(after)
        if before.address and after.address and before.address != after.address:
            console.print_note(f"It was at {before.address}: clients must use the new address.")
    document = {"run": result.to_json(), "serving": after.model_dump(mode="json") if after else None}
    session.finish(document, results=[result])
