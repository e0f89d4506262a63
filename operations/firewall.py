"""The firewall of a node: ufw's rules, and always one that lets SSH in."""

from __future__ import annotations

import shlex
from collections.abc import Generator, Sequence

from pyinfra.api import FunctionCommand, StringCommand, operation
from pyinfra.api.command import QuoteString
from pyinfra.context import host

from gb10.facts.network import SshdConfig, UfwRules
from gb10.operations.kit.failures import guarded, known
from gb10.operations.kit.trials import trial


@operation()
@guarded
def firewall(rules: Sequence[str], seconds: int) -> Generator[StringCommand | FunctionCommand, None, None]:
    """
    Enable ufw with these rules; sshd's ports are opened first. Other rules stay.

    + rules: as ufw takes them: "allow from 192.168.100.0/24"
    + seconds: how long the node waits for a new login before it disables the firewall again

    A node without ufw stays as it is. Ports that containers publish bypass ufw: Docker's rules come first.
    """
    ufw, sshd = known(UfwRules), known(SshdConfig)
    if ufw is None:
        host.noop("no ufw is here")
        return
    ports = sshd.ports if sshd else (22,)
    wanted = [*(f"allow {port}/tcp" for port in ports), *rules]
    missing = [rule for rule in dict.fromkeys(wanted) if rule not in ufw.rules]
    if not missing and ufw.active:
        host.noop("the firewall has its rules")
        return
    for rule in missing:
        yield StringCommand("ufw", *map(QuoteString, shlex.split(rule)))
    if not ufw.active:
        yield from trial("firewall", "firewall-action.sh", "", seconds, "FIREWALL_REJECTED")
