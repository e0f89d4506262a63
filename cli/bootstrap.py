"""gb10 bootstrap."""

from __future__ import annotations

from contextlib import nullcontext

import click

from gb10.cli.screen import console
from gb10.cli.screen.session import Session, command_options, run_options, run_status
from gb10.controller.cluster.status import cluster_status, unhealthy
from gb10.controller.run.results import RunResult


@click.command()
@click.option("--repair", is_flag=True, help="Take back what a killed helm left behind.")
@command_options()
@run_options
def bootstrap(session: Session, repair: bool, dry_run: bool, diff: bool, detailed_exitcode: bool) -> None:
    """Bring the cluster up, or bring it up to date.

    The head first, then the workers. What is already as it should be is left alone, so it can be repeated at any time,
    and goes on where it was interrupted.
    """
    title = "Dry run of bootstrap" if dry_run else "Bootstrap"
    with nullcontext() if dry_run else session.lock():
        wanted = {"repair": True} if repair else None
        result = session.run("gb10.deploys.cluster", title, dry=dry_run, diff=diff, kwargs=wanted)
    # Of the whole cluster, whatever the limit: only the head knows what a worker is worth.
    status = cluster_status(session.runner(())) if worth_a_look(result) and not dry_run else None
    if not session.as_json:
        console.print_result(result, diff)
        if status:
            console.print_status(status)
    error = result.error or (unhealthy(status) if status and not session.limit else None)
    document = {"run": result.to_json(), "status": status.model_dump(mode="json") if status else None}
    session.finish(document, error, run_status([result], detailed_exitcode))


def worth_a_look(result: RunResult) -> bool:
    """Tell whether the cluster is up as far as its status explains more than the run does."""
    return result.ok or any(error.code == "OPERATOR_NOT_READY" for error in result.errors)
