"""A restore on a node, in folders of this machine: everything is restored, and no existing file is lost."""

from __future__ import annotations

import io
import itertools
import json
import os
import stat
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gb10.operations.backups.restore_plan import wanted
from gb10.programs.answer import RefusedError
from gb10.programs.archive.manifest import Manifest, Owner
from gb10.programs.archive.reading import unpack
from gb10.programs.backups import restore as restore_node
from gb10.programs.backups.differences import compare, is_open, numbers
from gb10.programs.backups.placing import BESIDE, MANIFEST, NEW, TREE
from tests.unit.programs.launching import SILENT, launched
from tests.unit.programs.test_archive import NAMES, TREES, grow, listed, made

STAMP = "20261123T200000Z"
MEMORY = "/dev/shm" if os.path.isdir("/dev/shm") else None


class Node:
    """A folder in place of a node's root, and a backup that is unpacked for it."""

    def __init__(self, root: Path, scratch: Path, content: bytes, manifest: Manifest) -> None:
        self.root = root
        self.manifest = manifest
        self.folder = scratch / "restore"
        self.folder.mkdir(0o700)
        unpack(io.BytesIO(content), str(self.folder / TREE))
        (self.folder / MANIFEST).write_bytes(manifest.encoded())
        root.mkdir(exist_ok=True)

    def compare(self, contents: dict[str, bytes] | None = None) -> dict[str, list[str]]:
        """Return the differences by path."""
        members = [wanted(member, contents or {}) for member in self.manifest.members if member.node_path]
        found: dict[str, list[str]] = compare(self.job(wanted=members), SILENT)["different"]
        return found

    def put(self, **job: Any) -> None:
        """Restore the differences."""
        restore_node.put(self.job(paths=list(self.compare()), **job), SILENT)

    def job(self, **more: Any) -> dict[str, Any]:
        """Return a job as the node receives it, through JSON."""
        job = {"root": str(self.root), "folder": str(self.folder), "stamp": STAMP, **more}
        found: dict[str, Any] = json.loads(json.dumps(job))
        return found


def node_with(tmp_path: Path, files: dict[str, str]) -> tuple[Node, Path]:
    """Return a node with a backup of a small tree, and the tree's place on it."""
    tree = tmp_path / "tree"
    for name, text in files.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(text)
    content, manifest = made(tree)
    node = Node(tmp_path / "root", tmp_path, content, manifest)
    place = Path(str(node.root) + str(tree))
    place.mkdir(parents=True)
    return node, place


@settings(max_examples=100, deadline=None)
@given(tree=st.dictionaries(NAMES, TREES, max_size=5))
def test_after_a_restore_nothing_differs(tree: dict[bytes, Any]) -> None:
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        source = Path(folder) / "tree"
        grow(os.fsencode(source), ("d", tree, 0o755), [], itertools.count(1))
        content, manifest = made(source)
        node = Node(Path(folder) / "root", Path(folder), content, manifest)
        assert set(node.compare()) == {member.node_path for member in manifest.members if member.node_path}
        node.put()
        assert listed(Path(str(node.root) + str(source))) == listed(source)
        assert node.compare() == {}


def test_only_differing_files_are_replaced_and_kept_beside(tmp_path: Path) -> None:
    node, place = node_with(tmp_path, {"same": "a", "other": "backup", "wide": "b", "gone": "c"})
    for name, text in {"same": "a", "other": "node", "wide": "b", "own": "mine"}.items():
        (place / name).write_text(text)
    (place / "wide").chmod(0o666)
    before = (place / "same").stat()
    assert {Path(path).name: what[0] for path, what in node.compare().items() if Path(path) != tmp_path / "tree"} == {
        "other": "content",
        "wide": "mode",
        "gone": "absent",
    }
    node.put()
    texts = {path.name: path.read_text() for path in place.iterdir()}
    kept = f"other{BESIDE}{STAMP}"
    assert texts == {"same": "a", "other": "backup", "wide": "b", "gone": "c", "own": "mine", kept: "node"}
    assert (place / "same").stat() == before
    assert stat.S_IMODE((place / "wide").stat().st_mode) == 0o644


def test_members_of_another_kind_are_moved_aside(tmp_path: Path) -> None:
    node, place = node_with(tmp_path, {"file": "text", "folder/inner": "text"})
    (place / "file").mkdir()
    (place / "file/precious").write_text("mine")
    (tmp_path / "elsewhere").mkdir()
    (place / "folder").symlink_to(tmp_path / "elsewhere")
    node.put()
    assert (place / "file").read_text() == "text"
    assert (place / f"file{BESIDE}{STAMP}/precious").read_text() == "mine"
    assert (place / "folder/inner").read_text() == "text"
    assert not (place / "folder").is_symlink()
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_files_that_the_node_closed_are_not_reported_as_open(tmp_path: Path) -> None:
    node, place = node_with(tmp_path, {"open": "a", "closed": "b", "folder/inner": "c"})
    for name in ("open", "closed", "folder/inner"):
        (place / name).parent.mkdir(exist_ok=True)
        (place / name).write_text("another")
    (place / "closed").chmod(0o640)
    (place / "folder").chmod(0o750)
    tree = str(place).removeprefix(str(node.root))
    above = Path(str(node.root))
    for part in Path(tree).relative_to("/").parts:
        above = above / part
        above.chmod(0o755)
    names = ("open", "closed", "folder/inner", "absent")
    assert [is_open(f"{tree}/{name}", str(node.root)) for name in names] == [True, False, False, False]


def test_keys_that_open_the_node_now_stay_valid(tmp_path: Path) -> None:
    node, place = node_with(tmp_path, {".ssh/authorized_keys": "ssh-ed25519 OLD\nssh-ed25519 BOTH"})
    (place / ".ssh").mkdir()
    (place / ".ssh/authorized_keys").write_text("ssh-ed25519 BOTH\nssh-ed25519 NEW\n")
    path = str(tmp_path / "tree/.ssh/authorized_keys")
    node.put(merge=[path])
    text = (place / ".ssh/authorized_keys").read_text()
    assert text == "ssh-ed25519 OLD\nssh-ed25519 BOTH\nssh-ed25519 NEW\n"
    assert path not in node.compare({f"root{path}": b"ssh-ed25519 OLD\nssh-ed25519 BOTH"})


def test_a_killed_restore_is_continued(tmp_path: Path) -> None:
    node, place = node_with(tmp_path, {"a": "backup", "b": "backup"})
    (place / "a").write_text("node")
    (place / f"a{NEW}").write_text("hal")
    (place / f"b{NEW}").mkdir()
    node.put()
    assert (place / "a").read_text() == (place / "b").read_text() == "backup"
    assert not [path for path in place.iterdir() if path.name.endswith(NEW)]


def test_new_parent_folders_are_as_closed_as_the_one_above(tmp_path: Path) -> None:
    node, place = node_with(tmp_path, {"home/.cache/huggingface/token": "secret"})
    (place / "home").mkdir(0o700)
    (tmp_path / "tree/home/.cache/huggingface/token").chmod(0o600)
    token = str(tmp_path / "tree/home/.cache/huggingface/token")
    restore_node.put(node.job(paths=[token]), SILENT)
    assert stat.S_IMODE((place / "home/.cache").stat().st_mode) == 0o700


def test_the_servers_folder_is_swapped_and_the_old_one_kept(tmp_path: Path) -> None:
    node, place = node_with(tmp_path, {"server/db/state.db": "old cluster", "server/tls/ca": "old", "config": "c"})
    (place / "server/tls").mkdir(parents=True)
    (place / "server/tls/newer").write_text("of another cluster")
    server = str(tmp_path / "tree/server")
    restore_node.k3s(node.job(server=server, paths=[str(tmp_path / "tree/config")]), SILENT)
    assert sorted(path.name for path in (place / "server").rglob("*")) == ["ca", "db", "state.db", "tls"]
    assert (place / f"server{BESIDE}{STAMP}/tls/newer").exists()
    assert (place / "config").read_text() == "c"
    times = [(folder / "server/db/state.db").stat().st_mtime_ns for folder in (place, tmp_path / "tree")]
    assert times[0] == times[1]


SSHD = """#!/bin/sh
case "$0 $*" in
*"sshd -t") echo "line 3: Bad configuration option" >&2; exit {status} ;;
*"is-active"*) exit 1 ;;
esac
"""


@pytest.mark.parametrize("ends", [False, True])
def test_sshd_files_go_back_unless_sshd_runs_with_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ends: bool
) -> None:
    node, place = node_with(tmp_path, {"sshd_config": "of the backup", "key": "new"})
    (place / "sshd_config").write_text("of the node")
    for name in ("sshd", "systemctl"):
        (tmp_path / name).write_text(SSHD.format(status=1))
        (tmp_path / name).chmod(0o700)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    job = node.job(paths=[str(tmp_path / "tree/sshd_config"), str(tmp_path / "tree/key")], keys=[])
    if ends:  # as the program does when its connection is gone
        monkeypatch.setattr(restore_node, "_sshd_trouble", lambda keys: sys.exit(143))
        with pytest.raises(SystemExit):
            restore_node.sshd(job, SILENT)
    else:
        with pytest.raises(RefusedError, match=r"SSHD_REJECTED: .*Bad configuration option"):
            restore_node.sshd(job, SILENT)
    assert {path.name: path.read_text() for path in place.iterdir()} == {"sshd_config": "of the node"}


def test_changed_content_is_refused_on_arrival(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    content, manifest = made(tmp_path / "tree")
    for sent, digest in ((content[:-20], manifest.sha256), (content, "0" * 64)):
        job = {"folder": str(tmp_path / "place/restore"), "manifest_sha256": digest}
        answer = launched("gb10.programs.backups.restore:unpack", job, sent)
        assert (answer.refusal or ("",))[0] == "BACKUP_DAMAGED"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_owners_are_found_by_name_then_by_number() -> None:
    assert numbers(Owner(4711, 4711, "root", "root")) == (0, 0)
    assert numbers(Owner(4711, 4712, "nobody-knows", "")) == (4711, 4712)


def test_extended_attributes_are_restored(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "tool").write_text("text\n")
    os.setxattr(tree / "tool", "user.origin", b"\0of Ada")
    content, manifest = made(tree)
    node = Node(tmp_path / "root", tmp_path, content, manifest)
    node.put()
    place = f"{node.root}{tree}/tool"
    assert {name: os.getxattr(place, name) for name in os.listxattr(place)} == {"user.origin": b"\0of Ada"}
    assert not node.compare()
