"""The controller's known_hosts, when a node gets its old host keys back.

The contract: a line is changed only where it names the node, or holds a key that the node has just given up; names,
hashed ones too, and comments stay. Nothing is ever added for a host that nobody knew.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from paramiko.hostkeys import HostKeys
from pyinfra.api import Host

Keys = Mapping[str, str]  # type -> base64


def public_keys(lines: Iterable[str]) -> dict[str, str]:
    """Given lines of .pub files, return the keys by type."""
    return {words[0]: words[1] for words in map(str.split, lines) if len(words) > 1}


def known_hosts_file(node: Host) -> Path:
    """Given a host, return the file of the controller in which pyinfra looks its key up."""
    return Path(str(node.data.get("ssh_known_hosts_file") or "~/.ssh/known_hosts")).expanduser()


def known_as(node: Host) -> str:
    """Given a host, return its name in known_hosts."""
    address, port = node.data.get("ssh_hostname") or node.name, int(node.data.get("ssh_port") or 22)
    return str(address) if port == 22 else f"[{address}]:{port}"


def with_keys(lines: Iterable[str], name: str, now: Keys, before: Keys) -> list[str]:
    """Given lines of known_hosts, return them as they are to be.

    + name: of the node, as it stands in lines that are not hashed
    + now: the keys that the node has from now on
    + before: those that it had until now
    """
    result: list[str] = []
    for line in lines:
        changed = _changed(line, name, now, set(before.values()))
        if changed is not None and (changed == line or changed not in result):
            result.append(changed)
    return result


def _changed(line: str, name: str, now: Keys, before: set[str]) -> str | None:
    """Return what a line is to be; None where the node has no key of that type any more."""
    words = line.split(maxsplit=3)
    if len(words) < 3 or line.lstrip().startswith(("#", "@")):
        return line
    names, kind, key = words[:3]
    if key in now.values() or not (key in before or names_host(names, name)):
        return line
    return " ".join([names, kind, now[kind], *words[3:]]) if kind in now else None


def names_host(names: str, name: str) -> bool:
    """Whether the first field of a line, hashed or not, means a host."""
    if names.startswith("|1|"):
        return HostKeys.hash_host(name, names) == names
    return name in names.split(",")


def put_known_hosts(path: Path, name: str, now: Keys, before: Keys) -> bool:
    """Have a known_hosts file know a node by the keys that it has now; return whether anything was changed."""
    if not path.is_file():
        return False
    place = path.resolve()
    lines = place.read_text(errors="surrogateescape").splitlines()
    wanted = with_keys(lines, name, now, before)
    if wanted == lines:
        return False
    descriptor, new = tempfile.mkstemp(dir=place.parent, prefix=".known_hosts.")
    with os.fdopen(descriptor, "w", errors="surrogateescape") as file:
        file.write("".join(f"{line}\n" for line in wanted))
        os.fchmod(file.fileno(), place.stat().st_mode & 0o777)
        file.flush()
        os.fsync(file.fileno())
    os.replace(new, place)
    return True
