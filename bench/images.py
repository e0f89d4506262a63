"""Measure the bytes on the wire when a Docker image is copied between lab nodes.

Three copies: the first, one of the unchanged image, one with one changed layer. Bytes are counted at the target's
interfaces in both directions, including gb10's own SSH traffic. GB10_BENCH_IMAGE_MB sets a smaller size than the 300 MB
of the target.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from dataclasses import dataclass

from bench.copy import Bench
from bench.figures import Figures
from gb10.controller.run.runner import Runner
from gb10.lab.lab import Lab
from gb10.lab.paths import lab_name

IMAGE_BYTES = int(os.environ.get("GB10_BENCH_IMAGE_MB", "300")) * 10**6
LAYER_BYTES = 5 * 10**6
TAG = "gb10-bench/vllm:1"
NAIVE = "gb10-bench/naive:1"
STORE = "/data/docker-images"
FOLDER = "/root/gb10-bench"
SSH = "ssh -i /root/.ssh/bench -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR"
# Command lines of our programs, of the docker client that they run, and of the rsync that moves the blobs.
OURS = "*gb10*|*json.loads*|rsync*|docker\\ image\\ *"


@dataclass(frozen=True)
class Cost:
    """The cost of one copy."""

    seconds: float
    wire_bytes: int


def build(bench: Bench, tag: str, changed: str = "") -> None:
    """Build an image on the source: a large layer, and a small one whose content depends on `changed`."""
    random = "openssl enc -aes-128-ctr -nosalt -pass pass:{} -in /dev/zero 2>/dev/null | head -c {} > {}; "
    bench.on(
        1,
        f"mkdir -p {FOLDER}; cd {FOLDER}; "
        f"test -e base || {{ {random.format('base', IMAGE_BYTES, 'base')} }}; "
        f"{random.format(f'top{changed}', LAYER_BYTES, 'top')}"
        "printf 'FROM scratch\\nCOPY base /base\\nCOPY top /top\\n' > Dockerfile; "
        f"DOCKER_BUILDKIT=0 docker build -q -t {tag} .",
    )


def run(bench: Bench, node: str, deploy: str, **arguments: object) -> None:
    """Run a deploy on a node. Raise an error if it fails."""
    Runner(bench.inventory, bench.log, limit=[node]).run(deploy, kwargs=arguments).check()


def forget(bench: Bench) -> None:
    """Remove this benchmark's images from engines and stores."""
    for number in (1, 2):
        names = "$(docker image ls -q 'gb10-bench/*' | sort -u)"
        bench.on(number, f"docker image rm -f {names} 2>/dev/null; rm -rf {FOLDER} {STORE}/images/gb10-bench%2F*; true")
    for limit in ("spark-1", "spark-2"):
        run(bench, limit, "gb10.deploys.prune_images")


def wire(bench: Bench) -> int:
    """Return the bytes that the target has received and sent so far."""
    counters = "/sys/class/net/en*/statistics/[rt]x_bytes"
    return sum(int(line) for line in bench.on(2, f"cat {counters}").split())


def sync(bench: Bench) -> Cost:
    """Copy the image with the product and return the cost."""
    before, begin = wire(bench), time.monotonic()
    run(bench, "spark-2", "gb10.deploys.sync_images", source="spark-1", tags=[TAG])
    return Cost(time.monotonic() - begin, wire(bench) - before)


def naive(bench: Bench) -> Cost:
    """Copy an image with docker save and docker load, as people do without gb10, and return the cost."""
    before, begin = wire(bench), time.monotonic()
    bench.on(1, f"docker save {NAIVE} | {SSH} root@{bench.address(2, 'a')} docker load -q")
    return Cost(time.monotonic() - begin, wire(bench) - before)


def memory(bench: Bench, stop: threading.Event, found: list[int]) -> None:
    """Record the memory in bytes of all our processes on each node, until `stop` is set. Shared memory counts by its
    share."""
    script = (
        "for p in /proc/[0-9]*; do case \"$(tr '\\0' ' ' <$p/cmdline 2>/dev/null)\" in "
        f"{OURS}) awk '/^Pss:/ {{s+=$2}} END {{print s}}' $p/smaps_rollup 2>/dev/null;; esac; done"
    )
    while not stop.wait(0.2):
        found.extend(sum(int(line) for line in bench.on(number, script).split()) * 1024 for number in (1, 2))


def megabytes(count: float) -> str:
    return f"{count / 1e6:.2f} MB"


def measure(bench: Bench, figures: Figures) -> None:
    """Measure the first copy, the copy of the unchanged image, and the copy with one changed layer."""
    build(bench, TAG)
    build(bench, NAIVE)
    plain = naive(bench)
    stop, found = threading.Event(), [0]
    watcher = threading.Thread(target=memory, args=(bench, stop, found))
    watcher.start()
    try:
        first = sync(bench)
    finally:
        stop.set()
        watcher.join()
    unchanged = sync(bench)
    build(bench, TAG, "2")
    changed = sync(bench)
    promised = 1.05 * LAYER_BYTES + 1e6
    size = megabytes(IMAGE_BYTES + LAYER_BYTES)
    figures.add(f"docker save | ssh docker load, {size}", f"{plain.seconds:.1f} s, {megabytes(plain.wire_bytes)}")
    figures.add("first copy, saved and proven", f"{first.seconds:.1f} s, {megabytes(first.wire_bytes)}")
    figures.add_target(
        f"unchanged ({unchanged.seconds:.1f} s)",
        megabytes(unchanged.wire_bytes),
        "< 1 MB",
        unchanged.wire_bytes < 1e6,
    )
    figures.add_target(
        f"one changed layer of {megabytes(LAYER_BYTES)} ({changed.seconds:.1f} s)",
        megabytes(changed.wire_bytes),
        f"< {megabytes(promised)}",
        changed.wire_bytes < promised,
    )
    figures.add_target("memory of our processes on a node", megabytes(max(found)), "< 300 MB", 0 < max(found) < 300e6)


def main() -> int:
    """Measure and print the table. Return 1 if a target is missed."""
    bench = Bench(Lab(lab_name()).up(2))
    figures = Figures(f"Docker images from node to node ({os.cpu_count()} cores for both nodes)")
    bench.prepare()
    try:
        forget(bench)
        measure(bench, figures)
        forget(bench)
    finally:
        bench.clean()
    return 0 if figures.print() else 1


if __name__ == "__main__":
    sys.exit(main())
