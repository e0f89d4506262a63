"""The configuration of the SSH server of a node."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gb10.facts.reading.launcher import Launch, SectionsFact
from gb10.facts.reading.sections import Section
from gb10.facts.reading.values import FactValue


@dataclass(frozen=True)
class Sshd(FactValue):
    """The settings of `sshd -T`, outside of Match blocks."""

    ports: tuple[int, ...]
    passwords: bool  # passwords open a session, directly or by keyboard-interactive
    keys: bool
    root_login: str  # "yes", "no", "without-password" (the old name of "prohibit-password") ...


class SshdConfig(SectionsFact[Sshd | None]):
    """The SSH server's configuration, or None without sshd, or if its files are broken.

    Needs root. Raises FactProcessError for the host whose output is not understood.
    """

    def command(self) -> Launch:
        return self.sections({"sshd": "sshd -T"})

    def read_sections(self, found: Mapping[str, Section]) -> Sshd | None:
        section = found["sshd"]
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
