"""Backups on the lab: every copy is proven, only its owner can read it, and every failure is reported."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyrage
import pytest

from gb10.lab.probe import polled
from gb10.lab.shell import Docker
from gb10.programs.archive.manifest import ROOT
from gb10.programs.archive.reading import unpack
from tests.lab.observe import ProcessScan, exposed_files, written_files
from tests.lab.product import Done, Product

CANARY = "canary4711canary4711canary4711ca"
HEAD, WORKER = "spark-1", "spark-2"
SERVER = "/var/lib/rancher/k3s/server"

# Files that a backup of the head must contain, and descriptions of the node that it must contain.
REQUIRED_FILES = {
    *(f"/etc/ssh/ssh_host_{kind}_key{end}" for kind in ("ed25519", "rsa", "ecdsa") for end in ("", ".pub")),
    *("/etc/hostname", "/etc/hosts", "/etc/sudoers", "/etc/environment"),
    *("/home/nvidia/.ssh/authorized_keys", "/home/nvidia/.ssh/id_ed25519", "/root/.docker/config.json"),
    *("/etc/rancher/k3s/config.yaml", "/etc/rancher/node/password", "/etc/systemd/system/k3s.service"),
    *(f"{SERVER}/token", f"{SERVER}/tls/server-ca.crt", f"{SERVER}/tls/server-ca.key", f"{SERVER}/db/state.db"),
    "/srv/own/settings",
}
REQUIRED_DESCRIPTIONS = {
    f"gb10/{name}"
    for name in (
        *("users.json", "packages.txt", "packages-chosen.txt", "units.txt"),
        *("containers.json", "images.json", "models.json"),
    )
}

RootOf = Callable[[str], Path]
HostOf = Callable[[str], Any]


@pytest.fixture
def folder(product: Product) -> Path:
    """The controller's folder of backups."""
    return Path(product.environment["GB10_BACKUPS"])


def proofs(done: Done) -> dict[tuple[str, str], list[str]]:
    """Return the error codes of each copy, by node and place. A proven copy has none."""
    return {(proof["node"], proof["where"]): proof["codes"] for proof in done.json["proofs"]}


def plant_canary(root: Path) -> None:
    """Write the canary into files that usually hold secrets: registry login, SSH key, a file of our own."""
    for place in ("root/.docker/config.json", "home/nvidia/.ssh/id_ed25519"):
        path = root / place
        path.parent.mkdir(0o700, parents=True, exist_ok=True)
        path.touch(0o600)
        path.write_text(CANARY)
        path.chmod(0o600)
    path = root / "srv/own/settings"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(0o600)
    path.write_text(CANARY)
    if not (path.parent / "pipe").exists():
        os.mkfifo(path.parent / "pipe")


def accessible_to_others(store: Path) -> Iterator[str]:
    """Yield the paths in a store that others can access. Packed content shows no canary, so this checks modes."""
    for place, folders, names in os.walk(store):
        for path in (place, *(os.path.join(place, name) for name in (*folders, *names))):
            with suppress(FileNotFoundError):
                if not os.path.islink(path) and os.lstat(path).st_mode & 0o077:
                    yield path


def test_backups_of_all_nodes_are_proven_and_leak_nothing(
    product: Product, cluster: Any, host_of: HostOf, root_of: RootOf, folder: Path, logs: Path, tmp_path: Path
) -> None:
    for name in (HEAD, WORKER):
        plant_canary(root_of(name))
    wanted = product.with_data(backup_paths=["/srv/own", "/srv/absent"])
    before = written_files(host_of(HEAD))
    roots = [root_of(name) / place for name in (HEAD, WORKER) for place in ("var/lib/gb10", "tmp")]
    stores = [folder, *(root_of(name) / "data/backups" for name in (HEAD, WORKER))]
    with (
        polled(ProcessScan(CANARY).leaks) as leaks,
        polled(lambda: (found for root in roots for found in exposed_files(root, CANARY))) as exposed,
        polled(lambda: (found for store in stores for found in accessible_to_others(store))) as accessible,
    ):
        done = wanted.gb10("backup", "--all", "--json", "-vvv")
        raw = wanted.pyinfra("-vvv", "--debug", "--limit", WORKER, "--dry", "--diff", "gb10.deploys.backup")
    assert done.status == 0, done.output
    everywhere = {(HEAD, "controller"), (HEAD, WORKER), (WORKER, "controller"), (WORKER, HEAD)}
    assert (set(proofs(done)), any(proofs(done).values())) == (everywhere, False)
    head = next(proof for proof in done.json["proofs"] if proof["node"] == HEAD)
    assert head["nodes"] == [HEAD, WORKER]
    assert (leaks, exposed, accessible) == ([], [], [])
    assert CANARY not in done.output + raw.output
    assert [path for path in logs.rglob("*.log") if CANARY in path.read_text()] == []
    after = written_files(host_of(HEAD))
    changed = {path for path in {*before, *after} if before.get(path) != after.get(path)}
    others = ("/data/backups", SERVER, "/var/lib/kubelet", "/root/.kube")  # written by K3s and kubectl
    touched = {"/data", "/root", "/var/lib", "/var/lib/gb10"}  # temporary folders change the ctime of their parents
    assert {path for path in changed if not path.startswith(others)} <= touched
    listed = {(one["node"], one["where"]): one for one in product.gb10("backup", "list", "--json").json["backups"]}
    assert set(listed) == everywhere
    assert all(one["complete"] and one["proven"] for one in listed.values())
    assert_restorable(done, folder, root_of, tmp_path)


def assert_restorable(done: Done, folder: Path, root_of: RootOf, scratch: Path) -> None:
    """Check that the head's archive is complete and that a K3s server started from it is the old cluster."""
    backup = next(made["id"] for made in done.json["made"] if made["node"] == HEAD)
    with (folder / HEAD / f"{backup}.tar.gz").open("rb") as file:
        manifest = unpack(file, str(scratch / "out"))
    assert {str(member.node_path) for member in manifest.members} >= REQUIRED_FILES
    assert {member.path for member in manifest.members if member.node_path is None} >= REQUIRED_DESCRIPTIONS
    about = manifest.about
    for place, name in (
        *(("versions", name) for name in ("os", "k3s", "docker", "kernel")),
        *(("machine", name) for name in ("hostname", "machine_id", "macs", "architecture")),
    ):
        assert about[place][name], (place, name)
    root = scratch / "out" / ROOT
    assert (root / "srv/own/settings").read_text() == CANARY
    assert {note.path for note in manifest.notes} >= {"/srv/own/pipe", "/srv/absent"}
    original = root_of(HEAD) / "etc/ssh/ssh_host_ed25519_key"
    assert (root / "etc/ssh/ssh_host_ed25519_key").read_bytes() == original.read_bytes()
    (root / "etc/rancher/k3s/config.yaml").write_text(
        json.dumps({"https-listen-port": 16443 + os.getpid() % 1000, "node-name": HEAD, "node-ip": "127.0.0.1"})
    )
    tools = root_of(HEAD) / "opt/gb10-lab/bin"
    environment = {**os.environ, "GB10_LAB_ROOT": str(root), "GB10_LAB_BIN": str(tools), "DOCKER_HOST": "unix:///none"}
    with (scratch / "journal").open("wb") as journal, temporary_server(root_of, environment, journal):
        deadline = time.monotonic() + 20
        while b"is up and running" not in (scratch / "journal").read_bytes():
            assert time.monotonic() < deadline, (scratch / "journal").read_text()
            time.sleep(0.2)
        nodes = subprocess.run(
            [
                str(tools / "kubectl"),
                "--kubeconfig",
                str(root / "etc/rancher/k3s/k3s.yaml"),
                "get",
                "nodes",
                "-o",
                "name",
            ],
            capture_output=True,
            text=True,
            check=True,
        )
    assert nodes.stdout.split() == [f"node/{HEAD}", f"node/{WORKER}"]


@contextmanager
def temporary_server(root_of: RootOf, environment: dict[str, str], journal: Any) -> Iterator[None]:
    """Run the head's K3s binary as a server on this machine while the block runs."""
    binary = str(root_of(HEAD) / "usr/local/bin/k3s")
    with subprocess.Popen([binary, "server"], env=environment, stderr=journal, stdout=journal) as process:
        try:
            yield
        finally:
            process.terminate()


def test_a_backup_of_a_stopped_k3s_checks_its_database(
    product: Product, cluster: Any, host_of: HostOf, root_of: RootOf, folder: Path, tmp_path: Path
) -> None:
    node, database = host_of(HEAD), root_of(HEAD) / f"{SERVER[1:]}/db/state.db"
    node.check_output("sudo systemctl stop k3s")
    before = database.read_bytes()
    try:
        done = product.gb10("backup", HEAD, "--json")
        assert (done.status, proofs(done)[HEAD, WORKER]) == (0, []), done.output
        assert database.read_bytes() == before
        broken = bytearray(before)
        broken[4096 : 4096 + 8192] = os.urandom(8192)
        database.write_bytes(broken)
        done = product.gb10("backup", HEAD, "--json")
        assert done.status == 5, done.output
        assert set(map(tuple, proofs(done).values())) == {("BACKUP_INCOMPLETE", "BACKUP_DATABASE")}
        backup = done.json["made"][0]["id"]
        with (folder / HEAD / f"{backup}.tar.gz").open("rb") as file:
            unpack(file, str(tmp_path / "out"))
        assert (tmp_path / f"out/root{SERVER}/db/state.db").read_bytes() == broken
    finally:
        database.write_bytes(before)
        node.check_output("sudo systemctl start k3s")


def test_a_node_without_k3s_is_backed_up_and_proven(product: Product, lab: Any, folder: Path, tmp_path: Path) -> None:
    lab.wipe(WORKER, trust=True)
    done = product.gb10("backup", WORKER, "--json")
    assert (done.status, proofs(done)) == (0, {(WORKER, "controller"): [], (WORKER, HEAD): []}), done.output
    backup = done.json["made"][0]["id"]
    with (folder / WORKER / f"{backup}.tar.gz").open("rb") as file:
        manifest = unpack(file, str(tmp_path / "out"))
    assert manifest.about["versions"]["k3s"] is None
    assert [path for member in manifest.members if "rancher" in (path := str(member.node_path))] == []
    assert {note.path for note in manifest.notes if "rancher" in note.path} == set()


def test_damaged_and_missing_copies_are_reported(
    product: Product, lab: Any, host_of: HostOf, root_of: RootOf, tmp_path: Path
) -> None:
    assert product.gb10("backup", WORKER, "--no-prove").status == 0
    newest = max((root_of(HEAD) / "data/backups" / WORKER).glob("*.tar.gz"))
    backup = newest.name.partition(".")[0]
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    done = product.gb10("backup", "prove", WORKER, "--json")
    assert done.status == 5, done.output
    assert proofs(done) == {(WORKER, "controller"): [], (WORKER, HEAD): ["BACKUP_DAMAGED"]}
    lost = replace(product, environment={**product.environment, "GB10_BACKUPS": str(tmp_path / "anew")})
    assert lost.gb10("backup", "fetch", WORKER, "--from", backup).status == 1  # the copy is damaged
    assert not list((tmp_path / "anew" / WORKER).iterdir())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    assert lost.gb10("backup", "fetch", WORKER, "--from", backup).status == 0
    assert proofs(lost.gb10("backup", "prove", WORKER, "--json")) == {(WORKER, "controller"): [], (WORKER, HEAD): []}
    host_of(HEAD).check_output("sudo mount -t tmpfs -o size=64k none /data/backups")
    try:
        done = product.gb10("backup", WORKER)
    finally:
        host_of(HEAD).check_output("sudo umount /data/backups")
    assert (done.status, "KEEPER_FULL" in done.output) == (1, True), done.output
    assert not list((root_of(HEAD) / "data/backups" / WORKER).glob("*.part"))

    docker, container = Docker(lab.state.docker_host), lab.state.node(HEAD).container
    docker("exec", container, "systemctl", "stop", "ssh.socket", "ssh.service")
    try:
        done = product.with_data(backup_paths=["/proc/version"]).gb10("backup", WORKER, "--json")
    finally:
        docker("exec", container, "systemctl", "start", "ssh.service")
    assert [made["where"] for made in (*done.json["made"], *done.json["kept"])] == ["controller"]
    assert proofs(done) == {(WORKER, "controller"): ["BACKUP_INCOMPLETE"], (WORKER, HEAD): ["NODE_UNREACHABLE"]}
    assert (done.status, done.json["error"]["code"]) == (4, "NODE_UNREACHABLE")


def test_a_full_controller_disk_keeps_no_partial_backup(product: Product, host_of: HostOf, root_of: RootOf) -> None:
    small = "/srv/small"
    host_of(HEAD).check_output(f"sudo mkdir -p {small} && sudo mount -t tmpfs -o size=16k,mode=700 none {small}")
    place = root_of(HEAD) / small[1:]
    try:
        done = replace(product, environment={**product.environment, "GB10_BACKUPS": str(place)}).gb10("backup", WORKER)
        assert (done.status, "KEEPER_FULL" in done.output, str(place) in done.output) == (1, True, True), done.output
        assert [path for path in place.rglob("*") if path.is_file() and not path.name.startswith(".")] == []
    finally:
        host_of(HEAD).check_output(f"sudo umount {small} && sudo rmdir {small}")


@contextmanager
def running_backup(product: Product, folder: Path, host_of: HostOf) -> Iterator[subprocess.Popen[str]]:
    """A running backup of the worker, stopped in time: a small part of a large file has arrived."""
    host_of(WORKER).check_output("sudo sh -c 'umask 77; head -c 400M /dev/urandom > /srv/large'")
    large = product.with_data(backup_paths=["/srv/large"])
    existing = set((folder / WORKER).iterdir())
    with subprocess.Popen(
        [*large.command("gb10"), "backup", WORKER],
        cwd=large.folder,
        env={**os.environ, **large.environment, "GB10_INVENTORY": str(large.inventory)},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        deadline = time.monotonic() + 60
        while not any(path.stat().st_size > 1 << 20 for path in set((folder / WORKER).glob("*.part")) - existing):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield process
    host_of(WORKER).check_output("sudo rm /srv/large")


def test_a_killed_backup_leaves_no_file_that_looks_complete(
    product: Product, host_of: HostOf, root_of: RootOf, folder: Path
) -> None:
    existing = set((folder / WORKER).iterdir())
    with running_backup(product, folder, host_of) as process:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        new = set((folder / WORKER).iterdir()) - existing
        assert {path.suffix for path in new} <= {".part"}
    deadline = time.monotonic() + 20
    while (root_of(WORKER) / "var/lib/gb10/backup").exists() and time.monotonic() < deadline:
        time.sleep(0.2)
    done = product.gb10("backup", WORKER, "--json")
    assert done.status == 0, done.output
    assert not (root_of(WORKER) / "var/lib/gb10/backup").exists()


def test_a_reboot_during_a_backup_leaves_no_partial_copy(
    product: Product, lab: Any, host_of: HostOf, root_of: RootOf, folder: Path
) -> None:
    existing = set((folder / WORKER).iterdir())
    with running_backup(product, folder, host_of) as process:
        lab.lab.reboot(WORKER)
        _, errors = process.communicate(timeout=60)
    assert (process.returncode, "NODE_UNREACHABLE" in errors) == (4, True), errors
    assert set((folder / WORKER).iterdir()) == existing
    assert not list((root_of(HEAD) / "data/backups" / WORKER).glob("*.part"))
    done = product.gb10("backup", WORKER, "--json")
    assert (done.status, any(proofs(done).values())) == (0, False), done.output
    assert not (root_of(WORKER) / "var/lib/gb10/backup").exists()


def test_an_encrypted_backup_opens_only_with_its_key(
    product: Product, folder: Path, root_of: RootOf, tmp_path: Path
) -> None:
    keys = [pyrage.x25519.Identity.generate() for _ in range(2)]
    files = [tmp_path / "key", tmp_path / "another"]
    for key, path in zip(keys, files, strict=True):
        path.write_text(f"# a comment\n{key}\n")
        path.chmod(0o600)
    sealed = {"backup_recipients": [str(keys[0].to_public())]}
    done = product.with_data(**sealed, backup_identity_file=str(files[0])).gb10("backup", WORKER, "--json")
    assert done.status == 0, done.output
    assert proofs(done) == {(WORKER, "controller"): [], (WORKER, HEAD): []}
    backup = done.json["made"][0]["id"]
    for place in (folder, root_of(HEAD) / "data/backups"):
        assert (place / WORKER / f"{backup}.tar.gz.age").read_bytes().startswith(b"age-encryption.org/v1")
    done = product.with_data(**sealed, backup_identity_file=str(files[1])).gb10("backup", "prove", WORKER, "--json")
    assert (done.status, set(map(tuple, proofs(done).values()))) == (6, {("BACKUP_KEY",)})

    hosts = root_of(WORKER) / "etc/hosts"
    before = hosts.read_text()
    hosts.write_text(before + "# added later\n")
    wanted = ("restore", WORKER, "--from", backup, "--only", "identity", "--json")
    done = product.with_data(backup_identity_file=str(files[1])).gb10(*wanted)
    assert (done.status, done.json["error"]["code"]) == (6, "BACKUP_KEY"), done.output
    assert hosts.read_text() != before
    done = product.with_data(backup_identity_file=str(files[0])).gb10(*wanted)
    assert (done.status, hosts.read_text()) == (0, before), done.output
    assert not (root_of(WORKER) / "var/lib/gb10/restore").exists()
