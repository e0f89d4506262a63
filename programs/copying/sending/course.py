"""How a copy goes, as all of its threads know it."""

from __future__ import annotations

import threading


class Course:
    """What went wrong, what went over the wire, and the condition that tells of every change.

    `troubles` are about single files of the source, `complaints` about the target's: the rest is copied nevertheless.
    """

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.fatal: BaseException | None = None
        self.troubles: list[str] = []
        self.complaints: list[str] = []
        self.wire = 0  # bytes, with what rsync needs beside the content of files

    def fail(self, error: BaseException) -> None:
        """End the copy, for the first reason that is given."""
        with self.changed:
            self.fatal = self.fatal or error
            self.changed.notify_all()

    def trouble(self, trouble: str) -> None:
        """Note once what is wrong with a file of the source."""
        with self.changed:
            if trouble not in self.troubles:
                self.troubles.append(trouble)
