"""What makes a node this node, written as an archive to standard output.

This file runs on the nodes, as text for their own python3: standard library only. `main` prints the summary of the
archive as its last line on standard error.

The contract: nothing on the node is changed, and what is written there meanwhile is closed to others and goes. Models,
images and logs are not in it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import glob
import grp
import json
import os
import pwd
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterable, Iterator
from typing import Any

from gb10.programs.archive import ROOT, TRIES, UnwritableError, Writer, summary_of

SCRATCH = "/var/lib/gb10/backup"
SERVER = "/var/lib/rancher/k3s/server"
DATABASE = f"{SERVER}/db/state.db"
K3S = "/usr/local/bin/k3s"
HUMANS = range(1000, 60000)
FULL = (errno.ENOSPC, errno.EDQUOT)
ROOM_BYTES = 64 << 20  # what has to stay free
NEVER = ("/proc", "/sys", "/dev", "/run", "/tmp")  # noqa: S108 - never in a backup, even where somebody lists them
# What members of K3s' server folder are not worth keeping: charts that it brings itself, and its sockets.
DISPENSABLE = (f"{SERVER}/static", f"{SERVER}/db")
CERTIFICATES = (f"{SERVER}/token", f"{SERVER}/tls", f"{SERVER}/cred")

PATHS = {
    "identity": ("/etc/ssh", "/etc/hostname", "/etc/hosts"),
    "users": (
        "/etc/sudoers",
        "/etc/sudoers.d",
        "/root/.ssh",
        "/root/.cache/huggingface/token",
        "/root/.cache/huggingface/stored_tokens",
        "/root/.netrc",
    ),
    "network": (
        "/etc/netplan",
        "/etc/NetworkManager/conf.d",
        "/etc/NetworkManager/system-connections",
        "/etc/systemd/network",
        "/etc/ufw",
        "/etc/default/ufw",
    ),
    "docker": (
        "/etc/docker",
        "/root/.docker/config.json",
        "/etc/nvidia-container-runtime",
        "/etc/systemd/system/docker*",
    ),
    "k3s": ("/etc/rancher", "/etc/systemd/system/k3s*", "/etc/systemd/system/*/k3s*"),
    "system": (
        "/etc/sysctl.conf",
        "/etc/sysctl.d",
        "/etc/security/limits.conf",
        "/etc/security/limits.d",
        "/etc/modules-load.d",
        "/etc/modprobe.d",
        "/etc/udev/rules.d",
        "/etc/environment",
        "/etc/default/locale",
        "/etc/default/grub",
        "/etc/localtime",
        "/etc/timezone",
        "/etc/fstab",
        "/etc/crontab",
        "/etc/cron.d",
        "/var/spool/cron/crontabs",
        "/etc/systemd/system",
        "/etc/systemd/user",
        "/etc/systemd/*.conf.d",
        "/etc/apt/sources.list",
        "/etc/apt/sources.list.d",
        "/etc/apt/preferences.d",
        "/etc/apt/keyrings",
    ),
}
TOKENS = ("token", "stored_tokens")  # of the Hugging Face Hub, in the folder HF_HOME
# Below the home of each human: an account's keys and what it logs in to registries and hubs with.
HOMES = {
    "users": (".ssh", *(f".cache/huggingface/{name}" for name in TOKENS), ".netrc"),
    "docker": (".docker/config.json",),
}
# Name -> command whose output is kept.
LISTS = {
    "packages.txt": ("dpkg-query", "-W", "-f", "${Package}\t${Version}\t${Architecture}\t${db:Status-Abbrev}\n"),
    "packages-chosen.txt": ("apt-mark", "showmanual"),
    "units.txt": ("systemctl", "list-unit-files", "--no-legend", "--no-pager", "--state=enabled,disabled,masked"),
}


def main(job: dict[str, Any]) -> None:
    """Write the archive. `job`: id, node, created, about, paths, hub, serving."""
    try:
        make(job)
    except (UnwritableError, OSError) as error:
        code = "DISK_FULL" if error.errno in FULL else "BACKUP_FAILED"
        stop(code, f"the archive cannot be written, with {SCRATCH} as its scratch folder: {error.strerror}")


def make(job: dict[str, Any]) -> None:
    """See `main`. Raise UnwritableError or OSError where that is not possible."""
    with scratch_folder() as scratch:
        writer = Writer(sys.stdout.buffer, scratch)
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
        sys.stdout.buffer.flush()
        told = {**summary_of(manifest, "", 0, False), "noted": [vars(note) for note in manifest.notes]}
        print(json.dumps(told), file=sys.stderr)


def stop(code: str, reason: str) -> None:
    """End with a line that the controller understands."""
    print(f"gb10: {code}: {reason}", file=sys.stderr)
    sys.exit(1)


@contextlib.contextmanager
def scratch_folder() -> Iterator[str]:
    """A folder of our own, closed to others, emptied before and after: one backup at a time."""
    os.makedirs(os.path.dirname(SCRATCH), 0o755, exist_ok=True)
    os.makedirs(SCRATCH, 0o700, exist_ok=True)
    os.chmod(SCRATCH, 0o700)
    handle = os.open(SCRATCH, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        stop("LOCKED", "another backup of this node is being made")
    empty(SCRATCH)
    try:
        yield SCRATCH
    finally:
        empty(SCRATCH)
        os.rmdir(SCRATCH)
        os.close(handle)


def empty(folder: str) -> None:
    for name in os.listdir(folder):
        path = os.path.join(folder, name)
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path)
        else:
            os.unlink(path)


def add_paths(writer: Writer) -> None:
    """Add what lies at known places."""
    for part in ("identity", "users", "network", "docker", "k3s", "system"):
        for pattern in PATHS[part]:
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
    """Note each of these paths that is a link to something else than what is in the archive as well."""
    for path in paths:
        end = os.path.realpath(path)
        if os.path.islink(path) and os.path.exists(end) and ROOT + end not in writer.members:
            text = f"is a link, and {end}, where it leads, is not in the backup: let backup_paths name that"
            writer.note(path, text, harms=os.path.isdir(end))


def humans() -> list[pwd.struct_passwd]:
    """The accounts of people."""
    return [user for user in pwd.getpwall() if user.pw_uid in HUMANS]


def add_users(writer: Writer) -> None:
    """The lines of the accounts of people, and of the groups that they are in: their numbers and passwords."""
    people = {user.pw_name for user in humans()}
    groups = {group.gr_name for group in grp.getgrall() if people & set(group.gr_mem) or group.gr_gid in HUMANS}
    groups |= {group.gr_name for user in humans() for group in grp.getgrall() if group.gr_gid == user.pw_gid}
    files = {"passwd": people, "shadow": people, "group": groups, "gshadow": groups, "subuid": people, "subgid": people}
    lines = {file: named_lines(f"/etc/{file}", names) for file, names in files.items()}
    writer.add_text("users.json", json.dumps(lines, indent=1) + "\n", "users")


def named_lines(path: str, names: set[str]) -> list[str]:
    """The lines of a file like passwd that are about some names."""
    return [line for line in read_lines(path) if line.split(":")[0] in names]


def read_lines(path: str) -> list[str]:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read().splitlines()
    except OSError:
        return []


def add_lists(writer: Writer, job: dict[str, Any]) -> None:
    """What describes the node, and could not be restored as a file."""
    for name, command in LISTS.items():
        printed = output(*command)
        if printed is None:
            writer.note(f"gb10/{name}", f"{command[0]} printed nothing")
        else:
            writer.add_text(name, printed, "system")
    containers = own_containers(writer)
    if containers is not None:
        writer.add_text("containers.json", json.dumps(containers, indent=1) + "\n", "serving")
    if job["serving"] is not None:
        writer.add_text("serving.json", json.dumps(job["serving"], indent=1) + "\n", "serving")
    writer.add_text("images.json", json.dumps(images(writer), indent=1) + "\n", "inventory-of")
    writer.add_text("models.json", json.dumps(models(job["hub"]), indent=1) + "\n", "inventory-of")


def output(*command: str, seconds: int = 20) -> str | None:
    """What a command prints, or None where it fails."""
    try:
        done = subprocess.run(command, capture_output=True, timeout=seconds, stdin=subprocess.DEVNULL, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode("utf-8", "surrogateescape") if done.returncode == 0 else None


def own_containers(writer: Writer) -> list[Any] | None:
    """How every container was started that Kubernetes has nothing to do with; None where Docker does not tell."""
    found = inspected(writer, ("docker", "container", "ls", "--all"), ("docker", "container", "inspect"))
    if found is None:
        return None
    kubernetes = ("io.kubernetes.pod.namespace", "io.kubernetes.docker.type")
    return [one for one in found if not set(kubernetes) & set(one["Config"].get("Labels") or {})]


def inspected(writer: Writer, listing: tuple[str, ...], inspection: tuple[str, ...]) -> list[Any] | None:
    """What Docker tells of all that it lists; None without an engine, or, noted, where it does not tell.

    One that goes between the two commands makes the second fail for all: then both are tried again.
    """
    for _ in range(TRIES):
        names = output(*listing, "--quiet", "--no-trunc")
        if names is None:
            return None
        unique = sorted(set(names.split()))
        told = output(*inspection, *unique) if unique else "[]"
        if told is not None:
            found: list[Any] = json.loads(told)
            return found
    writer.note(f"gb10/{inspection[1]}s.json", f"{' '.join(inspection)} failed {TRIES} times")
    return None


def images(writer: Writer) -> list[dict[str, Any]] | None:
    """Tags, digests and layers of the engine's images; None where Docker does not tell."""
    found = inspected(writer, ("docker", "image", "ls"), ("docker", "image", "inspect"))
    if found is None:
        return None
    return [
        {
            "tags": image.get("RepoTags") or [],
            "digests": image.get("RepoDigests") or [],
            "id": image.get("Id"),
            "layers": (image.get("RootFS") or {}).get("Layers") or [],
            "size": image.get("Size"),
        }
        for image in found
    ]


def models(hub: str) -> list[dict[str, Any]]:
    """The repositories of the Hugging Face cache: revisions, and of each file its size and the name of its blob."""
    return [repository(path) for path in sorted(glob.glob(f"{glob.escape(hub)}/*--*")) if os.path.isdir(path)]


def repository(path: str) -> dict[str, Any]:
    refs = {os.path.relpath(ref, f"{path}/refs"): "".join(read_lines(ref)) for ref in below(f"{path}/refs")}
    revisions = {
        os.path.basename(folder): {os.path.relpath(file, folder): blob(file) for file in below(folder)}
        for folder in sorted(glob.glob(f"{glob.escape(path)}/snapshots/*"))
    }
    return {"name": os.path.basename(path), "refs": refs, "revisions": revisions}


def blob(file: str) -> dict[str, Any]:
    end = os.path.realpath(file)
    return {"blob": os.path.basename(end), "size": os.path.getsize(end) if os.path.exists(end) else None}


def below(folder: str) -> list[str]:
    return sorted(os.path.join(place, name) for place, _, names in os.walk(folder) for name in names)


def add_extra(writer: Writer, path: str) -> None:
    """A path that somebody named."""
    path = os.path.normpath(path)
    if not os.path.lexists(path):
        writer.note(path, "is not on the node")
    elif path == "/" or any(path == never or path.startswith(never + "/") for never in NEVER):
        writer.note(path, "is never in a backup", harms=True)
    else:
        writer.add_tree(path, "extra")


# The datastore of K3s -------------------------------------------------------------------------------------------------


def cluster_names() -> dict[str, list[str]] | None:
    """The nodes and Helm releases that the API server names; None where it does not answer."""
    kubectl = (K3S, "kubectl", "--request-timeout=5s", "get", "--no-headers")
    nodes = output(*kubectl, "nodes", "-o", "custom-columns=NAME:.metadata.name")
    releases = output(
        *kubectl, "secrets", "-A", "-l", "owner=helm", "-o", "custom-columns=S:.metadata.namespace,NAME:.metadata.name"
    )
    if nodes is None or releases is None:
        return None
    names = sorted("/".join(line.split()) for line in releases.splitlines())
    return {"nodes": sorted(nodes.split()), "releases": names}


def add_database(writer: Writer, scratch: str) -> dict[str, Any]:
    """Add a consistent copy of the database, or the damaged one as it is; return what is to be said of it."""
    folder = os.path.dirname(DATABASE)
    if os.path.isdir(f"{folder}/etcd"):
        writer.add_tree(folder, "k3s")
        writer.note(folder, "is an embedded etcd, of which no consistent copy is made", harms=True)
        return {"kind": "etcd", "consistent": False}
    check_room(scratch, sum(os.path.getsize(path) for path in glob.glob(f"{DATABASE}*")))
    copy = os.path.join(scratch, "state.db")
    before = times(CERTIFICATES)
    trouble = copied(copy, scratch, is_running(output("systemctl", "show", "--property=ActiveState", "--value", "k3s")))
    if trouble is None:
        writer.add(folder, "k3s")
        writer.add(DATABASE, "k3s", content_of=copy)
    else:
        writer.add_tree(folder, "k3s")
        writer.note(DATABASE, f"is damaged, and in the backup as it is: {trouble}", harms=True)
    for path in CERTIFICATES:
        writer.add_tree(path, "k3s")
    if times(CERTIFICATES) != before:
        writer.note(SERVER, "its certificates changed while the database was copied", harms=True)
    return {"kind": "sqlite", "consistent": trouble is None}


def is_running(state: str | None) -> bool:
    """Whether somebody may have the database open, by the state of K3s' unit: also while it starts or stops."""
    return (state or "").strip() not in ("inactive", "failed")


def check_room(folder: str, size: int) -> None:
    found = os.statvfs(folder)
    if found.f_bavail * found.f_frsize < size + ROOM_BYTES:
        stop("DISK_FULL", f"a copy of the database needs {size} bytes in {folder}")


def times(paths: Iterable[str]) -> dict[str, int]:
    """When each file was changed."""
    found = [file for path in paths for file in (below(path) if os.path.isdir(path) else [path])]
    return {path: os.lstat(path).st_mtime_ns for path in found if os.path.lexists(path)}


def copied(copy: str, scratch: str, running: bool) -> str | None:
    """Make a consistent copy of the database, with SQLite's online backup; return what is wrong with it, or None.

    Where K3s does not run, its files are copied first: to open them would change them.
    """
    source, mode = DATABASE, "ro"
    if not running:
        source, mode = os.path.join(scratch, "stopped.db"), "rw"
        for end in ("", "-wal"):
            if os.path.exists(DATABASE + end):
                shutil.copyfile(DATABASE + end, source + end)
    try:
        with (
            contextlib.closing(sqlite3.connect(f"file:{source}?mode={mode}", uri=True, timeout=20)) as database,
            contextlib.closing(sqlite3.connect(copy)) as other,
        ):
            # All pages in one step: between two of them another process may write, and then SQLite begins anew.
            database.backup(other, pages=-1)
            other.execute("PRAGMA journal_mode=DELETE")
            (answer, *_), *_ = other.execute("PRAGMA integrity_check").fetchall()
    except sqlite3.Error as error:
        if str(error) == "database or disk is full":
            raise OSError(errno.ENOSPC, str(error)) from error
        return str(error)
    return None if answer == "ok" else str(answer)
