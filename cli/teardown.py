"""gb10 teardown."""

from __future__ import annotations

import sys
from contextlib import nullcontext

import click

from gb10.cli.screen import console
from gb10.cli.screen.session import Session, command_options, run_options, run_status
from gb10.controller.errors import Gb10Error
from gb10.controller.run.results import RunResult


@click.command()
@command_options()
@run_options
@click.option("--yes", is_flag=True, help="Do not ask.")
def teardown(session: Session, dry_run: bool, diff: bool, detailed_exitcode: bool, yes: bool) -> None:
    """Remove K3s from the nodes, and nothing else.

    Workers first, then the head. Kept: /data, containers that are not Kubernetes', and what is mounted from elsewhere.
    With --limit to workers, the head forgets them as well.
    """
    if not dry_run and not yes:
        _ask(session)
    with nullcontext() if dry_run else session.lock():
        results = _run(session, dry_run, diff)
    if not session.as_json:
        for result in results:
            console.print_result(result, diff)
    error = next((result.error for result in results if result.error), None)
    session.finish({"runs": [r.to_json() for r in results]}, error, run_status(results, detailed_exitcode))


def _run(session: Session, dry: bool, diff: bool) -> list[RunResult]:
    """Tear down; then let the head forget workers that leave it behind."""
    results = [session.run("gb10.deploys.k3s_teardown", "Teardown", dry=dry, diff=diff)]
    head, chosen = session.inventory.head, session.hosts
    if head in chosen:
        return results
    for host in chosen:
        if results[-1].ok:
            forget = {"node": host.node_name}
            title = f"Forget {host.node_name}"
            results.append(
                session.run("gb10.deploys.forget_node", title, limit=[head.name], dry=dry, diff=diff, kwargs=forget)
            )
    return results


def _ask(session: Session) -> None:
    """Have a person confirm: by name where the cluster itself goes. Raise CONFIRM_NEEDED or DECLINED."""
    head, chosen = session.inventory.head, session.hosts
    if not sys.stdin.isatty():
        raise Gb10Error("CONFIRM_NEEDED")
    console.print_note("Everything that runs in Kubernetes there ends. /data and other containers stay.")
    names = ", ".join(f"{host.name} ({host.address})" for host in chosen)
    if head in chosen:
        answer = click.prompt(
            f"Remove K3s from {names}\nType {head.name} to go on", default="", show_default=False, err=True
        )
        agreed = answer.strip() == head.name
    else:
        agreed = click.confirm(f"Remove K3s from {names}?", err=True)
    if not agreed:
        raise Gb10Error("DECLINED")
