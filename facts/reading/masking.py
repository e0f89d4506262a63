"""Files of K3s as somebody else may have written them: secrets are masked on the node, before anything is printed.

The official install script takes the token as a flag and writes it into the unit; config.yaml may hold it as well.
"""

from __future__ import annotations

import shlex

MASK = "*MASKED*"
# Flags of k3s whose value is a secret, or may hold a password (docs.k3s.io/cli/server).
SECRET_FLAGS = ("token", "agent-token", "datastore-endpoint", "etcd-s3-access-key", "etcd-s3-secret-key", "vpn-auth")

_FLAG = f"(--?({'|'.join(SECRET_FLAGS)})|-t)"
_KEY = f"({'|'.join(SECRET_FLAGS)})"
_VARIABLE = "((K3S|AWS|ETCD)_[A-Z0-9_]*(TOKEN|ENDPOINT|KEY|AUTH|PASSWORD))"
# For `sed -z -E`, which sees the file as one line: the script writes each word of a command on a line of its own.
_PROGRAM = (
    # '--token=one or more words'
    f"s/('{_FLAG}=)[^']*'/\\1{MASK}'/g",
    f's/("{_FLAG}=)[^"]*"/\\1{MASK}"/g',
    # --token=word, --token word, '--token' 'word', and the same over two lines
    f"s/((^|[[:space:]'\"]){_FLAG}['\"]?(=|[[:space:]\\\\]+))(\"[^\"]*\"|'[^']*'|[^[:space:]'\"]+)/\\1{MASK}/g",
    # Environment=K3S_TOKEN=word
    f"s/({_VARIABLE}=)[^\\n]*/\\1{MASK}/g",
    # http://user:password@proxy
    f"s#://[^/@[:space:]]+@#://{MASK}@#g",
    # token: word, "token": "word", and a text on the lines below it
    f"s/((^|[^-A-Za-z0-9_]){_KEY}[+]?['\"]?[[:blank:]]*:)[^\\n]*(\\n[[:blank:]]+[^\\n]*)*/\\1 '{MASK}'/g",
)


def masked(*paths: str) -> str:
    """Given files of K3s, return the command that prints them with the values of all secrets masked."""
    return shlex.join(["sed", "-z", "-E", "; ".join(_PROGRAM), *paths])
