"""K3s versions and flags: pure decisions about what an upgrade or an adoption may do."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from typing import NamedTuple

# What the operations set themselves, whatever an earlier installation said.
OWN_FLAGS = {"write-kubeconfig-mode", "token", "token-file", "server", "node-name"}


class Version(NamedTuple):
    """A K3s version: Kubernetes' own three numbers, and K3s' count of builds."""

    major: int
    minor: int
    patch: int
    build: int


def parse_version(text: str) -> Version:
    """Given "v1.36.4+k3s1", return its numbers. Raise ValueError for anything else."""
    matched = re.fullmatch(r"v(\d+)\.(\d+)\.(\d+)(?:-rc\d+)?\+k3s(\d+)", text)
    if not matched:
        raise ValueError(f"{text!r} is no K3s version: they look like v1.36.4+k3s1")
    return Version(*map(int, matched.groups()))


def step_refused(installed: str, wanted: str) -> tuple[str, str] | None:
    """Given two versions, return code and reason where one must not follow the other, else None.

    Kubernetes supports an upgrade by one minor version at a time, and no downgrade
    (kubernetes.io/releases/version-skew-policy).
    """
    old, new = parse_version(installed), parse_version(wanted)
    if new < old:
        return "VERSION_DOWNGRADE", f"{installed} is installed and {wanted} is older: Kubernetes cannot go back"
    if (new.major, new.minor) > (old.major, old.minor + 1):
        return "VERSION_SKIP", f"{installed} is installed: go to v{old.major}.{old.minor + 1} before {wanted}"
    return None


def foreign_flags(exec_start: str | None, config: Mapping[str, object]) -> str | None:
    """Given a unit's command line, return its flags that config.yaml would not keep, or None where it keeps all."""
    words = shlex.split(exec_start or "")[2:]
    lost = [f"--{flag}={value}" for flag, value in _flags(words) if not _kept(flag, value, config)]
    return " ".join(lost) or None


def _flags(words: list[str]) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for word in words:
        if word.startswith("--"):
            flag, has_value, value = word.removeprefix("--").partition("=")
            found.append((flag, value if has_value else "true"))
        elif found and found[-1][1] == "true":
            found[-1] = (found[-1][0], word)
        else:
            found.append(("", word))
    return found


def _kept(flag: str, value: str, config: Mapping[str, object]) -> bool:
    if flag in OWN_FLAGS:
        return True
    wanted = config.get(flag)
    values = wanted if isinstance(wanted, list) else [wanted]
    texts = {str(item).lower() if isinstance(item, bool) else str(item) for item in values}
    return all(part in texts for part in value.split(","))
