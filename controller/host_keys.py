"""SSH host keys in known_hosts: trust a host at first contact, accept a new installation, restore the old key later.

A wiped node shows a new key. While it is rebuilt, known_hosts has that key. After the restore of its backup it shows
its old key again, and the lines that were replaced in known_hosts come back.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import tempfile
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gb10.controller.errors import Gb10Error
from gb10.controller.inventory import InventoryHost
from gb10.controller.paths import private_folder
from gb10.operations.kit.files import write_atomically
from gb10.operations.kit.host_proof import CONNECT_SECONDS, NotOfferedError, SshHost, proven_key, proven_keys, ssh_host
from gb10.operations.kit.known_hosts import HostKey, KnownHosts, key_of, keys_of

PROBE_SECONDS = 20  # time limit of an ssh command
SCRATCH_NAME = "host"  # of the one host in a temporary known_hosts file
ANSWER_BYTES = 1 << 20  # read of each output of an ssh command

Shown = Literal["known", "recalled", "strange", "silent"]


def ssh_command(host: InventoryHost, known_hosts: Path, command: Iterable[str]) -> list[str]:
    """Return an ssh command that prompts for nothing, forwards nothing and trusts only the key of SCRATCH_NAME."""
    settings = {
        "HostKeyAlias": SCRATCH_NAME,
        "BatchMode": "yes",
        "ConnectTimeout": str(CONNECT_SECONDS),
        "UserKnownHostsFile": str(known_hosts),
        "GlobalKnownHostsFile": "/dev/null",
        "StrictHostKeyChecking": "yes",
        "UpdateHostKeys": "no",
        "ControlMaster": "no",
        "ControlPath": "none",
        "ForwardAgent": "no",
        "ClearAllForwardings": "yes",
        "ServerAliveInterval": "5",
        "LogLevel": "ERROR",
    }
    options = [word for key, value in settings.items() for word in ("-o", f"{key}={value}")]
    options += ["-o", "IdentitiesOnly=yes"] if host.login.key else []
    return ["ssh", *options, *host.ssh_options, host.ssh_destination, *command]


def known_host_keys(host: InventoryHost) -> tuple[HostKey, ...]:
    """Return the keys of a host in known_hosts; none if there was no connection yet."""
    where = ssh_host(host.address, host.login)
    return tuple(keys_of(KnownHosts(where.known_hosts).about(where.name)))


@dataclass(frozen=True)
class Contact:
    """The host keys of a host when a person meets it: those that it proves to have, and those in known_hosts."""

    host: InventoryHost
    proven: tuple[HostKey, ...]  # the best first
    known: tuple[HostKey, ...]
    trusted: bool  # nothing needs to be done

    def chosen(self, fingerprints: Sequence[str]) -> HostKey:
        """Return the key to trust: one that a person named, a known one, or the best. Raise HOST_KEY_REFUSED."""
        named = [key for key in self.proven if any(key.is_named(text) for text in fingerprints)]
        if fingerprints and not named:
            shown = ", ".join(f"{key.fingerprint} ({key.kind})" for key in self.proven)
            raise Gb10Error("HOST_KEY_REFUSED", reason=f"it shows {shown}", **self.host.details())
        key = [*named, *(key for key in self.proven if key in self.known), *self.proven][0]
        where = ssh_host(self.host.address, self.host.login)
        if key.blob in KnownHosts(where.known_hosts).revoked():
            reason = f"{key.fingerprint} is revoked in {where.known_hosts}"
            raise Gb10Error("HOST_KEY_REFUSED", reason=reason, **self.host.details())
        return key


def meet(host: InventoryHost) -> Contact:
    """Return the host keys of a host, without a login. Raise NODE_UNREACHABLE."""
    where = ssh_host(host.address, host.login)
    try:
        proven = proven_keys(where)
    except ConnectionError as error:
        raise Gb10Error("NODE_UNREACHABLE", reason=str(error), **host.details()) from error
    if not proven:
        raise Gb10Error("NODE_UNREACHABLE", reason="it has no host key of a usual type", **host.details())
    file = KnownHosts(where.known_hosts)
    known = tuple(keys_of(file.about(where.name)))
    kinds = {key.kind for key in proven}
    expected = [key for key in known if key.kind in kinds]
    trusted = bool(expected) and all(key in proven and file.accepts(where.name, key) for key in expected)
    return Contact(host, tuple(proven), known, trusted)


def trust_host_key(host: InventoryHost, key: HostKey) -> None:
    """Make this the only key of a host in known_hosts, as a person has confirmed."""
    where = ssh_host(host.address, host.login)
    KnownHosts(where.known_hosts).trust(where.name, key)


def accept_host_key(host: InventoryHost, key: HostKey) -> None:
    """Replace the keys of a host in every line of known_hosts that means it.

    The replaced lines are saved until `settle_host_key` finds the old key again. Accepting the same key again changes
    nothing.
    """
    where = ssh_host(host.address, host.login)
    known, name = KnownHosts(where.known_hosts), where.name
    if keys_of(known.about(name)) == {key}:
        return
    replaced = known.meaning(name)  # the same key under another name is the same node
    _write_aside(host, [*_read_aside(host), replaced])
    names = list(dict.fromkeys(line.split()[0] for line in replaced)) or [name]
    known.replace(name, [f"{each} {key.kind} {key.blob}" for each in names])


def settle_host_key(host: InventoryHost) -> Shown:
    """Compare the keys that a host shows with known_hosts, and restore its old ones if it has them.

    "known": it shows a key in known_hosts. "recalled": it shows its old keys, and known_hosts is restored. "strange":
    neither, and nothing was changed. "silent": no sshd answers.

    A restore that was killed in the middle leaves a mixture of old and new keys. Then the old keys that the host shows
    are restored, and the others stay saved until it shows them, too.
    """
    where = ssh_host(host.address, host.login)
    keys = keys_of(KnownHosts(where.known_hosts).about(where.name))
    try:
        verdict = proven_key(where, *{key.kind for key in keys}) in keys
    except NotOfferedError:
        verdict = False
    except ConnectionError:
        return "silent"
    for replaced in reversed(_read_aside(host)):
        # known_hosts may already have one of the restored keys.
        if verdict and not keys & keys_of(replaced):
            continue
        shown, withheld = _compared(where, keys_of(replaced))
        if not shown:
            continue
        if verdict and withheld:
            return "known"
        # Read the file again: the connections took seconds.
        KnownHosts(where.known_hosts).replace(where.name, [line for line in replaced if key_of(line) not in withheld])
        if withheld:
            return "known"
        _aside(host).unlink(missing_ok=True)
        return "recalled"
    return "known" if verdict else "strange"


def shown_keys(host: InventoryHost, keys: Iterable[HostKey]) -> set[HostKey]:
    """Return the keys that the host proves to have."""
    return _compared(ssh_host(host.address, host.login), set(keys))[0]


def _compared(where: SshHost, keys: set[HostKey]) -> tuple[set[HostKey], set[HostKey]]:
    """Return the keys that the host proves to have, and those of types for which it proves another key."""
    proven: dict[str, HostKey] = {}
    for kind in {key.kind for key in keys}:
        with suppress(ConnectionError):
            proven[kind] = proven_key(where, kind)
    shown = {key for key in keys if proven.get(key.kind) == key}
    kinds = {key.kind for key in shown}
    return shown, {key for key in keys if key.kind in proven and key.kind not in kinds}


def run_ssh(command: list[str], give: str = "") -> subprocess.CompletedProcess[str]:
    """Run an ssh command, bounded in time and size. Beyond its bounds it looks like a connection that failed."""
    with tempfile.TemporaryFile() as stdin:
        stdin.write(give.encode())
        stdin.seek(0)
        process = subprocess.Popen(command, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    timer = threading.Timer(PROBE_SECONDS, process.kill)  # also ends one that waits for more to be read
    timer.start()
    with process, ThreadPoolExecutor(2) as readers:
        outputs = list(readers.map(lambda stream: stream.read(ANSWER_BYTES), (process.stdout, process.stderr)))
        process.wait()
    timer.cancel()
    if process.returncode < 0:
        return subprocess.CompletedProcess(command, 255, "", f"no complete answer within {PROBE_SECONDS} s")
    stdout, stderr = (output.decode(errors="replace") for output in outputs)
    return subprocess.CompletedProcess(command, process.returncode, stdout, stderr)


@contextmanager
def scratch_known_hosts(key: HostKey) -> Iterator[Path]:
    """Provide a temporary known_hosts file with one key."""
    with tempfile.TemporaryDirectory(prefix="gb10-") as folder:
        path = Path(folder) / "known_hosts"
        path.write_text(f"{SCRATCH_NAME} {key.kind} {key.blob}\n")
        yield path


def _aside(host: InventoryHost) -> Path:
    return private_folder("host-keys") / f"{hashlib.sha256(host.endpoint.encode()).hexdigest()[:20]}.json"


def _read_aside(host: InventoryHost) -> list[list[str]]:
    """Return the lines replaced by each acceptance since the old key was last seen."""
    try:
        return [[str(line) for line in lines] for lines in json.loads(_aside(host).read_text())["replaced"]]
    except (FileNotFoundError, ValueError, KeyError):
        return []


def _write_aside(host: InventoryHost, replaced: list[list[str]]) -> None:
    document = {"node": host.name, "replaced": [lines for lines in replaced if lines]}
    write_atomically(_aside(host), json.dumps(document) + "\n")
