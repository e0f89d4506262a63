"""A person wipes all nodes, the command is killed meanwhile, and the nodes become a new cluster."""

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
# A stand-in for the Hub's client `hf`, which creates the requested model.
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
    """Use SSH, which proves that the host keys are restored."""
    return over_ssh


@contextmanager
def person_at_nodes(lab: LabUnderTest, events: Path) -> Iterator[Person]:
    """A person who follows the events and wipes nodes on request while the block runs."""
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


def finish(product: Product, events: Path, person: Person) -> Done:
    """Resume a full wipe until it is done. Accept the nodes' new host keys, and once a backup without proof."""
    accepted: list[str] = []
    for _ in range(5):
        keys = [word for node in NODES for word in ("--accept-host-key", person.fingerprint(node))]
        done = product.gb10("wipe-all", "--json", "--download", "--events", str(events), *keys, *accepted, seconds=600)
        if done.status == 0:
            return done
        if "RESTORE_UNPROVEN" in done.output:
            assert not accepted, done.output
            assert "Or accept it unproven: gb10 wipe-all" in done.json["error"]["remedy"]
            accepted = ["--accept", "RESTORE_UNPROVEN"]
    raise AssertionError(done.output[-3000:])


def hook_that_loses_a_proof(product: Product, folder: Path) -> Path:
    """Return a hook for rebuild_hooks that deletes the proof of spark-2's backup right before its restore."""
    hook = folder / "lose"
    proofs = f"{product.environment['GB10_BACKUPS']}/spark-2/*.proof.json"
    hook.write_text(f'#!/bin/sh\n[ "$*" != "before restore spark-2" ] || rm -f {proofs}\n')
    hook.chmod(0o755)
    return hook


def test_a_full_wipe_needs_the_names_of_all_nodes(product: Product, cluster: None, lab: LabUnderTest) -> None:
    before = [node.machine_id for node in lab.lab.status()]
    for arguments, code in (((), "NAMES_NEEDED"), (("--names", "spark-1"), "DECLINED")):
        done = product.gb10("wipe-all", *arguments)
        assert code in done.output
        assert done.status != 0
    asked = shlex.join([*product.command("gb10"), "wipe-all"])  # in a terminal it asks
    for typed in ("spark-1\n", "spark-2 spark-2\n", "\n"):
        done = product.run_command(["script", "--quiet", "--return", "--command", asked, "/dev/null"], stdin=typed)
        assert "DECLINED" in done.output
        assert done.status != 0
    assert [node.machine_id for node in lab.lab.status()] == before


def test_a_full_wipe_can_be_aborted_before_the_first_wipe(
    product: Product, cluster: None, lab: LabUnderTest, host_of: Any, tmp_path: Path
) -> None:
    before = [node.machine_id for node in lab.lab.status()]
    hook = tmp_path / "hook"
    hook.write_text('#!/bin/sh\n[ "$1 $2" != "before backup" ] || { echo not today; exit 1; }\n')
    hook.chmod(0o755)
    done = product.with_data(rebuild_hooks=[str(hook)]).gb10("wipe-all", "--names", ",".join(NODES))
    assert ("HOOK_FAILED" in done.output, "not today" in done.output) == (True, True), done.output
    assert "LOST: the cluster itself" in done.output  # even if the names are given as an option
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
    with person_at_nodes(lab, events) as person:
        running = product.start("wipe-all", "--names", ",".join(NODES), "--events", str(events))
        wait_for(events, '"wiped"')
        running.send_signal(signal.SIGKILL)
        running.communicate()
        assert "WIPE_UNFINISHED" in product.gb10("rebuild", "run", "spark-2").output
        assert "NODE_AWAY" in product.gb10("wipe-all", "--abort").output
        early = product.gb10("wipe-all", "--accept", "RESTORE_UNPROVEN")
        assert "--accept goes on with a restore that was refused, and none was" in early.output
        done = finish(product, events, person)

    assert sorted(person.wiped) == sorted(NODES), "each exactly once"
    assert all(node.machine_id != ids[node.name] for node in lab.lab.status())
    (accepted,) = (
        record for line in events.read_text().splitlines() if (record := json.loads(line))["event"] == "accepted"
    )
    assert (accepted["node"], accepted["codes"]) == ("spark-2", ["RESTORE_UNPROVEN"])
    assert done.json["models_to_download"] == {}
    assert sorted(lab.state.known_hosts.read_text().splitlines()) == known, "the host keys must be the old ones"
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
    """Leave new nodes to other tests."""
    yield
    lab.wipe_all()
