"""The state of a copy that all of its threads share."""

from __future__ import annotations

import threading


class Course:
    """Failures, bytes on the wire, and a condition that is notified of every change.

    `troubles` are about single files on the source, `complaints` about files on the target: the rest is still copied.
    """

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.fatal: BaseException | None = None
        self.troubles: list[str] = []
        self.complaints: list[str] = []
        self.wire = 0  # bytes, including what rsync adds to the content of files

    def fail(self, error: BaseException) -> None:
        """End the copy. Only the first reason counts."""
        with self.changed:
            self.fatal = self.fatal or error
            self.changed.notify_all()

    def trouble(self, trouble: str) -> None:
        """Note what is wrong with a file on the source, once."""
        with self.changed:
            if trouble not in self.troubles:
                self.troubles.append(trouble)
