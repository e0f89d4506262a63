"""All nodes wiped by a person, in the middle of which the command is killed, and a new cluster made of them."""

from __future__ import annotations

import json
import shlex
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from gb10.lab.lab import Lab
from gb10.lab.person import Person
from tests.lab.attended import locked
from tests.lab.conftest import LabUnderTest
from tests.lab.product import Done, Product

NODES = ("spark-1", "spark-2")
MODEL = "org/mine"
# A client of the Hub that needs no Hub: it makes the model that it is asked for.
CLIENT = """#!/bin/sh
for name; do :; done
commit=0123456789012345678901234567890123456789
folder=$HF_HOME/hub/models--$(echo "$name" | sed s,/,--,)
mkdir -p "$folder/refs" "$folder/blobs" "$folder/snapshots/$commit"
printf %s $commit >"$folder/refs/main"
echo weights >"$folder/blobs/w"
ln -sf ../../blobs/w "$folder/snapshots/$commit/model.safetensors"
"""


@pytest.fixture
def host_of(over_ssh: Any) -> Any:
    """Host keys come back: each look is a login."""
    return over_ssh


@contextmanager
def at_the_boxes(lab: LabUnderTest, events: Path) -> Iterator[Person]:
    """A person who does what the events ask for."""
    person, stop = Person(Lab(lab.state.name)), threading.Event()
    thread = threading.Thread(target=person.follow, args=(events, stop))
    thread.start()
    try:
        yield person
    finally:
        stop.set()
        thread.join()


def wait_for(events: Path, wanted: str) -> None:
    deadline = time.monotonic() + 180
    while not (events.exists() and wanted in events.read_text()):
        assert time.monotonic() < deadline, events.read_text()[-2000:] if events.exists() else "no events"
        time.sleep(0.1)


def through(product: Product, events: Path, person: Person) -> Done:
    """Go on until it is done, with the fingerprints that the boxes show, and agreeing to a backup without proof."""
    agreed: list[str] = []
    for _ in range(5):
        keys = [word for node in NODES for word in ("--accept-host-key", person.fingerprint(node))]
        done = product.gb10("wipe-all", "--json", "--download", "--events", str(events), *keys, *agreed, seconds=600)
        if done.status == 0:
            return done
        if "RESTORE_UNPROVEN" in done.output:
            assert not agreed, done.output
            assert "Or rely on it: gb10 wipe-all" in done.json["error"]["remedy"]
            agreed = ["--accept", "RESTORE_UNPROVEN"]
    raise AssertionError(done.output[-3000:])


def hook_that_loses_a_proof(product: Product, folder: Path) -> Path:
    """An executable for rebuild_hooks: while the nodes were away, somebody lost what proves the backup of one."""
    hook = folder / "lose"
    proofs = f"{product.environment['GB10_BACKUPS']}/spark-2/*.proof.json"
    hook.write_text(f'#!/bin/sh\n[ "$*" != "before restore spark-2" ] || rm -f {proofs}\n')
    hook.chmod(0o755)
    return hook


def test_nothing_is_asked_for_before_the_names_of_all_nodes_are_typed(
    product: Product, cluster: None, lab: LabUnderTest
) -> None:
    before = [node.machine_id for node in lab.lab.status()]
    for arguments, code in (((), "NAMES_NEEDED"), (("--names", "spark-1"), "DECLINED")):
        done = product.gb10("wipe-all", *arguments)
        assert code in done.output
        assert done.status != 0
    asked = shlex.join([*product.command("gb10"), "wipe-all"])
    for typed in ("spark-1\n", "spark-2 spark-2\n", "\n"):  # at a terminal
        done = product.run_command(["script", "--quiet", "--return", "--command", asked, "/dev/null"], stdin=typed)
        assert "DECLINED" in done.output
        assert done.status != 0
    assert [node.machine_id for node in lab.lab.status()] == before


def test_a_full_wipe_is_given_up_as_long_as_nobody_was_asked_to_wipe(
    product: Product, cluster: None, lab: LabUnderTest, host_of: Any, tmp_path: Path
) -> None:
    before = [node.machine_id for node in lab.lab.status()]
    hook = tmp_path / "hook"
    hook.write_text('#!/bin/sh\n[ "$1 $2" != "before backup" ] || { echo not today; exit 1; }\n')
    hook.chmod(0o755)
    done = product.with_data(rebuild_hooks=[str(hook)]).gb10("wipe-all", "--names", ",".join(NODES))
    assert ("HOOK_FAILED" in done.output, "not today" in done.output) == (True, True), done.output
    assert "LOST: the cluster itself" in done.output  # also for whoever types the names beforehand
    assert [locked(host_of(node)) for node in NODES] == [True, True]
    done = product.gb10("wipe-all", "--abort")
    assert done.status == 0, done.output
    assert [locked(host_of(node)) for node in NODES] == [False, False]
    assert "REBUILD_NONE" in product.gb10("wipe-all", "--abort").output
    assert [node.machine_id for node in lab.lab.status()] == before


def test_all_nodes_are_wiped_and_come_back_as_a_new_cluster(
    product: Product, lab: LabUnderTest, host_of: Any, tmp_path: Path
) -> None:
    settings = {"rebuild_validate_without": ["rail-bandwidth", "gpu-container"], "validate_bandwidth_seconds": 1}
    product = product.with_data(**settings)
    assert product.gb10("bootstrap").status == 0
    for node in NODES:
        host_of(node).check_output(
            f"sudo sh -ec 'cat > /usr/local/bin/hf && chmod 755 /usr/local/bin/hf && mkdir -p /data/huggingface/hub && "
            f"chown -R nvidia /data/huggingface' <<'END'\n{CLIENT}END"
        )
        host_of(node).check_output(f"HF_HOME=/data/huggingface hf download {MODEL}")
    host_of("spark-2").check_output("echo mine | sudo tee /etc/sysctl.d/90-mine.conf")
    known = sorted(lab.state.known_hosts.read_text().splitlines())
    token = host_of("spark-1").check_output("sudo cat /var/lib/rancher/k3s/server/token")
    ids = {node.name: node.machine_id for node in lab.lab.status()}
    plan = product.gb10("wipe-all", "--dry-run", "--json")
    assert [loss["node"] for loss in plan.json["losses"] if MODEL in loss["models"]] == list(NODES)

    hooks = [str(hook_that_loses_a_proof(product, tmp_path))]
    product = product.with_data(**settings, backup_paths=["/usr/local/bin/hf"], rebuild_hooks=hooks)
    events = tmp_path / "events.jsonl"
    with at_the_boxes(lab, events) as person:
        running = product.start("wipe-all", "--names", ",".join(NODES), "--events", str(events))
        wait_for(events, '"wiped"')
        running.send_signal(signal.SIGKILL)
        running.communicate()
        assert "WIPE_UNFINISHED" in product.gb10("rebuild", "run", "spark-2").output
        assert "NODE_AWAY" in product.gb10("wipe-all", "--abort").output
        early = product.gb10("wipe-all", "--accept", "RESTORE_UNPROVEN")
        assert "--accept goes on with a restore that was refused, and none was" in early.output
        done = through(product, events, person)

    assert sorted(person.wiped) == sorted(NODES), "each exactly once"
    assert all(node.machine_id != ids[node.name] for node in lab.lab.status())
    (agreed,) = (
        record for line in events.read_text().splitlines() if (record := json.loads(line))["event"] == "accepted"
    )
    assert (agreed["node"], agreed["codes"]) == ("spark-2", ["RESTORE_UNPROVEN"])
    assert done.json["models_to_download"] == {}
    assert sorted(lab.state.known_hosts.read_text().splitlines()) == known, "the host keys of before"
    head = host_of("spark-1")
    assert head.check_output("sudo cat /var/lib/rancher/k3s/server/token") != token
    listed = json.loads(head.check_output("sudo k3s kubectl get nodes -o json"))
    assert {item["metadata"]["name"] for item in listed["items"]} == set(NODES)
    assert host_of("spark-2").file("/etc/sysctl.d/90-mine.conf").content_string == "mine\n"
    for node in NODES:
        assert not locked(host_of(node))
        assert host_of(node).check_output("cat /data/huggingface/hub/models--org--mine/snapshots/*/model.safetensors")
    assert token not in events.read_text()


@pytest.fixture(autouse=True, scope="module")
def clean_afterwards(lab: LabUnderTest) -> Iterator[None]:
    """Other tests find new nodes."""
    yield
    lab.wipe_all()
