"""The receiver of a copy, on this machine's disk: files that arrive in parts, and their folder."""

from __future__ import annotations

import os
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gb10.programs.answer import RefusedError
from gb10.programs.copying.names import STAGING
from gb10.programs.copying.protocol import RejectedError, authenticate, greet
from gb10.programs.copying.receiving.parts import Part
from gb10.programs.copying.receiving.target import StagingFolder, Target, make_root

SIZE = 10_000
TIME = 10**18 + 7


def part(root: Path) -> Part:
    (root / STAGING).mkdir(exist_ok=True)
    wanted = {"path": "folder/file", "key": "0-1", "size": SIZE, "mtime": TIME, "mode": 0o640}
    return Part(str(root), {**wanted, "uid": os.getuid(), "gid": os.getgid()}, "this boot")


def test_a_repeated_request_renames_a_file_only_once(tmp_path: Path) -> None:
    for number in range(20):
        root = tmp_path / str(number)
        root.mkdir()
        arriving = part(root)
        os.pwrite(arriving.open(), bytes(SIZE), 0)
        arriving.arrived(0, SIZE)
        start = threading.Barrier(4)

        def complete(arriving: Part = arriving, start: threading.Barrier = start) -> None:
            start.wait()
            arriving.complete()

        with ThreadPoolExecutor(4) as pool:
            for asked in [pool.submit(complete) for _ in range(4)]:
                asked.result()
        found = (root / "folder" / "file").stat()
        assert (found.st_size, found.st_mtime_ns, oct(found.st_mode)[-3:]) == (SIZE, TIME, "640")
        assert list((root / STAGING).iterdir()) == []


def test_a_late_stream_writes_into_no_other_file(tmp_path: Path) -> None:
    arriving = part(tmp_path)
    with arriving.in_use():
        late = arriving.open()
        os.pwrite(late, bytes(SIZE), 0)
        arriving.arrived(0, SIZE)
        arriving.complete()
        other = os.open(tmp_path / "other", os.O_RDWR | os.O_CREAT)
        os.pwrite(late, b"x", 0)
        arriving.arrived(0, 1)
        os.close(other)
    assert (tmp_path / "other").read_bytes() == b""
    assert (tmp_path / "folder" / "file").stat().st_mtime_ns == TIME
    assert list((tmp_path / STAGING).iterdir()) == []
    assert arriving.descriptor is None
    with pytest.raises(ConnectionError, match="complete already"), arriving.in_use():
        pass


def greeted(ours: str, theirs: str) -> tuple[BaseException | None, BaseException | None]:
    """Return the errors of a sender and a receiver with these secrets on a real connection."""
    one, other = socket.socketpair()

    def receive() -> None:
        try:
            authenticate(other, theirs.encode())
        finally:
            other.shutdown(socket.SHUT_RDWR)

    with one, other, ThreadPoolExecutor(1) as pool:
        received = pool.submit(receive)
        try:
            greet(one, "data", ours.encode())
        except ConnectionError as error:
            return error, received.exception()
        return None, received.exception()


def test_both_sides_of_a_copy_must_know_its_secret() -> None:
    assert greeted("secret", "secret") == (None, None)
    refused, refuses = greeted("wrong", "secret")
    assert isinstance(refused, RejectedError)
    assert isinstance(refuses, RefusedError)
    assert refuses.code == "COPY_REFUSED"
    assert "secret" not in str(refuses).replace("the secret of this copy", "")


def test_only_parts_of_the_current_copy_are_kept(tmp_path: Path) -> None:
    staging = tmp_path / STAGING
    (staging / "tmp").mkdir(parents=True)
    for key in ("wanted", "given-up", "recent", "stale"):
        for kind in ("part", "map"):
            (staging / f"{key}.{kind}").touch()
            if key != "recent":
                os.utime(staging / f"{key}.{kind}", (1, 1))
    (staging / "lock").touch()
    os.utime(staging / "lock", (1, 1))
    StagingFolder(str(tmp_path)).clean({"large": [{"key": "wanted"}], "stale": ["stale"], "halves": []})
    left = {path.name for path in staging.iterdir()}
    assert left == {"lock", "tmp", "wanted.part", "wanted.map", "recent.part", "recent.map"}


def test_nothing_is_written_through_a_link_out_of_the_target(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "sub").symlink_to(tmp_path)
    target = Target(str(root))
    target.make_folder(str(root / "inside" / "deep"))
    for folder in ("sub", "sub/deep"):
        with pytest.raises(RefusedError, match="outside of"):
            target.make_folder(str(root / folder))
    assert not (tmp_path / "deep").exists()


def test_only_new_folders_get_the_sources_owner_and_mode(tmp_path: Path) -> None:
    top = {"uid": 1000, "gid": 100, "mode": 0o2750}
    if os.getuid() != 0:
        top |= {"uid": os.getuid(), "gid": os.getgid()}
    made = tmp_path / "above" / "made"
    make_root(str(made), top)
    found = made.stat()
    assert (found.st_uid, found.st_gid, oct(found.st_mode)[-4:]) == (top["uid"], top["gid"], "2750")
    make_root(str(tmp_path), top)
    assert oct(tmp_path.stat().st_mode)[-4:] == "0700"
    (tmp_path / "file").touch()
    with pytest.raises(RefusedError, match="COPY_PATH"):
        make_root(str(tmp_path / "file"), top)
