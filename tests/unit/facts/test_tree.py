"""Listings of real folders on this machine, and what a Hugging Face cache is read from them."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyinfra.api.exceptions import FactProcessError

from gb10.facts.copy import CopyProgress, FileTree
from gb10.facts.huggingface import HuggingFaceModels
from gb10.facts.reading.copy import RunningCopy, Tree, prove_copy, shown
from gb10.facts.reading.huggingface import HUB_FILES, HuggingFaceCache, folder_name, read_cache
from gb10.facts.reading.launcher import Launch
from gb10.operations.models import describe_repository, givers, split_name
from gb10.programs.tree.listing import hash_files, summary
from gb10.programs.tree.walk import Walk
from tests.lab.hub import Hub, fill
from tests.unit.facts.reading import altered, process, shell_accepts

LISTING = json.dumps(
    {
        "root": "/x",
        "free": 1,
        "users": {"0": "root"},
        "groups": {"0": "root"},
        "entries": [{"path": "a", "type": "f", "mode": 420, "uid": 0, "gid": 0, "mtime": 1, "size": 2}],
        "references": {"b": ["c"]},
    }
)
ODD = [b"a space", b"line\nbreak", b"-rf", "ümlaut".encode(), b"not \xff utf-8", b"'quoted\""]


def answered(value: Any) -> list[str]:
    """What a fact reads of a program's answer."""
    return [json.dumps(value)]


def run(launch: Launch) -> list[str]:
    """What a fact reads after its command has run on this machine."""
    command = ["sh", "-c", launch.get_raw_value()]
    done = subprocess.run(command, input=launch.text, capture_output=True, text=True, check=True)
    answer = launch.answer()
    for line in done.stdout.splitlines():
        answer.read_line(line)
    return answered(answer.value)


def listed(root: Path, **arguments: Any) -> Tree:
    """What the fact says of a folder of this machine."""
    command = FileTree().command(str(root), **arguments)
    return FileTree().process(run(command))


def test_every_name_is_listed_whatever_its_bytes(tmp_path: Path) -> None:
    for name in ODD:
        (Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), name)))).write_bytes(name)
    found = listed(tmp_path)
    assert {os.fsencode(entry.path) for entry in found.files} == set(ODD)
    assert found.file_count == len(ODD)
    assert found.size == sum(map(len, ODD))
    assert all(shown(entry.path).isprintable() for entry in found.entries)


def test_an_absent_folder_tells_the_room_where_it_would_be(tmp_path: Path) -> None:
    found = listed(tmp_path / "not" / "there")
    assert found.absent
    assert found.free > 0
    assert found.machine == Path("/etc/machine-id").read_text().strip()


def test_links_are_followed_inside_the_root_and_told_apart(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "chosen").mkdir(parents=True)
    (root / "store" / "deep").mkdir(parents=True)
    (root / "store" / "deep" / "blob").write_text("x")
    (root / "store" / "middle").symlink_to("deep/blob")
    (root / "other").write_text("not chosen")
    (root / "chosen" / "reaches").symlink_to("../store/middle")
    (root / "chosen" / "dangling").symlink_to("nothing")
    (root / "chosen" / "outside").symlink_to(tmp_path)
    (root / "chosen" / "loop").symlink_to("loop")
    found = listed(root, paths=["chosen"], also=["not there"])
    expected = (
        "chosen chosen/dangling chosen/loop chosen/outside chosen/reaches store store/deep store/deep/blob store/middle"
    )
    assert {entry.path for entry in found.entries} == set(expected.split())
    assert set(found.broken) == {"chosen/dangling", "chosen/outside", "chosen/loop"}


def test_an_absolute_link_is_broken_where_the_copy_will_lie_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "absolute").symlink_to(tmp_path / "file")
    (tmp_path / "relative").symlink_to("file")
    assert listed(tmp_path).broken == ()
    assert listed(tmp_path, copied_to=f"{tmp_path}/").broken == ()
    assert listed(tmp_path, copied_to=f"{tmp_path}-2").broken == ("absolute",)
    assert listed(tmp_path, copied_to="/data", brief=True).broken == ("absolute",)


def test_a_link_to_a_folder_brings_all_of_it(tmp_path: Path) -> None:
    (tmp_path / "folder" / "sub").mkdir(parents=True)
    (tmp_path / "folder" / "sub" / "file").write_text("x")
    (tmp_path / "link").symlink_to("folder")
    assert {entry.path for entry in listed(tmp_path, paths=["link"]).files} == {"folder/sub/file"}


def test_paths_that_are_missing_are_named(tmp_path: Path) -> None:
    assert listed(tmp_path, paths=["one"]).missing == ("one",)


def test_downloads_and_locks_are_left_out(tmp_path: Path) -> None:
    for name in ("a.incomplete", ".blob.0123abcd.shared", "kept"):
        (tmp_path / name).write_text("x")
    (tmp_path / ".locks").mkdir()
    (tmp_path / ".gb10-copy").mkdir()
    (tmp_path / ".gb10-partial").mkdir()
    (tmp_path / ".gb10-partial" / "half").write_text("123")
    found = listed(tmp_path)
    assert [entry.path for entry in found.entries] == [".", "kept"]
    assert found.halves == {"half": 3}


def test_locks_are_left_out_where_a_hub_has_them_and_nowhere_else(tmp_path: Path) -> None:
    hub = Hub(tmp_path)
    files = {"uv.lock": 1000, "blobs/poetry.lock": 1000, ".locks/kept": 1000}
    model = hub.shared("a/b", "main", files)
    hub.classic("c/d", "main", files)
    (model / "blobs" / "0123.lock").touch()
    (tmp_path / ".locks" / model.name).mkdir(parents=True)
    (tmp_path / "Cargo.lock").write_text("x")
    found = {entry.path for entry in listed(tmp_path).entries}
    kept = {path.split("/", 3)[-1] for path in found if path.startswith(f"{model.name}/snapshots/")}
    assert set(files) <= kept
    assert {path for path in found if path.endswith(".lock")} == {"Cargo.lock"} | {
        f"{folder}/snapshots/{hub.commit(tmp_path / folder, 'main')}/{name}"
        for folder in (model.name, "models--c--d")
        for name in ("uv.lock", "blobs/poetry.lock")
    }
    assert ".locks" not in found
    repository = cache(tmp_path).repository("c/d")
    assert repository is not None
    assert repository.complete


def test_two_names_of_one_file_count_once(tmp_path: Path) -> None:
    (tmp_path / "one").write_bytes(bytes(1000))
    os.link(tmp_path / "one", tmp_path / "two")
    found = listed(tmp_path)
    assert (found.file_count, found.size) == (2, 1000)
    assert len({entry.inode for entry in found.files}) == 1


def test_a_digest_tells_content_apart_only_where_it_was_read(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
        os.utime(tmp_path / name / "file", ns=(1, 1))
    one, two = (listed(tmp_path / name, brief=True) for name in ("one", "two"))
    assert (one.digest, one.version) == (two.digest, two.version)
    assert one.entries == ()
    one, two = (listed(tmp_path / name, hashed=True) for name in ("one", "two"))
    assert one.digest != two.digest
    assert one.files[0].sha256 == hashlib.sha256(b"one").hexdigest()
    os.utime(tmp_path / "two" / "file", ns=(2, 2))
    assert listed(tmp_path / "two", brief=True).version != two.version


def test_a_blob_whose_name_is_not_its_hash_is_damaged(tmp_path: Path) -> None:
    blobs = tmp_path / "models--a--b" / "blobs"
    blobs.mkdir(parents=True)
    (blobs / hashlib.sha256(b"x").hexdigest()).write_bytes(b"x")
    (blobs / hashlib.sha256(b"y").hexdigest()).write_bytes(b"altered")
    assert listed(tmp_path).damaged == ()
    assert listed(tmp_path, hashed=True).damaged == (f"models--a--b/blobs/{hashlib.sha256(b'y').hexdigest()}",)


def test_hashing_ends_soon_after_its_reader_is_gone(tmp_path: Path) -> None:
    with (tmp_path / "large").open("w") as file:
        file.truncate(1 << 40)  # a hole, which takes minutes to read
    launch = FileTree().command(str(tmp_path), hashed=True)
    pipe = subprocess.PIPE
    child = subprocess.Popen(
        ["sh", "-c", launch.get_raw_value()], stdin=pipe, stdout=pipe, text=True, start_new_session=True
    )
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.write(launch.text)
    child.stdin.flush()
    with pytest.raises(subprocess.TimeoutExpired):
        child.wait(1)
    child.stdout.close()
    assert child.wait(10) != 0


def test_the_root_itself_is_known_also_where_only_some_paths_are_listed(tmp_path: Path) -> None:
    (tmp_path / "one").touch()
    tmp_path.chmod(0o2750)
    found = listed(tmp_path, paths=["one"])
    assert [entry.path for entry in found.entries] == ["one"]
    assert found.top is not None
    assert (found.top.path, found.top.mode, found.top.uid) == (".", 0o2750, os.getuid())


def test_a_file_that_cannot_be_read_is_told_where_it_was_to_be_read(tmp_path: Path) -> None:
    (tmp_path / "one").write_bytes(b"x")
    job = {"root": str(tmp_path), "hash": True}
    walk = Walk(job)
    walk.run()
    (tmp_path / "one").unlink()  # root may read anything that is there
    hash_files(walk)
    assert summary(walk)["unread"] == ["one"]
    assert listed(tmp_path, hashed=True).unread == listed(tmp_path).unread == ()


@settings(max_examples=200)
@given(
    st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.dictionaries(st.text(), inner))
)
def test_other_json_fails_the_host_and_nothing_else(document: object) -> None:
    with pytest.raises(FactProcessError):
        FileTree().process(answered(document))


@given(st.data())
def test_a_listing_of_another_shape_fails_the_host_and_nothing_else(data: st.DataObject) -> None:
    process(FileTree(), data.draw(altered(LISTING)))


def test_the_command_is_shell() -> None:
    assert shell_accepts(FileTree().command("/it's a\nfolder", paths=["-rf", "'"]))
    assert shell_accepts(HuggingFaceModels().command("/data"))
    assert shell_accepts(CopyProgress().command())


# Hugging Face --------------------------------------------------------------------------------------------------------


def cache(root: Path) -> HuggingFaceCache:
    command = HuggingFaceModels().command(str(root))
    found = HuggingFaceModels().process(run(command))
    assert found is not None
    return found


def test_a_cache_is_read_as_it_is(tmp_path: Path) -> None:
    hub = fill(tmp_path, shard=100_000)
    found = cache(tmp_path)
    assert found.shared_store
    names = [(repository.name, repository.kind) for repository in found.repositories]
    assert sorted(names) == [
        ("acme/classic", "model"),
        ("acme/quantized", "model"),
        ("acme/questions", "dataset"),
        ("acme/shared", "model"),
        ("acme/unfinished", "model"),
    ]
    classic, shared = found.repository("acme/classic"), found.repository("acme/shared")
    assert classic is not None
    assert shared is not None
    assert classic.complete
    assert {refs for revision in classic.revisions for refs in revision.refs} == {"main", "v1.0"}
    assert classic.revisions[0].size == 190_700
    assert (shared.shared_blobs, shared.shared_size) == (4, 390_700)
    unfinished = found.repository("acme/unfinished")
    assert unfinished is not None
    assert (unfinished.complete, unfinished.sound, unfinished.incomplete_downloads) == (False, True, 1)
    assert hub.folder("datasets/acme/questions").name == folder_name(*split_name("datasets/acme/questions"))
    json.dumps(found.to_json())


def test_what_a_per_model_copy_leaves_is_seen_to_be_broken(tmp_path: Path) -> None:
    hub = fill(tmp_path / "whole", shard=100_000)
    model = hub.folder("acme/shared").name
    (tmp_path / "copy").mkdir()
    subprocess.run(["cp", "-a", str(tmp_path / "whole" / model), str(tmp_path / "copy" / model)], check=True)
    (found,) = cache(tmp_path / "copy").repositories
    assert not found.sound
    assert len(found.revisions[0].dangling) == 4
    assert found.size == 0 or found.shared_blobs == 0


def test_what_a_per_model_copy_leaves_fails_the_proof(tmp_path: Path) -> None:
    hub = fill(tmp_path / "whole", shard=100_000)
    model = hub.folder("acme/shared").name
    (tmp_path / "copy").mkdir()
    subprocess.run(["cp", "-a", str(tmp_path / "whole" / model), str(tmp_path / "copy" / model)], check=True)
    ours, theirs = (listed(tmp_path / name, paths=[model], also=HUB_FILES) for name in ("whole", "copy"))
    proof = prove_copy(ours, theirs, ("a", "b"), False, False)
    assert proof is not None
    assert not proof.holds
    assert len(proof.broken_links) == 8
    assert len([path for path in proof.missing if path.startswith("blobs/")]) > 4
    whole = prove_copy(ours, ours, ("a", "b"), False, False)
    assert whole is not None
    assert whole.holds


def test_a_torn_file_and_an_absent_one_are_told_by_the_listing_of_the_hub(tmp_path: Path) -> None:
    hub = Hub(tmp_path)
    folder = hub.classic("a/b", "main", {"one": 1000, "two": 2000})
    (snapshot,) = (folder / "snapshots").iterdir()
    os.truncate((snapshot / "one").resolve(), 10)
    (snapshot / "two").unlink()
    (revision,) = cache(tmp_path).repositories[0].revisions
    assert (revision.torn, revision.absent) == (("one",), ("two",))
    assert not revision.sound
    (folder / "trees" / f"{snapshot.name}.json").write_text('{"format_version": 9, "files": []}')
    (revision,) = cache(tmp_path).repositories[0].revisions
    assert (revision.torn, revision.absent) == ((), None)


def test_links_that_are_not_noted_in_the_store_are_told(tmp_path: Path) -> None:
    hub = Hub(tmp_path)
    hub.shared("a/b", "main", {"one": 1000})
    assert listed(tmp_path).unreferenced == ()
    (notes,) = tmp_path.glob("blobs/*/*.refs")
    notes.write_text("models--else/blobs/x\n")
    found = listed(tmp_path)
    assert found.unreferenced == tuple(found.references)


def test_an_absent_hub_is_none(tmp_path: Path) -> None:
    command = HuggingFaceModels().command(str(tmp_path / "none"))
    assert HuggingFaceModels().process(run(command)) is None


def test_a_hub_of_links_in_a_circle_ends(tmp_path: Path) -> None:
    hub = Hub(tmp_path)
    folder = hub.classic("a/b", "main", {"one": 1000})
    (snapshot,) = (folder / "snapshots").iterdir()
    (snapshot / "x").symlink_to("y")
    (snapshot / "y").symlink_to("x")
    assert set(cache(tmp_path).repositories[0].revisions[0].dangling) == {"x", "y"}


def test_a_repository_is_described_in_a_line(tmp_path: Path) -> None:
    fill(tmp_path, shard=1 << 20)
    found = read_cache(listed(tmp_path, exclude=(), read=("*--*/refs/*", "*--*/trees/*.json")))
    shared = found.repository("acme/shared")
    assert shared is not None
    assert describe_repository(shared) == "acme/shared: 3.1 MiB, 3.1 MiB of it in the shared store, 1 revision"
    partial = replace(shared, revisions=(replace(shared.revisions[0], absent=("a", "b")),), incomplete_downloads=2)
    assert "2 files of the repository are not on the source, 2 unfinished downloads" in describe_repository(partial)


def test_a_model_comes_from_whoever_has_it_whole_and_not_where_it_is_here(tmp_path: Path) -> None:
    whole, torn, partial, empty = (Hub(tmp_path / name) for name in ("whole", "torn", "partial", "empty"))
    for hub in (whole, torn, partial):
        folder = hub.classic("a/b", "main", {"one": 1000, "two": 2000})
        (snapshot,) = (folder / "snapshots").iterdir()
        if hub is torn:
            os.truncate((snapshot / "one").resolve(), 10)
        if hub is partial:
            (snapshot / "two").unlink()
    empty.root.mkdir()
    caches = {hub.root.name: cache(hub.root) for hub in (whole, torn, partial, empty)}
    others = {name: caches[name] for name in ("empty", "torn", "partial")}
    for own in (caches["empty"], caches["torn"], None):
        assert givers(["a/b"], own, {**others, "gone": None, "whole": caches["whole"]}) == {"a/b": "whole"}
        assert givers(["a/b"], own, others) == {"a/b": "partial"}
        assert givers(["a/b", "a/c"], own, {"torn": caches["torn"]}) == {"a/b": None, "a/c": None}
    assert givers(["a/b"], caches["whole"], caches) == {}
    assert givers(["a/b"], caches["partial"], {"whole": caches["whole"]}) == {"a/b": "whole"}
    assert givers(["a/b"], caches["partial"], others) == {}


# Progress ------------------------------------------------------------------------------------------------------------


def test_progress_is_read_before_and_after_the_sender_has_come() -> None:
    now = {"total": 10, "sent": 4, "seconds": 1.5, "rails": {"a": 4}, "source": "/data", "peer": "spark-2"}
    found = [{"id": "ab", "root": "/to", "now": {}}, {"id": "cd", "root": "/to", "now": now}]
    waiting, running = CopyProgress().process(answered(found))
    assert waiting == RunningCopy("ab", "/to", None, None, 0, 0, 0.0, {})
    assert (running.sent, running.total, running.rails) == (4, 10, {"a": 4})


def test_progress_that_is_none_fails_the_host() -> None:
    copy: object
    for copy in ("x", {}, []):
        with pytest.raises(FactProcessError):
            CopyProgress().process(answered([copy]))
