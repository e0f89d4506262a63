"""SSH host keys as the controller knows them: what a new installation shows is accepted once, and taken back later.

A wiped node shows a key that nobody has seen before. While it is being rebuilt the controller knows it by that key;
when its backup is restored it shows its old one again, and the lines replaced in known_hosts come back as they were.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import os
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gb10.controller.inventory import InventoryHost
from gb10.controller.paths import private_folder

CONNECT_SECONDS = 5
PROBE_SECONDS = 20  # for a connection that is made, and then says nothing

Shown = Literal["known", "recalled", "strange", "silent"]


@dataclass(frozen=True)
class HostKey:
    """A public host key: its type as in known_hosts, "ssh-ed25519", and its base64."""

    kind: str
    blob: str

    @property
    def fingerprint(self) -> str:
        """As ssh and ssh-keygen -l show it: "SHA256:..."."""
        digest = hashlib.sha256(base64.b64decode(self.blob)).digest()
        return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")

    def to_json(self) -> dict[str, str]:
        return {"kind": self.kind, "blob": self.blob, "fingerprint": self.fingerprint}

    @classmethod
    def from_json(cls, document: Mapping[str, str]) -> HostKey:
        return cls(document["kind"], document["blob"])


@dataclass(frozen=True)
class _Known:
    """Where ssh looks for a host's keys, and under which name."""

    path: Path
    name: str


def ssh_command(host: InventoryHost, known_hosts: Path, checking: str, command: Iterable[str]) -> list[str]:
    """Given a host, return an ssh command that asks for nothing, forwards nothing and believes only `known_hosts`."""
    settings = {
        "BatchMode": "yes",
        "ConnectTimeout": str(CONNECT_SECONDS),
        "UserKnownHostsFile": str(known_hosts),
        "GlobalKnownHostsFile": "/dev/null",
        "StrictHostKeyChecking": checking,
        "HashKnownHosts": "no",
        "UpdateHostKeys": "no",
        "ControlMaster": "no",
        "ControlPath": "none",
        "ForwardAgent": "no",
        "ClearAllForwardings": "yes",
        "ServerAliveInterval": "5",
        "LogLevel": "ERROR",
    }
    options = [word for key, value in settings.items() for word in ("-o", f"{key}={value}")]
    options += ["-F", host.ssh_config] if host.ssh_config else []
    options += ["-i", host.key, "-o", "IdentitiesOnly=yes"] if host.key else []
    options += ["-p", str(host.port)] if host.port != 22 else []
    return ["ssh", *options, f"{host.user}@{host.address}" if host.user else host.address, *command]


def known_host_keys(host: InventoryHost) -> tuple[HostKey, ...]:
    """Given a host, return the keys by which the controller knows it; none if it never met it."""
    known = _known(host)
    found = (_key(line) for line in _lines(known.path) if _names(line, known.name))
    return tuple(key for key in found if key)


def accept_host_key(host: InventoryHost, key: HostKey) -> None:
    """Know the host by this key, and by no other, in every line of known_hosts that means it.

    The lines of before are kept aside until `settle_host_key` finds the old key back. Accepting the same key again
    changes nothing.
    """
    known = _known(host)
    lines = _lines(known.path)
    mine = [line for line in lines if _names(line, known.name)]
    keys = _keys(mine)
    if keys == {key}:
        return
    # The same key under another name is the same node.
    replaced = [line for line in lines if line in mine or _key(line) in keys]
    _write_aside(host, [*_read_aside(host), replaced])
    names = list(dict.fromkeys(line.split()[0] for line in replaced)) or [known.name]
    added = [f"{name} {key.kind} {key.blob}" for name in names]
    _replace(known.path, [line for line in lines if line not in replaced] + added)


def settle_host_key(host: InventoryHost) -> Shown:
    """Look at which keys the host shows, and know it by its old ones again where it has them.

    "known": it shows a key that known_hosts has. "recalled": it shows its keys of before, and known_hosts is as it was.
    "strange": neither, and nothing was changed. "silent": no sshd answers.

    A restore that was killed in the middle leaves old keys of some types beside new ones of others. Such a host is
    known by those of its old keys that it shows, and the others are kept aside until it shows them, too.
    """
    known = _known(host)
    lines = [line for line in _lines(known.path) if _names(line, known.name)]
    verdict = _shows_one_of(host, _keys(lines))
    if verdict is None:
        return "silent"
    for replaced in reversed(_read_aside(host)):
        # Whoever restored the node's keys may have told known_hosts about one of them already.
        if verdict and not _keys(lines) & _keys(replaced):
            continue
        shown, withheld = _compared(host, _keys(replaced))
        if not shown:
            continue
        if verdict and withheld:
            return "known"
        given_up = _keys(lines)
        kept = [line for line in _lines(known.path) if line not in lines and _key(line) not in given_up]
        _replace(known.path, kept + [line for line in replaced if _key(line) not in withheld])
        if withheld:
            return "known"
        _aside(host).unlink(missing_ok=True)
        return "recalled"
    return "known" if verdict else "strange"


def shown_keys(host: InventoryHost, keys: Iterable[HostKey]) -> set[HostKey]:
    """Given keys, return those that the host proves to have."""
    return _compared(host, set(keys))[0]


def _compared(host: InventoryHost, keys: set[HostKey]) -> tuple[set[HostKey], set[HostKey]]:
    """Return the keys that the host proves to have, and those in whose place it shows another of the same type."""
    answers = {key: _shows_one_of(host, {key}, key.kind) for key in keys}
    shown = {key for key, answer in answers.items() if answer is True}
    kinds = {key.kind for key in shown}
    return shown, {key for key, answer in answers.items() if answer is False and key.kind not in kinds}


def _shows_one_of(host: InventoryHost, keys: Iterable[HostKey], kind: str | None = None) -> bool | None:
    """Whether the host proves to have one of these keys; None where no sshd answers, or it has none of that type."""
    algorithms = {"ssh-rsa": "rsa-sha2-512,rsa-sha2-256"}.get(kind, kind) if kind else None  # no SHA-1
    only = ["-o", f"HostKeyAlgorithms={algorithms}"] if algorithms else []
    name = _known(host).name
    with scratch_known_hosts(f"{name} {key.kind} {key.blob}" for key in keys) as path:
        program, *rest = ssh_command(host, path, "yes", ["true"])
        done = run_ssh([program, *only, *rest])
    if done.returncode == 0 or "Permission denied" in done.stderr:  # whom to let in is asked after the key was proven
        return True
    if kind and "no matching host key type" in done.stderr:
        return None
    return False if "host key" in done.stderr.lower() else None


def run_ssh(command: list[str]) -> subprocess.CompletedProcess[str]:
    """Run an ssh command that may hang. What takes too long looks like a connection that failed."""
    try:
        return subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PROBE_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 255, "", f"no answer within {PROBE_SECONDS} s")


@contextmanager
def scratch_known_hosts(lines: Iterable[str] = ()) -> Iterator[Path]:
    """A known_hosts file for one question."""
    with tempfile.TemporaryDirectory(prefix="gb10-") as folder:
        path = Path(folder) / "known_hosts"
        path.write_text("".join(f"{line}\n" for line in lines))
        yield path


def _known(host: InventoryHost) -> _Known:
    """Ask ssh itself: the inventory may leave it to ssh's configuration."""
    options = ["-F", host.ssh_config] if host.ssh_config else []
    done = subprocess.run(["ssh", *options, "-G", host.address], capture_output=True, text=True, check=True)
    found = dict(line.split(" ", 1) for line in done.stdout.splitlines() if " " in line)
    port = host.port if host.port != 22 else int(found["port"])
    name = found["hostname"] if port == 22 else f"[{found['hostname']}]:{port}"
    path = host.known_hosts or found["userknownhostsfile"].split()[0]
    return _Known(Path(path).expanduser().resolve(), name)


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


def _names(line: str, name: str) -> bool:
    """Whether a line of known_hosts is about this very name. Patterns, marked lines and comments are nobody's own."""
    fields = line.split()
    if len(fields) < 3 or fields[0].startswith(("#", "@")):
        return False
    return any(_is_name(entry, name) for entry in fields[0].split(","))


def _is_name(entry: str, name: str) -> bool:
    if not entry.startswith("|1|"):
        return entry.lower() == name.lower()
    try:  # hashed: a salt, and a digest with it
        salt, digest = (base64.b64decode(part, validate=True) for part in entry.removeprefix("|1|").split("|"))
    except (ValueError, binascii.Error):
        return False
    return hmac.compare_digest(hmac.new(salt, name.encode(), hashlib.sha1).digest(), digest)


def _key(line: str) -> HostKey | None:
    fields = line.split()
    return HostKey(fields[1], fields[2]) if len(fields) >= 3 and not fields[0].startswith(("#", "@")) else None


def _keys(lines: Iterable[str]) -> set[HostKey]:
    return {key for line in lines if (key := _key(line))}


def _replace(path: Path, lines: Iterable[str]) -> None:
    """Write known_hosts, whole or not at all, with the mode that it has."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    mode = path.stat().st_mode & 0o777 if path.exists() else 0o600
    descriptor, unfinished = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write("".join(f"{line}\n" for line in lines))
        os.fchmod(file.fileno(), mode)
        file.flush()
        os.fsync(file.fileno())
    os.replace(unfinished, path)


def _aside(host: InventoryHost) -> Path:
    return private_folder("host-keys") / f"{hashlib.sha256(host.endpoint.encode()).hexdigest()[:20]}.json"


def _read_aside(host: InventoryHost) -> list[list[str]]:
    """The lines that were replaced, by each acceptance since the old key was last seen."""
    try:
        return [[str(line) for line in lines] for lines in json.loads(_aside(host).read_text())["replaced"]]
    except (FileNotFoundError, ValueError, KeyError):
        return []


def _write_aside(host: InventoryHost, replaced: list[list[str]]) -> None:
    _replace(_aside(host), [json.dumps({"node": host.name, "replaced": [lines for lines in replaced if lines]})])
