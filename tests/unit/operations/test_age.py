"""Encrypted streams: opened by their key alone, with the right error for each failure."""

from __future__ import annotations

import io
import os
from io import BufferedIOBase
from pathlib import Path
from typing import cast

import pyrage
import pytest

from gb10.operations.backups import age
from gb10.programs.answer import RefusedError

PLAIN = os.urandom(300_000)


@pytest.fixture
def key(tmp_path: Path) -> Path:
    """A file with a private key."""
    return written(tmp_path / "key")


def written(path: Path) -> Path:
    path.write_text(f"# a comment\n{pyrage.x25519.Identity.generate()}\n")
    return path


def sealed_for(key: Path) -> bytes:
    """The plain bytes, encrypted for the holder of a key."""
    identity = pyrage.x25519.Identity.from_str(key.read_text().splitlines()[1])
    out = io.BytesIO()
    age.encrypt(io.BytesIO(PLAIN), out, [str(identity.to_public())])
    return out.getvalue()


def refusal(sealed: bytes, identity_file: Path | None) -> str:
    """The code with which a stream is refused."""
    with pytest.raises(RefusedError) as caught:
        age.decrypt(io.BytesIO(sealed), io.BytesIO(), None if identity_file is None else str(identity_file))
    return caught.value.code


def test_an_encrypted_stream_is_decrypted_with_its_key(key: Path) -> None:
    out = io.BytesIO()
    age.decrypt(io.BytesIO(sealed_for(key)), out, str(key))
    assert out.getvalue() == PLAIN


def test_wrong_keys_and_changed_streams_have_different_errors(key: Path, tmp_path: Path) -> None:
    sealed = sealed_for(key)
    (tmp_path / "none").write_text("no key\n")
    for other in (written(tmp_path / "other"), tmp_path / "none", tmp_path / "absent", None):
        assert refusal(sealed, other) == "BACKUP_KEY"
    assert refusal(sealed[:-5], key) == "BACKUP_DAMAGED"
    assert refusal(sealed[:-5] + bytes([sealed[-5] ^ 1]) + sealed[-4:], key) == "BACKUP_DAMAGED"


def test_a_full_disk_raises_its_own_error(key: Path) -> None:
    public = str(pyrage.x25519.Identity.from_str(key.read_text().splitlines()[1]).to_public())
    with open("/dev/full", "wb", buffering=0) as file:
        full = cast(BufferedIOBase, file)
        with pytest.raises(OSError, match="No space left"):
            age.decrypt(io.BytesIO(sealed_for(key)), full, str(key))
        with pytest.raises(OSError, match="No space left"):
            age.encrypt(io.BytesIO(PLAIN), full, [public])
