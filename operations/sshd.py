"""The SSH server of a node, restricted to key logins without locking anybody out."""

from __future__ import annotations

from contextlib import closing

from pyinfra.api import FunctionCommand, Host, State
from pyinfra.api.exceptions import ConnectError
from pyinfra.context import host

from gb10.facts.file import TextFile
from gb10.facts.network import ROOT_LOGINS, SSHD_FILE, Sshd, SshdConfig
from gb10.operations.file import show_diff
from gb10.operations.kit.operation import Commands, known, operation, say
from gb10.operations.kit.scripts import script
from gb10.operations.kit.trials import NewLogin, trial
from gb10.programs.answer import RefusedError
from gb10.templates import render


@operation()
def key_logins_only(seconds: int) -> Commands:
    """
    Have sshd accept key logins only, also for root.

    + seconds: how long the node waits for a new login by key before it goes back to what it had

    Refused unless a login by key alone works: now, and with a second sshd that reads what this one would read
    afterwards. Taken back unless it works then, too. Open sessions stay open.
    A stricter setting of somebody else stays.
    """
    sshd, file = known(SshdConfig), known(TextFile, path=SSHD_FILE)
    if sshd is None:
        raise RefusedError("SSHD_REJECTED", f"{host.name}: `sshd -T` fails, its configuration is broken already")
    content = drop_in(sshd)
    if file and file.content == content and not sshd.passwords:
        host.noop("sshd accepts keys only")
        return
    show_diff(SSHD_FILE, file, content)
    yield FunctionCommand(_rehearse, (content,), {})
    yield from trial("sshd", "sshd-action.sh", content, seconds, "SSHD_REJECTED", keys_only=True)


def drop_in(sshd: Sshd) -> str:
    """Return the text of our file: no value in it permits more than sshd does now, or would do without it.

    Keys are not switched on for everybody if sshd has them for some accounts only, in a Match block.
    """
    root_login = max(sshd.root_login, "prohibit-password", key=ROOT_LOGINS.index)
    return render("node/sshd.conf.j2", root_login=root_login, keys=sshd.keys)


def _rehearse(state: State, host: Host, content: str) -> bool:
    """Log in by key, now and as it would be afterwards; report the reason if that fails.

    A reload also applies what others wrote and never loaded, so a second sshd reads the whole configuration.
    """
    try:
        login = NewLogin(state, host, keys_only=True)
    except ConnectError as error:
        say(host, "KEY_LOGIN_FAILED", f"{host.name} lets nobody in by key, so passwords stay: {error}")
        return False
    with closing(login):
        done, output = login.run(script("sshd-rehearsal.sh"), content)
        if not done:
            say(host, "SSHD_REJECTED", f"{host.name}: {output}: nothing was changed")
            return False
        port, unit = output.split()[-2:]
        trouble = _try_login(state, host, login, int(port))
        login.run(f"systemctl stop {unit}")
    if trouble:
        say(host, "KEY_LOGIN_FAILED", f"{host.name} would let nobody in by key any more, so nothing changes: {trouble}")
    return trouble is None


def _try_login(state: State, host: Host, login: NewLogin, port: int) -> str | None:
    """Log in through the second sshd; return the reason if that fails, or None."""
    try:
        with closing(NewLogin(state, host, keys_only=True, tunnel=login.tunnel(port))) as rehearsed:
            done, output = rehearsed.run("true")
    except ConnectError as error:
        return str(error)
    return None if done else output or "a login works, but no command"
