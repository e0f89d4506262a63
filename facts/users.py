"""Accounts of a node."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass

from gb10.facts.reading.launcher import Launch, SectionsFact
from gb10.facts.reading.sections import Section
from gb10.facts.reading.values import FactValue


@dataclass(frozen=True)
class Account(FactValue):
    """An account that can log in, or not."""

    name: str
    uid: int
    group: str  # its primary group
    groups: tuple[str, ...]
    home: str
    shell: str
    authorized_keys: tuple[str, ...] | None  # lines of the file; None where there is none


class UserAccount(SectionsFact[Account | None]):
    """The account of a name, or None if the node has none.

    Raises FactProcessError for the host whose output is not understood.
    """

    def command(self, user: str) -> Launch:
        name = shlex.quote(user)
        return self.sections(
            {
                "passwd": f"getent passwd {name}",
                "group": f"id -gn {name}",
                "groups": f"id -Gn {name}",
                "keys": f'cat "$(getent passwd {name} | cut -d: -f6)/.ssh/authorized_keys"',
            }
        )

    def read_sections(self, found: Mapping[str, Section]) -> Account | None:
        if found["passwd"].status == 2:  # getent: no such key
            return None
        name, _, uid, _, _, home, shell = found["passwd"].lines[0].split(":")
        keys = found["keys"]
        return Account(
            name=name,
            uid=int(uid),
            group=found["group"].lines[0],
            groups=tuple(found["groups"].lines[0].split()),
            home=home,
            shell=shell,
            authorized_keys=keys.lines if keys.status == 0 else None,
        )
