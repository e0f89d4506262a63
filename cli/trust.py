"""gb10 trust: meet nodes for the first time, or after their SSH host keys changed."""

from __future__ import annotations

import click

from gb10.cli.screen import console
from gb10.cli.screen.session import Session, command_options
from gb10.controller.errors import Gb10Error
from gb10.controller.host_keys import Contact, meet, trust_host_key
from gb10.operations.kit.known_hosts import HostKey


@click.command()
@click.argument("nodes", metavar="NODE...", nargs=-1, required=True)
@click.option(
    "--fingerprint",
    "fingerprints",
    metavar="SHA256:...",
    multiple=True,
    help="The fingerprint of a node, read on its own screen; for scripts, one for each node.",
)
@click.option("--dry-run", is_flag=True, help="Only show the fingerprints.")
@command_options(limit=False)
def trust(session: Session, nodes: tuple[str, ...], fingerprints: tuple[str, ...]) -> None:
    """Show the SSH host key of each NODE, ask, and put it into known_hosts.

    All other commands refuse a node whose key is not there, or is another one. Compare the fingerprint with what the
    node's own screen shows: ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub. Nothing is written unless every NODE is
    confirmed.
    """
    met = [(contact, contact.chosen(fingerprints)) for contact in map(meet, session.inventory.select(nodes))]
    for contact, key in met:
        _show(contact, key)
    new = [] if session.options.dry_run else [(contact.host, key) for contact, key in met if not contact.trusted]
    if new and not fingerprints:
        _ask(session, [host.name for host, _ in new])
    with session.lock():
        for host, key in new:
            trust_host_key(host, key)
            console.print_done(f"{host.name}: {key.fingerprint} is trusted")
    session.finish({"nodes": [_document(contact, key) for contact, key in met]})


def _show(contact: Contact, key: HostKey) -> None:
    """Print what a host shows, and what is known of it."""
    host = contact.host
    if contact.trusted:
        console.print_line(f"{host.name} ({host.address}) is known: {key.fingerprint} ({key.kind})")
        return
    for old in contact.known:
        console.print_line(f"{host.name} ({host.address}) was known by: {old.fingerprint} ({old.kind})")
    console.print_line(f"{host.name} ({host.address}) shows: {key.fingerprint} ({key.kind})")


def _ask(session: Session, names: list[str]) -> None:
    """Have the new keys confirmed. Raise USAGE if nobody can answer, DECLINED for no."""
    if not session.interactive:
        raise Gb10Error("USAGE", "there is no terminal to ask for a confirmation: name each --fingerprint SHA256:...")
    for name in names:
        session.confirm(f"Is that what the own screen of {name} shows?")


def _document(contact: Contact, key: HostKey) -> dict[str, object]:
    state = "known" if contact.trusted else "changed" if contact.known else "new"
    known = [old.to_json() for old in contact.known]
    return {"node": contact.host.name, "state": state, "key": key.to_json(), "known": known}
