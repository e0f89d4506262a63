"""Callers: administrators with a client certificate, nodes with a credential, joining nodes with a token."""

from __future__ import annotations

import base64
import binascii
import datetime
import hmac
from dataclasses import dataclass
from typing import Any

from gb10.lab.kube.errors import ApiError
from gb10.lab.kube.objects import seconds
from gb10.lab.kube.resources import SECRETS
from gb10.lab.kube.store import Store

ADMIN_GROUP = "system:masters"

# Plural name of a kind -> methods that a node may use.
_NODE_RIGHTS = {
    "leases": {"GET", "POST", "PUT", "PATCH"},
    "nodes": {"GET", "POST", "PATCH"},
    "pods": {"GET", "PATCH"},
}


@dataclass(frozen=True)
class Caller:
    """An authenticated caller. `node` is the node's name, or None for an administrator."""

    name: str
    node: str | None = None

    def check(self, method: str, plural: str, group: str, name: str | None) -> None:
        """Raise ApiError 403 if the caller may not do this."""
        if self.node is None:
            return
        own = plural != "nodes" or method == "GET" or name in (None, self.node)
        if method not in _NODE_RIGHTS.get(plural, set()) or not own:
            message = (
                f'{plural} is forbidden: User "{self.name}" cannot {method.lower()} resource "{plural}" '
                f'in API group "{group}"'
            )
            raise ApiError(403, "Forbidden", message)


class Authenticator:
    """Authenticates callers with the cluster's passwords."""

    def __init__(self, store: Store, server_password: str, agent_password: str) -> None:
        self._store = store
        self._passwords = (server_password, agent_password)

    def node_credential(self, node: str) -> str:
        """Return the credential of a node that has joined. It stays valid over restarts of the server."""
        mark = hmac.digest(self._passwords[0].encode(), f"node:{node}".encode(), "sha256").hex()
        return f"{node}.{mark}"

    def caller(self, authorization: str, certificate: dict[str, Any] | None) -> Caller | None:
        """Authenticate by client certificate, then by bearer credential. Return None for an unknown caller."""
        subject = {key: value for part in (certificate or {}).get("subject", ()) for key, value in part}
        if subject.get("organizationName") == ADMIN_GROUP:
            return Caller(str(subject.get("commonName")))
        credential = authorization.removeprefix("Bearer ")
        node = credential.rpartition(".")[0]
        if node and hmac.compare_digest(credential, self.node_credential(node)):
            return Caller(f"system:node:{node}", node)
        return None

    def may_join(self, authorization: str) -> bool:
        """Return True for the server token, the agent token or a valid bootstrap token."""
        if authorization.startswith("Bearer "):
            return self._is_bootstrap_token(authorization.removeprefix("Bearer "))
        try:
            plain = base64.b64decode(authorization.removeprefix("Basic "), validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            return False
        password = plain.partition(":")[2].encode()
        return any(hmac.compare_digest(password, known.encode()) for known in self._passwords)

    def _is_bootstrap_token(self, token: str) -> bool:
        identifier, _, secret = token.partition(".")
        kept = self._store.table(SECRETS).get(("kube-system", f"bootstrap-token-{identifier}"))
        if kept is None:
            return False
        fields = {key: base64.b64decode(value).decode() for key, value in kept["data"].items()}
        expired = seconds(fields["expiration"]) < datetime.datetime.now(datetime.UTC).timestamp()
        return not expired and hmac.compare_digest(fields["token-secret"], secret)
