"""A child process that never outlives us and never waits for a person."""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any, ClassVar, Protocol, Self

PR_SET_PDEATHSIG = 1  # prctl(2)
GRACE_SECONDS = 2.0  # between asking a child to end and making it end

_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


class Child:
    """`python -m MODULE ARGUMENTS`, for a module that needs pyinfra: with closed standard input and its own session.

    There is no terminal to ask on, and signals reach all that it started. Its standard error is read live, line by
    line; its standard output when it has ended. It dies with us, even when we are killed (on Linux).

    `server` forks it: that of pyinfra, unless another is named.
    """

    def __init__(
        self,
        module: str,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        folder: Path | None = None,
        server: type[ForkServer] | None = None,
    ) -> None:
        # A file and no pipe: nobody has to read it while it is written. Closed by __exit__.
        self._output: IO[str] = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115
        self._deadline: threading.Timer | None = None
        reading, writing = os.pipe()
        self._errors: IO[str] = open(reading, encoding="utf-8", errors="replace")  # noqa: SIM115 - likewise
        asked = {
            "module": module,
            "arguments": list(arguments),
            "environment": dict(environment),
            "folder": str(folder or Path.cwd()),
        }
        streams = (self._output.fileno(), writing)
        ours = (server or ForkServer).ours()
        try:
            self._process = (ours and ours.fork(asked, streams)) or _spawned(asked, streams)
        finally:
            os.close(writing)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._deadline:
            self._deadline.cancel()
            self._deadline.join()
        self.stop()
        self._errors.close()
        self._output.close()

    @property
    def pid(self) -> int:
        return self._process.pid

    def lines(self) -> Iterator[str]:
        """Lines of standard error as they come, until it ends."""
        yield from self._errors

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


def load_pyinfra() -> None:
    """Have pyinfra loaded by the time that the first child is wanted."""
    ForkServer.ours()


def die_with_parent(parent: int) -> None:
    """Given the process that started this one, have the kernel end this one when that ends (prctl(2), on Linux)."""
    if _libc is not None:
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)


class _Process(Protocol):
    """What is asked of a process, however it was started: as subprocess.Popen has it."""

    @property
    def pid(self) -> int: ...

    def poll(self) -> int | None: ...

    def wait(self, timeout: float | None = None) -> int: ...


def _spawned(asked: Mapping[str, Any], streams: tuple[int, int]) -> _Process:
    parent = os.getpid()
    return subprocess.Popen(
        [sys.executable, "-m", asked["module"], *asked["arguments"]],
        stdin=subprocess.DEVNULL,
        stdout=streams[0],
        stderr=streams[1],
        env=asked["environment"],
        cwd=asked["folder"],
        start_new_session=True,
        preexec_fn=lambda: die_with_parent(parent),  # noqa: PLW1509 - it allocates nothing, and there is no other way
    )


class _Forked:
    """A process that the fork server has made. What is still to be heard of it is its exit code."""

    def __init__(self, pid: int, answers: socket.socket) -> None:
        self.pid = pid
        self._answers = answers
        self._code: int | None = None
        self._heard = threading.Lock()

    def poll(self) -> int | None:
        return self._ended(0)

    def wait(self, timeout: float | None = None) -> int:
        code = self._ended(timeout)
        if code is None:
            raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0)
        return code

    def _ended(self, seconds: float | None) -> int | None:
        if self._code is None and select.select([self._answers], [], [], seconds)[0]:
            with self._heard:  # another thread may have waited, too
                if self._code is None:
                    said = self._answers.recv(64)
                    self._code = int(said) if said else -signal.SIGKILL  # the server is gone, and the run with it
        return self._code


class ForkServer:
    """Our end of fork_server.py."""

    command: ClassVar[Sequence[str]] = (sys.executable, "-m", "gb10.controller.run.fork_server")
    _ours: ClassVar[ForkServer | None] = None

    def __init__(self) -> None:
        self._control, theirs = socket.socketpair()
        parent = os.getpid()
        with theirs:
            self._process = subprocess.Popen(
                self.command,
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                preexec_fn=lambda: die_with_parent(parent),  # noqa: PLW1509 - as above
            )

    @classmethod
    def ours(cls) -> ForkServer | None:
        """The one of this process, started if it does not run. None off Linux, where libraries may forbid a fork."""
        if _libc is None:
            return None
        if cls._ours is None or cls._ours._process.poll() is not None:
            cls._ours = cls()
        return cls._ours

    def fork(self, asked: Mapping[str, Any], streams: tuple[int, int]) -> _Process | None:
        """Have a process run what is asked. None where the server cannot: it says nothing of its own."""
        answers, theirs = socket.socketpair()
        try:
            with theirs:
                socket.send_fds(self._control, [b"."], [*streams, theirs.fileno()])
            with answers.makefile("rb", buffering=0) as lines:
                pid = int(lines.readline() or 0)
            if pid:
                answers.sendall(json.dumps(asked).encode() + b"\n")
                return _Forked(pid, answers)
        except OSError:
            pass
        except BaseException:  # an interrupted client is no client: without the line the child ends by itself
            answers.close()
            raise
        answers.close()
        return None
