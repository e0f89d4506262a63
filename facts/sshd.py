"""The SSH server of a node, as its files configure it."""

from __future__ import annotations

from dataclasses import dataclass

from pyinfra.api import FactBase, StringCommand

from gb10.facts.reading.launcher import sections, understood
from gb10.facts.reading.sections import read_sections
from gb10.facts.reading.values import FactValue


@dataclass(frozen=True)
class Sshd(FactValue):
    """What `sshd -T` says is in force outside of Match blocks."""

    ports: tuple[int, ...]
    passwords: bool  # passwords open a session, directly or by keyboard-interactive
    keys: bool
    root_login: str  # "yes", "no", "without-password" (the old name of "prohibit-password") ...


class SshdConfig(FactBase[Sshd | None]):
    """The SSH server's configuration, or None where there is no sshd, or its files are broken.

    Needs root. Raises FactProcessError for the host whose output is not understood.
    """

    def command(self) -> StringCommand:
        return sections({"sshd": "sshd -T"})

    @understood
    def process(self, output: list[str]) -> Sshd | None:
        section = read_sections(output)["sshd"]
        if section.status != 0:
            return None
        values: dict[str, list[str]] = {}
        for line in section.lines:
            key, _, value = line.partition(" ")
            values.setdefault(key, []).append(value)
        return Sshd(
            ports=tuple(int(port) for port in values["port"]),
            passwords="yes" in values["passwordauthentication"] + values["kbdinteractiveauthentication"],
            keys=values["pubkeyauthentication"] == ["yes"],
            root_login=values["permitrootlogin"][0],
        )
