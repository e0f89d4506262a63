"""What a restore may show of the files that it would change: of secrets not more than a digest."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from gb10.programs.archive.manifest import Member, shown

# Where nobody keeps a secret: only of these a diff may show text. Docker's settings, units, sources of apt and
# /etc/environment are not among them, for they hold passwords of proxies and registries.
PUBLIC = (
    "/etc/hostname",
    "/etc/hosts",
    "/etc/ssh/sshd_config",
    "/etc/ssh/sshd_config.d",
    "/etc/nvidia-container-runtime",
    "/etc/sysctl.conf",
    "/etc/sysctl.d",
    "/etc/security/limits.conf",
    "/etc/security/limits.d",
    "/etc/modules-load.d",
    "/etc/modprobe.d",
    "/etc/udev/rules.d",
    "/etc/default/locale",
    "/etc/default/grub",
    "/etc/timezone",
)
PUBLIC_BYTES = 64 << 10  # of a text whose changes a diff shows
WORDS = {
    "absent": "is missing",
    "type": "is something else",
    "content": "has other content",
    "owner": "has another owner",
    "mode": "has another mode",
    "target": "leads elsewhere",
}


def public_texts(members: Sequence[Member]) -> frozenset[str]:
    """Given all members of a backup, return the paths of files that a diff may show: everybody could read them."""
    closed = {member.node_path for member in members if member.type == "d" and not member.mode & 0o001}
    return frozenset(
        path
        for member in members
        if (path := member.node_path)
        and member.type == "f"
        and member.mode & 0o004
        and member.size <= PUBLIC_BYTES
        and any(path == place or path.startswith(f"{place}/") for place in PUBLIC)
        and not any(path.startswith(f"{folder}/") for folder in closed)
    )


def may_show(path: str, how: str, public: Collection[str], readable: Collection[str]) -> bool:
    """Return True if a diff may show what of a file would change: nothing of it is, or was, closed to anybody.

    + how: the word for how it differs, see programs/backups/differences.py
    + public, readable: the paths of the backup, and of the node as it is, that everybody can read
    """
    return path in public and (how == "absent" or (how == "content" and path in readable))


def described(path: str, difference: Sequence[str], sha256: str) -> str:
    """Return how a path differs, in words: its content by digest alone."""
    word = WORDS[difference[0]]
    if difference[0] == "content" and len(difference) > 1:
        word += f": sha256 {difference[1][:12]}, in the backup {sha256[:12]}"
    return f"{shown(path)} {word}"
