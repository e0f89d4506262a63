"""What the campaign's hook sees of a gb10 that it is about to kill."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.faults.hook import _runs_pyinfra

WRAPPER = """
import os, sys
from gb10.controller.run.child import Child, load_pyinfra
load_pyinfra()
print("idle", flush=True)
sys.stdin.readline()
with Child("sleeping", [], os.environ) as child:
    next(child.lines())
    print("at work", flush=True)
    sys.stdin.readline()
"""


def test_a_run_of_pyinfra_is_told_from_the_time_between_two(tmp_path: Path) -> None:
    (tmp_path / "sleeping.py").write_text("import sys, time\nprint('here', file=sys.stderr)\ntime.sleep(60)\n")
    with subprocess.Popen(
        [sys.executable, "-c", WRAPPER], cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as wrapper:
        assert wrapper.stdin
        assert wrapper.stdout
        seen = {}
        for _ in range(2):
            word = wrapper.stdout.readline().strip()
            seen[word] = _runs_pyinfra(wrapper.pid)
            print(file=wrapper.stdin, flush=True)
    assert seen == {"idle": False, "at work": True}
