"""Archives are unpacked as they were made. Changed ones are refused."""

from __future__ import annotations

import errno
import gzip
import io
import json
import os
import random
import socket
import stat
import tarfile
import tempfile
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gb10.programs.answer import RefusedError
from gb10.programs.archive.files import CHUNK, digest
from gb10.programs.archive.manifest import (
    ROOT,
    Manifest,
    Member,
    Owner,
    agree,
    decode_summary,
    decoded,
    encode_summary,
    summary_of,
)
from gb10.programs.archive.reading import check, compare, unpack
from gb10.programs.archive.writing import BLOCK, HELD_BYTES, SAMPLE_BYTES, UnwritableError, Writer
from tests.unit.programs.unpacking import differences, unpack_with_attributes

NAMES = st.binary(min_size=1, max_size=20).filter(
    lambda name: not set(name) & set(b"/\0") and name not in (b".", b"..")
)
FILES = st.tuples(st.just("f"), st.binary(max_size=3000), st.integers(0, 0o7777))
LINKS = st.tuples(st.just("l"), st.sampled_from([b"x", b"a/b", b"./../root", b"/etc/shadow", b"\xff gone"]), st.just(0))
FURTHER = st.tuples(st.just("h"), st.just(b""), st.just(0))
TREES = st.recursive(
    st.one_of(FILES, LINKS, FURTHER),
    lambda inner: st.tuples(st.just("d"), st.dictionaries(NAMES, inner, max_size=4), st.integers(0, 0o7777)),
    max_leaves=12,
)


def made(tree: Path, part: str = "system", **about: Any) -> tuple[bytes, Manifest]:
    """Return the archive of a tree and its manifest."""
    out = io.BytesIO()
    writer = Writer(out, str(tree.parent))
    writer.add_tree(str(tree), part)
    writer.add_text("packages.txt", "sudo 1.9\n", "system")
    known = {"id": "spark-2-20260102T030405Z", "node": "spark-2", "created": "2026-01-02T03:04:05Z", "about": {}}
    manifest = writer.close(**{**known, **about})
    return out.getvalue(), manifest


def grow(place: bytes, tree: Any, files: list[bytes], number: Iterator[int]) -> None:
    """Create a tree on the disk, with a different time for each member."""
    kind, content, mode = tree
    if kind == "d":
        os.mkdir(place)
        for name, inner in content.items():
            grow(os.path.join(place, name), inner, files, number)
        os.chmod(place, mode | 0o700)
    elif kind == "h" and files:
        os.link(files[0], place)
    elif kind == "l":
        os.symlink(content, place)
    else:
        Path(os.fsdecode(place)).write_bytes(content)
        os.chmod(place, mode)
        files.append(place)
    when = 10**18 * next(number) // 7
    os.utime(place, ns=(when, when), follow_symlinks=False)


def listed(root: Path) -> dict[str, tuple[object, ...]]:
    """Return everything that must be restored."""
    found: dict[str, tuple[object, ...]] = {}
    for place, folders, names in os.walk(root):
        for name in (".", *folders, *names):
            path = Path(place) / name
            state = path.lstat()
            content = os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else b""
            names_of_it = state.st_nlink if stat.S_ISREG(state.st_mode) else 0
            key = os.path.relpath(path, root)
            found[key] = (state.st_mode, state.st_uid, state.st_gid, state.st_mtime_ns, names_of_it, content)
    return found


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(tree=st.dictionaries(NAMES, TREES, max_size=5))
def test_any_tree_is_unpacked_as_it_was(tree: dict[bytes, Any]) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        home = Path(scratch) / "home"
        grow(os.fsencode(home), ("d", tree, 0o755), [], iter(range(1, 1000)))
        before = listed(home)
        content, manifest = made(home)
        back = Path(scratch) / "back"
        assert unpack_with_attributes(content, str(back)) == manifest
        assert listed(Path(f"{back}/{ROOT}{home}")) == before
        assert not list(differences(str(back), manifest))


def test_files_around_every_limit_of_the_format_are_kept(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    for size in (0, 1, SAMPLE_BYTES, BLOCK, CHUNK, HELD_BYTES):
        for more in (-1, 0, 1, 4097):
            content = os.urandom(max(0, size + more)) if more % 2 else b"text\n" * (max(0, size + more) // 5 + 1)
            (home / f"{size}{more:+}").write_bytes(content)
    before = listed(home)
    content, manifest = made(home)
    back = tmp_path / "back"
    unpack_with_attributes(content, str(back))
    assert listed(Path(f"{back}/{ROOT}{home}")) == before
    assert not list(differences(str(back), manifest))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A small node: text, keys, a link, a hard link."""
    home = tmp_path / "node"
    (home / "etc/ssh").mkdir(parents=True)
    (home / "etc/hostname").write_text("spark-2\n")
    (home / "etc/ssh/ssh_host_key").write_bytes(os.urandom(4000))
    (home / "etc/ssh/ssh_host_key").chmod(0o600)
    (home / "etc/localtime").symlink_to("/usr/share/zoneinfo/UTC")
    os.link(home / "etc/hostname", home / "etc/name")
    return home


def refused(content: bytes, folder: Path) -> RefusedError | None:
    """Return the error that refuses an archive, or None."""
    try:
        unpack(io.BytesIO(content), str(folder))
    except RefusedError as error:
        return error
    return None


def test_every_flipped_bit_that_matters_is_detected(tree: Path, tmp_path: Path) -> None:
    content, manifest = made(tree)
    chosen = random.Random(2)  # noqa: S311 - the same bits each time
    for number in range(300):
        place = chosen.randrange(len(content) * 8)
        changed = bytearray(content)
        changed[place // 8] ^= 1 << place % 8
        folder = tmp_path / f"out{number}"
        if refused(bytes(changed), folder) is None:  # a bit without meaning: the padding of the last byte
            assert check(io.BytesIO(changed)) == manifest


def test_a_truncated_archive_is_refused(tree: Path, tmp_path: Path) -> None:
    content, _ = made(tree)
    for number, length in enumerate(range(0, len(content) - 1, 97)):
        assert refused(content[:length], tmp_path / f"out{number}")


def rewritten(content: bytes, change: Callable[[list[tuple[tarfile.TarInfo, bytes]]], None]) -> bytes:
    """Return a well-formed archive with changed members."""
    with tarfile.open(fileobj=io.BytesIO(content)) as old:
        members = [(info, old.extractfile(info).read() if info.isreg() else b"") for info in old]  # type: ignore[union-attr] # regular
    change(members)
    out = io.BytesIO()
    zipped = gzip.GzipFile("", "wb", 1, out, 0)
    with tarfile.open(fileobj=zipped, mode="w|", format=tarfile.PAX_FORMAT) as new:
        for info, data in members:
            info.size = len(data)
            new.addfile(info, io.BytesIO(data))
    zipped.close()
    return out.getvalue()


def with_manifest(**changes: Any) -> Callable[[list[tuple[tarfile.TarInfo, bytes]]], None]:
    """Change the manifest to another well-formed one."""

    def change(members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
        info, data = members[-1]
        members[-1] = (info, replace(decoded(data), **changes).encoded())

    return change


def spoiled(*way: Any) -> Callable[[list[tuple[tarfile.TarInfo, bytes]]], None]:
    """Change the value of the manifest at a path. The last argument is the new value."""
    *above, last, value = way

    def change(members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
        info, data = members[-1]
        found = place = json.loads(data)
        for name in above:
            place = place[name]
        place[last] = value
        members[-1] = (info, json.dumps(found, sort_keys=True, separators=(",", ":")).encode() + b"\n")

    return change


def evil(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> Callable[[list[Any]], None]:
    """Put a member into both the archive and its manifest."""

    def change(members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, target
        letter = {tarfile.REGTYPE: "f", tarfile.SYMTYPE: "l", tarfile.LNKTYPE: "h"}.get(kind, "f")
        known = decoded(members[-1][1])
        member = Member(
            name, "system", letter, info.mode, Owner(0, 0, "", ""), 0, 0, digest(b"") if letter == "f" else "", target
        )
        manifest = replace(known, members=(*known.members, member)).encoded()
        members[-1:] = [(info, b""), (members[-1][0], manifest)]

    return change


@pytest.mark.parametrize(
    ("change", "code", "reason"),
    [
        (lambda members: members.pop(2), "BACKUP_DAMAGED", "is missing"),
        (lambda members: members.pop(), "BACKUP_DAMAGED", "ends before its manifest"),
        (lambda members: members.insert(0, (tarfile.TarInfo("root/etc/more"), b"")), "BACKUP_DAMAGED", "not in its"),
        (lambda members: members.insert(0, members[2]), "BACKUP_DAMAGED", "twice"),
        (lambda members: members.append((tarfile.TarInfo("root/x"), b"")), "BACKUP_DAMAGED", "follows its manifest"),
        (lambda members: setattr(members[2][0], "mode", 0o777), "BACKUP_DAMAGED", "another mode"),
        (lambda members: setattr(members[2][0], "uid", 77), "BACKUP_DAMAGED", "another uid"),
        (lambda members: setattr(members[2][0], "type", tarfile.FIFOTYPE), "BACKUP_DAMAGED", "no file, folder or link"),
        (with_manifest(format=2), "BACKUP_NEWER", "version 2"),
        (spoiled("members", 0, "path", [1]), "BACKUP_DAMAGED", "not as it was written"),
        (spoiled("members", 0, "mode", "x"), "BACKUP_DAMAGED", "not as it was written"),
        (spoiled("members", 0, "xattrs", {"user.x": "?"}), "BACKUP_DAMAGED", "cannot be read"),
        (spoiled("about", ["a"]), "BACKUP_DAMAGED", "not as it was written"),
        (spoiled("about", {"machine": ["a"]}), "BACKUP_DAMAGED", "not as it was written"),
        (spoiled("about", {"machine": {"macs": {"a": 1}}}), "BACKUP_DAMAGED", "not as it was written"),
        (spoiled("about", {"cluster": {"nodes": 7}}), "BACKUP_DAMAGED", "not as it was written"),
        (spoiled("node", None), "BACKUP_DAMAGED", "not as it was written"),
        (evil("/etc/cron.d/x"), "BACKUP_UNSAFE", "absolute"),
        (evil("root/../../etc/cron.d/x"), "BACKUP_UNSAFE", "leads out"),
        (evil("etc/cron.d/x"), "BACKUP_UNSAFE", "no path of a backup"),
        (evil("root/etc//x"), "BACKUP_UNSAFE", "no path of a backup"),
        (evil("root/out", tarfile.SYMTYPE, "../../../../etc"), "BACKUP_UNSAFE", "leads out of the tree"),
        (evil("root/out", tarfile.SYMTYPE, "/../etc"), "BACKUP_UNSAFE", "leads out of the tree"),
        (evil("gb10/out", tarfile.SYMTYPE, "/etc"), "BACKUP_UNSAFE", "no link of a node"),
        (evil("root/name", tarfile.LNKTYPE, "/etc/shadow"), "BACKUP_UNSAFE", "not in the archive"),
    ],
)
def test_other_members_are_refused_with_the_reason(
    tree: Path, tmp_path: Path, change: Callable[[list[Any]], Any], code: str, reason: str
) -> None:
    content, _ = made(tree)
    error = refused(rewritten(content, change), tmp_path / "out")
    assert error is not None
    assert (error.code, reason in error.reason) == (code, True), error.reason


def test_nothing_is_written_through_a_link(tree: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()

    def change(members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
        evil("root/door", tarfile.SYMTYPE, str(outside))(members)
        evil("root/door/key")(members)

    content, _ = made(tree)
    error = refused(rewritten(content, change), tmp_path / "out")
    assert error is not None
    assert not list(outside.iterdir())


def test_another_backups_manifest_is_refused(tree: Path, tmp_path: Path) -> None:
    one, manifest = made(tree)
    (tree / "etc/hostname").write_text("spark-3\n")
    other, _ = made(tree)
    swapped = rewritten(other, with_manifest(**vars(manifest)))
    assert refused(swapped, tmp_path / "out")
    summary = summary_of(manifest, "0" * 64, len(one), False)
    with pytest.raises(RefusedError, match="not the one that its summary names"):
        agree(check(io.BytesIO(other)), summary)


def test_a_summary_in_any_other_form_is_refused(tree: Path) -> None:
    content, manifest = made(tree)
    summary = summary_of(manifest, digest(content), len(content), False)
    written = encode_summary(summary)
    assert decode_summary(written) == summary
    agree(manifest, summary)
    for told in (written[:-1], written + b" ", written.replace(b'"', b"'"), b"[]", b"\xff", b""):
        with pytest.raises(RefusedError):
            decode_summary(told)
    with pytest.raises(RefusedError, match="another backup"):
        agree(manifest, {**summary, "created": "2027"})
    with pytest.raises(RefusedError, match="version 2"):
        decode_summary(encode_summary({**summary, "format": 2}))


def test_unpacked_files_are_readable_by_their_owner_only(tree: Path, tmp_path: Path) -> None:
    (tree / "etc/hostname").chmod(0o644)
    content, manifest = made(tree)
    unpack(io.BytesIO(content), str(tmp_path / "out"))
    modes = {stat.S_IMODE(path.lstat().st_mode) for path in (tmp_path / "out").rglob("*") if not path.is_symlink()}
    assert modes == {0o600, 0o700}
    assert not compare(str(tmp_path / "out"), manifest)


def test_sockets_and_pipes_are_noted_and_left_out(tree: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tree / "etc/socket"))
        os.mkfifo(tree / "etc/pipe")
        _, manifest = made(tree)
    noted = {Path(note.path).name: note.harms for note in manifest.notes}
    assert noted == {"socket": False, "pipe": False}


def test_a_link_above_the_root_is_noted_and_left_out(tree: Path, tmp_path: Path) -> None:
    (tree / "etc/high").symlink_to("../" * 9 + "usr/share")
    content, manifest = made(tree)
    assert [(Path(note.path).name, note.harms) for note in manifest.notes] == [("high", False)]
    assert refused(content, tmp_path / "out") is None


def test_a_folder_that_vanishes_during_the_walk_is_no_error(tree: Path) -> None:
    class Vanishing(Writer):
        """A node on which a folder vanishes right after it was added."""

        def add(self, path: str, part: str, content_of: str | None = None) -> str:
            kind = super().add(path, part, content_of)
            if path.endswith("/gone"):
                os.rmdir(path)
            return kind

    (tree / "etc/gone").mkdir()
    writer = Vanishing(io.BytesIO(), str(tree.parent), str(tree))
    writer.add_tree(str(tree), "system")
    assert "root/etc/hostname" in writer.members


@pytest.mark.skipif(os.stat("/dev/shm").st_dev == os.stat("/dev").st_dev, reason="no file system within another")
def test_another_file_system_within_a_tree_is_noted(tmp_path: Path) -> None:
    writer = Writer(io.BytesIO(), str(tmp_path))
    writer.add_tree("/dev", "extra", lambda path: path not in ("/dev", "/dev/shm"))
    assert [(note.path, "another file system" in note.text) for note in writer.notes] == [("/dev/shm", True)]


class FullDisk(io.BytesIO):
    """A file on a full disk, until `full` is False."""

    full = True

    def write(self, data: Any) -> int:
        if self.full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().write(data)


def test_a_full_disk_is_not_blamed_on_the_file_being_read(tree: Path) -> None:
    (tree / "etc/large").write_bytes(os.urandom(1 << 20))
    out = FullDisk()
    writer = Writer(out, str(tree.parent))
    with pytest.raises(UnwritableError, match="No space left"):
        writer.add_tree(str(tree), "system")
    assert writer.notes == []
    out.full = False


def test_unreadable_files_are_noted_as_harm(tree: Path) -> None:
    writer = Writer(io.BytesIO(), str(tree.parent))
    assert writer.add(str(tree / "etc/hostname"), "identity", content_of=str(tree)) == ""
    assert writer.add(str(tree / "etc/gone"), "identity") == ""
    assert [(Path(note.path).name, note.harms) for note in writer.notes] == [("hostname", True)]


@contextmanager
def growing(path: Path) -> Iterator[None]:
    """Append to a file constantly while the block runs."""
    stop = threading.Event()

    def grow_on() -> None:
        with path.open("ab") as file:
            while not stop.is_set():
                file.write(b"line\n" * 100)
                file.flush()

    thread = threading.Thread(target=grow_on)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def test_a_growing_file_is_archived_consistently(tree: Path) -> None:
    path = tree / "etc/log"
    path.write_bytes(b"line\n" * 300_000)
    with growing(path):
        content, _ = made(tree)
    (member,) = (m for m in check(io.BytesIO(content)).members if m.path.endswith("/log"))
    assert member.size >= 1_500_000


def test_large_files_are_not_read_into_memory(tmp_path: Path) -> None:
    home = tmp_path / "node"
    home.mkdir()
    with (home / "large").open("wb") as file:
        for _ in range(48):
            file.write(os.urandom(1 << 20))
    tracemalloc.start()
    with (tmp_path / "archive").open("w+b") as out:
        writer = Writer(out, str(tmp_path))
        writer.add_tree(str(home), "extra")
        writer.close(id="x", node="x", created="x", about={})
        out.seek(0)
        unpack(out, str(tmp_path / "out"))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 30 << 20


def test_a_manifest_survives_encoding_and_decoding(tree: Path) -> None:
    _, manifest = made(tree, about={"role": "server", "machine": {"macs": {}}})
    assert decoded(manifest.encoded()) == manifest
    assert json.loads(manifest.encoded()) == {
        **json.loads(json.dumps(asdict(manifest))),
        "members": [m.to_json() for m in manifest.members],
    }
