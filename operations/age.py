"""age: backups that only the holder of a key can read. age-encryption.org, by its Rust implementation."""

from __future__ import annotations

from collections.abc import Sequence
from io import BufferedIOBase
from pathlib import Path

import pyrage

from gb10.operations.archive import ArchiveError

SUFFIX = ".age"
SECRET = "AGE-SECRET-KEY-"  # noqa: S105 - how such a key begins


def recipient(text: str) -> pyrage.x25519.Recipient | pyrage.ssh.Recipient:
    """Given a public key, of age or of SSH, return it. Raise ValueError for anything else."""
    kind = pyrage.ssh.Recipient if text.startswith("ssh-") else pyrage.x25519.Recipient
    try:
        return kind.from_str(text.strip())
    except pyrage.RecipientError as error:
        raise ValueError(f"{text[:40]!r} is no public key of age: {error}") from None


def encrypt(plain: BufferedIOBase, out: BufferedIOBase, recipients: Sequence[str]) -> None:
    """Encrypt a stream for all recipients."""
    pyrage.encrypt_io(plain, out, [recipient(text) for text in recipients])


def decrypt(sealed: BufferedIOBase, out: BufferedIOBase, identity_file: str | None) -> None:
    """Decrypt a stream. Raise ArchiveError where the key is missing or another one, or the stream was changed."""
    if not identity_file:
        raise ArchiveError("BACKUP_KEY", "it is encrypted, and backup_identity_file names no key")
    try:
        text = Path(identity_file).expanduser().read_text()
        pyrage.decrypt_io(sealed, out, _identities(text))
    except (OSError, UnicodeDecodeError) as error:
        raise ArchiveError("BACKUP_KEY", f"the key cannot be read: {error}") from None
    except (pyrage.DecryptError, pyrage.IdentityError) as error:
        raise ArchiveError(
            "BACKUP_KEY", f"it cannot be decrypted with the key of backup_identity_file: {error}"
        ) from None


def _identities(text: str) -> list[pyrage.x25519.Identity | pyrage.ssh.Identity]:
    keys = [line.strip() for line in text.splitlines() if line.startswith(SECRET)]
    return [pyrage.x25519.Identity.from_str(key) for key in keys] or [pyrage.ssh.Identity.from_buffer(text.encode())]
