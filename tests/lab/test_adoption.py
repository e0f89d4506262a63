"""The controller of a rebuild is lost: another one takes the rebuild over and finishes it."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gb10.controller.errors import ExitStatus
from gb10.facts.reading.node import JOURNAL_FILE
from gb10.lab.paths import state_root
from gb10.lab.person import Person
from tests.lab.attended import HEAD, SETTINGS, WORKER, locked
from tests.lab.conftest import LabUnderTest
from tests.lab.product import Product


def lose_controller(product: Product, head: Any) -> None:
    """Kill a rebuild that waits for the wipe, and remove all that its controller knew, but for known_hosts."""
    process = product.start("rebuild", "run", WORKER)
    deadline = time.monotonic() + 300
    while head.run(f"sudo grep wipe-asked {JOURNAL_FILE}").rc and process.poll() is None:
        assert time.monotonic() < deadline, "nobody was asked to wipe the node"
        time.sleep(0.2)
    os.killpg(process.pid, signal.SIGKILL)
    output, _ = process.communicate()
    assert process.returncode == -signal.SIGKILL, output
    for folder in (
        *(state_root() / name for name in ("journal", "locks", "log", "backups")),
        product.folder / "backups",
    ):
        shutil.rmtree(folder, ignore_errors=True)
    assert not Path(product.environment["GB10_BACKUPS"]).exists()


def test_another_controller_finishes_the_rebuild_of_a_lost_one(
    lab: LabUnderTest, served: Callable[..., Product], host_of: Callable[[str], Any]
) -> None:
    product = served(k3s=False, rebuild_validate_without=[*SETTINGS["rebuild_validate_without"], "gpu-container"])
    head = host_of(HEAD)
    lose_controller(product, head)
    assert head.check_output(f"sudo stat -c '%a %U' {JOURNAL_FILE}") == "600 root"
    lab.wipe(WORKER)

    others = product.gb10("provision", HEAD)
    assert others.status == ExitStatus.LOCKED, others.output
    asked = product.gb10("rebuild", "adopt")
    assert asked.status == ExitStatus.WAITING, asked.output
    assert "last heard of at" in asked.output
    adopted = product.gb10("rebuild", "adopt", "--from", HEAD, "--yes")
    assert adopted.status == 0, adopted.output
    assert f"gb10 backup fetch {WORKER}" in adopted.output
    assert "gb10 rebuild resume" in adopted.output
    assert product.gb10("rebuild", "adopt", "--yes").status == ExitStatus.REFUSED  # now it is this controller's own

    fetched = product.gb10("backup", "fetch", WORKER)
    assert fetched.status == 0, fetched.output
    key = Person(lab.lab).fingerprint(WORKER)
    done = product.gb10("rebuild", "resume", "--accept-host-key", key, seconds=900)
    assert done.status == 0, done.output
    assert product.gb10("rebuild", "history", "--json").json["runs"][-1]["ended"] == "finished"
    for name in (HEAD, WORKER):
        assert not locked(host_of(name))
        assert host_of(name).run(f"sudo test -e {JOURNAL_FILE}").rc == 1
