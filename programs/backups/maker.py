"""What makes a node this node, sent as an archive.

The contract: nothing on the node is changed, and what is written there meanwhile is closed to others and goes. Models,
images and logs are not in it.
"""

from __future__ import annotations

import glob
import grp
import json
import os
import pwd
from collections.abc import Iterable
from typing import Any

from gb10.programs.answer import Outlet, RefusedError
from gb10.programs.archive.files import FULL
from gb10.programs.archive.manifest import ROOT
from gb10.programs.archive.summary import summary_of
from gb10.programs.archive.writing import UnwritableError, Writer
from gb10.programs.backups.database import add_database
from gb10.programs.backups.described import cluster_names, images, models, output, own_containers
from gb10.programs.backups.node_paths import DATABASE, DISPENSABLE, HOMES, NEVER, PATHS, SERVER, TOKENS
from gb10.programs.backups.scratch import SCRATCH, scratch_folder

HUMANS = range(1000, 60000)
# Name -> command whose output is kept.
LISTS = {
    "packages.txt": ("dpkg-query", "-W", "-f", "${Package}\t${Version}\t${Architecture}\t${db:Status-Abbrev}\n"),
    "packages-chosen.txt": ("apt-mark", "showmanual"),
    "units.txt": ("systemctl", "list-unit-files", "--no-legend", "--no-pager", "--state=enabled,disabled,masked"),
}


def main(job: dict[str, Any], outlet: Outlet) -> dict[str, Any]:
    """Send the archive; return its summary, with what was noted as "noted".

    + job: id, node, created, about, paths, hub, serving
    """
    try:
        return make(job, outlet)
    except (UnwritableError, OSError) as error:
        code = "DISK_FULL" if error.errno in FULL else "BACKUP_FAILED"
        reason = f"the archive cannot be written, with {SCRATCH} as its scratch folder: {error.strerror}"
        raise RefusedError(code, reason) from error


def make(job: dict[str, Any], outlet: Outlet) -> dict[str, Any]:
    """As `main`. Raise UnwritableError or OSError if that is not possible."""
    with scratch_folder() as scratch:
        writer = Writer(outlet, scratch)
        about = dict(job["about"])
        about["versions"] = {**about["versions"], "kernel": os.uname().release}
        about["cluster"] = cluster_names() if os.path.exists(DATABASE) else None
        # First the database, then what belongs to it: a certificate that came later shows by its time.
        about["database"] = add_database(writer, scratch) if os.path.exists(DATABASE) else None
        add_paths(writer)
        named = add_homes(writer, job["hub"])
        add_users(writer)
        add_lists(writer, job)
        for path in job["paths"]:
            add_extra(writer, path)
        note_links(writer, [*named, *map(os.path.normpath, job["paths"])])
        manifest = writer.close(id=job["id"], node=job["node"], created=job["created"], about=about)
    return {**summary_of(manifest, "", 0, False), "noted": [vars(note) for note in manifest.notes]}


def add_paths(writer: Writer) -> None:
    """Add what lies at known places."""
    for part, patterns in PATHS.items():
        for pattern in patterns:
            for path in sorted(glob.glob(pattern)):
                writer.add_tree(path, part)
    if os.path.isdir(SERVER):
        writer.add_tree(SERVER, "k3s", lambda path: path in DISPENSABLE)


def add_homes(writer: Writer, hub: str) -> list[str]:
    """Add what people log in with, from their homes and from beside the cache of models; return the paths."""
    tokens = [os.path.join(os.path.dirname(hub), name) for name in TOKENS]
    own = [(os.path.join(user.pw_dir, name), part) for user in humans() for part in HOMES for name in HOMES[part]]
    for path, part in (*((path, "users") for path in tokens), *own):
        writer.add_tree(path, part)
    return [*tokens, *(path for path, _ in own)]


def note_links(writer: Writer, paths: Iterable[str]) -> None:
    """Note each of these paths that is a link to something that is not in the archive as well."""
    for path in paths:
        end = os.path.realpath(path)
        if os.path.islink(path) and os.path.exists(end) and ROOT + end not in writer.members:
            text = f"is a link, and {end}, where it leads, is not in the backup: let backup_paths name that"
            writer.note(path, text, harms=os.path.isdir(end))


def humans() -> list[pwd.struct_passwd]:
    """Return the accounts of people."""
    return [user for user in pwd.getpwall() if user.pw_uid in HUMANS]


def add_users(writer: Writer) -> None:
    """Add the lines of people's accounts, and of the groups that they are in: their numbers and passwords."""
    people = {user.pw_name for user in humans()}
    groups = {group.gr_name for group in grp.getgrall() if people & set(group.gr_mem) or group.gr_gid in HUMANS}
    groups |= {group.gr_name for user in humans() for group in grp.getgrall() if group.gr_gid == user.pw_gid}
    files = {"passwd": people, "shadow": people, "group": groups, "gshadow": groups, "subuid": people, "subgid": people}
    lines = {file: named_lines(f"/etc/{file}", names) for file, names in files.items()}
    _add_json(writer, "users.json", lines, "users")


def named_lines(path: str, names: set[str]) -> list[str]:
    """Return the lines of a file like passwd that are about some names; none if it cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return [line for line in file.read().splitlines() if line.split(":")[0] in names]
    except OSError:
        return []


def add_lists(writer: Writer, job: dict[str, Any]) -> None:
    """Add what describes the node, and could not be restored as a file."""
    for name, command in LISTS.items():
        printed = output(*command)
        if printed is None:
            writer.note(f"gb10/{name}", f"{command[0]} printed nothing")
        else:
            writer.add_text(name, printed, "system")
    containers = own_containers(writer)
    if containers is not None:
        _add_json(writer, "containers.json", containers, "serving")
    if job["serving"] is not None:
        _add_json(writer, "serving.json", job["serving"], "serving")
    _add_json(writer, "images.json", images(writer), "inventory-of")
    _add_json(writer, "models.json", models(job["hub"]), "inventory-of")


def _add_json(writer: Writer, name: str, document: Any, part: str) -> None:
    writer.add_text(name, json.dumps(document, indent=1) + "\n", part)


def add_extra(writer: Writer, path: str) -> None:
    """Add a path that somebody named."""
    path = os.path.normpath(path)
    if not os.path.lexists(path):
        writer.note(path, "is not on the node")
    elif path == "/" or any(path == never or path.startswith(never + "/") for never in NEVER):
        writer.note(path, "is never in a backup", harms=True)
    else:
        writer.add_tree(path, "extra")
