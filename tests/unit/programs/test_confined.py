"""Root works in a folder whose owner swaps a folder for a link, over and over: nothing outside is read or changed.

The programs run as on a node: launched from their text, as root.
"""

from __future__ import annotations

import contextlib
import ctypes
import gzip
import hashlib
import io
import json
import multiprocessing
import os
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from typing import Any

import pytest

from gb10.facts.reading.launcher import Launch
from gb10.facts.reading.requests import LOADER, Answer
from gb10.programs import confined
from gb10.programs.archive.reading import unpack
from gb10.programs.backups.placing import MANIFEST, TREE
from gb10.programs.copying.receiving import unit
from gb10.programs.copying.receiving.run_folder import ANSWER, JOB, PROGRAM
from tests.unit.programs.launching import streamed
from tests.unit.programs.test_archive import made

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root enters a mount namespace")

SWAPS = 1000
ROUNDS = 3  # runs of a program, at least
SECRET = "c4n4ry"  # noqa: S105 - of the tests
NODE, ID = "spark-1", "spark-1-20261201T000000Z"
OTHER = 65534  # uid of the attacker
RENAME_EXCHANGE, AT_FDCWD = 2, -100


def run(function: str, job: dict[str, Any], given: bytes = b"") -> Answer:
    """Run a function of gb10.programs as on a node; return its answer or refusal."""
    launch = Launch(f"gb10.programs.{function}", job, guarded=[job.get("root") or job["folder"]], seconds=60)
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", LOADER], input=launch.text.encode() + given, capture_output=True, check=False
    )
    answer = launch.answer()
    for line in done.stdout.decode(errors="replace").splitlines():
        answer.read_line(line)
    return answer


def state_of(folder: Path) -> dict[str, Any]:
    """Return everything that can be changed in a folder; ctime shows also what was set to what it was."""
    found = {}
    for path in (folder, *folder.rglob("*")):
        one = path.lstat()
        content = path.read_bytes() if path.is_file() else b""
        found[str(path)] = (one.st_mode, one.st_uid, one.st_gid, one.st_ctime_ns, content)
    return found


def swap(path: str, link: str, count: Synchronized[int]) -> None:
    """As another user, exchange a folder and a link forever, and count."""
    os.setgid(OTHER)
    os.setuid(OTHER)
    library = ctypes.CDLL(None)
    one, other = os.fsencode(path), os.fsencode(link)
    while True:
        if library.renameat2(AT_FDCWD, one, AT_FDCWD, other, RENAME_EXCHANGE) == 0:
            count.value += 1
        time.sleep(0.0001)


@contextlib.contextmanager
def swapped(path: Path, outside: Path) -> Iterator[Synchronized[int]]:
    """Have the owner of a path's folder swap it for a link to `outside` during the block."""
    path.mkdir(exist_ok=True)
    link = path.with_name("link")
    link.symlink_to(outside)
    for each in (path.parent, path):
        os.chown(each, OTHER, OTHER)
    os.lchown(link, OTHER, OTHER)
    counter: Synchronized[int] = multiprocessing.Value("i", 0)
    attacker = multiprocessing.Process(target=swap, args=(str(path), str(link), counter), daemon=True)
    attacker.start()
    try:
        yield counter
    finally:
        attacker.kill()
        attacker.join()


@pytest.fixture
def outside() -> Iterator[Path]:
    """A folder that everybody can reach and only root should touch."""
    folder = Path("/var/tmp") / f"gb10-outside-{os.getpid()}"
    for name in ("", "spark-1", "deep"):
        (folder / name).mkdir()
    for name in ("file", "spark-1/file", "deep/file", "authorized_keys", f"{ID}.json"):
        (folder / name).write_text(f"{SECRET}\n")
        (folder / name).chmod(0o600)
    yield folder
    subprocess.run(["rm", "-rf", str(folder)], check=True)


@pytest.fixture
def root() -> Iterator[Path]:
    """A folder of another user."""
    folder = Path("/var/tmp") / f"gb10-root-{os.getpid()}"
    folder.mkdir()
    os.chown(folder, OTHER, OTHER)
    yield folder
    subprocess.run(["rm", "-rf", str(folder)], check=True)


def under_attack(path: Path, outside: Path, work: Callable[[], object], least: int = ROUNDS) -> None:
    """Repeat some work until the path was swapped often enough. Nothing outside may change."""
    before, rounds = state_of(outside), 0
    with swapped(path, outside) as swaps:
        while swaps.value < SWAPS or rounds < least:
            work()
            rounds += 1
    assert state_of(outside) == before


def test_a_listing_reads_nothing_outside(root: Path, outside: Path) -> None:
    digest = hashlib.sha256((outside / "file").read_bytes()).hexdigest()

    def listed() -> None:
        answer = run("tree.listing:main", {"root": str(root), "hash": True, "read": ["*/file"]})
        assert digest not in json.dumps(answer.value)
        assert SECRET not in json.dumps(answer.value)

    under_attack(root / "sub", outside, listed)


def test_a_delete_removes_nothing_outside(root: Path, outside: Path) -> None:
    job = {"root": str(root), "paths": ["sub/deep/file", "sub/file", "sub/deep"]}
    under_attack(root / "sub", outside, lambda: run("copying.delete:main", job))


def test_a_proof_removes_nothing_outside(root: Path, outside: Path) -> None:
    job = {"root": str(root), "node": NODE, "id": ID, "where": "spark-2", "expected": {"node": NODE}}
    under_attack(root / ".proving", outside, lambda: run("backups.keeper:prove_here", job))


def test_a_kept_backup_writes_nothing_outside(root: Path, outside: Path) -> None:
    summary = {
        "format": 1,
        "id": ID,
        "node": NODE,
        "created": "2026-12-01T00:00:00Z",
        "size": 3,
        "encrypted": False,
        "sha256": hashlib.sha256(b"abc").hexdigest(),
        "manifest_sha256": "0" * 64,
        "about": {},
        "machine": {},
    }
    job = {"root": str(root), "summary": summary, "where": "spark-2", "count": 1, "days": 1}
    under_attack(root / NODE, outside, lambda: run("backups.keeper:keep", job, b"abc"))


def test_a_store_of_images_removes_nothing_outside(root: Path, outside: Path) -> None:
    for name in ("blobs/sha256", "images", "damaged"):
        (root / name).mkdir(parents=True)
    under_attack(root / "partial", outside, lambda: run("images.commands:prune", {"root": str(root)}))


def test_a_restore_writes_nothing_outside(root: Path, outside: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "home" / "sub").mkdir(parents=True)
    for name in ("file", "authorized_keys"):
        (source / "home" / "sub" / name).write_text("of the backup\n")
    content, manifest = made(source)
    folder = tmp_path / "restore"
    folder.mkdir()
    unpack(io.BytesIO(content), str(folder / TREE))
    (folder / MANIFEST).write_bytes(manifest.encoded())
    home = root / "home"
    home.mkdir()
    paths = [str(member.node_path) for member in manifest.members if member.node_path]
    moved = {str(source): ""}
    job = {"root": str(root), "folder": str(folder), "stamp": "20261201T000000Z", "paths": paths, "moved": moved}
    merged = {**job, "merge": [path for path in paths if path.endswith("authorized_keys")]}

    under_attack(home / "sub", outside, lambda: run("backups.restore:put", merged))
    folders = [path for path in home.iterdir() if path.is_dir() and not path.is_symlink()]
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    assert not [path for path in files if SECRET in path.read_text()]


def test_a_backup_holds_nothing_from_outside(root: Path, outside: Path) -> None:
    about: dict[str, Any] = {"versions": {}, "role": None}
    job = {"id": ID, "node": NODE, "created": "2026-12-01T00:00:00Z", "about": about, "paths": [str(root)]}
    sent: list[bytes] = []

    def made_on_node() -> None:
        answer, archive = streamed(
            "gb10.programs.backups.making:main", {**job, "hub": str(root / "hub"), "serving": None}, guarded=[str(root)]
        )
        assert answer.refusal is None
        sent.append(archive)

    under_attack(root / "sub", outside, made_on_node, least=1)  # each takes seconds
    for archive in sent:
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            assert str(root).lstrip("/") in "".join(tar.getnames())
        assert SECRET.encode() not in gzip.decompress(archive)


def test_a_copy_writes_nothing_outside(root: Path, outside: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "sub").mkdir(parents=True)
    (source / "sub" / "file").write_text("of the copy\n")
    (source / "sub" / "authorized_keys").write_bytes(bytes(1 << 20))
    wanted = [
        {**attributes(source / "sub" / name), "path": f"sub/{name}", "key": f"0-{name}", "sparse": False}
        for name in ("file", "authorized_keys")
    ]
    under_attack(root / "sub", outside, lambda: copied(source, root, tmp_path, wanted))


def attributes(path: Path) -> dict[str, Any]:
    found = path.stat()
    return {"size": found.st_size, "mtime": found.st_mtime_ns, "mode": 0o666, "uid": OTHER, "gid": OTHER}


def copied(source: Path, root: Path, scratch: Path, wanted: list[dict[str, Any]]) -> None:
    """Copy a small file, a large one, and with rsync a folder; whether all arrive does not matter."""
    folder = scratch / f"unit-{time.monotonic_ns()}"
    folder.mkdir()
    rails = {"a": {"address": "127.0.0.1", "peers": ["127.0.0.1"]}}
    job = {"root": str(root), "secret": SECRET, "rails": rails, "ssh": "", "references": {}, "stale": [], "halves": []}
    unit.write_file(str(folder / JOB), json.dumps({**job, "large": wanted[1:]}))
    unit.write_program(str(folder / PROGRAM))
    command = [sys.executable, "-I", str(folder / PROGRAM), "serve", str(folder)]
    receiver = subprocess.Popen(command, stderr=subprocess.PIPE)
    try:
        answer = folder / ANSWER
        deadline = time.monotonic() + 20
        while not (answer.exists() and answer.read_text().endswith("\n")) and receiver.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        ports = json.loads(answer.read_text()).get("ports") if answer.exists() and answer.read_text() else None
        if ports:
            send(source, ports["a"], wanted)
    finally:
        receiver.kill()
        receiver.wait()


def send(source: Path, port: int, wanted: list[dict[str, Any]]) -> None:
    rail = {"name": "a", "interface": None, "local": None, "peer": "127.0.0.1", "port": port}
    flags: dict[str, Any] = {
        "again": True,
        "references": False,
        "hard_links": False,
        "sparse": False,
        "ssh": None,
        "owners": [],
    }
    told = {"peer": "spark-2", "unit": "gb10-copy-0", "total": 1 << 20, "every": 1, "streams": 2}
    paths = {"large": wanted[1:], "small": wanted[:1], "compared": [["sub/file"]], "finish": ["sub", "sub/file"]}
    job = {"secret": SECRET, "root": str(source), "rails": [rail], **flags, **told, **paths}
    run("copying.sending.sender:main", job)


def test_a_link_in_place_of_the_root_is_refused(root: Path, outside: Path) -> None:
    (root / "hub").symlink_to(outside)
    for function, more in (("tree.listing:main", {}), ("copying.delete:main", {"paths": ["file"]})):
        answer = run(function, {"root": str(root / "hub"), **more})
        assert answer.refusal is not None
        assert answer.refusal[0] == "PATH_LINKED"
    assert (outside / "file").exists()


def test_a_containers_link_in_a_folder_of_root_is_refused(root: Path, outside: Path) -> None:
    os.chown(root, 0, 0)  # a container's root is uid 0 as well
    (root / "hub").symlink_to(outside)
    answer = run("tree.listing:main", {"root": str(root / "hub")})
    assert answer.refusal is not None
    assert answer.refusal[0] == "PATH_LINKED"


def test_links_of_root_above_are_followed(tmp_path: Path) -> None:
    place = Path("/") / f"gb10-real-{os.getpid()}"
    link = place.with_name(f"gb10-link-{os.getpid()}")
    try:
        (place / "hub" / "sub").mkdir(parents=True)
        link.symlink_to(place)
        assert confined.real(f"{link}/hub") == f"{place}/hub"
        answer = run("tree.listing:main", {"root": f"{link}/hub"})
        assert [entry["path"] for entry in answer.value["entries"]] == [".", "sub"]
    finally:
        link.unlink(missing_ok=True)
        subprocess.run(["rm", "-rf", str(place)], check=True)


def test_programs_in_folders_must_name_them() -> None:
    with pytest.raises(ValueError, match="guarded"):
        Launch("gb10.programs.tree.listing:main", {"root": "/data"})
