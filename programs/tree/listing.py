"""The listing of a folder.

The contract: names are bytes on a node, and may be anything but a slash. Here they are text with surrogate escapes, and
always relative to the root, which itself is ".".
"""

from __future__ import annotations

import gc
import grp
import os
import pwd
from typing import Any

from gb10.programs.answer import Outlet
from gb10.programs.room import free_bytes
from gb10.programs.tree.hashing import hash_files
from gb10.programs.tree.summary import summary
from gb10.programs.tree.walk import Walk

Json = dict[str, Any]


def main(job: Json, outlet: Outlet) -> Json:
    """List job["root"]; if there is no such folder, return what is known without it.

    The job may also have

    + paths: list only these below the root, and what their links reach
    + also: more of them, where they exist
    + exclude: names to leave out, as the shell matches them; with a leading slash, whole paths below the root
    + read: paths, as the shell matches them, of small files whose text is wanted
    + hash: add the sha256 of every file
    + brief: leave the entries out
    + copied_to: where a copy of the folder will lie: an absolute link that does not lead into it leads outside
    """
    gc.disable()  # all that is made here is wanted to the end
    node: Json = {
        "machine": machine(),
        "users": {user.pw_uid: user.pw_name for user in reversed(pwd.getpwall())},
        "groups": {group.gr_gid: group.gr_name for group in reversed(grp.getgrall())},
    }
    if not os.path.isdir(job["root"]):
        above = os.path.abspath(job["root"])
        while not os.path.isdir(above):
            above = os.path.dirname(above)
        return {**node, "absent": True, "free": free_bytes(above)}
    walk = Walk(job)
    if missing := walk.run():
        return {**node, "root": walk.root, "missing": missing, "free": free_bytes(walk.root)}
    if job.get("hash"):
        hash_files(walk)
    return {**node, **summary(walk)}


def machine() -> str:
    """Return the node's machine-id."""
    with open("/etc/machine-id") as file:
        return file.read().strip()
