"""Join tokens: `K10<sha256 of the cluster CA>::<user>:<password>`, its short form, and bootstrap tokens."""

from __future__ import annotations

import hashlib
import re
import secrets
from dataclasses import dataclass

from gb10.lab.kube.errors import StartError

PREFIX = "K10"
_BOOTSTRAP = re.compile(r"[a-z0-9]{6}\.[a-z0-9]{16}")


def ca_hash(ca: bytes) -> str:
    """Return the digest of the cluster's CA (PEM) that tokens contain."""
    return hashlib.sha256(ca).hexdigest()


@dataclass(frozen=True)
class Token:
    """A parsed token. `ca_hash` is empty in the short form, `user` for a bare password or a bootstrap token."""

    ca_hash: str
    user: str
    password: str

    @property
    def is_bootstrap(self) -> bool:
        return not self.user and bool(_BOOTSTRAP.fullmatch(self.password))


def parse(text: str) -> Token:
    """Parse a token in any form. Raise StartError for an unknown form."""
    text = text.strip()
    if not text.startswith(PREFIX):
        return Token("", "", text)
    digest, separator, credentials = text.removeprefix(PREFIX).partition("::")
    if not separator:
        raise StartError("invalid token format")
    if digest and len(digest) != 64:
        raise StartError("invalid token CA hash length")
    if _BOOTSTRAP.fullmatch(credentials):
        return Token(digest, "", credentials)
    user, _, password = credentials.partition(":")
    if not password:
        raise StartError("invalid token format")
    return Token(digest, user, password)


def format_token(ca: bytes, user: str, password: str) -> str:
    """Return the full form of a token, or of a bootstrap token if there is no user."""
    return f"{PREFIX}{ca_hash(ca)}::{user}:{password}" if user else f"{PREFIX}{ca_hash(ca)}::{password}"


def new_password() -> str:
    return secrets.token_hex(16)


def new_bootstrap() -> str:
    """Return a new bootstrap token, id and secret, in kubeadm's form."""
    return f"{secrets.token_hex(3)}.{secrets.token_hex(8)}"
