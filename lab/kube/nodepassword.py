"""Node passwords: a node name belongs to the node that first joined with it.

The node keeps its password in /etc/rancher/node/password, and the server keeps a hash of it in the Secret
`<node>.node-password.k3s` of kube-system. As with older K3s releases, the Secret stays when the Node is deleted.
Another node can join with that name only after the Secret is deleted. (Newer releases may delete it with the Node.)
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from pathlib import Path

from gb10.lab.kube.paths import write_secret
from gb10.lab.kube.resources import SECRETS
from gb10.lab.kube.store import Store

REJECTED = (
    "Node password rejected, duplicate hostname or contents of '/etc/rancher/node/password' may not match server "
    "node-passwd entry, try enabling a unique node name with the --with-node-id flag"
)


def own_password(path: Path) -> str:
    """Return this node's password. Create it if there is none."""
    if not path.exists():
        write_secret(path, secrets.token_hex(16) + "\n")
    return path.read_text().strip()


def secret_name(node: str) -> str:
    return f"{node}.node-password.k3s"


def _hash(password: str, salt: bytes) -> str:
    # A fraction of K3s' scrypt cost, since two cores run the whole lab.
    return f"$1:{salt.hex()}:10:8:1:{hashlib.scrypt(password.encode(), salt=salt, n=1024, r=8, p=1).hex()}"


def accept(store: Store, node: str, password: str) -> bool:
    """Return True if the node may join with its name. Remember the password of the first node."""
    with store.cond:
        secret = store.table(SECRETS).get(("kube-system", secret_name(node)))
        if secret is None:
            hashed = _hash(password, secrets.token_bytes(8))
            body = {
                "metadata": {"name": secret_name(node)},
                "immutable": True,
                "data": {"hash": base64.b64encode(hashed.encode()).decode()},
            }
            store.create(SECRETS, "kube-system", body)
            return True
    kept = base64.b64decode(secret["data"]["hash"]).decode()
    salt = bytes.fromhex(kept.split(":")[1])
    return hmac.compare_digest(kept, _hash(password, salt))
