"""A child process that never outlives us and never waits for a person."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import IO, Self

PR_SET_PDEATHSIG = 1  # prctl(2)
GRACE_SECONDS = 2.0  # between asking a child to end and making it end

_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


class Child:
    """A process in a session of its own: no terminal to ask on, and signals reach all that it started.

    Its standard error is read live, line by line; its standard output when it has ended. It dies with us, even when we
    are killed (on Linux).
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        # A file and no pipe: nobody has to read it while it is written. Closed by __exit__.
        self._output: IO[str] = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115
        self._deadline: threading.Timer | None = None
        parent = os.getpid()

        def die_with_parent() -> None:
            if _libc is not None:
                _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
                if os.getppid() != parent:
                    os._exit(1)

        self._process = subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=subprocess.PIPE,
            env=dict(environment),
            start_new_session=True,
            preexec_fn=die_with_parent,  # noqa: PLW1509 - it allocates nothing, and there is no other way
            text=True,
            encoding="utf-8",
            errors="replace",
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._deadline:
            self._deadline.cancel()
        self.stop()
        if self._process.stderr:
            self._process.stderr.close()
        self._output.close()

    @property
    def pid(self) -> int:
        return self._process.pid

    def lines(self) -> Iterator[str]:
        """Lines of standard error as they come, until it ends."""
        assert self._process.stderr is not None  # noqa: S101 - opened above
        yield from self._process.stderr

    def wait(self) -> int:
        """Wait for its end, return its exit code."""
        return self._process.wait()

    def output(self) -> str:
        """All of its standard output; to be asked for when it has ended."""
        self._output.seek(0)
        return self._output.read()

    def stop_after(self, seconds: float) -> None:
        """Have it ended when it has not ended by itself until then."""
        self._deadline = threading.Timer(seconds, self.stop)
        self._deadline.daemon = True
        self._deadline.start()

    def stop(self) -> None:
        """End it and all that it started: asked twice, then made to."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
            if self._process.poll() is not None:
                break
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(GRACE_SECONDS)
        with suppress(ProcessLookupError, PermissionError):  # what it left behind in its group
            os.killpg(self._process.pid, signal.SIGKILL)
