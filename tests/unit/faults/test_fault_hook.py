"""The fault campaign's hook detects whether a gb10 command runs pyinfra."""

from __future__ import annotations

import subprocess
import sys
import textwrap

from tests.faults.hook import _runs_pyinfra
from tests.unit.pyinfra_project import Project

WRAPPER = """
    import sys
    from gb10.controller.inventory import load_inventory
    from gb10.controller.run.runner import RunLog
    from gb10.controller.run.messages import OperationStarted
    from gb10.controller.run.runner import Runner
    runner = Runner(load_inventory("inventory.py"), RunLog("test"))
    print("idle", flush=True)
    sys.stdin.readline()
    def hear(event):
        if isinstance(event, OperationStarted):
            print("at work", flush=True)
            sys.stdin.readline()
    runner.run("tiny.tolerant", kwargs={"run_script": "sleep 10"}, on_event=hear)
"""


def test_the_hook_sees_if_pyinfra_runs(project: Project) -> None:
    project.inventory(spark_1={})
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(WRAPPER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as wrapper:
        assert wrapper.stdin
        assert wrapper.stdout
        seen = {}
        for _ in range(2):
            word = wrapper.stdout.readline().strip()
            seen[word] = _runs_pyinfra(wrapper.pid)
            print(file=wrapper.stdin, flush=True)
        wrapper.kill()
    assert seen == {"idle": False, "at work": True}
