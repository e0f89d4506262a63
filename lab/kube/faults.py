"""Faults that a test writes to a file on the node. The server reads the file again whenever it changes.

    {"ready": false,
     "faults": [{"method": "PATCH|PUT", "path": "/deployments/", "code": 503, "times": 2},
                {"path": "/api/v1/nodes", "code": "drop"}]}

`method` (default: any) must match in full, `path` anywhere in the request's path and query. `code` is an HTTP status,
or "drop" to close the connection without an answer. Without `times` the fault stays. If `ready` is false, /readyz
fails. See gb10.lab.kube.operators for the key `operators`.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

from gb10.lab.kube.errors import ApiError
from gb10.lab.kube.objects import Obj


class Faults:
    """The current faults."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp: tuple[int, int] | None = None
        self._wanted: Obj = {}

    def ready(self) -> bool:
        self._reload()
        return bool(self._wanted.get("ready", True))

    def operators(self) -> Obj:
        """Return the faults for the operators' controllers."""
        self._reload()
        found: Obj = self._wanted.get("operators") or {}
        return found

    def raise_for(self, method: str, path: str) -> None:
        """Raise the fault for this request, if any: ApiError, or ConnectionError to drop it."""
        self._reload()
        for fault in self._wanted.get("faults") or []:
            fits = re.fullmatch(fault.get("method", ".*"), method) and re.search(fault["path"], path)
            if not fits or fault.get("times", 1) <= 0:
                continue
            if "times" in fault:
                fault["times"] -= 1
            if fault["code"] == "drop":
                raise ConnectionError("injected fault")
            reason = "ServiceUnavailable" if fault["code"] == 503 else "InternalError"
            raise ApiError(fault["code"], reason, "injected fault")

    def _reload(self) -> None:
        try:
            stat = self._path.stat()
            stamp = (stat.st_mtime_ns, stat.st_size)
            if stamp != self._stamp:
                self._stamp = stamp
                self._wanted = json.loads(self._path.read_text())
        except FileNotFoundError:
            self._stamp, self._wanted = None, {}
        except ValueError as error:
            print(f"{self._path}: {error}", file=sys.stderr)
