"""The complete log of one gb10 command, in a file that only its owner can read."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path

from gb10.controller.errors import Gb10Error
from gb10.controller.paths import private_folder


class RunLog:
    """A log file named by date and command. Its first line creates it."""

    def __init__(self, command: str, folder: Path | None = None) -> None:
        self._folder = folder
        self._name = f"{datetime.now():%Y-%m-%dT%H-%M-%S}-{command}-{os.getpid()}.log"
        self._path: Path | None = None
        self._descriptor: int | None = None

    @property
    def path(self) -> Path | None:
        """Path of the file, or None while it is empty."""
        return self._path

    def write(self, line: str) -> None:
        """Append a line. Raise STATE_UNWRITABLE if the disk is full."""
        try:
            self._write(f"{line}\n".encode(errors="replace"))
        except OSError as error:
            text = f"the log {self._path or self._name} cannot be written: {error.strerror or error}"
            raise Gb10Error("STATE_UNWRITABLE", text) from error

    def _write(self, data: bytes) -> None:
        if self._descriptor is None:
            folder = self._folder or private_folder("log")
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._path = folder / self._name
            self._descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        os.write(self._descriptor, data)

    def remove(self) -> None:
        """Delete the log of a command in which nothing worth reading happened."""
        self.close()
        if self._path:
            self._path.unlink(missing_ok=True)
            self._path = None

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
