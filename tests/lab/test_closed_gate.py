"""The gate before a wipe: each of its proofs taken away at the last moment, and what a person does then."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gb10.controller.rebuild.gate import DEMANDS
from gb10.lab import serving
from tests.lab.attended import HEAD, WORKER, Attended, locked
from tests.lab.conftest import LabUnderTest
from tests.lab.product import Product

HUB = f"{serving.HOME}/hub"
SMALL = f"{HUB}/models--{serving.SOLO_MODEL.replace('/', '--')}"
HUGE, HUGE_BYTES = f"{HUB}/models--org--huge", 8 << 40
THEIR_LOCK = (
    '{"run": "theirs", "owner": "eve", "controller": "elsewhere", "pid": 1, "since": "2026-01-01T00:00:00.000Z", '
    '"step": "prepare spark-2"}'
)
# What happens to the node that stays, between the last step and the gate: its container dies and takes image and model
# along, its disk loses images and backups, somebody lets pods onto the other node, and somebody else takes the lock.
ON_THE_HEAD = f"""
docker ps -aq --filter ancestor={serving.IMAGE} | xargs -r docker rm -f
docker image rm -f {serving.IMAGE}
rm -rf /data/docker-images {SMALL}
rm -rf /data/backups/*
k3s kubectl uncordon {WORKER}
echo '{THEIR_LOCK}' > /var/lib/gb10/rebuild.lock
"""
# And to the one that is to be wiped: it gets a model that is larger than its disk. There is nothing in it but a hole.
ON_THE_WORKER = f"""
mkdir -p {HUGE}/refs {HUGE}/blobs {HUGE}/snapshots/{"c" * 40}
printf {"c" * 40} > {HUGE}/refs/main
truncate -s {HUGE_BYTES} {HUGE}/blobs/{"e" * 64}
ln -s ../../blobs/{"e" * 64} {HUGE}/snapshots/{"c" * 40}/model.safetensors
"""

# What each proof then lacks, in its own words.
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


def hook_that_strikes_once(lab: LabUnderTest, folder: Path) -> Path:
    """An executable for rebuild_hooks that does all this right before the gate is asked the first time."""
    hook, flag = folder / "strike", folder / "struck"
    strikes = "".join(
        f"docker -H {lab.state.docker_host} exec -i {lab.state.node(name).container} sh -e <<'END'\n{script}END\n"
        for name, script in ((HEAD, ON_THE_HEAD), (WORKER, ON_THE_WORKER))
    )
    hook.write_text(f'#!/bin/sh -e\n[ "$1 $2" = "before gate" ] && [ ! -e {flag} ] || exit 0\ntouch {flag}\n{strikes}')
    hook.chmod(0o755)
    return hook


def test_the_gate_opens_only_when_every_proof_is_back(
    lab: LabUnderTest, served: Callable[..., Product], host_of: Callable[[str], Any], tmp_path: Path
) -> None:
    product = served(k3s=True, rebuild_hooks=[str(hook_that_strikes_once(lab, tmp_path))])
    attended = Attended(lab, product)

    refused = attended("run", WORKER)

    assert "GATE_CLOSED" in refused.output, refused.output
    (asked,) = attended.heard("gate")
    found = {demand["name"]: demand for demand in asked["demands"]}
    assert set(found) == set(DEMANDS)
    assert [name for name, demand in found.items() if demand["holds"]] == []
    assert all(demand["remedy"] for demand in found.values())
    for name, cause in CAUSES.items():
        assert re.search(cause, found[name]["text"]), found[name]
    assert all(f"{name}: " in " ".join(refused.output.split()) for name in DEMANDS)
    assert attended.person.wiped == []
    assert attended.heard("wipe-asked") == []

    # Somebody else's lock is theirs until a person says otherwise.
    held = attended("resume")
    assert re.search(r"NODE_LOCKED.*eve@elsewhere", held.output, re.DOTALL), held.output
    assert product.gb10("rebuild", "unlock", HEAD).status == 7  # it asks, and nobody is there to answer
    unlocked = product.gb10("rebuild", "unlock", HEAD, "--yes")
    assert unlocked.status == 0, unlocked.output
    assert "eve@elsewhere" in unlocked.output
    host_of(WORKER).check_output(f"sudo rm -rf {HUGE}")
    # What somebody stops meanwhile is started by the next run.
    host_of(HEAD).check_output("sudo systemctl stop k3s")
    host_of(WORKER).check_output("sudo systemctl stop k3s-agent docker.socket docker")

    # All other proofs are made again without help, until a person is asked; Ctrl-C is safe there, and all can go back.
    going_on = product.start("rebuild", "resume", "--events", str(attended.events))
    deadline = time.monotonic() + 200
    while not attended.heard("wipe-asked") and going_on.poll() is None and time.monotonic() < deadline:
        time.sleep(0.2)
    assert all(demand["holds"] for demand in attended.heard("gate")[-1]["demands"])
    going_on.send_signal(signal.SIGINT)
    said, _ = going_on.communicate(timeout=60)
    assert "gb10 rebuild resume" in said, said
    assert [len(attended.heard(event)) for event in ("wipe-asked", "returned")] == [1, 0]

    aborted = product.gb10("rebuild", "abort")
    assert aborted.status == 0, aborted.output
    status = product.gb10("status", "--json")
    assert status.status == 0, status.output
    assert status.json["serving"]["mode"] == "cluster"
    assert not any(node["kubernetes"]["cordoned"] for node in status.json["nodes"])
    for name in (HEAD, WORKER):
        assert not locked(host_of(name))
    assert product.gb10("rebuild", "history", "--json").json["runs"][-1]["ended"] == "aborted"
