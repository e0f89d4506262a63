"""The notes of the shared blob store of Hugging Face models (huggingface_hub, utils/_shared_blobs.py)."""

from __future__ import annotations

import fcntl
import os


def note_references(root: str, blob: str, links: list[str]) -> None:
    """Add links to the notes of a blob.

    huggingface_hub removes a blob with the last link that it has noted, and takes the same lock.
    """
    path = os.path.join(root, blob)
    folder = os.path.dirname(path)
    os.makedirs(folder, exist_ok=True)
    owner = os.stat(folder)
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    lock, notes = os.open(f"{path}.lock", flags, 0o666), -1
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        notes = os.open(f"{path}.refs", flags | os.O_APPEND, 0o666)
        for descriptor in (lock, notes):
            os.fchmod(descriptor, 0o666)
            os.fchown(descriptor, owner.st_uid, owner.st_gid)
        with open(notes, "rb", closefd=False) as file:
            known = file.read().decode(errors="surrogateescape").splitlines()
        missing = [link for link in links if link not in known]
        if missing:
            os.write(notes, "".join(f"{link}\n" for link in missing).encode(errors="surrogateescape"))
            os.fsync(notes)
    finally:
        for descriptor in (lock, notes):
            if descriptor >= 0:
                os.close(descriptor)
