"""Copies between nodes: how far a running one is, and the proof that one is complete."""

from __future__ import annotations

import json

from pyinfra.api import FactBase, StringCommand

from gb10.facts.reading.copy import RunningCopy, read_running
from gb10.facts.reading.launcher import understood


class CopyProgress(FactBase[tuple[RunningCopy, ...]]):
    """The copies that this node receives now; none is an empty tuple.

    Raises FactProcessError for the host whose output is not understood.
    """

    default = tuple

    def command(self) -> StringCommand:
        # The job also holds the secret, so only its root is read out.
        read = (
            "import glob,json,os\n"
            "for job in glob.glob('/run/gb10-copy-*/job.json'):\n"
            " try:\n"
            "  folder=os.path.dirname(job); root=json.load(open(job))['root']\n"
            "  path=folder+'/progress.json'; now=json.load(open(path)) if os.path.exists(path) else {}\n"
            "  print(json.dumps({'id':folder.rpartition('-')[2],'root':root,'now':now}))\n"
            " except FileNotFoundError: pass"
        )
        return StringCommand(f'python3 -c "{read}"')

    @understood
    def process(self, output: list[str]) -> tuple[RunningCopy, ...]:
        return tuple(read_running(json.loads(line)) for line in output)
