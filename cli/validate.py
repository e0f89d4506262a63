"""gb10 validate."""

from __future__ import annotations

import click

from gb10.cli.screen import console
from gb10.cli.screen.session import Session, command_options
from gb10.controller.cluster.validate import CHECKS, unproven
from gb10.controller.cluster.validate import validate as validated

_NAMES = "\n".join(f"  {name:<18}{what}" for name, what in CHECKS.items())


@click.command(epilog=f"\b\nChecks:\n{_NAMES}")
@click.argument("nodes", metavar="[NODE]...", nargs=-1)
@command_options(limit=False)
@click.option(
    "--skip", "without", metavar="CHECK", type=click.Choice(list(CHECKS)), multiple=True, help="Leave a check out."
)
@click.option("--nccl", is_flag=True, help="All-reduce between the nodes as well; needs validate_nccl_image.")
@click.option("--while-serving", is_flag=True, help="Load the rails although a container that may be serving runs.")
def validate(
    session: Session, nodes: tuple[str, ...], without: tuple[str, ...], nccl: bool, while_serving: bool
) -> None:
    """Prove that GPUs, rails and operators work, on all nodes or on some.

    It runs a throw-away container on each GPU and measures each rail for some seconds, and leaves nothing behind but
    images that it had to pull. The exit status is 0 only when every check has passed: one that could not be made
    proves nothing.
    """
    names = [host.name for host in session.inventory.select(nodes)]
    with session.lock(), console.progress("Validate", names, session.verbosity, quiet=session.as_json) as view:
        found = validated(
            session.runner, nodes, without=without, nccl=nccl, while_serving=while_serving, on_event=view.hear
        )
    error = unproven(found)
    if not session.as_json:
        console.print_validation(found)
        if error:
            console.print_error(session.runner(()).know(error))
    session.finish({"validation": found.model_dump(mode="json")}, error)
