"""Host keys and known_hosts files of the controller.

A known_hosts file is edited line by line: lines about other hosts stay as they are, with hashed names, comments, marks
and keys of any type, which paramiko's HostKeys would drop.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from gb10.operations.kit.files import write_atomically

Keys = Mapping[str, str]  # type -> base64


@dataclass(frozen=True)
class HostKey:
    """A public host key: its type as in known_hosts, "ssh-ed25519", and its base64."""

    kind: str
    blob: str

    @property
    def fingerprint(self) -> str:
        """The fingerprint as ssh and ssh-keygen -l show it: "SHA256:..."."""
        digest = hashlib.sha256(base64.b64decode(self.blob)).digest()
        return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")

    def is_named(self, given: str) -> bool:
        """Return True if a person typed this key: its fingerprint, with or without "SHA256:", or the key itself."""
        names = (self.fingerprint, self.fingerprint.removeprefix("SHA256:"), f"{self.kind} {self.blob}", self.blob)
        return given.strip() in names

    def to_json(self) -> dict[str, str]:
        return {"kind": self.kind, "blob": self.blob, "fingerprint": self.fingerprint}

    @classmethod
    def from_json(cls, document: Mapping[str, str]) -> HostKey:
        return cls(document["kind"], document["blob"])


class KnownHosts:
    """A known_hosts file, read once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        text = path.read_text(encoding="utf-8", errors="surrogateescape") if path.exists() else ""
        self.lines = text.splitlines()

    def about(self, name: str) -> list[str]:
        """Return the lines that name a host."""
        return [line for line in self.lines if _names(line, name)]

    def meaning(self, name: str) -> list[str]:
        """Return the lines that name a host, and those that give one of its keys another name."""
        keys = keys_of(self.about(name))
        return [line for line in self.lines if _names(line, name) or key_of(line) in keys]

    def accepts(self, name: str, key: HostKey) -> bool:
        """Return True if pyinfra accepts this key of a host. It reads no line after one that it cannot read."""
        from paramiko import PKey  # noqa: PLC0415 # loading it takes longer than all other work here
        from paramiko.hostkeys import HostKeys  # noqa: PLC0415

        known = HostKeys()
        with suppress(Exception):  # as pyinfra does
            known.load(str(self.path))
        return known.check(name, PKey.from_type_string(key.kind, base64.b64decode(key.blob)))

    def revoked(self) -> set[str]:
        """Return the words of all lines with the mark @revoked, with the base64 of each key."""
        return {word for line in self.lines if line.startswith("@revoked") for word in line.split()}

    def trust(self, name: str, key: HostKey) -> None:
        """Make this the only key of a host. Its lines come first: a line before them may be one that cannot be read."""
        old = self.about(name)
        names = list(dict.fromkeys(line.split()[0] for line in old)) or [name]
        rest = [line for line in self.lines if line not in old]
        self._write([*(f"{each} {key.kind} {key.blob}" for each in names), *rest])

    def replace(self, name: str, lines: Iterable[str]) -> None:
        """Write the file with these lines in place of those about a host, see `meaning`."""
        old = self.meaning(name)
        self._write([*(line for line in self.lines if line not in old), *lines])

    def follow(self, name: str, now: Keys, before: Keys) -> bool:
        """Give each line about a host the key that the host has now. Return True if any line was changed.

        + name: of the host, as in lines that are not hashed
        + before: the keys that the host had, which lines with other names may hold

        A line is removed if the host has no key of its type any more. None is added for an unknown host.
        """
        wanted: list[str] = []
        for line in self.lines:
            changed = _followed(line, name, now, before)
            if changed is not None and (changed == line or changed not in wanted):
                wanted.append(changed)
        if wanted == self.lines:
            return False
        self._write(wanted)
        return True

    def _write(self, lines: list[str]) -> None:
        write_atomically(self.path, "".join(f"{line}\n" for line in lines))
        self.lines = lines


def host_name(address: str, port: int) -> str:
    """Return the name in known_hosts of a host whose sshd listens here."""
    return address if port == 22 else f"[{address}]:{port}"


def keys_of(lines: Iterable[str]) -> set[HostKey]:
    """Return the keys in lines of known_hosts."""
    return {key for line in lines if (key := key_of(line))}


def public_keys(lines: Iterable[str]) -> dict[str, str]:
    """Return the keys in lines of .pub files by type."""
    return {words[0]: words[1] for words in map(str.split, lines) if len(words) > 1}


def _followed(line: str, name: str, now: Keys, before: Keys) -> str | None:
    key = key_of(line)
    if key is None or key.blob in now.values() or not (key.blob in before.values() or _names(line, name)):
        return line
    names, kind, _, *comment = line.split(maxsplit=3)
    return " ".join([names, kind, now[kind], *comment]) if kind in now else None


def key_of(line: str) -> HostKey | None:
    """Return the key of a line, or None for a comment and for a line with a mark, such as @cert-authority."""
    fields = line.split()
    return HostKey(fields[1], fields[2]) if len(fields) >= 3 and not fields[0].startswith(("#", "@")) else None


def _names(line: str, name: str) -> bool:
    """Return True if a line names this host; patterns do not count."""
    return key_of(line) is not None and any(_is_name(entry, name) for entry in line.split(maxsplit=1)[0].split(","))


def _is_name(entry: str, name: str) -> bool:
    if not entry.startswith("|1|"):
        return entry.lower() == name.lower()
    from paramiko.hostkeys import HostKeys  # noqa: PLC0415 # loading it takes longer than all other work here

    try:
        return HostKeys.hash_host(name.lower(), entry) == entry
    except (AssertionError, IndexError, ValueError):  # no salt of 20 bytes
        return False
