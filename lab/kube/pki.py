"""Certificates, made with the openssl command."""

from __future__ import annotations

import ipaddress
import os
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from gb10.lab.kube.errors import StartError

DAYS = "3650"


@dataclass(frozen=True)
class KeyPair:
    """The files of a certificate and its key."""

    certificate: Path
    key: Path

    @classmethod
    def in_folder(cls, folder: Path, name: str) -> KeyPair:
        return cls(folder / f"{name}.crt", folder / f"{name}.key")

    def exists(self) -> bool:
        return self.certificate.exists() and self.key.exists()


def _request(pair: KeyPair, subject: str, *more: str) -> None:
    pair.key.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # openssl writes the key with the process's umask, so the umask below keeps it private from the start.
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc"]
    command += ["-days", DAYS, "-subj", subject, "-keyout", str(pair.key), "-out", str(pair.certificate), *more]
    done = subprocess.run(command, capture_output=True, text=True, umask=0o077, check=False)
    if done.returncode:
        raise StartError(f"starting kubernetes: preparing server: openssl: {done.stderr.strip()[-300:]}")
    os.chmod(pair.certificate, 0o644)


def make_authority(pair: KeyPair, name: str) -> None:
    """Create a self-signed CA."""
    usage = "keyUsage=critical,digitalSignature,keyCertSign,cRLSign"
    _request(pair, f"/CN={name}", "-addext", "basicConstraints=critical,CA:TRUE", "-addext", usage)


def issue(pair: KeyPair, authority: KeyPair, subject: str, usage: str, names: Iterable[str] = ()) -> None:
    """Create a certificate signed by the authority. `usage`: clientAuth or serverAuth. `names`: hosts or addresses."""
    extensions = [
        "basicConstraints=critical,CA:FALSE",
        "keyUsage=critical,digitalSignature",
        f"extendedKeyUsage={usage}",
        "authorityKeyIdentifier=keyid",
    ]
    alternatives = ",".join(map(_alternative, names))
    if alternatives:
        extensions.append(f"subjectAltName={alternatives}")
    arguments = [argument for extension in extensions for argument in ("-addext", extension)]
    _request(pair, subject, "-CA", str(authority.certificate), "-CAkey", str(authority.key), *arguments)


def _alternative(name: str) -> str:
    try:
        return f"IP:{ipaddress.ip_address(name)}"
    except ValueError:
        return f"DNS:{name}"
