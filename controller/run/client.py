"""The gb10 command's end of the pyinfra process: start it early, send one request after the other, stop it.

The process reports every few seconds that it works. It is killed if it stays silent.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, ClassVar

from gb10.controller.errors import Gb10Error
from gb10.controller.run.messages import (
    HEADER,
    LARGEST_BYTES,
    Alive,
    Event,
    FactsDone,
    ForeignObjectError,
    Interrupted,
    InventoryFailed,
    LoadedInventory,
    Request,
    Result,
    RunDone,
    dumps,
    loads,
)
from gb10.facts.reading.printable import made_printable, printable

SILENCE_SECONDS = 600.0  # local work, such as a digest of a large file, delays its reports
END_SECONDS = 10.0  # on Ctrl-C, for it to end the commands on the nodes
KILL_SECONDS = 2.0
LAST_BYTES = 1 << 16  # kept of what it prints outside the pipe
OUT_OF_MEMORY = 71  # its exit status

OnEvent = Callable[[Event], None]


class EndedError(Exception):
    """The process has closed its pipe."""


class PyinfraProcess:
    """The process in which pyinfra runs."""

    _ours: ClassVar[PyinfraProcess | None] = None

    def __init__(self) -> None:
        self.place = _place()
        reading, self._requests = os.pipe()
        self._events, writing = os.pipe()
        self._said, saying = os.pipe()
        theirs = (reading, writing)
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "gb10.controller.run.process", str(os.getpid()), *map(str, theirs)],
            stdin=subprocess.DEVNULL,
            stdout=saying,
            stderr=saying,
            pass_fds=theirs,
            env=_environment(),
            start_new_session=True,
        )
        for descriptor in (*theirs, saying):
            os.close(descriptor)
        self._received = bytearray()
        self._last_words = bytearray()

    @classmethod
    def ours(cls) -> PyinfraProcess:
        """Return the process of this command. Start it if there is none, or none with this folder and environment."""
        if cls._ours is not None and (cls._ours.ended or cls._ours.place != _place()):
            cls._ours.stop()
        if cls._ours is None:
            cls._ours = cls()
        return cls._ours

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def ended(self) -> bool:
        return self._process.poll() is not None

    def ask(self, request: Request, on_event: OnEvent, seconds: float | None = None) -> Result:
        """Send a request; return its result.

        Raise INTERRUPTED on Ctrl-C, OPERATION_FAILED if the process ends, stays silent, or takes longer than `seconds`.
        """
        try:
            self._write(dumps(request))
            result = self._result(on_event, seconds)
        except KeyboardInterrupt:
            self._interrupt()
            raise Gb10Error("INTERRUPTED") from None
        except (EndedError, BrokenPipeError):
            raise _ended_early(self._how()) from None
        except TimeoutError as error:
            self.stop()
            raise _ended_early(str(error)) from None
        except ForeignObjectError as error:
            self.stop()
            raise Gb10Error("INTERNAL", reason=f"the pyinfra process sent {error}") from None
        except BaseException:
            self.stop()
            raise
        if isinstance(result, Interrupted):
            self.stop()
            raise Gb10Error("INTERRUPTED")
        return result

    def last_words(self) -> list[str]:
        """Return what the process printed outside the pipe, such as a crash of the interpreter."""
        return printable(self._last_words.decode(errors="replace")).split("\n")

    def stop(self) -> None:
        """End the process, by SIGTERM and then by SIGKILL."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            if self.ended:
                break
            self._signal(number)
        if PyinfraProcess._ours is self:
            PyinfraProcess._ours = None
        for descriptor in (self._requests, self._events, self._said):
            with suppress(OSError):
                os.close(descriptor)

    def _interrupt(self) -> None:
        """Have it end the commands on the nodes and itself. A second Ctrl-C ends it at once."""
        with suppress(KeyboardInterrupt, EndedError, TimeoutError, ForeignObjectError, ProcessLookupError):
            os.kill(self.pid, signal.SIGINT)
            self._result(lambda event: None, END_SECONDS)
        self.stop()

    def _signal(self, number: int) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(KILL_SECONDS)

    def _result(self, on_event: OnEvent, seconds: float | None) -> Result:
        """Pass on all events; return the result that follows them."""
        for message in self._messages(seconds):
            match message:
                case LoadedInventory() | InventoryFailed() | RunDone() | FactsDone() | Interrupted():
                    return message
                case Alive():
                    pass
                case _:
                    on_event(message)
        raise EndedError

    def _messages(self, seconds: float | None) -> Iterator[Any]:
        """Yield the messages of the process. Raise EndedError if it has ended, TimeoutError if it takes too long."""
        deadline = None if seconds is None else time.monotonic() + seconds
        while True:
            while (message := self._complete()) is not None:
                yield message
            left = SILENCE_SECONDS if deadline is None else min(SILENCE_SECONDS, deadline - time.monotonic())
            if left <= 0 or not self._receive(left):
                late = deadline is not None and time.monotonic() >= deadline
                raise TimeoutError(f"no result within {seconds:.0f} s" if late else "it does not answer any more")

    def _receive(self, seconds: float) -> bool:
        """Receive more data; return False if nothing comes in this time."""
        ready, _, _ = select.select([self._events, self._said], [], [], seconds)
        if self._said in ready:
            self._last_words = (self._last_words + os.read(self._said, 1 << 16))[-LAST_BYTES:]
        if self._events in ready:
            data = os.read(self._events, 1 << 18)
            if not data:
                raise EndedError
            self._received += data
        return bool(ready)

    def _complete(self) -> Any:
        """Return the next complete message, or None."""
        if len(self._received) < HEADER.size:
            return None
        (size,) = HEADER.unpack_from(self._received)
        if size > LARGEST_BYTES:
            raise ForeignObjectError(f"a message of {size} bytes")
        end = HEADER.size + size
        if len(self._received) < end:
            return None
        message = loads(bytes(self._received[HEADER.size : end]))
        del self._received[:end]
        return message if isinstance(message, LoadedInventory) else made_printable(message)

    def _write(self, data: bytes) -> None:
        while data:
            data = data[os.write(self._requests, data) :]

    def _how(self) -> str:
        """Return how the process ended by itself."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(KILL_SECONDS)
        code = self._process.poll()
        self.stop()
        if code == OUT_OF_MEMORY:
            return "it needs too much memory"
        if code is not None and code < 0:
            return f"killed by signal {-code}"
        return "it closed its pipe" if code is None else f"exit code {code}"


def _ended_early(how: str) -> Gb10Error:
    return Gb10Error("OPERATION_FAILED", f"pyinfra ended early ({how})")


def _place() -> tuple[str, dict[str, str]]:
    """Return what a process inherits at its start: the folder and the environment."""
    return os.getcwd(), dict(os.environ)


def _environment() -> dict[str, str]:
    """Return the environment without variables that change how pyinfra behaves."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("PYINFRA_")}
    return {**kept, "PYINFRA_PROGRESS": "off"}
