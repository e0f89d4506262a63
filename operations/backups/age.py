"""Encryption of backups with age (age-encryption.org), by its Rust implementation."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BufferedIOBase
from pathlib import Path
from typing import Any, BinaryIO, cast

import pyrage

from gb10.programs.answer import RefusedError
from gb10.programs.archive.manifest import damaged

SUFFIX = ".age"
SECRET = "AGE-SECRET-KEY-"  # noqa: S105 - how such a key begins


def recipient(text: str) -> pyrage.x25519.Recipient | pyrage.ssh.Recipient:
    """Read a public key of age or of SSH. Raise ValueError for anything else."""
    kind = pyrage.ssh.Recipient if text.startswith("ssh-") else pyrage.x25519.Recipient
    try:
        return kind.from_str(text.strip())
    except pyrage.RecipientError as error:
        raise ValueError(f"{text[:40]!r} is no public key of age: {error}") from None


def encrypt(plain: BufferedIOBase, out: BufferedIOBase, recipients: Sequence[str]) -> None:
    """Encrypt a stream for all recipients. Raise OSError if one of the streams does."""
    streams = _Stream(plain), _Stream(out)
    try:
        pyrage.encrypt_io(*streams, [recipient(text) for text in recipients])
    except pyrage.EncryptError:
        _raise_own(streams)
        raise


def decrypt(sealed: BufferedIOBase, out: BufferedIOBase, identity_file: str | None) -> None:
    """Decrypt a stream.

    Raise RefusedError if the key is missing or wrong, or the stream was changed; OSError if one of the streams does, as
    on a full disk.
    """
    if not identity_file:
        raise RefusedError("BACKUP_KEY", "it is encrypted, and backup_identity_file names no key")
    try:
        identities = _identities(Path(identity_file).expanduser().read_text())
    except (OSError, UnicodeDecodeError, pyrage.IdentityError) as error:
        raise RefusedError("BACKUP_KEY", f"the key cannot be read: {error}") from None
    streams = _Stream(sealed), _Stream(out)
    try:
        pyrage.decrypt_io(*streams, identities)
    except pyrage.DecryptError as error:
        _raise_own(streams)
        text = f"it cannot be decrypted with the key of backup_identity_file: {error}"
        raise RefusedError("BACKUP_KEY", text) from None
    except OSError as error:
        _raise_own(streams)
        raise damaged(f"it cannot be decrypted to its end: {error}") from None


@contextmanager
def opened(path: Path, identity_file: str | None) -> Iterator[BinaryIO]:
    """An archive, decrypted if it has to be into a file without a name that goes when the block ends."""
    with path.open("rb") as file:
        if path.suffix != SUFFIX:
            yield file
            return
        with tempfile.TemporaryFile(dir=path.parent) as plain:
            decrypt(file, plain, identity_file)
            plain.seek(0)
            yield cast(BinaryIO, plain)


class _Stream(BufferedIOBase):
    """A stream that keeps the error it raised: pyrage raises another one in its place."""

    def __init__(self, stream: BufferedIOBase) -> None:
        self.error: OSError | None = None
        self._stream = stream

    def read(self, size: int | None = -1) -> bytes:
        with self._kept():
            return self._stream.read(size)

    def write(self, data: Any) -> int:
        with self._kept():
            return self._stream.write(data)

    @contextmanager
    def _kept(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.error = error
            raise


def _raise_own(streams: Sequence[_Stream]) -> None:
    for stream in streams:
        if stream.error:
            raise stream.error


def _identities(text: str) -> list[pyrage.x25519.Identity | pyrage.ssh.Identity]:
    keys = [line.strip() for line in text.splitlines() if line.startswith(SECRET)]
    return [pyrage.x25519.Identity.from_str(key) for key in keys] or [pyrage.ssh.Identity.from_buffer(text.encode())]
