"""gb10 status and gb10 validate."""

from __future__ import annotations

import time

import click

from gb10.cli.screen import console, status_view
from gb10.cli.screen.session import Session, command_options, print_json, require_pins
from gb10.controller.cluster import validate as trials
from gb10.controller.cluster.status import cluster_status
from gb10.controller.errors import ExitStatus

WATCH_SECONDS = 5


@click.command()
@command_options()
@click.option("--watch", is_flag=True, help=f"Look again every {WATCH_SECONDS} seconds, until Ctrl-C.")
def status(session: Session, watch: bool) -> None:
    """Show the nodes and whether the cluster is healthy.

    The exit status is 0 for a healthy cluster.
    """
    runner, as_json = session.runner(), session.options.as_json
    while watch and as_json:
        click.echo(cluster_status(runner).model_dump_json())
        time.sleep(WATCH_SECONDS)
    if watch:
        status_view.watch(lambda: cluster_status(runner), WATCH_SECONDS)
    with console.waiting("Asking the nodes"):
        found = cluster_status(runner)
    status_view.print_status(found)
    if as_json:
        print_json(found.model_dump(mode="json"))
    if found.healthy and not session.options.verbosity:
        session.log.remove()
    session.print_log()
    raise SystemExit(ExitStatus.OK if found.healthy else ExitStatus.UNVERIFIED)


_CHECKS = "\n".join(f"  {name:<18}{text}" for name, text in trials.CHECKS.items())


@click.command(epilog=f"\b\nChecks:\n{_CHECKS}")
@click.argument("nodes", metavar="[NODE]...", nargs=-1)
@command_options(limit=False)
@click.option(
    "--skip", "without", metavar="CHECK", type=click.Choice(list(trials.CHECKS)), multiple=True, help="Skip a check."
)
@require_pins
@click.option("--nccl", is_flag=True, help="All-reduce between the nodes as well; needs validate_nccl_image.")
@click.option("--while-serving", is_flag=True, help="Load the rails even if a running container may be serving.")
def validate(
    session: Session, nodes: tuple[str, ...], without: tuple[str, ...], nccl: bool, while_serving: bool
) -> None:
    """Prove that GPUs, rails and operators work, on all nodes or on some.

    It runs a throw-away container on each GPU and measures each rail for some seconds. It leaves nothing behind but the
    images that it pulls. The exit status is 0 only if every check passes: a check that could not run proves
    nothing.
    """
    names = [host.name for host in session.inventory.select(nodes)]
    with session.lock(), console.progress("Validate", names, session.options.verbosity) as on_event:
        found = trials.validate(
            session.runner, nodes, without=without, nccl=nccl, while_serving=while_serving, on_event=on_event
        )
    error = trials.unproven(found)
    status_view.print_validation(found)
    if error:
        console.print_error(session.runner(()).know(error))
    session.finish({"validation": found.model_dump(mode="json")}, error)
