"""Performance mode of a node: cores at full speed and the GPU driver loaded, now and at every boot."""

from __future__ import annotations

from collections.abc import Generator

from pyinfra.api import StringCommand, operation
from pyinfra.context import host, state

from gb10.facts.file import TextFile
from gb10.facts.node import PERFORMANCE_UNIT, WANTED_GOVERNOR, PerformanceMode, Speed
from gb10.operations.file import replace_file, show_diff
from gb10.operations.kit.failures import guarded, known
from gb10.operations.kit.scripts import run_script
from gb10.templates import render

FILE = f"/etc/systemd/system/{PERFORMANCE_UNIT}"
START_SECONDS = 60


@operation()
@guarded
def performance_mode() -> Generator[StringCommand, None, None]:
    """Keep the cores' governor at full speed and the GPU driver loaded, as far as the hardware has either."""
    speed, file = known(PerformanceMode), known(TextFile, path=FILE)
    if not speed.governors and not speed.nvidia_smi:
        host.noop("this node has no governor and no GPU driver")
        return
    content = render(
        "node/performance.service.j2",
        nvidia_smi=speed.nvidia_smi,
        governors=speed.governors,
        governor=WANTED_GOVERNOR,
    )
    if file and file.content == content and is_set(speed):
        host.noop("performance mode is on")
        return
    if state.config.DIFF:
        show_diff(FILE, file.content if file else "", content)
    yield replace_file(FILE, content, "644")
    yield run_script("start-unit.sh", PERFORMANCE_UNIT, str(START_SECONDS), seconds=START_SECONDS + 60)


def is_set(speed: Speed) -> bool:
    """Return True if performance mode is on. Persistence does not count: not every driver keeps it."""
    return speed.unit_active and speed.unit_enabled and set(speed.governors) <= {WANTED_GOVERNOR}
