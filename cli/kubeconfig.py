"""gb10 kubeconfig."""

from __future__ import annotations

import shlex
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

import click

from gb10.cli.screen import console
from gb10.cli.screen.session import Session, command_options
from gb10.controller.cluster import kubeconfig as files
from gb10.controller.inventory import InventoryHost
from gb10.facts.reading.k3s import server_url
from gb10.group_data.settings import API_PORT


@click.command()
@command_options(limit=False)
@click.option(
    "--output", type=click.Path(dir_okay=False, path_type=Path), help="The file. Default: as kubectl chooses it."
)
@click.option("--context", help="Its name in the file. Default: the name of the head.")
@click.option("--use", is_flag=True, help="Make it the current context.")
def kubeconfig(session: Session, output: Path | None, context: str | None, use: bool) -> None:
    """Merge access to the cluster into your kubeconfig.

    Contexts of other clusters stay as they are. The file is readable by you alone.
    """
    head = session.inventory.head
    path, name = output or files.default_path(), context or head.name
    existing = files.read(path)
    with tempfile.TemporaryDirectory(prefix="gb10-") as folder:  # made with 0700
        raw = Path(folder) / "kubeconfig"
        result = session.run("gb10.deploys.kubeconfig", "Fetch", limit=[head.name], kwargs={"dest": str(raw)})
        fetched = files.read(raw) if result.ok else {}
    if result.error:
        if not session.as_json:
            console.print_result(result)
        session.finish({"path": str(path), "context": name}, result.error)
    merged = files.merged(existing, fetched, name=name, server=_server(head, fetched), use=use, path=str(path))
    if merged != existing:
        files.write(path, merged)
    current = merged["current-context"] == name
    if not session.as_json:
        console.print_done(f"Context {name} is in {path}")
        options = ["--kubeconfig", str(path)] if path != files.default_path() else []
        options += [] if current else ["--context", name]
        console.print_note(f"Try: {shlex.join(['kubectl', *options, 'get', 'nodes'])}")
    session.finish({"path": str(path), "context": name, "current": current, "changed": merged != existing}, None)


def _server(head: InventoryHost, fetched: files.Kubeconfig) -> str:
    """K3s writes https://127.0.0.1:PORT; from here it is the head's address."""
    clusters = fetched.get("clusters") or [{}]
    port = urlsplit(str(clusters[0].get("cluster", {}).get("server", ""))).port
    return server_url(head.address, port or API_PORT)
