"""Names that are left out of a listing, as the shell matches them."""

from __future__ import annotations

import fnmatch
import functools
import re

NOTHING = r"(?!)"


def excluded_in(folder: str, patterns: tuple[str, ...]) -> re.Pattern[str]:
    """Given a folder and patterns of the shell, return what matches the names in it that are left out.

    A pattern means names anywhere or, with a leading slash, whole paths: then `*` never stands for a slash.
    """
    above = [] if folder == "." else folder.split("/")
    names = []
    for pattern in patterns:
        *folders, name = pattern.removeprefix("/").split("/")
        if not pattern.startswith("/") or (
            len(folders) == len(above) and all(map(fnmatch.fnmatchcase, above, folders))
        ):
            names.append(name)
    return either(tuple(names))


@functools.cache
def either(names: tuple[str, ...]) -> re.Pattern[str]:
    """Return what matches each name that one of some patterns of the shell means."""
    return re.compile("|".join(map(fnmatch.translate, names)) or NOTHING)
