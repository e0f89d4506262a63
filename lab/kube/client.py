"""An HTTPS client of the API server with one persistent connection."""

from __future__ import annotations

import base64
import http.client
import json
import ssl
from typing import Any
from urllib.parse import urlsplit

from gb10.lab.kube.tokens import Token

TIMEOUT_SECONDS = 10
MERGE = "application/merge-patch+json"


class RefusedError(Exception):
    """An answer with an error status."""

    def __init__(self, status: int, url: str, reason: str, message: str) -> None:
        super().__init__(message or f"{url}: {status} {reason}")
        self.status = status


class Client:
    """Calls one server. Also raises OSError and http.client.HTTPException."""

    def __init__(self, url: str, tls: ssl.SSLContext, authorization: str = "") -> None:
        parts = urlsplit(url)
        self.url = url.rstrip("/")
        self.authorization = authorization
        self._connection = http.client.HTTPSConnection(
            parts.hostname or "", parts.port or 443, timeout=TIMEOUT_SECONDS, context=tls
        )

    def raw(self, method: str, path: str, body: Any = None, **headers: str) -> bytes:
        """Send a request and return the answer's body. Raise RefusedError for an error status."""
        raw = None if body is None else json.dumps(body).encode()
        if self.authorization:
            headers["Authorization"] = self.authorization
        if raw is not None:
            headers.setdefault("Content-Type", MERGE if method == "PATCH" else "application/json")
        try:
            self._connection.request(method, path, raw, {"User-Agent": "kubelet", **headers})
            response = self._connection.getresponse()
            answer = response.read()
        except (OSError, http.client.HTTPException):
            self._connection.close()
            raise
        if response.status >= 300:
            raise RefusedError(response.status, self.url + path, response.reason, _message(answer, response.status))
        return answer

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        """Send a request and return the answer's JSON value."""
        return json.loads(self.raw(method, path, body, **headers))

    def close(self) -> None:
        self._connection.close()


def _message(answer: bytes, status: int) -> str:
    """Return the server's message, except for 401, where it only repeats the status."""
    try:
        return "" if status == 401 else str(json.loads(answer).get("message") or "")
    except (ValueError, AttributeError):
        return ""


def unverified_context() -> ssl.SSLContext:
    """Return a context without verification, only for fetching the CA, which the token's digest verifies."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def verifying_context(ca: bytes) -> ssl.SSLContext:
    """Return a context that trusts this CA."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=ca.decode())
    return context


def token_authorization(token: Token) -> str:
    """Return the Authorization header for a join token."""
    if token.is_bootstrap:
        return f"Bearer {token.password}"
    pair = f"{token.user or 'node'}:{token.password}"
    return f"Basic {base64.b64encode(pair.encode()).decode()}"
