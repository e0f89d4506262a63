"""What a restore does on the node: looks, unpacks, and puts in place what differs.

This file runs on the node, as text for its own python3 (3.10 or newer): standard library only.

The contract: nothing that is there is lost. What a file of the backup replaces is kept beside it, and a reader sees the
old file or the new one, never half of it. Whatever holds a secret is never wider than its final mode.
"""

from __future__ import annotations

import glob
import grp
import json
import os
import pwd
import shutil
import stat
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from typing import Any, BinaryIO, NoReturn, cast

from gb10.programs import archive
from gb10.programs.archive import ROOT, ArchiveError, Member

MANIFEST, TREE = "manifest.json", "tree"  # in the folder of the restore
NEW = ".gb10-restore"  # what a file is called until it is complete
BESIDE = ".before-restore-"  # and the time of the restore: what it replaced
CHUNK = 1 << 20
NOTED = 5  # lines of what a command complains of


def fail(code: str, reason: str) -> NoReturn:
    """End with a line of the catalogue."""
    sys.exit(f"gb10: {code}: {reason}")


# Looking --------------------------------------------------------------------------------------------------------------


def look(job: dict[str, Any]) -> None:
    """Given "wanted", what each path is to be, print what of it is otherwise, and what the node has of accounts."""
    root, different = job.get("root", ""), {}
    for wanted in job["wanted"]:
        what = difference(root + wanted["path"], wanted, root)
        if what:
            different[wanted["path"]] = what
    found = {
        "different": different,
        "open": [path for path in different if is_open(path, root)],
        "accounts": accounts(),
        "free": shutil.disk_usage(existing(job["folder"])).free,
        "left": os.path.lexists(job["folder"]),
    }
    print(json.dumps(found))


def is_open(path: str, root: str) -> bool:
    """Whether everybody on the node can read a file: it and every folder above it let them."""
    try:
        found = os.lstat(root + path)
        above = path
        while (above := os.path.dirname(above)) != "/":
            if not os.stat(root + above).st_mode & stat.S_IXOTH:
                return False
    except OSError:
        return False
    return stat.S_ISREG(found.st_mode) and bool(found.st_mode & stat.S_IROTH)


def existing(path: str) -> str:
    """Given a path, return it or the next folder above it that exists."""
    while not os.path.isdir(path):
        path = os.path.dirname(path)
    return path


def difference(place: str, wanted: dict[str, Any], root: str) -> list[str] | None:
    """Return how a place differs: a word and, of a file with other content, its sha256; None where it does not."""
    try:
        found = os.lstat(place)
    except (FileNotFoundError, NotADirectoryError):
        return ["absent"]
    kind = {stat.S_IFREG: "f", stat.S_IFDIR: "d", stat.S_IFLNK: "l"}.get(stat.S_IFMT(found.st_mode))
    if kind != ("f" if wanted["type"] == "h" else wanted["type"]):
        return ["type"]
    if wanted["type"] == "h":
        first = root + wanted["target"]
        return None if os.path.lexists(first) and os.path.samestat(found, os.lstat(first)) else ["content"]
    if kind == "l":
        return None if os.readlink(place) == wanted["target"] else ["target"]
    other = content_differs(place, found.st_size, wanted) if kind == "f" and not wanted.get("any") else None
    return other or (None if wanted.get("any") else attributes_differ(found, wanted))


def attributes_differ(found: os.stat_result, wanted: dict[str, Any]) -> list[str] | None:
    if owner(wanted) != (found.st_uid, found.st_gid):
        return ["owner"]
    return None if stat.S_IMODE(found.st_mode) == wanted["mode"] else ["mode"]


def content_differs(place: str, size: int, wanted: dict[str, Any]) -> list[str] | None:
    if "lines" in wanted:  # they must be there; others may be, too
        with open(place, encoding="utf-8", errors="surrogateescape") as file:
            have = set(file.read().splitlines())
        return ["content"] if set(wanted["lines"]) - have else None
    found = archive.file_digest(place)
    return None if (size, found) == (wanted["size"], wanted["sha256"]) else ["content", found]


def owner(wanted: dict[str, Any]) -> tuple[int, int]:
    """The numbers of an owner: of its name where the node knows it, else those of the backup."""
    if os.geteuid() != 0:
        return os.geteuid(), os.getegid()  # nobody else can be made the owner
    uid, gid = wanted["uid"], wanted["gid"]
    with suppress(KeyError):
        uid = pwd.getpwnam(wanted["user"]).pw_uid
    with suppress(KeyError):
        gid = grp.getgrnam(wanted["group"]).gr_gid
    return uid, gid


def accounts() -> dict[str, Any]:
    """The accounts and groups of the node, and the numbers of users who have processes."""
    busy = set()
    for process in glob.glob("/proc/[0-9]*"):
        with suppress(OSError):
            busy.add(os.stat(process).st_uid)
    return {
        "users": {user.pw_name: user.pw_uid for user in pwd.getpwall()},
        "groups": {group.gr_name: [group.gr_gid, group.gr_mem] for group in grp.getgrall()},
        "busy": sorted(busy),
    }


# Unpacking ------------------------------------------------------------------------------------------------------------


def unpack(job: dict[str, Any]) -> None:
    """Unpack the archive that follows on standard input into "folder", which is emptied first, and closed to others."""
    folder = job["folder"]
    remove(folder)
    os.makedirs(os.path.dirname(folder), 0o755, exist_ok=True)
    os.mkdir(folder, 0o700)
    try:
        manifest = archive.unpack(cast(BinaryIO, sys.stdin.buffer), os.path.join(folder, TREE))
        if manifest.sha256 != job["manifest_sha256"]:
            fail("BACKUP_DAMAGED", "what arrived is not the backup that was sent")
        with open(os.path.join(folder, MANIFEST), "wb") as file:
            file.write(manifest.encoded())
    except ArchiveError as error:
        fail(error.code, error.reason)
    except OSError as error:
        fail("RESTORE_FAILED", f"the backup cannot be unpacked: {error}")


# Putting in place -----------------------------------------------------------------------------------------------------


class Placer:
    """Puts members of the unpacked backup where they belong, below `root`, and keeps what it replaces.

    `moved` maps a path of the node to another one, under which its content goes instead.
    """

    def __init__(self, job: dict[str, Any]) -> None:
        self.tree = os.path.join(job["folder"], TREE)
        self.root: str = job.get("root", "")
        self.stamp = job["stamp"]
        self.moved: dict[str, str] = job.get("moved", {})
        self.replaced: list[tuple[str, str | None]] = []  # a place, and where its former content is
        with open(os.path.join(job["folder"], MANIFEST), "rb") as file:
            self.members: dict[str, Member] = {
                m.node_path: m for m in archive.decoded(file.read()).members if m.node_path
            }

    def put(self, paths: list[str], merge: list[str]) -> None:
        """Put these paths in place, folders first; `merge` names files of which the node's own lines stay as well."""
        chosen = [self.members[path] for path in sorted(paths)]
        for member in chosen:
            if member.type == "d":
                self._folder(member)
        for member in sorted(chosen, key=lambda member: member.type == "h"):  # further names last
            if member.type != "d":
                self._file(member, merge=member.node_path in merge)
        for member in reversed([member for member in chosen if member.type == "d"]):
            self._attributes(self.place(member.path.removeprefix(ROOT)), member)
        for folder in {os.path.dirname(self.place(member.path.removeprefix(ROOT))) for member in chosen}:
            archive.sync_folder(folder)

    def place(self, path: str) -> str:
        """Where a path of the node goes."""
        for old, new in self.moved.items():
            if path == old or path.startswith(f"{old}/"):
                return self.root + new + path[len(old) :]
        return self.root + path

    def take_back(self) -> None:
        """Undo what was put in place."""
        for place, kept in reversed(self.replaced):
            if kept is None:
                remove(place)
            else:
                os.replace(kept, place)

    def _folder(self, member: Member) -> None:
        place = self.place(member.path.removeprefix(ROOT))
        if os.path.lexists(place) and (os.path.islink(place) or not os.path.isdir(place)):
            self._keep(place)
        make_folders(place)

    def _file(self, member: Member, merge: bool) -> None:
        place, source = self.place(member.path.removeprefix(ROOT)), os.path.join(self.tree, member.path)
        make_folders(os.path.dirname(place))
        new = place + NEW
        remove(new)
        if member.type == "l":
            os.symlink(member.target, new)
        elif member.type == "h":
            os.link(self.place(member.target.removeprefix(ROOT)), new, follow_symlinks=False)
        elif not merge and self._has_content(place, member):
            self._attributes(place, member)
            return
        else:
            copy(source, new, own_lines(source, place) if merge else b"")
        if member.type != "h":
            self._attributes(new, member)
        self._keep(place)
        os.replace(new, place)

    def _has_content(self, place: str, member: Member) -> bool:
        """Whether only the attributes of a file differ."""
        with suppress(OSError):
            found = os.lstat(place)
            return (
                stat.S_ISREG(found.st_mode)
                and found.st_size == member.size
                and archive.file_digest(place) == member.sha256
            )
        return False

    def _attributes(self, place: str, member: Member) -> None:
        uid, gid = owner({"uid": member.uid, "gid": member.gid, "user": member.user, "group": member.group})
        archive.apply_attributes(place, replace(member, uid=uid, gid=gid))

    def _keep(self, place: str) -> None:
        """Keep what is at a place beside it; a file also stays there, until it is replaced."""
        if not os.path.lexists(place):
            self.replaced.append((place, None))
            return
        kept = place + BESIDE + self.stamp
        remove(kept)
        if stat.S_ISREG(os.lstat(place).st_mode):
            os.link(place, kept)
        else:
            os.rename(place, kept)
        self.replaced.append((place, kept))


def make_folders(path: str) -> None:
    """Make folders that are missing, each owned and closed as the one above it."""
    if os.path.isdir(path):
        return
    make_folders(os.path.dirname(path))
    above = os.stat(os.path.dirname(path))
    os.mkdir(path, 0o700)
    os.chown(path, above.st_uid, above.st_gid)
    os.chmod(path, stat.S_IMODE(above.st_mode) & 0o755)


def own_lines(source: str, place: str) -> bytes:
    """The lines of a file of the node that the backup's does not have."""
    if not os.path.isfile(place):
        return b""
    with open(source, "rb") as file:
        known = set(file.read().splitlines())
    with open(place, "rb") as file:
        return b"".join(line + b"\n" for line in file.read().splitlines() if line not in known)


def copy(source: str, new: str, more: bytes) -> None:
    """Copy a file under a name that is free, closed to others, and have it on the disk."""
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "wb") as out:
        with open(source, "rb") as file:
            last = b"\n"
            while chunk := file.read(CHUNK):
                out.write(chunk)
                last = chunk[-1:]
        out.write((b"" if last == b"\n" or not more else b"\n") + more)
        out.flush()
        os.fsync(out.fileno())


def remove(path: str) -> None:
    """Remove whatever is there, if anything is."""
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    else:
        with suppress(FileNotFoundError):
            os.unlink(path)


def put(job: dict[str, Any]) -> None:
    """Given "paths", put them in place."""
    placer = Placer(job)
    try:
        placer.put(job["paths"], job.get("merge", []))
    except OSError as error:
        fail("RESTORE_FAILED", f"{error.filename or 'a file'} cannot be restored: {error.strerror or error}")


# Accounts -------------------------------------------------------------------------------------------------------------


def users(job: dict[str, Any]) -> None:
    """Given "commands" that make accounts, run them; then put "paths" in place.

    "created" names the accounts that get their old password, out of the backup's own lines of shadow.
    """
    for path in job["sudoers"]:
        run(["visudo", "-cf", job["folder"] + f"/{TREE}/root{path}"], "SUDOERS_REJECTED")
    for command in job["commands"]:
        run(command, "RESTORE_FAILED")
    if job["created"]:
        with open(os.path.join(job["folder"], TREE, job["accounts"]), encoding="utf-8") as file:
            hashes = dict(line.split(":")[:2] for line in json.load(file)["shadow"])
        lines = "".join(f"{user}:{hashes[user]}\n" for user in job["created"] if hashes.get(user))
        run(["chpasswd", "--encrypted"], "RESTORE_FAILED", lines)
    put(job)


def run(command: list[str], code: str, given: str = "") -> None:
    done = subprocess.run(command, input=given, capture_output=True, text=True, check=False)
    if done.returncode:
        fail(code, f"{command[0]}: {' '.join((done.stderr or done.stdout).split())[-300:]}")


# Docker ---------------------------------------------------------------------------------------------------------------


def docker(job: dict[str, Any]) -> None:
    """Given "paths", put them in place, but "file" beside it, as FILE.new, where dockerd accepts it."""
    file, paths = job["file"], job["paths"]
    others = [path for path in paths if path != file]
    put({**job, "paths": others})
    if any(path.startswith("/etc/systemd/") for path in others):
        subprocess.run(["systemctl", "daemon-reload"], check=False, timeout=60)
    if file in paths:
        put({**job, "paths": [file], "moved": {file: f"{file}.new"}})
        run(["dockerd", "--validate", "--config-file", f"{file}.new"], "DOCKER_CONFIG_REJECTED")
        if os.path.exists(file):
            shutil.copy2(file, file + BESIDE + job["stamp"])


# What runs ------------------------------------------------------------------------------------------------------------


def system(job: dict[str, Any]) -> None:
    """Given "paths", put them in place; then have the kernel take over its settings, and start "units" once."""
    put(job)
    subprocess.run(["systemctl", "daemon-reload"], check=False, timeout=60)
    if any(path.startswith("/etc/sysctl") for path in job["paths"]):
        done = subprocess.run(["sysctl", "--system"], capture_output=True, text=True, check=False, timeout=60)
        for line in done.stderr.splitlines()[:NOTED] if done.returncode else ():
            print(f"note: {line.strip()}", file=sys.stderr)
    for unit in job["units"]:
        enabled = subprocess.run(["systemctl", "is-enabled", "--quiet", unit], check=False).returncode == 0
        started = enabled and subprocess.run(
            ["systemctl", "restart", unit], capture_output=True, check=False, timeout=120
        )
        if started and started.returncode:
            print(f"note: {unit} is enabled, and does not start: see journalctl -u {unit}", file=sys.stderr)


# K3s ------------------------------------------------------------------------------------------------------------------


def k3s(job: dict[str, Any]) -> None:
    """Given "server", put the whole folder of the server in place at once, the former one kept beside; then "paths".

    K3s refuses a datastore beside files that are newer than it: so nothing of another cluster may be left there.
    """
    server = job["server"]
    if server:
        new = server + NEW
        remove(job.get("root", "") + new)
        placer = Placer({**job, "moved": {server: new}})
        placer.put([path for path in placer.members if path == server or path.startswith(f"{server}/")], [])
        make_folders(placer.place(server))
        placer._keep(placer.root + server)
        os.rename(placer.place(server), placer.root + server)
    put(job)


# sshd -----------------------------------------------------------------------------------------------------------------


def sshd(job: dict[str, Any]) -> None:
    """Given "paths", put sshd's files in place, have it take them over, and see that it shows the restored keys.

    All goes back to what it was where sshd does not accept its configuration, or does not show them.
    """
    placer = Placer(job)
    try:
        placer.put(job["paths"], [])
        tested = subprocess.run(["sshd", "-t"], capture_output=True, text=True, check=False)
        trouble = tested.stderr.strip().splitlines()[-1:] if tested.returncode else []
        if not trouble:
            reload_sshd()
            trouble = [] if shows(job["keys"]) else ["it does not show the restored host keys"]
    except OSError as error:
        trouble = [str(error)]
    if trouble:
        placer.take_back()
        reload_sshd()
        fail("SSHD_REJECTED", f"with the backup's files: {trouble[0]}: everything is as it was")


def reload_sshd() -> None:
    """Have a running sshd read its files anew. Sessions that are open stay open."""
    for unit in ("ssh.service", "sshd.service"):
        if subprocess.run(["systemctl", "is-active", "--quiet", unit], check=False).returncode == 0:
            subprocess.run(["systemctl", "reload", unit], check=False, timeout=30)
            return


def shows(keys: list[str]) -> bool:
    """Whether sshd shows these public keys, "type base64" each, before ten seconds are over."""
    told = subprocess.run(["sshd", "-T"], capture_output=True, text=True, check=False).stdout
    port = next((line.split()[1] for line in told.splitlines() if line.startswith("port ")), "22")
    deadline = time.monotonic() + 10
    while keys and time.monotonic() < deadline:
        scan = ["ssh-keyscan", "-T", "3", "-p", port, "127.0.0.1"]
        found = subprocess.run(scan, capture_output=True, text=True, check=False).stdout
        if {" ".join(line.split()[1:3]) for line in found.splitlines() if not line.startswith("#")} & set(keys):
            return True
        time.sleep(0.3)
    return not keys
