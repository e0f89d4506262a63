"""The queue of what is left to send: pieces of large files and bundles of small ones."""

from __future__ import annotations

import collections
import os
import time

from gb10.programs.copying.protocol import PIECE_BYTES, Range, Wanted, pieces
from gb10.programs.copying.sending.course import Course
from gb10.programs.copying.sending.rails import Rail, first_alive

BUNDLE_FILES = 256
COMPLETE_SECONDS = 1800  # a file may have to wait for a slow disk

Piece = tuple[int, int, int]  # index, offset, length


def bundles(files: list[Wanted], most_bytes: int = PIECE_BYTES, most_files: int = BUNDLE_FILES) -> list[list[Wanted]]:
    """Group small files into bundles of about the size of a piece."""
    found: list[list[Wanted]] = []
    size = 0
    for wanted in files:
        if not found or size + wanted["size"] > most_bytes or len(found[-1]) >= most_files:
            found.append([])
            size = 0
        found[-1].append(wanted)
        size += wanted["size"]
    return found


def is_same(found: os.stat_result, wanted: Wanted) -> bool:
    """Return True if a file has not changed since the copy was planned."""
    return (found.st_size, found.st_mtime_ns) == (wanted["size"], wanted["mtime"])


class Work:
    """The files to send, and the state of each."""

    def __init__(self, root: str, large: list[Wanted], rails: list[Rail], course: Course) -> None:
        self.root = root
        self.large = large
        self.resumed = 0  # bytes that an earlier copy has sent
        self._rails = rails
        self._course = course
        self._queue: collections.deque[Piece | list[Wanted]] = collections.deque()
        self._bundles_left = 0
        self._left: dict[int, int] = {}  # index -> pieces that have not arrived
        self._completing: dict[int, float] = {}  # index -> since when

    def plan(self, have: dict[str, list[Range]], small: list[Wanted]) -> None:
        """Queue everything that the receiver lacks."""
        for index in sorted(range(len(self.large)), key=lambda index: -self.large[index]["size"]):
            size = self.large[index]["size"]
            found = pieces(size, [(start, end) for start, end in have.get(str(index), [])])
            self.resumed += size - sum(length for _, length in found)
            self._queue += [(index, offset, length) for offset, length in found]
            self._left[index] = len(found)
            if not found:
                self.complete(index)
        bundled = bundles(small)
        self._bundles_left = len(bundled)
        self._queue += bundled

    @property
    def is_queued(self) -> bool:
        """True if there is work that no stream has taken."""
        return bool(self._queue)

    @property
    def is_done(self) -> bool:
        """True if all files have arrived and have their names."""
        return not (self._left or self._bundles_left or self._completing)

    def take(self, rail: Rail) -> Piece | list[Wanted] | None:
        """Wait for the next work; return None if there is no more for this rail."""
        with self._course.changed:
            while rail.alive and not self._course.fatal and (self._left or self._bundles_left):
                if self._queue:
                    return self._queue.popleft()
                self._course.changed.wait(1)
        return None

    def put_back(self, work: Piece | list[Wanted]) -> None:
        """Queue work again that did not arrive."""
        with self._course.changed:
            self._queue.appendleft(work)
            self._course.changed.notify_all()

    def bundle_arrived(self, rail: Rail, size: int, wire: int) -> None:
        with self._course.changed:
            rail.sent += size
            self._course.wire += wire
            self._bundles_left -= 1
            self._course.changed.notify_all()

    def piece_arrived(self, rail: Rail, piece: Piece) -> None:
        """Count a piece; complete the file with its last one."""
        index, _, length = piece
        with self._course.changed:
            rail.sent += length
            self._course.wire += length
            if index not in self._left:
                return
            self._left[index] -= 1
            whole = self._left[index] == 0
        if whole:
            self.complete(index)

    def complete(self, index: int) -> None:
        """Ask the receiver to give a file its name, unless the source has changed."""
        wanted = self.large[index]
        try:
            same = is_same(os.stat(os.path.join(self.root, wanted["path"])), wanted)
        except OSError:
            same = False
        if not same:
            self.skip(index, f"{wanted['path']!r} changed during the copy")
            return
        with self._course.changed:
            self._completing[index] = time.monotonic()
            self._left.pop(index, None)
            self._course.changed.notify_all()
        self._request_completion(index)

    def completed(self, index: int) -> None:
        """Note that a file has its name on the target."""
        with self._course.changed:
            self._completing.pop(index, None)
            self._course.changed.notify_all()

    def skip(self, index: int, trouble: str) -> None:
        """Leave out a file that has changed since the copy was planned."""
        with self._course.changed:
            if index in self._left:
                self._course.troubles.append(trouble)
                self._left.pop(index)
                kept = (work for work in self._queue if isinstance(work, list) or work[0] != index)
                self._queue = collections.deque(kept)
            self._course.changed.notify_all()

    def request_completions(self) -> None:
        """Ask again for the names of all files that wait for theirs: a lost rail may have lost the request."""
        for index in list(self._completing):
            self._request_completion(index)

    def overdue(self) -> str | None:
        """Return the path of a file that has waited too long for its name, or None."""
        late = time.monotonic() - COMPLETE_SECONDS
        found = (index for index, since in list(self._completing.items()) if since < late)
        return next((str(self.large[index]["path"]) for index in found), None)

    def _request_completion(self, index: int) -> None:
        if rail := first_alive(self._rails):
            rail.tell({"do": "complete", "index": index})
