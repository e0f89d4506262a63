"""The SSH server of a node, hardened without locking anybody out."""

from __future__ import annotations

from collections.abc import Generator

from pyinfra.api import FunctionCommand, StringCommand, operation
from pyinfra.context import host, state

from gb10.facts.file import TextFile
from gb10.facts.sshd import SshdConfig
from gb10.operations.file import show_diff
from gb10.operations.login import login_trouble
from gb10.operations.trial import trial
from gb10.operations.trouble import guarded, known, refuse
from gb10.templates import render

FILE = "/etc/ssh/sshd_config.d/00-gb10.conf"


@operation()
@guarded
def key_logins_only(seconds: int) -> Generator[StringCommand | FunctionCommand, None, None]:
    """
    Have sshd accept keys only, also for root.

    + seconds: how long the node waits for a new login by key before it goes back to what it had

    Refused unless a new connection, opened by a key and without any password, works now; taken back unless one works
    afterwards. sshd checks the files before any is in its place. Open sessions stay open.
    """
    content = render("node/sshd.conf.j2")
    sshd, file = known(SshdConfig), known(TextFile, path=FILE)
    if sshd is None:
        yield from refuse("SSHD_REJECTED", f"{host.name}: `sshd -T` fails, its configuration is broken already")
        return
    if file and file.content == content and not sshd.passwords and sshd.keys:
        host.noop("sshd accepts keys only")
        return
    if state.config.DIFF:
        show_diff(FILE, file.content if file else "", content)
    # Only the run asks: before it the key may not be there yet.
    trouble = login_trouble(state, host, keys_only=True) if state.is_executing else None
    if trouble:
        yield from refuse("KEY_LOGIN_FAILED", f"{host.name} lets nobody in by key, so passwords stay: {trouble}")
        return
    yield from trial("sshd", "sshd-action.sh", content, seconds, "SSHD_REJECTED", keys_only=True)
