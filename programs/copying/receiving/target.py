"""The target folder. Nothing is written outside of it."""

from __future__ import annotations

import os

from gb10.programs.answer import RefusedError
from gb10.programs.copying.protocol import Range, Wanted
from gb10.programs.copying.receiving.intake import DIRECT_BYTES, Intake
from gb10.programs.copying.receiving.parts import Part


class Target:
    """The target folder, with the large files that are arriving."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.parts: dict[int, Part] = {}
        self._folders: set[str] = set()  # in which files may be written

    def expect(self, large: list[Wanted]) -> None:
        """Prepare for the large files of a copy."""
        with open("/proc/sys/kernel/random/boot_id") as file:
            boot = file.read().strip()
        for index, wanted in enumerate(large):
            self.have_folder(os.path.dirname(os.path.join(self.root, wanted["path"])))
            self.parts[index] = Part(self.root, wanted, boot)

    def have_folder(self, folder: str) -> None:
        """Make a folder inside the root. Raise RefusedError for one that is outside."""
        if folder in self._folders:
            return
        real = os.path.realpath(folder)
        if real != self.root and not real.startswith(self.root + "/"):
            raise RefusedError("COPY_FAILED", f"{folder!r} is outside of {self.root}")
        os.makedirs(folder, exist_ok=True)
        self._folders.add(folder)

    def take_piece(self, intake: Intake, index: int, piece: Range, extents: list[Range]) -> None:
        """Receive a piece (offset, length) of a large file, which has data only in its extents.

        Raise KeyError for a file that is no part of the copy.
        """
        part = self.parts[index]
        offset, length = piece
        if offset + length > part.wanted["size"] or not all(
            offset <= start <= start + size <= offset + length for start, size in extents
        ):
            raise RefusedError("COPY_FAILED", "a piece does not belong into its file")
        with part.in_use():
            part.open()  # even if the piece is one hole
            for start, size in extents:
                at, end = start, start + size
                try:
                    while at < end:
                        at += intake.fill(part, at, end)
                except OSError:
                    part.arrived(start, at - start)
                    raise
            part.arrived(offset, length)

    def take_small(self, intake: Intake, wanted: Wanted) -> None:
        """Receive a small file and rename it into place once complete."""
        final = os.path.join(self.root, wanted["path"])
        self.have_folder(os.path.dirname(final))
        temporary = os.path.join(intake.folder, "small")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            left = wanted["size"]
            while left:
                left -= os.write(descriptor, intake.receive(min(left, DIRECT_BYTES)))
            os.fchown(descriptor, wanted["uid"], wanted["gid"])
            os.fchmod(descriptor, wanted["mode"])
            os.utime(descriptor, ns=(wanted["mtime"], wanted["mtime"]))
        except BaseException:
            os.unlink(temporary)
            raise
        finally:
            os.close(descriptor)
        os.rename(temporary, final)


def make_root(root: str, top: Wanted | None) -> None:
    """Create the target folder with the source's owner and mode; an existing one keeps its own."""
    os.makedirs(os.path.dirname(os.path.abspath(root)), exist_ok=True)
    try:
        os.mkdir(root)
    except FileExistsError:
        if not os.path.isdir(root):
            raise RefusedError("COPY_PATH", f"{root} is there, and no folder") from None
        return
    if top:
        os.chown(root, top["uid"], top["gid"])
        os.chmod(root, top["mode"])
