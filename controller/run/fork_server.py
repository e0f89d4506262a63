"""Run as `python -m gb10.controller.run.fork_server`: has pyinfra loaded, and becomes a run of it as often as asked.

Half of the time of a short pyinfra run goes into loading it. This process loads it once, runs nothing itself, and forks
for each run: every run is a process of its own that finds pyinfra as it is when just loaded, without anything that an
earlier run has left in its caches. child.py is its client.

Standard input is a Unix socket. Each byte that comes on it brings three descriptors: standard output and standard error
of a new run, and a socket on which a JSON line says what to run; there the answer is its process id, and in the end how
it ended, each on a line. When the client is gone, so are this and all runs.

pyinfra_cli patches the process that loads it. What is used of the operating system here is used as it was before: this
process must not have an event loop that its children would inherit.
"""

from __future__ import annotations

import atexit
import functools
import gc
import importlib.metadata
import inspect
import json
import os
import runpy
import socket
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any, NoReturn

from gevent.monkey import get_original  # type: ignore[import-untyped] # has no py.typed

from gb10.controller.run.child import die_with_parent

FEW_RUNS = 3  # after which there will be more of them, and it pays to load our deploys for all
END = object()

_fork: Callable[[], int] = get_original("os", "fork")
_waitpid: Callable[[int, int], tuple[int, int]] = get_original("os", "waitpid")
_select: Callable[..., tuple[list[int], list[int], list[int]]] = get_original("select", "select")
_Socket: type[socket.socket] = get_original("socket", "socket")


def serve(ahead: Iterable[object] = ()) -> dict[str, Any] | None:
    """Fork as often as asked. Return in the child what it is to run, and None here when the client is gone.

    What is iterated over loads, bit by bit, what pays only if there are many of them.
    """
    control = _Socket(fileno=os.dup(0))
    unloaded = iter(ahead)
    loading = True
    runs: dict[int, tuple[int, int]] = {}  # what tells that it ended -> its process, the socket to its client
    count = 0
    while True:
        pays = loading and count >= FEW_RUNS
        ready, _, _ = _select([control.fileno(), *runs], [], [], 0 if pays else None)
        if not ready:  # nobody waits: time to load what the next runs may need
            loading = next(unloaded, END) is not END
        for descriptor in ready:
            if descriptor in runs:
                _report_end(descriptor, *runs.pop(descriptor))
                continue
            word, given, _, _ = socket.recv_fds(control, 1, 3)
            if not word:
                return None
            life, held = os.pipe()  # closed by the kernel when the run ends, however it ends
            here = os.getpid()
            gc.freeze()  # what is here now is nobody's garbage: looking through it would copy it into every run
            pid = _fork()
            if not pid:
                control.close()
                for other in (life, *runs, *(client for _, client in runs.values())):
                    os.close(other)
                die_with_parent(here)
                return _become(*given)
            for other in (held, *given[:2]):
                os.close(other)
            _tell(given[2], str(pid))
            runs[life] = (pid, given[2])
            count += 1


def _report_end(life: int, pid: int, client: int) -> None:
    _, status = _waitpid(pid, 0)
    _tell(client, str(os.waitstatus_to_exitcode(status)))
    os.close(client)
    os.close(life)


def _tell(client: int, line: str) -> None:
    with suppress(BrokenPipeError):
        os.write(client, f"{line}\n".encode())


def _become(output: int, errors: int, client: int) -> dict[str, Any]:
    """Have this process be the run that the client describes."""
    os.setsid()
    with open(client, encoding="utf-8") as lines:
        line = lines.readline()
    if not line:  # the client has changed its mind
        sys.exit(1)
    asked: dict[str, Any] = json.loads(line)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for ours, standard in ((nothing, 0), (output, 1), (errors, 2)):
        os.dup2(ours, standard)
        os.close(ours)
    os.chdir(asked["folder"])
    os.environ.clear()
    os.environ.update(asked["environment"])
    return asked


def end_with(run: Callable[[], object]) -> NoReturn:
    """Run it and end as Python does, but without taking apart all that was loaded: that takes longer than a run."""
    code: object = 0
    try:
        run()
    except SystemExit as end:
        code = end.code
    except BaseException:  # what it is does not matter: it is shown, as Python shows it
        traceback.print_exc()
        code = 1
    if not isinstance(code, int | None):
        print(code, file=sys.stderr)
        code = 1
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(code or 0)


def _as_module(asked: dict[str, Any]) -> None:
    """Do what `python -m` does."""
    sys.path[0] = asked["folder"]
    sys.argv = [asked["module"], *asked["arguments"]]
    runpy.run_module(asked["module"], run_name="__main__", alter_sys=True)


def main() -> None:
    """Load pyinfra and be the server of its runs."""
    # pyinfra asks six times a run for the same, and each time a file of each distribution is read.
    importlib.metadata.entry_points = functools.cache(importlib.metadata.entry_points)  # type: ignore[assignment]
    import pyinfra_cli.main  # type: ignore[import-untyped] # noqa: F401, PLC0415 # has no py.typed; loaded for the runs
    from pyinfra.api.connectors import get_all_connectors  # noqa: PLC0415 # as above

    get_all_connectors()
    _note_files()
    if asked := serve(_needed_by_most()):
        end_with(lambda: _as_module(asked))


def _needed_by_most() -> Iterator[object]:
    """Load, bit by bit, what a run of our deploys needs."""
    from gb10 import deploys, templates  # noqa: PLC0415 # load pyinfra

    for name in deploys.__all__:
        yield getattr(deploys, name)
    yield from templates.load()
    _note_files()


def _note_files() -> None:
    """Have `inspect` note which file is which module's: each run of pyinfra asks, for the order of its operations."""
    inspect.getmodule(compile("", "<no module's>", "exec"))


if __name__ == "__main__":
    main()
