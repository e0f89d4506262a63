"""Settings and hooks for all tests."""

from __future__ import annotations

import compileall
import re
import signal
import threading
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import settings

from gb10.lab.node_image import build_image
from gb10.lab.problem import LabError

ROOT = Path(__file__).parents[1]

# No deadline for an example: the lab's load makes times meaningless.
settings.register_profile("gb10", deadline=None)
settings.load_profile("gb10")

# Background jobs of a shell ignore Ctrl-C, and their children inherit this. Tests interrupt their children.
signal.signal(signal.SIGINT, signal.default_int_handler)

# The longest files go first; otherwise one worker ends long after the others. At the start the node image may be
# missing, so the first files are some that do not need it.
WHILE_IMAGE_IS_BUILT = ("download", "kube_agent", "gb10_command", "rebuild_command", "image_store", "kube_helm")
LONGEST = (
    "operators",
    "rebuild",
    "copy",
    "faults",
    "node",
    "bootstrap",
    "bad_luck",
    "images",
    "validate",
    "teardown",
    "wipe_all",
    "closed_gate",
    "lab",
    "upgrade",
    "restore",
    "status",
)


def pytest_sessionstart(session: pytest.Session) -> None:
    """Compile the product, and build the node image in the main process, which otherwise only distributes tests."""
    config = session.config
    if not hasattr(config, "workerinput"):
        _compile_rooms()
    needed = any("tests/lab" in argument for argument in config.args)
    if needed and config.getoption("numprocesses", None) and not hasattr(config, "workerinput"):
        threading.Thread(target=_build_node_image, daemon=True).start()


def _compile_rooms() -> None:
    """Write the bytecode of all rooms. pyinfra writes none, so each of its processes would compile them again."""
    for room in re.findall(r"gb10\.\w+ = (\w+)", (ROOT / "setup.cfg").read_text()):
        compileall.compile_dir(ROOT / room, quiet=2, rx=re.compile("lab/image"))


def _build_node_image() -> None:
    with suppress(LabError):  # the first test with a lab tries again and reports the error
        build_image()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort the tests by file. The order within a file stays."""
    firsts, labs = (
        {f"test_{name}": place for place, name in enumerate(names)} for names in (WHILE_IMAGE_IS_BUILT, LONGEST)
    )

    def place(item: pytest.Item) -> tuple[int, int]:
        path = Path(item.path)
        if "unit" in path.parts:
            return (0, firsts[path.stem]) if path.stem in firsts else (2, 0)
        return (1, labs.get(path.stem, len(LONGEST)))

    items.sort(key=place)
