"""gb10 status."""

from __future__ import annotations

import time

import click

from gb10.cli.screen import console
from gb10.cli.screen.session import Session, command_options, print_json
from gb10.controller.cluster.status import cluster_status
from gb10.controller.errors import ExitStatus

WATCH_SECONDS = 5


@click.command()
@command_options()
@click.option("--watch", is_flag=True, help=f"Look again every {WATCH_SECONDS} seconds, until Ctrl-C.")
def status(session: Session, watch: bool) -> None:
    """Show the nodes and whether the cluster is healthy.

    The exit status tells it too: 0 for healthy.
    """
    runner = session.runner()
    while watch and session.as_json:
        click.echo(cluster_status(runner).model_dump_json())
        time.sleep(WATCH_SECONDS)
    if watch:
        console.watch(lambda: cluster_status(runner), WATCH_SECONDS)
    with console.waiting("Asking the nodes", quiet=session.as_json):
        found = cluster_status(runner)
    if session.as_json:
        print_json(found.model_dump(mode="json"))
    else:
        console.print_status(found)
    if found.healthy and not session.verbosity:
        session.log.remove()
    elif not session.as_json:
        session.print_log()
    raise SystemExit(ExitStatus.OK if found.healthy else ExitStatus.UNVERIFIED)
