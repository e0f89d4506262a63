"""The programs of a restore, run on the node that is restored."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pyinfra.api import Host

from gb10.facts.reading.launcher import Launch
from gb10.facts.reading.reports import report
from gb10.operations.backups.reports import Remark
from gb10.operations.kit.peers import BrokenStreamError, run_stream
from gb10.programs.answer import RefusedError
from gb10.programs.archive.manifest import shown

FOLDER = "/var/lib/gb10/restore"


def run_on_node(node: Host, function: str, job: Mapping[str, Any], seconds: int, give: Iterable[bytes] = ()) -> Any:
    """Run a function of gb10.programs.backups, "restore:put"; return its answer and report its notes.

    + give: what follows the job on its standard input

    Raise RefusedError if it does not come to its end.
    """

    def told(details: Mapping[str, Any]) -> None:
        report(node, Remark(shown(str(details.get("note")))))

    launch = Launch(f"gb10.programs.backups.{function}", job, seconds=seconds, streams=True, told=told)
    try:
        return run_stream(node, launch, give=give, failed="RESTORE_FAILED")
    except BrokenStreamError as error:
        raise RefusedError("NODE_UNREACHABLE", str(error)) from error
