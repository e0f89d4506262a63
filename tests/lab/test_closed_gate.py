"""The gate before a wipe: every proof is taken away at the last moment, then restored."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gb10.controller.rebuild.gate import DEMANDS
from gb10.lab import serving
from tests.lab.attended import HEAD, WORKER, AttendedRebuild, locked
from tests.lab.conftest import LabUnderTest
from tests.lab.product import Product

HUB = f"{serving.HOME}/hub"
SMALL = f"{HUB}/models--{serving.SOLO_MODEL.replace('/', '--')}"
HUGE, HUGE_BYTES = f"{HUB}/models--org--huge", 8 << 40
THEIR_LOCK = (
    '{"run": "theirs", "owner": "eve", "controller": "elsewhere", "pid": 1, "since": "2026-01-01T00:00:00.000Z", '
    '"step": "prepare spark-2"}'
)
# Changes on the node that stays, between the last step and the gate: container, image and model are removed, saved
# images and backups are deleted, the other node is uncordoned, and another run takes the lock.
ON_THE_HEAD = f"""
docker ps -aq --filter ancestor={serving.IMAGE} | xargs -r docker rm -f
docker image rm -f {serving.IMAGE}
rm -rf /data/docker-images {SMALL}
rm -rf /data/backups/*
k3s kubectl uncordon {WORKER}
echo '{THEIR_LOCK}' > /var/lib/gb10/rebuild.lock
"""
# Changes on the node to wipe: it gets a model that is larger than its disk, as a sparse file.
ON_THE_WORKER = f"""
mkdir -p {HUGE}/refs {HUGE}/blobs {HUGE}/snapshots/{"c" * 40}
printf {"c" * 40} > {HUGE}/refs/main
truncate -s {HUGE_BYTES} {HUGE}/blobs/{"e" * 64}
ln -s ../../blobs/{"e" * 64} {HUGE}/snapshots/{"c" * 40}/model.safetensors
"""

# Proof -> the expected reason.
CAUSES = {
    "models": rf"not whole on {HEAD}: .*{serving.SOLO_MODEL}",
    "images": rf"not in the engine of {HEAD}: {serving.IMAGE}",
    "saved-images": rf"not saved on {HEAD}: {serving.IMAGE}",
    "backup": rf"the proven copy on {HEAD} is gone, or another",
    "solo": r"nothing is served, for",
    "drained": rf"{WORKER} is not cordoned",
    "lock": rf"the lock of {HEAD} is held by eve@elsewhere",
    "room": r"^8\.8 TiB come back",
}


def hook_that_removes_all_proofs_once(lab: LabUnderTest, folder: Path) -> Path:
    """Return a hook for rebuild_hooks that makes these changes right before the first check of the gate."""
    hook, flag = folder / "strike", folder / "struck"
    changes = "".join(
        f"docker -H {lab.state.docker_host} exec -i {lab.state.node(name).container} sh -e <<'END'\n{script}END\n"
        for name, script in ((HEAD, ON_THE_HEAD), (WORKER, ON_THE_WORKER))
    )
    hook.write_text(f'#!/bin/sh -e\n[ "$1 $2" = "before gate" ] && [ ! -e {flag} ] || exit 0\ntouch {flag}\n{changes}')
    hook.chmod(0o755)
    return hook


def check_that_a_changed_byte_closes_the_gate(attended: AttendedRebuild, head: Any) -> None:
    """Change a byte of a model as its owner, keep its size and time, and undo that."""
    weights = head.check_output(f"find -L {SMALL}/snapshots -type f -size +0 | sort | head -n 1")
    assert head.check_output("sudo stat -c '%a %U' /var/lib/gb10/digests.json") == "600 root"
    change = f"""sudo -u $(stat -L -c %U {weights}) python3 - {weights} <<'END'
import os, sys
path, before = sys.argv[1], os.stat(sys.argv[1])
with open(path, "r+b") as file:
    first = file.read(1)[0]
    file.seek(0)
    file.write(bytes([first ^ 1]))
os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
END"""
    head.check_output(change)

    # Without the person, who would react to the events of the earlier run.
    closed = attended.product.gb10("rebuild", "resume", "--events", str(attended.events))

    assert "GATE_CLOSED" in closed.output, closed.output
    text = next(one["text"] for one in attended.records("gate")[-1]["demands"] if one["name"] == "digests")
    assert f"{HEAD}:{weights}" in text
    head.check_output(change)


def test_the_gate_opens_only_with_every_proof(
    lab: LabUnderTest, served: Callable[..., Product], host_of: Callable[[str], Any], tmp_path: Path
) -> None:
    product = served(k3s=True, rebuild_hooks=[str(hook_that_removes_all_proofs_once(lab, tmp_path))])
    attended = AttendedRebuild(lab, product)

    refused = attended("run", WORKER)

    assert "GATE_CLOSED" in refused.output, refused.output
    (record,) = attended.records("gate")
    found = {demand["name"]: demand for demand in record["demands"]}
    assert {*found, "digests"} == set(DEMANDS), "digests are read once all else is proven"
    assert "digests" not in found
    assert [name for name, demand in found.items() if demand["holds"]] == []
    assert all(demand["remedy"] for demand in found.values())
    for name, cause in CAUSES.items():
        assert re.search(cause, found[name]["text"]), found[name]
    assert all(f"{name}: " in " ".join(refused.output.split()) for name in CAUSES)
    assert attended.person.wiped == []
    assert attended.records("wipe-asked") == []

    # Only a person can release another run's lock.
    held = attended("resume")
    assert re.search(r"NODE_LOCKED.*eve@elsewhere", held.output, re.DOTALL), held.output
    assert product.gb10("rebuild", "unlock", HEAD).status == 7  # it asks, and there is no terminal
    unlocked = product.gb10("rebuild", "unlock", HEAD, "--yes")
    assert unlocked.status == 0, unlocked.output
    assert "eve@elsewhere" in unlocked.output
    host_of(WORKER).check_output(f"sudo rm -rf {HUGE}")
    # The next run starts services that somebody stopped meanwhile.
    host_of(HEAD).check_output("sudo systemctl stop k3s")
    host_of(WORKER).check_output("sudo systemctl stop k3s-agent docker.socket docker")

    # The run makes all other proofs again and then waits for a person. Here Ctrl-C is safe and an abort is possible.
    resumed = product.start("rebuild", "resume", "--events", str(attended.events))
    deadline = time.monotonic() + 300
    while not attended.records("wipe-asked") and resumed.poll() is None and time.monotonic() < deadline:
        time.sleep(0.2)
    assert all(demand["holds"] for demand in attended.records("gate")[-1]["demands"])
    resumed.send_signal(signal.SIGINT)
    output, _ = resumed.communicate(timeout=60)
    assert "gb10 rebuild resume" in output, output
    assert [len(attended.records(event)) for event in ("wipe-asked", "returned")] == [1, 0]
    check_that_a_changed_byte_closes_the_gate(attended, host_of(HEAD))

    aborted = product.gb10("rebuild", "abort")
    assert aborted.status == 0, aborted.output
    status = product.gb10("status", "--json")
    assert status.status == 0, status.output
    assert status.json["serving"]["mode"] == "cluster"
    assert not any(node["kubernetes"]["cordoned"] for node in status.json["nodes"])
    for name in (HEAD, WORKER):
        assert not locked(host_of(name))
    assert product.gb10("rebuild", "history", "--json").json["runs"][-1]["ended"] == "aborted"
