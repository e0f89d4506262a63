"""Secrets read from a node, that no log of the run can show.

pyinfra prints what a fact's command prints (`-vvv`), so the node encrypts before it prints: `openssl cms` for a key
that lives in this process alone. The contract: between `seal` and `unseal` there is only ciphertext.
"""

from __future__ import annotations

import datetime
import functools
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import pkcs7
from cryptography.x509.oid import NameOID
from pyinfra.api.hiddenvalue import HiddenValue


class Secret(HiddenValue):
    """A HiddenValue that the pyinfra CLI can print: it prints the mask."""

    def __init__(self, value: str) -> None:
        super().__init__(value)  # type: ignore[no-untyped-call] # pyinfra leaves it untyped

    def to_json(self) -> str:
        return str(self)


@dataclass(frozen=True)
class _Recipient:
    key: rsa.RSAPrivateKey
    certificate: x509.Certificate

    @property
    def pem(self) -> str:
        return self.certificate.public_bytes(serialization.Encoding.PEM).decode()


@functools.cache
def _recipient() -> _Recipient:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "gb10")])
    now = datetime.datetime.now(datetime.UTC)
    day = datetime.timedelta(days=1)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - day)
        .not_valid_after(now + day)
        .sign(key, hashes.SHA256())
    )
    return _Recipient(key, certificate)


def seal(command: str) -> str:
    """Given a shell command that prints a secret, return one that prints it encrypted for this process."""
    # OpenSSL wants the certificate in a file: descriptor 3 is one, and a certificate is no secret.
    return (
        f"{command} | openssl cms -encrypt -binary -aes256 -outform PEM -recip /dev/fd/3 3<<'CERTIFICATE'\n"
        f"{_recipient().pem}CERTIFICATE\n"
    )


def unseal(lines: tuple[str, ...]) -> str:
    """Given the lines that a sealed command printed, return the secret. Raise ValueError for anything else."""
    text = "\n".join(lines).replace("CMS-----", "PKCS7-----")  # the same structure under its older name
    recipient = _recipient()
    plain = pkcs7.pkcs7_decrypt_pem(text.encode(), recipient.certificate, recipient.key, [])
    return plain.decode()
