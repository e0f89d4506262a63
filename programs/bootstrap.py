"""The start of every program on a node: read a request, import its modules, call a function, send its answer.

Standard input has this text as a JSON line, then the request as a JSON line, then the input of the function:

    mark            begins every line of ours in the answer
    modules         name -> text of the modules of gb10.programs that the function needs
    function        "gb10.programs.tree.listing:main"
    job             argument of the function, beside the outlet
    memory_bytes    limit for the data of this process and of its children
    answer_bytes    limit for the answer
    streams         true: the function sends a stream of bytes
    guarded         paths where others than root may write: no link is followed there
"""

from __future__ import annotations

import errno
import importlib
import importlib.machinery
import json
import os
import resource
import select
import signal
import sys
import threading
from types import ModuleType
from typing import Any

GRACE_SECONDS = 5.0


class Modules:
    """Imports modules from the texts of a request; folders above them are packages without content.

    It is a finder and a loader without their base classes, whose import takes longer than everything else here.
    """

    def __init__(self, texts: dict[str, str]) -> None:
        self._texts = texts

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        is_package = any(other.startswith(f"{name}.") for other in self._texts)
        if name not in self._texts and not is_package:
            return None
        loader: Any = self
        return importlib.machinery.ModuleSpec(name, loader, is_package=is_package)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> None:
        """Leave this to the import system."""

    def exec_module(self, module: ModuleType) -> None:
        name = module.__name__
        exec(compile(self.get_source(name), f"<{name}>", "exec", dont_inherit=True), module.__dict__)  # noqa: S102

    def get_source(self, name: str) -> str:
        """Return the text of a module, as tracebacks quote it."""
        return self._texts.get(name, "")


def end_without_reader() -> None:
    """End this process and its children once the connection is gone: nobody reads the answer."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), select.POLLERR | select.POLLHUP)
    poll.poll()
    os.killpg(os.getpgrp(), signal.SIGTERM)
    threading.Event().wait(GRACE_SECONDS)
    os.killpg(os.getpgrp(), signal.SIGKILL)


def run(request: dict[str, Any]) -> int:
    """Serve a request. Return the exit status."""
    resource.setrlimit(resource.RLIMIT_DATA, (request["memory_bytes"], request["memory_bytes"]))
    sys.meta_path.insert(0, Modules(request["modules"]))
    answer = importlib.import_module("gb10.programs.answer")
    outlet = answer.Outlet(request["mark"], request["answer_bytes"], request["streams"])
    module, _, function = request["function"].partition(":")
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # lets programs clean up
    try:
        if request["guarded"]:
            importlib.import_module("gb10.programs.confined").follow_no_links(request["guarded"])
        threading.Thread(target=end_without_reader, daemon=True).start()
        result = getattr(importlib.import_module(module), function)(request["job"], outlet)
    except answer.RefusedError as refused:
        outlet.say("refused", [refused.code, refused.reason])
        return 1
    except MemoryError:
        outlet.say("refused", ["PROGRAM_FAILED", f"it needs more than {request['memory_bytes'] >> 20} MiB"])
        return 1
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        outlet.say("refused", ["PATH_LINKED", f"{error.filename} is a link, or lies behind one"])
        return 1
    if request["streams"]:
        outlet.end_stream()
    outlet.say("answer", result)
    return 0


if __name__ == "__main__":
    sys.exit(run(json.loads(sys.stdin.buffer.readline())))
