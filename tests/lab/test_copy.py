"""Copies from node to node: what arrives, what is sent, what is left behind, and what happens after failures."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gb10.lab import node as nodes
from gb10.lab import state as states
from gb10.lab.lab import Lab
from gb10.lab.probe import polled
from gb10.lab.shell import Docker
from tests.lab.hub import MARKER, Hub, fill
from tests.lab.observe import ProcessScan, written_files
from tests.lab.product import Done, Product
from tests.lab.reported import read

SOURCE, TARGET = "spark-1", "spark-2"
FROM, TO = "/data/from", "/data/to"
HUB = "/data/huggingface/hub"
RAILS = {"a": "enp1s0f0np0", "b": "enP2p1s0f0np0"}
SYNC = "gb10.operations.cx7.sync"
PLAIN_SSH = "ssh -i /root/.ssh/test -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR"

# Python for a node: makes files that are hard to copy.
ODD_FILES = r"""
import os
os.makedirs(b"sub/empty folder")
odd = (b"a space", b"a\nline break", b"-rf", b"--delete", "ümlaut 雪".encode(), b"not \xff utf-8", b"#hash", b"%x")
for name in odd:
    open(name, "wb").write(name)
open("sub/large one", "wb").write(os.urandom((20 << 20) + 12345))
os.link("sub/large one", "sub/other name of the large one")
open("first name", "w").write("twice")
os.link("first name", "sub/second name")
os.symlink("sub/large one", "link to a file")
os.symlink("sub", "link to a folder")
with open("sub/sparse", "wb") as file:
    file.truncate(64 << 20); file.seek(40 << 20); file.write(os.urandom(3 << 20))
os.chmod("a space", 0o4751); os.chown("a space", 1000, 100); os.chmod("sub/empty folder", 0o1777)
os.utime("a space", ns=(10**18, 10**18 + 7))
"""


# Python for a node: prints everything that a copy must keep, sorted.
LISTING = r"""
import hashlib, os, stat
def hash_of(path):
    return hashlib.sha256(open(path, "rb").read()).hexdigest()
for folder, folders, names in os.walk(b"."):
    for name in sorted(folders + names):
        path = os.path.join(folder, name)
        found = os.lstat(path)
        kept = [path, oct(found.st_mode), found.st_uid, found.st_gid]
        if stat.S_ISLNK(found.st_mode):
            kept.append(os.readlink(path))
        if stat.S_ISREG(found.st_mode):
            kept += [found.st_size, found.st_mtime_ns, found.st_nlink, hash_of(path)]
        print(kept)
    folders.sort()
"""


# Python for a node: speaks the copy protocol without the secret and prints the answer.
MANY_STRANGERS = r"""
import select, socket, time
streams = [socket.create_connection(("{address}", 8873), timeout=10) for _ in range(60)]
time.sleep(2)
print(sum(bool(select.select([stream], [], [], 0)[0]) for stream in streams))
"""
UNAUTHORIZED_PEER = r"""
import socket
stream = socket.create_connection(("{address}", 8873), timeout=10)
stream.sendall(b"GB10 data 00\n")
assert stream.recv(100)
stream.sendall(b"0" * 64 + b"\n")
print(stream.recv(100))
"""


@dataclass
class Pair:
    """The source and the target of copies, and the product that copies between them."""

    lab: Lab
    docker: Docker
    product: Product
    hosts: dict[str, Any]
    containers: dict[str, str]
    roots: dict[str, Path]
    addresses: dict[str, dict[str, str]]

    def on(self, name: str, script: str, check: bool = True) -> str:
        """Run a shell script as root on a node, without sshd."""
        return self.docker.inside(self.containers[name], script if check else f"{script}\ntrue")

    def journal(self, name: str, options: str = "") -> str:
        """Return a node's journal, after a sync."""
        return self.on(name, f"journalctl --sync; journalctl --no-pager -o cat {options}")

    def python(self, name: str, folder: str, program: str) -> str:
        """Run a Python program on a node in a folder, which is created if missing."""
        return self.on(name, f"mkdir -p {folder} && cd {folder} && python3 - <<'END'\n{program}\nEND")

    def arguments(self, **options: Any) -> list[str]:
        """Return the arguments of cx7.sync for the pyinfra CLI."""
        known = {"src_path": FROM, "dest_host": TARGET, "dest_path": TO, "progress_seconds": 0.02, **options}
        return [f"{key}={json.dumps(value)}" for key, value in known.items()]

    def copy(self, *flags: str, **options: Any) -> Done:
        """Copy with the pyinfra CLI. Read its reports with `result` and `proof`."""
        self.reports.unlink(missing_ok=True)
        return self.product.run_command([*self._command(*flags), SYNC, *self.arguments(**options)])

    def _command(self, *flags: str) -> list[str]:
        reported = [sys.executable, "-m", "tests.lab.reported", str(self.reports)]
        return [*reported, "-y", f"--limit={SOURCE}", *flags, str(self.product.inventory)]

    @property
    def reports(self) -> Path:
        return self.product.folder / "reports"

    def result(self) -> dict[str, Any]:
        """Return the sender's final report of the last copy."""
        (found,) = read(self.reports, "CopySent")
        return found

    def proof(self) -> dict[str, Any]:
        """Return the result of the comparison after the last copy."""
        (found,) = read(self.reports, "CopyProven")
        proof: dict[str, Any] = found["proof"]
        return proof

    def await_share(self, child: subprocess.Popen[str], share: float) -> None:
        """Wait until a running copy has sent this share of its bytes."""
        while child.poll() is None:
            moved = read(self.reports, "CopyMoved")
            if moved and moved[-1]["sent"] >= share * moved[-1]["total"]:
                return
            time.sleep(0.01)
        raise AssertionError("the copy ended too early")

    @contextmanager
    def copying(self, **options: Any) -> Iterator[subprocess.Popen[str]]:
        """Run a copy in the background while the block runs. Standard output and error are one pipe."""
        self.reports.unlink(missing_ok=True)
        child = subprocess.Popen(
            [*self._command(), SYNC, *self.arguments(**options)],
            cwd=self.product.folder,
            env=self.product.full_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            yield child
        finally:
            child.kill()
            child.wait()

    def listing(self, name: str, folder: str) -> str:
        """Return everything that a copy must keep, for all files below a folder."""
        return self.python(name, folder, LISTING)

    def leftovers(self) -> list[str]:
        """Return what a copy has left on either node and must not leave."""
        looks = {
            "units": "systemctl list-units --all --no-legend 'gb10-copy-*'",
            "ports": "ss -Hltn 'sport >= 8873 and sport < 8973'",
            "files": "ls -d /run/gb10-copy-* 2>/dev/null || true",
            "processes": "pgrep -a rsync || true",
            "keys": "grep -l gb10-copy /home/*/.ssh/authorized_keys || true",
        }
        script = "set -e; " + "; ".join(f"echo '## {what}'; {look}" for what, look in looks.items())
        found = []
        for name in (SOURCE, TARGET):
            what = ""
            for line in self.on(name, script).splitlines():
                if line.startswith("## "):
                    what = line.removeprefix("## ")
                else:
                    found.append(f"{name} {what}: {line}")
        return found

    def slow(self, megabits: int = 200) -> None:
        """Throttle both rails, so that a test can act during a copy."""
        for interface in RAILS.values():
            limit = f"rate {megabits}mbit burst 256kb latency 50ms"
            self.on(SOURCE, f"tc qdisc replace dev {interface} root tbf {limit}")

    def restore(self) -> None:
        """Undo a test's changes on the nodes."""
        for name, rail in states.require(self.lab.name).pulled_rails:
            self.lab.rail(name, rail, plugged=True)
        fast = "; ".join(
            f"tc qdisc del dev {interface} root; umount /sys/class/net/{interface}/speed"
            for interface in RAILS.values()
        )
        for name in (SOURCE, TARGET):
            self.on(name, f"( {fast}; umount {TO} ) 2>/dev/null; rm -rf {FROM} {TO} {HUB}; rm -f /root/.ssh/test*")


@pytest.fixture
def pair(lab: Any, product: Product, host_of: Callable[[str], Any]) -> Iterator[Pair]:
    """Both nodes, without files to copy."""
    names = (SOURCE, TARGET)
    found = Pair(
        lab=lab.lab,
        docker=Docker(lab.state.docker_host),
        product=product,
        hosts={name: host_of(name) for name in names},
        containers={name: lab.state.node(name).container for name in names},
        roots={name: lab.root(name) for name in names},
        addresses={rail: {name: lab.address(name, rail) for name in names} for rail in (*RAILS, "management")},
    )
    found.restore()
    yield found
    found.restore()


def make_large(pair: Pair, megabytes: int, files: int = 4) -> int:
    """Create large files of random bytes on the source and return their total size in bytes."""
    each = megabytes // files
    names = " ".join(str(number) for number in range(files))
    # A cipher is several times as fast as /dev/urandom.
    random = "openssl enc -aes-128-ctr -nosalt -pass pass:$(date +%N)$i -in /dev/zero 2>/dev/null"
    pair.on(SOURCE, f"mkdir -p {FROM}; cd {FROM}; for i in {names}; do {random} | head -c {each}M >shard-$i; done")
    return each * files << 20


def assert_refused(done: Done, code: str) -> None:
    """Check that a copy was refused or failed with this error code, without a stack trace."""
    assert f"gb10: {code}: " in done.output, done.output
    assert "Traceback" not in done.output
    assert done.status != 0


def await_no_leftovers(pair: Pair, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while found := pair.leftovers():
        assert time.monotonic() < deadline, found
        time.sleep(0.2)


# What arrives --------------------------------------------------------------------------------------------------------


def test_a_copy_is_exact_and_a_second_one_changes_nothing(pair: Pair) -> None:
    pair.python(SOURCE, FROM, ODD_FILES)
    before = written_files(pair.hosts[TARGET])
    plan = pair.product.pyinfra("--dry", f"--limit={SOURCE}", SYNC, *pair.arguments())
    assert plan.status == 0, plan.output
    assert "would copy from spark-1:/data/from to spark-2:/data/to: 11 files" in plan.output
    assert written_files(pair.hosts[TARGET]) == before
    done = pair.copy()
    assert done.status == 0, done.output
    assert pair.listing(SOURCE, FROM) == pair.listing(TARGET, TO)
    assert pair.proof()["holds"]
    inodes = pair.on(TARGET, f"cd {TO}/sub; stat -c %i 'large one' 'other name of the large one'").split()
    assert inodes[0] == inodes[1], "the hard link has become a second file"
    assert int(pair.on(TARGET, f"du -sk {TO}/sub/sparse | cut -f 1")) < 8192, "the holes have been filled"
    again = pair.copy()
    assert "No changes" in again.output
    assert read(pair.reports, "CopySent") == []
    assert pair.leftovers() == []
    assert pair.on(TARGET, f"find {TO} -name '.gb10*'") == ""


def test_more_files_than_a_process_may_open_are_copied(pair: Pair) -> None:
    program = "for n in range(3000):\n with open(f'file-{n}', 'w') as file: file.write(str(n))"
    pair.python(SOURCE, FROM, program)
    done = pair.copy()
    assert done.status == 0, done.output
    assert pair.listing(SOURCE, FROM) == pair.listing(TARGET, TO)


def test_one_large_file_uses_both_rails(pair: Pair) -> None:
    total = make_large(pair, 256, files=1)
    pair.slow(800)
    assert pair.copy().status == 0
    rails = pair.result()["rails"]
    assert sum(rails.values()) >= total
    assert min(rails[rail] for rail in RAILS) > 0.2 * total


def test_a_target_below_tmp_is_refused(pair: Pair) -> None:
    make_large(pair, 16)
    for folder in ("/tmp/to", "/var/tmp/to"):
        assert_refused(pair.copy(dest_path=folder), "COPY_PATH")
        assert pair.on(TARGET, f"ls -d {folder} 2>/dev/null || true") == ""


def test_only_changes_are_sent(pair: Pair) -> None:
    make_large(pair, 64)
    pair.on(SOURCE, f"head -c 100000 /dev/urandom >{FROM}/small")
    assert pair.copy().status == 0
    pair.on(SOURCE, f"head -c 100000 /dev/urandom >{FROM}/small; chmod 600 {FROM}/shard-0")
    assert pair.copy().status == 0
    assert pair.result()["wire"] < 200_000
    assert pair.listing(SOURCE, FROM) == pair.listing(TARGET, TO)


def test_extra_files_of_the_target_go_only_with_delete(pair: Pair) -> None:
    pair.on(SOURCE, f"mkdir -p {FROM}/sub; echo x >{FROM}/sub/ours")
    pair.on(TARGET, f"mkdir -p {TO}/sub/theirs; echo x >{TO}/sub/theirs/file; echo x >{TO}/a.incomplete")
    assert pair.copy().status == 0
    assert pair.on(TARGET, f"cat {TO}/sub/theirs/file {TO}/sub/ours") == "x\nx\n"
    plan = pair.product.pyinfra("--dry", f"--limit={SOURCE}", SYNC, *pair.arguments(delete=True))
    assert "2 to be deleted: sub/theirs/file, sub/theirs" in plan.output
    assert pair.copy(delete=True).status == 0
    assert pair.on(TARGET, f"cd {TO}; find . -mindepth 1 | sort") == "./a.incomplete\n./sub\n./sub/ours\n"


def test_hashes_find_changes_that_size_and_time_hide(pair: Pair) -> None:
    make_large(pair, 64)
    pair.on(SOURCE, f"head -c 1000 /dev/urandom >{FROM}/small")
    assert pair.copy().status == 0
    alter = "printf X | dd of={0} bs=1 seek=500 conv=notrunc status=none; touch -r {1} {0}"
    for name in ("shard-2", "small"):
        pair.on(TARGET, f"touch -r {TO}/{name} /tmp/time; {alter.format(f'{TO}/{name}', '/tmp/time')}")
    assert "No changes" in pair.copy().output, "size and time are the same"
    done = pair.copy(verify="hash")
    assert done.status == 0, done.output
    assert "sha256 of both sides compared" in done.output
    assert pair.result()["sent"] == (16 << 20) + 1000
    assert pair.listing(SOURCE, FROM) == pair.listing(TARGET, TO)


def test_a_copy_over_ssh_removes_its_key(pair: Pair) -> None:
    pair.python(SOURCE, FROM, ODD_FILES)
    done = pair.copy(transport="ssh")
    assert done.status == 0, done.output
    assert pair.listing(SOURCE, FROM) == pair.listing(TARGET, TO)
    assert pair.leftovers() == []


def test_the_key_of_a_killed_copy_over_ssh_is_removed(pair: Pair) -> None:
    make_large(pair, 128)
    pair.slow()
    with pair.copying(transport="ssh") as child:
        pair.await_share(child, 0.0)
        assert pair.on(SOURCE, "ls -d /run/gb10-copy-* /tmp/gb10* 2>/dev/null || true") == ""
        pair.on(SOURCE, "pkill -KILL -f '^python3 -I '")
        child.communicate()
    await_no_leftovers(pair, 90)
    assert pair.copy(transport="ssh").status == 0


def test_the_management_network_is_used_only_on_request(pair: Pair) -> None:
    make_large(pair, 32)
    for rail in RAILS:
        pair.lab.rail(TARGET, rail, plugged=False)
    assert_refused(pair.copy(), "RAIL_DOWN")
    done = pair.copy(network="management")
    assert done.status == 0, done.output
    assert "over the management network, as asked for" in done.output


@contextmanager
def overheard(text: bytes) -> Iterator[list[int]]:
    """Listen on all networks of this machine while the block runs. Record the protocol of each frame with the text."""
    found: list[int] = []
    stop = threading.Event()
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)) as wire:
        wire.setsockopt(socket.SOL_SOCKET, 33, 64 << 20)  # SO_RCVBUFFORCE
        wire.settimeout(0.2)

        def listen() -> None:
            while not stop.is_set():
                with suppress(TimeoutError):
                    frame, address = wire.recvfrom(1 << 16)
                    found.extend([address[1]] * (text in frame))

        thread = threading.Thread(target=listen)
        thread.start()
        try:
            yield found
        finally:
            stop.set()
            thread.join()


def test_others_on_the_management_network_read_nothing(pair: Pair) -> None:
    pair.on(SOURCE, f"mkdir -p {FROM}; yes 'canary of a private model' | head -c 1M >{FROM}/weights")
    with overheard(b"canary of a private model") as seen:
        done = pair.copy(network="management")
    assert (done.status, "as asked for, by ssh" in done.output) == (0, True), done.output
    assert seen == []
    assert pair.listing(SOURCE, FROM) == pair.listing(TARGET, TO)

    pair.on(TARGET, f"rm -r {TO}")
    with overheard(b"canary of a private model") as seen:
        done = pair.copy(network="management", transport="rsyncd")
    assert (done.status, "as asked for, in clear text" in done.output) == (0, True), done.output
    assert seen, "nothing was overheard at all"


# Hugging Face --------------------------------------------------------------------------------------------------------


def broken_links(pair: Pair) -> list[str]:
    return pair.on(TARGET, f"find {HUB} -xtype l").splitlines()


def test_a_plain_copy_of_a_model_is_broken_but_ours_is_whole(pair: Pair) -> None:
    hub = fill(pair.roots[SOURCE] / HUB.lstrip("/"))
    key = pair.on(
        SOURCE, "mkdir -p /root/.ssh; ssh-keygen -q -t ed25519 -N '' -f /root/.ssh/test; cat /root/.ssh/test.pub"
    )
    pair.on(TARGET, f"mkdir -p -m 700 /root/.ssh; echo '{key.strip()}' >/root/.ssh/authorized_keys; mkdir -p {HUB}")
    model = hub.folder("acme/shared").name
    pair.on(SOURCE, f"rsync -a -e '{PLAIN_SSH}' {HUB}/{model} root@{pair.addresses['a'][TARGET]}:{HUB}/")
    assert len(broken_links(pair)) == 8, "the plain rsync succeeded but copied only broken links"
    proof = {"src_path": HUB, "dest_path": HUB, "paths": [model]}
    plain = pair.product.pyinfra("--dry", f"--limit={SOURCE}", SYNC, *pair.arguments(**proof))
    assert "would copy" in plain.output, "the plain rsync's copy does not count"
    done = pair.product.gb10("sync", "models", SOURCE, TARGET, "acme/shared", "--verify", "hash", "--json")
    assert done.status == 0, done.output
    assert done.json["proofs"][0]["holds"]
    assert broken_links(pair) == []
    for name in ("model-1.safetensors", "model-2.safetensors", "config.json", "tokenizer/vocab.txt"):
        path = f"{HUB}/{model}/snapshots/*/{name}"
        assert pair.on(SOURCE, f"sha256sum {path}") == pair.on(TARGET, f"sha256sum {path}")
    assert "quantized" not in pair.on(TARGET, f"ls {HUB}")


def test_the_whole_hub_is_copied_without_partial_downloads(pair: Pair) -> None:
    fill(pair.roots[SOURCE] / HUB.lstrip("/")).classic("acme/tool", "main", {"uv.lock": 4000})
    done = pair.product.gb10("sync", "models", SOURCE, TARGET)
    assert done.status == 0, done.output
    assert "acme/classic: 3.1 MiB, 2 revisions" in done.output
    assert "1 unfinished downloads are left out" in done.output
    assert broken_links(pair) == []
    left_out = r"! -name '*.incomplete' ! -path './.locks*' ! -path './blobs/*.lock' ! -name '*.refs'"
    names = f"cd {HUB}; find . {left_out} -printf '%p %y %l\\n' | sort"
    assert pair.on(SOURCE, names) == pair.on(TARGET, names)
    fact = pair.product.pyinfra("--json", "fact", "gb10.facts.huggingface.HuggingFaceModels", f"hub={HUB}")
    found = {repository["name"]: repository for repository in next(iter(fact.json.values()))[TARGET]["repositories"]}
    assert found["acme/classic"]["complete"]
    assert len(found["acme/classic"]["revisions"]) == 2
    assert found["acme/shared"]["shared_blobs"] == 4
    assert found["acme/unfinished"]["incomplete_downloads"] == 0
    again = pair.product.gb10("sync", "models", SOURCE, TARGET)
    assert "nothing had to be sent" in again.output


def test_a_new_hub_has_the_owner_of_the_source(pair: Pair) -> None:
    Hub(pair.roots[SOURCE] / HUB.lstrip("/")).classic("acme/small", "main", {"config.json": 600})
    pair.on(SOURCE, f"chown -R 1000:100 {HUB}; chmod 2775 {HUB}")
    assert pair.product.gb10("sync", "models", SOURCE, TARGET, "acme/small").status == 0
    assert pair.on(TARGET, f"stat -c '%u %g %a' {HUB}") == "1000 100 2775\n"


def test_a_dry_run_shows_the_bytes_and_sends_none(pair: Pair) -> None:
    Hub(pair.roots[SOURCE] / HUB.lstrip("/")).classic("acme/one", "main", {"model.safetensors": 3 << 20})
    plan = pair.product.gb10("sync", "models", SOURCE, TARGET, "acme/one", "--dry-run", "--json")
    assert plan.status == 0, plan.output
    assert pair.on(TARGET, f"ls -A {HUB} 2>/dev/null || true") == ""
    done = pair.product.gb10("sync", "models", SOURCE, TARGET, "acme/one", "--json")
    assert [plan["bytes"] for plan in plan.json["plans"]] == [done.json["results"][0]["sent"]]


def test_a_shared_blob_is_not_sent_again(pair: Pair) -> None:
    fill(pair.roots[SOURCE] / HUB.lstrip("/"))
    mine = Hub(pair.roots[TARGET] / HUB.lstrip("/"))
    # A model that was downloaded on the target shares one shard with the model to copy.
    mine.shared("other/finetune", "main", {"model-1.safetensors": 3 << 20}, content_of="acme/shared")
    done = pair.product.gb10("sync", "models", SOURCE, TARGET, "acme/quantized", "--json")
    assert done.status == 0, done.output
    assert done.json["results"][0]["wire"] < 20_000
    (blob,) = (path for path in mine.root.glob("blobs/*/*") if path.stat().st_size == 3 << 20)
    links = blob.with_name(f"{blob.name}.refs").read_text().splitlines()
    assert [link.split("/")[0] for link in links] == ["models--other--finetune", "models--acme--quantized"]
    assert (mine.root / MARKER).exists()


def test_the_deploy_copies_the_models_of_the_inventory(pair: Pair) -> None:
    fill(pair.roots[SOURCE] / HUB.lstrip("/"))
    product = pair.product.with_data(models=["acme/classic", "datasets/acme/questions"])
    plan = product.pyinfra("--dry", "gb10.deploys.models")
    assert (
        "would copy from spark-1:/data/huggingface/hub to spark-2:/data/huggingface/hub: 16 files, 3.3 MiB"
        in plan.output
    )
    assert product.plan("gb10.deploys.models") == product.run("gb10.deploys.models") != set()
    assert product.plan("gb10.deploys.models") == product.run("gb10.deploys.models") == set()
    assert sorted(pair.on(TARGET, f"ls -d {HUB}/*--*").split()) == [
        f"{HUB}/datasets--acme--questions",
        f"{HUB}/models--acme--classic",
    ]


def test_the_deploy_copies_models_in_both_directions(pair: Pair) -> None:
    Hub(pair.roots[SOURCE] / HUB.lstrip("/")).classic("acme/one", "main", {"config.json": 600})
    Hub(pair.roots[TARGET] / HUB.lstrip("/")).classic("acme/two", "main", {"config.json": 700})
    product = pair.product.with_data(models=["acme/one", "acme/two"])
    assert product.plan("gb10.deploys.models") == product.run("gb10.deploys.models") != set()
    assert product.plan("gb10.deploys.models") == product.run("gb10.deploys.models") == set()
    for name in (SOURCE, TARGET):
        assert sorted(pair.on(name, f"ls {HUB} | grep -- --").split()) == ["models--acme--one", "models--acme--two"]
    missing = pair.product.with_data(models=["acme/none"]).pyinfra("-y", "gb10.deploys.models")
    assert "gb10: MODEL_MISSING: neither spark-1 nor spark-2 has acme/none" in missing.output


def test_the_error_names_a_missing_or_broken_model(pair: Pair) -> None:
    hub = fill(pair.roots[SOURCE] / HUB.lstrip("/"))
    missing = pair.product.gb10("sync", "models", SOURCE, TARGET, "acme/none")
    assert missing.status == 6
    assert "acme/none" in missing.output
    assert "MODEL_MISSING" in missing.output
    (blob,) = (path for path in hub.folder("acme/classic").glob("blobs/*") if path.stat().st_size == 3 << 20)
    os.truncate(blob, 1000)
    broken = pair.product.gb10("sync", "models", SOURCE, TARGET, "acme/classic")
    assert broken.status == 6
    assert "MODEL_BROKEN" in broken.output
    assert "model-1.safetensors" in broken.output


# Secrets and unauthorized peers --------------------------------------------------------------------------------------


def test_a_copy_does_not_show_its_secret(pair: Pair) -> None:
    make_large(pair, 128)
    pair.slow()
    secrets: list[str] = []
    with pair.copying() as child:
        pair.await_share(child, 0.1)
        job = pair.on(TARGET, "stat -c '%a %n' /run/gb10-copy-* /run/gb10-copy-*/*; cat /run/gb10-copy-*/job.json")
        *modes, text = job.splitlines()
        assert {mode.split()[0] for mode in modes} == {"700", "600"}
        secrets.append(json.loads(text)["secret"])
        assert list(ProcessScan(secrets[0]).leaks()) == []
        child.kill()
    done = pair.copy("-vvv", "--debug")
    assert done.status == 0
    with polled(ProcessScan("RSYNC_PASSWORD").leaks) as leaks:
        pair.on(SOURCE, f"touch {FROM}/shard-0")
        assert pair.copy().status == 0
    assert leaks == []
    assert not re.search(r"\b[0-9a-f]{64}\b", re.sub(r'"digest": "\w+"', "", done.output).replace("sha256", ""))
    for name in (SOURCE, TARGET):
        assert secrets[0] not in pair.journal(name)


def test_connections_without_the_secret_are_refused(pair: Pair) -> None:
    make_large(pair, 256)
    pair.slow()
    with pair.copying() as child:
        pair.await_share(child, 0.05)
        target = pair.addresses["a"][TARGET]
        listening = pair.on(TARGET, "ss -Hltn 'sport >= 8873 and sport < 8973'")
        assert sorted(line.split()[3].rpartition(":")[0] for line in listening.splitlines()) == sorted(
            pair.addresses[rail][TARGET] for rail in RAILS
        )
        with socket.create_connection((target, 8873), timeout=10) as stranger:
            stranger.sendall(b"@RSYNCD: 31.0 sha512 sha256 sha1 md5 md4\ncopy\n")
            assert not _answered(stranger)
        assert pair.python(SOURCE, "/tmp", MANY_STRANGERS.format(address=target)) == "28\n"
        rsync = "rsync --password-file=/tmp/p"
        peer = pair.on(
            SOURCE,
            f"exec 2>&1; echo wrong >/tmp/p; chmod 600 /tmp/p; {rsync} /etc/hostname rsync://gb10@{target}:8873/copy/; "
            f"{rsync} rsync://root@{target}:8873/etc/",
            check=False,
        )
        assert peer.count("rsync error: error in ") + peer.count("auth failed on module copy") == 2, peer
        assert "hostname" not in pair.on(TARGET, f"ls -A {TO}")
        assert pair.python(SOURCE, "/tmp", UNAUTHORIZED_PEER.format(address=target)) == "b''\n"
        child.kill()
    journal = pair.journal(TARGET, "-u 'gb10-copy-*' -n 300")
    assert "gb10: COPY_REFUSED: refused a connection that does not know the secret of this copy" in journal
    assert "gb10: COPY_REFUSED: refused an rsync that the sender has not announced" in journal
    assert re.search(r"refused a connection from 198\.18\.\d+\.1: it is not the peer", journal)


def _answered(stranger: socket.socket) -> bool:
    try:
        return stranger.recv(100) != b""
    except ConnectionResetError:
        return False


# Bad luck ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("victim", ["controller", "sender", "receiver"])
def test_a_copy_killed_at_half_resumes_at_half(pair: Pair, victim: str) -> None:
    total = make_large(pair, 256)
    pair.slow(400)
    with pair.copying() as child:
        pair.await_share(child, 0.5)
        if victim == "controller":
            os.kill(child.pid, signal.SIGKILL)
        elif victim == "sender":
            pair.on(SOURCE, "pkill -KILL -f '^python3 -I '")
        else:
            pair.on(TARGET, "pkill -KILL -f '[r]eceiver.pyz serve'")
        output, _ = child.communicate()
        if victim == "receiver":
            assert "gb10: COPY_FAILED: the receiver on spark-2 ended before the copy did" in output
            assert "RAIL_DOWN" not in output
        # A sender ends if nobody reads its progress, and a receiver if its sender is gone.
        await_no_leftovers(pair, 20)
    done = pair.copy()
    assert done.status == 0, done.output
    assert pair.result()["wire"] <= 0.51 * total
    assert pair.listing(SOURCE, FROM) == pair.listing(TARGET, TO)
    assert pair.on(TARGET, f"find {TO} -name '.gb10*'") == ""


def test_ctrl_c_stops_both_ends_and_the_copy_can_resume(pair: Pair) -> None:
    hub = Hub(pair.roots[SOURCE] / HUB.lstrip("/"))
    hub.classic("acme/large", "main", {"model.safetensors": 200 << 20})
    pair.slow(150)  # takes five seconds, because on a busy machine the signal comes late
    command = pair.product.start("sync", "models", SOURCE, TARGET, "acme/large")
    growing = pair.roots[TARGET] / HUB.lstrip("/") / ".gb10-copy"
    deadline = time.monotonic() + 60
    while not any(path.stat().st_size > 200 for path in growing.glob("*.map")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.killpg(command.pid, signal.SIGINT)
    output, _ = command.communicate(timeout=30)
    assert command.returncode == 130, output
    assert "gb10 sync models" in output, "the output names the command to resume"
    await_no_leftovers(pair, 10)
    done = pair.product.gb10("sync", "models", SOURCE, TARGET, "acme/large", "--json")
    assert done.status == 0, done.output
    assert done.json["results"][0]["resumed"] > 0
    assert broken_links(pair) == []


def test_a_copy_survives_the_loss_of_one_rail(pair: Pair) -> None:
    total = make_large(pair, 256)
    pair.on(SOURCE, f"for i in $(seq 400); do head -c 100000 /dev/urandom >{FROM}/small-$i; done")
    pair.slow()
    with pair.copying() as child:
        pair.await_share(child, 0.2)
        pair.lab.rail(TARGET, "b", plugged=False)
        pair.on(SOURCE, f"tc qdisc del dev {RAILS['a']} root")
        output, _ = child.communicate(timeout=120)
    assert child.returncode == 0, output
    assert "rail b carries nothing any more: going on without it" in output
    assert pair.result()["sent"] >= total
    assert pair.listing(SOURCE, FROM) == pair.listing(TARGET, TO)
    pair.on(TARGET, f"rm -rf {TO}")
    again = pair.copy()
    assert "only a carries the copy" in again.output
    assert again.status == 0


def test_a_copy_fails_when_all_rails_go_down(pair: Pair) -> None:
    make_large(pair, 256)
    pair.slow()
    with pair.copying() as child:
        pair.await_share(child, 0.1)
        for rail in RAILS:
            pair.lab.rail(SOURCE, rail, plugged=False)
        output, _ = child.communicate(timeout=120)
    assert child.returncode != 0
    assert "gb10: RAIL_DOWN: " in output
    for rail in RAILS:
        pair.lab.rail(SOURCE, rail, plugged=True)
    await_no_leftovers(pair, 60)
    assert pair.copy().status == 0


def test_a_full_target_is_refused_before_anything_is_sent(pair: Pair) -> None:
    make_large(pair, 128)
    pair.on(TARGET, f"mkdir -p {TO} && mount -t tmpfs -o size=100m tmpfs {TO}")
    plan = pair.product.pyinfra("--dry", f"--limit={SOURCE}", SYNC, *pair.arguments())
    assert "would be refused: DISK_FULL" in plan.output
    assert_refused(pair.copy(), "DISK_FULL")
    assert pair.on(TARGET, f"ls -A {TO}") == ""


@pytest.mark.parametrize("transport", ["rsyncd", "ssh"])
def test_a_copy_to_a_disk_that_fills_up_can_resume(pair: Pair, transport: str) -> None:
    make_large(pair, 128)
    pair.on(TARGET, f"mkdir -p {TO} && mount -t tmpfs -o size=230m tmpfs {TO}")
    pair.slow()
    with pair.copying(transport=transport) as child:
        pair.await_share(child, 0.1 if transport == "rsyncd" else 0.0)
        pair.on(TARGET, f"fallocate -l 170m {TO}/filler || head -c 170m /dev/zero >{TO}/filler", check=False)
        output, _ = child.communicate(timeout=120)
    assert child.returncode != 0
    assert "gb10: DISK_FULL: " in output, output
    await_no_leftovers(pair, 20)
    pair.on(TARGET, f"rm {TO}/filler")
    done = pair.copy(transport=transport)
    assert done.status == 0, done.output
    assert pair.result()["wire"] < 120 << 20
    assert pair.on(TARGET, f"find {TO} -name '.gb10*'") == ""
    assert pair.listing(SOURCE, FROM) == pair.listing(TARGET, TO)


@pytest.mark.parametrize("change", ["echo more >>{}", "rm {}", "truncate -s 1000 {}", "touch {}"])
@pytest.mark.parametrize("name", ["shard-3", "late"])
def test_a_file_that_changes_during_the_copy_is_named(pair: Pair, change: str, name: str) -> None:
    make_large(pair, 128)
    pair.on(SOURCE, f"echo small >{FROM}/late")
    pair.slow()
    with pair.copying() as child:
        pair.await_share(child, 0.1)
        pair.on(SOURCE, change.format(f"{FROM}/{name}"))
        output, _ = child.communicate(timeout=120)
    assert child.returncode != 0
    assert "gb10: SOURCE_CHANGED: " in output, output
    assert name in output[output.index("gb10: SOURCE_CHANGED") :]
    assert pair.copy().status == 0
    if not change.startswith("rm"):
        assert pair.listing(SOURCE, FROM) == pair.listing(TARGET, TO)


def test_a_second_copy_into_the_same_folder_is_refused(pair: Pair) -> None:
    make_large(pair, 128)
    pair.slow(20)
    with pair.copying() as child:
        pair.await_share(child, 0.1)
        assert_refused(pair.copy(), "COPY_BUSY")
        running = pair.product.pyinfra("--json", "fact", "gb10.facts.copy.CopyProgress")
        (progress,) = next(iter(running.json.values()))[TARGET]
        assert progress["root"] == TO
        assert 0 < progress["sent"] < progress["total"] == 128 << 20
        pair.slow(2000)  # the rest may be fast
        output, _ = child.communicate(timeout=120)
    assert child.returncode == 0, output


def test_the_error_names_a_peer_that_is_down(pair: Pair) -> None:
    make_large(pair, 16)
    container = pair.containers[TARGET]
    pair.docker("stop", "--time=5", container)
    try:
        done = pair.copy()
        assert_refused(done, "NODE_UNREACHABLE")
        assert TARGET in done.output
        models = pair.product.gb10("sync", "models", TARGET, SOURCE, "acme/any")
        assert models.status == 4, models.output
        assert "MODEL_MISSING" not in models.output
    finally:
        pair.docker("start", container)
        nodes.wait_until_ready(pair.docker, states.require(pair.lab.name).node(TARGET))


# Bad input -----------------------------------------------------------------------------------------------------------


def test_a_missing_source_is_refused(pair: Pair) -> None:
    assert_refused(pair.copy(src_path="/data/nothing"), "COPY_SOURCE_MISSING")
    make_large(pair, 16)
    done = pair.copy(paths=["shard-0", "shard-9"])
    assert_refused(done, "COPY_SOURCE_MISSING")
    assert "shard-9" in done.output
    assert pair.on(TARGET, f"ls -A {TO} 2>/dev/null || true") == ""


def test_a_node_is_not_copied_onto_itself(pair: Pair) -> None:
    make_large(pair, 16)
    assert_refused(pair.copy(dest_host=SOURCE), "COPY_SAME_NODE")
    assert_refused(pair.copy(dest_host=SOURCE, dest_path=FROM), "COPY_SAME_NODE")
    assert pair.product.gb10("sync", "models", SOURCE, SOURCE).status == 2


@pytest.mark.parametrize("path", ["relative", "/", "/data/100%", "/data/line\nbreak"])
def test_an_invalid_target_path_is_refused(pair: Pair, path: str) -> None:
    assert_refused(pair.copy(dest_path=path), "COPY_PATH")


def test_dangling_links_are_copied_only_on_request(pair: Pair) -> None:
    pair.on(
        SOURCE,
        f"mkdir -p {FROM}; cd {FROM}; echo x >x; ln -s nothing dangling; ln -s /etc/hostname outside; ln -s x fine",
    )
    refused = pair.copy()
    assert_refused(refused, "COPY_DANGLING")
    assert "dangling, outside" in refused.output
    assert "fine" not in refused.output
    done = pair.copy(dangling="list")
    assert done.status == 0, done.output
    assert "2 links on spark-1 lead nowhere, or out of /data/from: dangling, outside" in done.output
    assert pair.proof()["allowed"] == ["dangling", "outside"]
    assert pair.on(TARGET, f"readlink {TO}/dangling {TO}/outside {TO}/fine") == "nothing\n/etc/hostname\nx\n"


def test_absolute_links_are_refused_for_another_target_path(pair: Pair) -> None:
    pair.on(SOURCE, f"mkdir -p {FROM}; echo x >{FROM}/file; ln -s {FROM}/file {FROM}/absolute")
    refused = pair.copy()
    assert_refused(refused, "COPY_DANGLING")
    assert ": absolute" in refused.output
    assert pair.copy(dest_path=FROM).status == 0
    pair.on(TARGET, f"rm -r {FROM}")
    done = pair.copy(dangling="list")
    assert done.status == 0, done.output
    assert pair.proof()["allowed"] == ["absolute"]


def test_a_folder_in_place_of_a_file_is_refused(pair: Pair) -> None:
    pair.on(SOURCE, f"mkdir -p {FROM}/sub; echo x >{FROM}/file; echo x >{FROM}/other")
    pair.on(TARGET, f"mkdir -p {TO}/file; ln -s /etc {TO}/sub")
    refused = pair.copy()
    assert_refused(refused, "COPY_CONFLICT")
    assert "file, sub" in refused.output
    assert pair.on(TARGET, f"ls {TO}") == "file\nsub\n"


def test_a_throttled_rail_is_refused_unless_forced(pair: Pair) -> None:
    # Rails are measured only for large copies. A sparse file is large, and its holes are not sent.
    pair.on(SOURCE, f"mkdir -p {FROM}; truncate -s 9G {FROM}/large")
    for interface in RAILS.values():
        speed = f"/sys/class/net/{interface}/speed"
        pair.on(SOURCE, f"echo 200000 >/tmp/speed; mount --bind /tmp/speed {speed}")
        pair.on(SOURCE, f"tc qdisc replace dev {interface} root tbf rate 9500mbit burst 20mb latency 50ms")
    done = pair.copy()
    rates = [float(rate) for rate in re.findall(r"carries ([\d.]+) Gb/s", done.output)]
    assert len(rates) == 2, done.output
    if any(8 <= rate <= 25 for rate in rates):  # a busy machine measures less, which is another error
        assert_refused(done, "LINK_THROTTLED")
        assert pair.on(TARGET, f"ls -A {TO} 2>/dev/null || true") == ""
    forced = pair.copy(force=True)
    assert forced.status == 0, forced.output


def test_rails_are_not_measured_while_a_node_serves(pair: Pair) -> None:
    pair.on(SOURCE, f"mkdir -p {FROM}; truncate -s 9G {FROM}/large")
    image = "tar -chf - /usr/bin/sleep $(ldd /usr/bin/sleep | grep -o '/[^ ]*') 2>/dev/null | docker import - sleep:lab"
    pair.on(TARGET, f"{image} && docker run -d --name vllm sleep:lab /usr/bin/sleep 600")
    try:
        done = pair.copy()
    finally:
        pair.on(TARGET, "docker rm -f vllm; docker rmi sleep:lab")
    assert done.status == 0, done.output
    assert "the rails are not measured: vllm may be serving on spark-2" in done.output
    assert not re.search(r"carries [\d.]+ Gb/s", done.output)
