"""K3s on a node: fetched, configured, started and removed, without `curl | sh`.

The contract: a dry run lists an operation exactly if the run changes something. So an operation gets the result of an
earlier one of the same run as an argument.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml
from pyinfra.api import FileUploadCommand, FunctionCommand, Host, State, StringCommand
from pyinfra.api.command import QuoteString
from pyinfra.api.operation import OperationMeta
from pyinfra.context import host, state

from gb10.facts.cluster import ClusterNodes, NodePasswords
from gb10.facts.file import SecretFile, SecretFileState
from gb10.facts.identity import NodeIdentity
from gb10.facts.k3s import K3sInstall, K3sLeftovers, K3sToken, Kubeconfig
from gb10.facts.node import CommandPaths
from gb10.facts.reading.k3s import BINARY, KILLALL, STATE, TOKEN_FILE, UNINSTALL, UNITS, env_file
from gb10.operations.file import replace_file, secret_file
from gb10.operations.kit.inventory import node_ip, ssh_address
from gb10.operations.kit.kubeconfig import only_access, parsed
from gb10.operations.kit.lock_file import k3s_name
from gb10.operations.kit.operation import Commands, await_condition, changes, known, operation, refuse, say
from gb10.operations.kit.peers import peer_fact, peer_run
from gb10.operations.kit.pins import Download, Pin, agree, keep, known_pin, pin_of, pinned
from gb10.operations.kit.scripts import run_script, verified_download
from gb10.operations.kubectl import await_node, delete_node_command, why_not_ready
from gb10.operations.upgrade import is_wanted, staged
from gb10.programs.answer import RefusedError
from gb10.templates import render

VERIFY_SECONDS = 300
IMAGES = "/var/lib/rancher/k3s/agent/images"
LINKS = ("kubectl", "crictl")
EMPTY = {hashlib.sha256(text).hexdigest() for text in (b"", b"\n")}  # a token file that holds no token


@operation()
def server_token() -> Commands:
    """Keep the server's token file, which only root can read, with the token that it has or a new one."""
    if command := token_command(known(SecretFile, path=TOKEN_FILE)):
        yield command
    else:
        host.noop(f"{TOKEN_FILE} is there")


def token_command(found: SecretFileState | None) -> StringCommand | None:
    """Return the command that makes the server's token file or restricts it to root; None if it is right."""
    if found is None or found.sha256 in EMPTY:
        return run_script("server-token.sh", TOKEN_FILE, env_file("server"), seconds=30)
    if (found.mode, found.owner) == ("600", "root"):
        return None
    return StringCommand(f"chmod 600 {TOKEN_FILE} && chown root:root {TOKEN_FILE}")


@operation()
def join_token(head: Host) -> Commands:
    """Keep the token with which this agent joins, read from the head while the operation runs."""
    token = peer_fact(head, K3sToken)
    if token:
        yield from secret_file._inner(path=TOKEN_FILE, content=token)
    elif state.is_executing:
        yield from refuse("SERVER_UNREACHABLE", f"{head.name} has no token: its K3s server is not up")
    else:
        yield StringCommand("true")  # in a dry run before the server exists: the run will write it


@operation()
def binary(
    version: str, mirror: str, sha256: Mapping[str, str], airgap: str | None, proxy: Mapping[str, str]
) -> Commands:
    """
    Put the K3s binary of a version on the node, verified: in place if there is none, else beside it, for the upgrade.

    + version: as K3s writes it, "v1.36.4+k3s1"
    + mirror: URL below which <version>/k3s-<arch> and <version>/sha256sum-<arch>.txt lie
    + sha256: architecture -> pinned digest; without one, the release's own list counts
    + airgap: folder on the controller that holds the binary, instead of the mirror
    + proxy: environment of the download
    """
    install, architecture = known(K3sInstall), known(NodeIdentity).architecture
    if is_wanted(install, version, sha256):
        host.noop(f"K3s {version} is in place")
        return
    is_upgrade = bool(install and install.version)
    target = staged(version) if is_upgrade else BINARY
    name = binary_name(architecture)
    if is_upgrade and known(SecretFile, path=target):
        host.noop(f"K3s {version} waits beside the installed one")
        return
    if airgap and not (Path(airgap) / name).is_file():
        raise RefusedError("AIRGAP_MISSING", f"the controller has no {Path(airgap) / name}")
    download = binary_download(version, mirror, sha256, airgap, architecture)
    pin, url = pin_of(download), download.source
    if airgap:
        yield from _from_controller(Path(airgap) / name, target, pin)
        return
    # Without a pin it is not in place before it has one.
    new = target if pin.sha256 else f"{target}.unpinned"
    sums_url = f"{url.removesuffix(name)}sha256sum-{architecture}.txt"
    yield verified_download(url, new, sha256=pin.sha256, sums_url=sums_url, name=name, proxy=proxy, locked=pin.locked)
    if new != target:
        yield from pinned(pin, new)
        yield StringCommand("mv -f", QuoteString(new), QuoteString(target))


def lacking_binary(version: str, mirror: str, sha256: Mapping[str, str], airgap: str | None) -> list[Download]:
    """Return the download of the binary, unless it is in place."""
    if is_wanted(known(K3sInstall), version, sha256):
        return []
    return [binary_download(version, mirror, sha256, airgap, known(NodeIdentity).architecture)]


def binary_name(architecture: str) -> str:
    """Return the name of the binary in a release."""
    return "k3s" if architecture == "amd64" else f"k3s-{architecture}"


def binary_download(
    version: str, mirror: str, sha256: Mapping[str, str], airgap: str | None, architecture: str
) -> Download:
    """Return the download of the binary."""
    folder = airgap or f"{mirror.rstrip('/')}/{version.replace('+', '%2B')}"
    source, setting = f"{folder}/{binary_name(architecture)}", f"k3s_sha256[{version!r}][{architecture!r}]"
    return Download(k3s_name(version, architecture), source, sha256.get(architecture), setting)


def _from_controller(source: Path, target: str, pin: Pin) -> Commands:
    digest, part = pin.sha256 or _digest(source), f"{target}.part"
    if pin.is_locked:
        agree(pin, _digest(source))
    yield StringCommand("mkdir -p", QuoteString(target.rpartition("/")[0]))
    yield FileUploadCommand(str(source), part, remote_temp_filename=host.get_temp_filename(target))
    yield run_script("put-verified.sh", target, digest, source.name, seconds=VERIFY_SECONDS)
    keep(pin, digest)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@operation()
def airgap_images(folder: str, runtime: str, version: str) -> Commands:
    """
    Put K3s' own images on a node without internet, from the release's image archive on the controller.

    + folder: holds k3s-airgap-images-<arch>.tar, .tar.gz or .tar.zst on the controller
    + runtime: "docker" loads them into the engine, "containerd" puts the archive where K3s imports it
    + version: of the release
    """
    architecture = known(NodeIdentity).architecture
    archives = sorted(Path(folder).glob(f"k3s-airgap-images-{architecture}.tar*"))
    if not archives:
        host.noop(f"{folder} holds no image archive")
        return
    digest, archive = _digest(archives[0]), f"{IMAGES}/{archives[0].name}"
    mark = f"{STATE}/airgap-{digest}"
    if known(SecretFile, path=mark):
        host.noop("the images are loaded")
        return
    pin = known_pin(Download(k3s_name(version, archives[0].name), str(archives[0])))
    agree(pin, digest)
    yield StringCommand("mkdir -p", IMAGES, STATE)
    yield FileUploadCommand(str(archives[0]), archive, remote_temp_filename=host.get_temp_filename(archive))
    if runtime == "docker":
        yield StringCommand(f"timeout 1800 docker load -q -i {archive} && rm -f {archive}")
    keep(pin, digest)
    yield StringCommand(f"touch {mark}")


@operation()
def command_links() -> Commands:
    """Link kubectl and crictl to K3s, unless the node has them already."""
    missing = [name for name, path in known(CommandPaths, names=LINKS).items() if path is None]
    if not missing:
        host.noop("kubectl and crictl are there")
        return
    yield StringCommand("; ".join(f"ln -s k3s /usr/local/bin/{name}" for name in missing))


@operation()
def rejoin(node: str, head: Host) -> Commands:
    """
    Remove what a cluster remembers of a wiped node, so that the node may come back under its name.

    K3s refuses a known name with another node password. A node that still has its password stays as it is. In a dry
    run before the server exists there is nothing to remove.
    """
    install = known(K3sInstall)
    if install and install.node_password:
        host.noop(f"{node} has its node password")
        return
    nodes, passwords = peer_fact(head, ClusterNodes), peer_fact(head, NodePasswords)
    if state.is_executing and (nodes is None or passwords is None):
        raise RefusedError("SERVER_UNREACHABLE", f"{head.name} does not tell whether the cluster knows {node}")
    if node not in (*(found.name for found in nodes or ()), *(passwords or ())):
        host.noop(f"the cluster does not know {node}")
        return
    yield FunctionCommand(_forget, (node, head), {})


def _forget(state: State, host: Host, node: str, head: Host) -> bool:
    done, output = peer_run(head, delete_node_command(node))
    if not done:
        say(host, "SERVER_UNREACHABLE", f"{head.name} does not remove {node}: {output}")
    return done


@operation()
def service(
    role: str,
    version: str,
    node: str,
    head: Host,
    seconds: int,
    started_from: Sequence[OperationMeta] = (),
    restarted_by: OperationMeta | None = None,
) -> Commands:
    """
    Have K3s enabled and running with its present configuration, and its node Ready.

    + version: the kubelet must report it
    + node: its name in Kubernetes
    + head: the host with the API server
    + seconds: how long a start may take, and then the node
    + started_from: operations on files that K3s reads at its start: a change by any of them needs a restart
    + restarted_by: an operation that restarted K3s after those, if it changed anything
    """
    install = known(K3sInstall)
    restarted = restarted_by is not None and changes(restarted_by)
    outdated = (install is not None and install.stale) or any(map(changes, started_from))
    if restarted or (install and install.is_active and install.unit_enabled and not outdated):
        host.noop(f"{UNITS[role]} runs with its present configuration")
        return
    yield run_script("start-unit.sh", UNITS[role], str(seconds), seconds=seconds + 60)
    if not await_node(head, node, version, seconds):
        raise RefusedError("NODE_NOT_READY", f"{node} is not Ready within {seconds} s: {why_not_ready(head, node)}")


@operation()
def server_answers(head: Host, seconds: int) -> Commands:
    """
    Wait until the server answers: no agent starts before.

    pyinfra interleaves the operations of different hosts, but all hosts finish a shared one before the next.
    """
    if state.is_executing and not await_condition(lambda: peer_fact(head, ClusterNodes) is not None, seconds):
        yield from refuse("SERVER_UNREACHABLE", f"the K3s server on {head.name} does not answer within {seconds} s")


@operation()
def all_reached() -> Commands:
    """Do nothing. All hosts finish this operation before any of them begins the next."""
    yield from ()


@operation()
def uninstall(role: str | None = None) -> Commands:
    """
    Remove K3s, completely or half installed: its processes, containers, mounts, configuration and state.

    + role: whose uninstall script runs; None: of what is installed

    It proves absence in the end. /data, containers without a Kubernetes label, and mounts from elsewhere stay.
    """
    if known(K3sLeftovers).is_absence:
        host.noop("nothing of K3s is here")
        return
    install = known(K3sInstall)
    path = UNINSTALL[role or (install and install.role) or "server"]
    yield replace_file(KILLALL, render("k3s/k3s-killall.sh.j2"), "755")
    yield replace_file(path, render("k3s/k3s-uninstall.sh.j2"), "755")
    yield StringCommand("timeout 600", path)
    left = known(K3sLeftovers)
    if found := [item for items in left.to_json().values() for item in items or ()]:
        raise RefusedError("TEARDOWN_LEFTOVER", f"{host.name} still has {', '.join(found)}")
    if left.containers is None:
        raise RefusedError("DOCKER_STOPPED", f"{host.name}: without Docker, containers of pods may be left unseen")


@operation(is_idempotent=False)
def kubeconfig_file(dest: str) -> Commands:
    """Write the head's kubeconfig to a new file on the controller, with mode 0600.

    Of what the head sends only the server, the authority and the client's certificate and key are taken.
    """
    yield FunctionCommand(_write, (dest,), {})


def _write(state: State, host: Host, dest: str) -> bool:
    content = host.get_fact(Kubeconfig)
    if content is None:
        say(host, "K3S_ABSENT", f"{host.name} has no kubeconfig: its K3s server was never started")
        return False
    try:
        access = only_access(parsed(content.unmask()), {ssh_address(host), node_ip(host)})
    except ValueError as error:
        say(host, "KUBECONFIG_UNSAFE", f"the kubeconfig of {host.name} is refused: {error}")
        return False
    descriptor = os.open(Path(dest), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        yaml.safe_dump(access, file, sort_keys=False)
    return True
