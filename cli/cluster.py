"""gb10 provision, bootstrap, kubeconfig and teardown: the cluster from vanilla nodes to their release."""

from __future__ import annotations

import shlex
import sys
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

import click

from gb10.cli.screen import console
from gb10.cli.screen.session import Session, command_options, require_pins, run_options
from gb10.cli.screen.status_view import print_status
from gb10.controller.cluster import kubeconfig as files
from gb10.controller.cluster.status import cluster_status, unhealthy
from gb10.controller.errors import Gb10Error
from gb10.controller.inventory import InventoryHost
from gb10.controller.run.results import RunResult
from gb10.facts.reading.k3s import server_url
from gb10.group_data.settings import API_PORT


@click.command()
@click.argument("nodes", metavar="NODE...", nargs=-1, required=True)
@command_options(limit=False)
@run_options
def provision(session: Session, nodes: tuple[str, ...]) -> None:
    """Prepare a vanilla DGX OS node: accounts, /data, Docker, speed, rails, sshd.

    NODE is a node or a group of the inventory. Each part can be switched off in group_data/. What is already right is
    left alone. Changes that may cut the connection to the node come last, and are undone if they do.
    """
    with session.lock():
        result = session.run("gb10.deploys.node", "Provision", limit=nodes)
    session.print_result(result)
    session.finish({"run": result.to_json()}, results=[result])


@click.command()
@click.option("--repair", is_flag=True, help="Undo what a killed helm left behind.")
@command_options()
@run_options
@require_pins
def bootstrap(session: Session, repair: bool) -> None:
    """Bring the cluster up, or bring it up to date.

    The head comes first, then the workers. What is already right is left alone, so the command can be repeated at any
    time, and continues where it was interrupted.
    """
    with session.lock():
        result = session.run("gb10.deploys.cluster", "Bootstrap", repair=repair)
    # The status explains more than the run if only an operator is not ready. The limit does not apply to it: only the
    # head knows the state of a worker.
    is_up = result.ok or any(error.code == "OPERATOR_NOT_READY" for error in result.errors)
    status = cluster_status(session.runner(())) if is_up and not session.options.dry_run else None
    session.print_result(result)
    if status:
        print_status(status)
    error = result.error or (unhealthy(status) if status and not session.options.limit else None)
    document = {"run": result.to_json(), "status": status.model_dump(mode="json") if status else None}
    session.finish(document, error, results=[result])


@click.command()
@command_options(limit=False)
@click.option(
    "--output", type=click.Path(dir_okay=False, path_type=Path), help="The file. Default: the one that kubectl uses."
)
@click.option("--context", help="Its name in the file. Default: the name of the head.")
@click.option("--use", is_flag=True, help="Make it the current context.")
def kubeconfig(session: Session, output: Path | None, context: str | None, use: bool) -> None:
    """Merge access to the cluster into your kubeconfig.

    Contexts of other clusters stay as they are. Only you can read the file.
    """
    head = session.inventory.head
    path, name = output or files.default_path(), context or head.name
    existing = files.read(path)
    with tempfile.TemporaryDirectory(prefix="gb10-") as folder:  # made with 0700
        raw = Path(folder) / "kubeconfig"
        result = session.run("gb10.deploys.kubeconfig", "Fetch", limit=[head.name], dest=str(raw))
        fetched = files.read(raw) if result.ok else {}
    if result.error:
        session.print_result(result)
        session.finish({"path": str(path), "context": name}, result.error)
    merged = files.merged(existing, fetched, name=name, server=_server(head, fetched), use=use, path=str(path))
    if merged != existing:
        files.write(path, merged)
    current = merged["current-context"] == name
    console.print_done(f"Context {name} is in {path}")
    options = ["--kubeconfig", str(path)] if path != files.default_path() else []
    options += [] if current else ["--context", name]
    console.print_note(f"Try: {shlex.join(['kubectl', *options, 'get', 'nodes'])}")
    session.finish({"path": str(path), "context": name, "current": current, "changed": merged != existing})


def _server(head: InventoryHost, fetched: files.Kubeconfig) -> str:
    """Return the URL of the API at the head's address. K3s itself writes https://127.0.0.1:PORT."""
    clusters = fetched.get("clusters") or [{}]
    port = urlsplit(str(clusters[0].get("cluster", {}).get("server", ""))).port
    return server_url(head.address, port or API_PORT)


@click.command()
@command_options()
@run_options
@click.option("--yes", is_flag=True, help="Do not ask.")
def teardown(session: Session, yes: bool) -> None:
    """Remove K3s from the nodes, and nothing else.

    The workers come first, then the head. /data, containers outside Kubernetes and foreign mounts are kept. If --limit
    selects only workers, the head forgets them.
    """
    if not session.options.dry_run and not yes:
        _confirm_teardown(session)
    with session.lock():
        results = _tear_down(session)
    for result in results:
        session.print_result(result)
    session.finish({"runs": [result.to_json() for result in results]}, results=results)


def _confirm_teardown(session: Session) -> None:
    """Ask for the name of the head if the whole cluster goes, else for a yes. Raise CONFIRM_NEEDED or DECLINED."""
    head = session.inventory.head
    if not sys.stdin.isatty():
        raise Gb10Error("CONFIRM_NEEDED")
    console.print_note("Everything that Kubernetes runs there ends. /data and other containers stay.")
    question = f"Remove K3s from {', '.join(f'{host.name} ({host.address})' for host in session.hosts)}"
    if head in session.hosts:
        answer = click.prompt(f"{question}\nType {head.name} to go on", default="", show_default=False, err=True)
        agreed = answer.strip() == head.name
    else:
        agreed = click.confirm(f"{question}?", err=True)
    if not agreed:
        raise Gb10Error("DECLINED")


def _tear_down(session: Session) -> list[RunResult]:
    """Remove K3s; then the head, if it stays, forgets the workers."""
    results = [session.run("gb10.deploys.k3s_teardown", "Teardown")]
    head, chosen = session.inventory.head, session.hosts
    for name in () if head in chosen else (host.node_name for host in chosen):
        if results[-1].ok:
            results.append(session.run("gb10.deploys.forget_node", f"Forget {name}", limit=[head.name], node=name))
    return results
