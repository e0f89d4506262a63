"""gb10 provision."""

from __future__ import annotations

from contextlib import nullcontext

import click

from gb10.cli.screen import console
from gb10.cli.screen.session import Session, command_options, run_options, run_status


@click.command()
@click.argument("nodes", metavar="NODE...", nargs=-1, required=True)
@command_options(limit=False)
@run_options
def provision(session: Session, nodes: tuple[str, ...], dry_run: bool, diff: bool, detailed_exitcode: bool) -> None:
    """Have a vanilla DGX OS node ready: accounts, /data, Docker, speed, rails, sshd.

    NODE is a node's name, or a group of the inventory. Every part can be switched off in group_data/. What is already
    as it should be is left alone; what may cut the way to the node comes last, and is taken back by itself if it does.
    """
    title = "Dry run of provision" if dry_run else "Provision"
    with nullcontext() if dry_run else session.lock():
        result = session.run("gb10.deploys.node", title, limit=nodes, dry=dry_run, diff=diff)
    if not session.as_json:
        console.print_result(result, diff)
    session.finish({"run": result.to_json()}, result.error, run_status([result], detailed_exitcode))
