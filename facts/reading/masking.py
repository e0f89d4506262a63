"""Secrets in texts of others: masked before a text leaves the node, a diff shows it, or a log keeps it."""

from __future__ import annotations

import re
import shlex

from gb10.group_data.settings import SECRET_FLAGS

MASK = "*MASKED*"
_FLAG = f"(--?({'|'.join(SECRET_FLAGS)})|-t)"
_KEY = f"({'|'.join(SECRET_FLAGS)}|t)"
# Others with such names are masked, too: K3S_VPN_AUTH_KEY, ETCD_PASSWORD.
_NAME = "(K3S|AWS|ETCD)_[A-Z0-9_]*(TOKEN|SECRET|ENDPOINT|KEY|AUTH|PASSWORD)"
_VARIABLE = f"({_NAME}|{'|'.join(dict.fromkeys(SECRET_FLAGS.values()))})"
# For `sed -z -E`, which sees the file as one line: the script writes each word of a command on a line of its own.
_K3S = (
    # '--token=one or more words'
    (f"('{_FLAG}=)[^']*'", rf"\1{MASK}'"),
    (f'("{_FLAG}=)[^"]*"', rf'\1{MASK}"'),
    # --token=word, --token word, '--token' 'word', and the same over two lines
    (f"((^|[[:space:]'\"]){_FLAG}['\"]?(=|[[:space:]\\\\]+))(\"[^\"]*\"|'[^']*'|[^[:space:]'\"]+)", rf"\1{MASK}"),
    # Environment=K3S_TOKEN=word
    (rf"({_VARIABLE}=)[^\n]*", rf"\1{MASK}"),
    # http://user:password@proxy; the password may hold a slash or an @
    ("://[^[:space:]'\"]*@", f"://{MASK}@"),
    # token: word, "token": "word", and a text on the lines below it
    (
        rf"((^|[^-A-Za-z0-9_]){_KEY}[+]?['\"]?[[:blank:]]*:)[^\n]*(\n[[:blank:]]+[^\n]*)*",
        rf"\1 '{MASK}'",
    ),
)

_LIKELY = r"[\w.-]*(?:token|secret|passw(?:or)?d|passphrase|psk|credential|(?:api|access|secret|private)[-_.]?key)s?"
_PLACE = rf"(?:{_LIKELY}|auth)[\"']?[ \t]*"
# What others keep in the files that we change: settings of Docker, netplan and systemd, environments.
_OTHERS = tuple(
    (re.compile(pattern, re.IGNORECASE | re.MULTILINE), replacement)
    for pattern, replacement in (
        (r"-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*-----|\Z)", MASK),
        # password: word, and what is indented below it
        (rf"^([ \t]*)((?:- +)*[\"']?{_PLACE}:).*(?:\n+\1[ \t-].*)*", rf"\1\2 {MASK}"),
        # password=word, "password": "word"; --password word
        (rf"(?<![\w.-])({_PLACE}[:=]).+", rf"\1 {MASK}"),
        (rf"(?<![\w.-])(--{_LIKELY}[\"']?[ \t]+)\S+", rf"\1{MASK}"),
        # user:password@proxy, with and without a scheme
        (r"://\S*@", f"://{MASK}@"),
        (r"(proxy[\"']?[ \t]*[:=][ \t]*[\"']?)(?!\w+://)\S*@", rf"\1{MASK}@"),
        # tokens by their form: of Hugging Face, GitHub, GitLab, NVIDIA, a JWT; a key of 32 bytes, as of WireGuard
        (r"(?<![A-Za-z0-9])(?:hf_|gh[a-z]_|github_pat_|glpat-|nvapi-|sk-|eyJ)[\w.-]{16,}", MASK),
        (r"\b((?:bearer|basic)[ \t]+)[\w+/=.~-]{8,}", rf"\1{MASK}"),
        (r"(?<![A-Za-z0-9+/])[A-Za-z0-9+/]{43}=", MASK),
    )
)


def masked(*paths: str) -> str:
    """Given files of K3s, return the command that prints them with the values of all secrets masked."""
    program = "; ".join(f"s#{pattern}#{replacement}#g" for pattern, replacement in _K3S)
    return shlex.join(["sed", "-z", "-E", program, *paths])


def masked_text(text: str) -> str:
    """Return a text of anybody with all that looks like a secret masked, also secrets of K3s."""
    for pattern, replacement in _K3S:
        python = pattern.replace("[:space:]", r"\s").replace("[:blank:]", r" \t")
        text = re.sub(python, replacement, text)
    for compiled, replacement in _OTHERS:
        text = compiled.sub(replacement, text)
    return text
