"""The plan of a copy: what is sent and how, from listings of every kind."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gb10.facts.reading.copy import CopyProof, Entry, Tree, prove_copy, shown
from gb10.operations.copying.options import CopyOptions
from gb10.operations.copying.plan import (
    ENTRY_BYTES,
    LARGE_BYTES,
    changed,
    conflicts,
    describe,
    human,
    named,
    owner_map,
    part_key,
    plan_copy,
    spread,
)
from gb10.operations.copying.survey import resolved
from gb10.programs.answer import RefusedError
from gb10.programs.copying.protocol import PIECE_BYTES, merged, pieces
from gb10.programs.copying.sending.rsync import divided
from gb10.programs.copying.sending.streams import bundles

HASH = "0" * 64
NAMES = ("spark-1", "spark-2")

paths = st.lists(st.sampled_from("abc"), min_size=1, max_size=3).map("/".join)
sizes = st.sampled_from([0, 1, 5_000, LARGE_BYTES - 1, LARGE_BYTES, 3 * LARGE_BYTES])


@st.composite
def entries(draw: st.DrawFn) -> Entry:
    kind = draw(st.sampled_from("ffffdl"))
    entry = Entry(
        path=draw(paths),
        type=kind,
        mode=draw(st.sampled_from([0o644, 0o600])),
        uid=draw(st.sampled_from([0, 1000])),
        gid=0,
        mtime=draw(st.integers(1, 3)),
    )
    if kind == "f":
        return replace(entry, size=draw(sizes), inode=draw(st.sampled_from([None, None, 7])))
    return replace(entry, mode=0o777, target="a", state="inside") if kind == "l" else entry


@st.composite
def trees(draw: st.DrawFn) -> Tree:
    found = {entry.path: entry for entry in draw(st.lists(entries(), max_size=8))}
    # one file has one size, whatever its names
    first = next((entry for entry in found.values() if entry.inode), None)
    same = {path: replace(first, path=path) if entry.inode and first else entry for path, entry in found.items()}
    return tree(*same.values())


def tree(*found: Entry, **more: object) -> Tree:
    known: dict[str, object] = {"users": {0: "root", 1000: "nvidia"}, "groups": {0: "root"}}
    return Tree(root="/data", free=1 << 40, entries=found, **{**known, **more})  # type: ignore[arg-type] # by name


def file(path: str, size: int = 10, **more: object) -> Entry:
    return replace(Entry(path, "f", 0o644, 0, 0, 1, size=size), **more)  # type: ignore[arg-type] # by name


# The plan ------------------------------------------------------------------------------------------------------------


@given(trees())
def test_a_copy_of_a_complete_target_is_empty(source: Tree) -> None:
    assert plan_copy(source, source).is_empty


@given(trees(), trees())
def test_exactly_the_missing_files_are_sent_once(source: Tree, target: Tree) -> None:
    plan = plan_copy(source, target)
    sent = [entry.path for entry in plan.sent]
    assert len(sent) == len(set(sent))
    there = target.by_path()
    for entry in source.files:
        other = there.get(entry.path)
        same = other is not None and (other.type, other.size, other.mtime) == ("f", entry.size, entry.mtime)
        names = [e.path for e in source.files if entry.inode and e.inode == entry.inode] or [entry.path]
        if not same and names[0] == entry.path:
            assert entry.path in sent
        if same:
            assert entry.path not in sent


@given(trees(), trees())
def test_every_difference_is_sent_or_set_at_the_end(source: Tree, target: Tree) -> None:
    plan = plan_copy(source, target)
    touched = {entry.path for entry in plan.sent} | set(plan.finish)
    there = target.by_path()
    for entry in source.entries:
        other = there.get(entry.path)
        if other is None or (other.type, other.mode, other.uid) != (entry.type, entry.mode, entry.uid):
            assert entry.path in touched


@given(trees(), trees())
def test_size_and_likeness_decide_how_a_file_is_sent(source: Tree, target: Tree) -> None:
    plan = plan_copy(source, target)
    there = target.by_path()
    assert all(entry.size >= LARGE_BYTES for entry in plan.large)
    assert all(entry.size < LARGE_BYTES for entry in plan.small)
    for entry in plan.sent:
        other = there.get(entry.path)
        alike = other is not None and (other.type, other.size) == ("f", entry.size)
        assert alike == (entry in plan.compared)
    by_rsync = plan_copy(source, target, by_rsync=True)
    assert (by_rsync.large, by_rsync.small) == ((), ())
    assert set(by_rsync.compared) == set(plan.sent)


def test_a_file_with_holes_is_sent_in_pieces() -> None:
    plan = plan_copy(tree(file("holes", 1000, sparse=True)), tree())
    assert [entry.path for entry in plan.large] == ["holes"]


@given(trees(), trees())
def test_space_is_needed_for_everything_that_is_sent(source: Tree, target: Tree) -> None:
    plan = plan_copy(source, target)
    assert plan.room >= plan.size
    assert bool(plan.room) == bool(plan.sent)


def test_arrived_parts_of_a_large_file_do_not_count() -> None:
    large = file("model", 3 * LARGE_BYTES)
    plan = plan_copy(tree(large), tree(parts={part_key(large): LARGE_BYTES}))
    assert (plan.arrived, plan.size) == (LARGE_BYTES, 2 * LARGE_BYTES)
    assert plan.stale == ()


def test_only_parts_of_another_version_of_a_file_are_removed() -> None:
    large = file("model", 3 * LARGE_BYTES)
    old, other = part_key(replace(large, mtime=9)), part_key(file("other", LARGE_BYTES))
    assert plan_copy(tree(large), tree(parts={old: 5, other: 5})).stale == (old,)


def test_time_and_owner_of_a_content_named_blob_do_not_count() -> None:
    blob = file(f"models--a--b/blobs/{HASH}", LARGE_BYTES)
    other = replace(blob, mtime=99, uid=1000, mode=0o400)
    assert plan_copy(tree(blob), tree(other)).is_empty
    assert plan_copy(tree(blob), tree(replace(other, size=1))).size == LARGE_BYTES


def test_distrusted_content_is_sent_again() -> None:
    same = tree(file("a"), file("b\n"))
    plan = plan_copy(same, same, frozenset({shown("b\n")}))
    assert [entry.path for entry in plan.small] == ["b\n"]
    assert plan.again


def test_a_file_with_several_names_is_sent_once() -> None:
    source = tree(file("a", inode=5), file("b", inode=5))
    plan = plan_copy(source, tree())
    assert [entry.path for entry in plan.small] == ["a"]
    assert plan.finish == ("a", "b")
    assert plan_copy(source, tree(file("a"), file("b"))).finish == ("a", "b"), "two files must become one"


def test_a_file_and_a_folder_of_one_path_are_a_conflict() -> None:
    link, folder = (Entry("a", kind, 0o777, 0, 0, 1) for kind in "ld")
    for other in (link, file("a")):
        assert conflicts(tree(other), tree(folder)) == conflicts(tree(folder), tree(other)) == ("a",)
        assert conflicts(tree(other), tree()) == ()
    assert conflicts(tree(folder), tree(folder)) == conflicts(tree(link), tree(file("a"))) == ()


def test_links_missing_in_the_store_are_noted() -> None:
    references = {f"blobs/00/{HASH}": ("models--a--b/blobs/x",)}
    source = tree(references=references)
    assert plan_copy(source, tree()).references == references
    assert plan_copy(source, tree(references=references)).is_empty
    assert plan_copy(source, tree(references=references, unreferenced=tuple(references))).references == references


# What rsync says ------------------------------------------------------------------------------------------------------


def test_errors_of_rsync_name_the_node_that_has_them() -> None:
    ours = 'rsync: [sender] link_stat "/data/a" failed: No such file or directory (2)'
    theirs = [
        'rsync: [generator] recv_generator: mkdir "/b" (in copy) failed: Read-only file system (30)',
        'rsync: [receiver] mkstemp "/c" (in copy) failed: Permission denied (13)',
        "could not make way for new symlink: d",
        "cannot delete non-empty directory: d",
    ]
    end = "rsync error: some files/attrs were not transferred (see previous errors) (code 23) at main.c(1338)"
    assert divided([ours, *theirs, end]) == ([ours], theirs)


# Streams and pieces --------------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(paths, st.integers(0, 10**12)), max_size=60), st.integers(1, 16))
def test_work_is_spread_evenly_and_nothing_is_lost(found: list[tuple[str, int]], streams: int) -> None:
    files = [file(f"{folder}/{number}", size) for number, (folder, size) in enumerate(found)]
    lists = spread(files, streams)
    assert sorted(entry.path for part in lists for entry in part) == sorted(entry.path for entry in files)
    assert len(lists) <= streams
    loads = [sum(entry.size + ENTRY_BYTES for entry in part) for part in lists]
    # no stream has more than its share but for one slice: a part of a share, or a single file
    share = sum(loads) / streams
    largest = max((entry.size + ENTRY_BYTES for entry in files), default=0)
    assert all(load <= share + max(share, largest) for load in loads)


def test_the_files_of_one_folder_stay_together() -> None:
    files = [file(f"{folder}/{number}", 100) for folder in range(64) for number in range(10)]
    for part in spread(files, 4):
        assert len({entry.path.split("/")[0] for entry in part}) == 16


@given(st.lists(st.integers(0, 1000), max_size=40), st.integers(1, 2000), st.integers(1, 10))
def test_bundles_are_small_and_lose_nothing(sizes: list[int], most_bytes: int, most_files: int) -> None:
    files = [{"path": str(number), "size": size} for number, size in enumerate(sizes)]
    found = bundles(files, most_bytes, most_files)
    assert [wanted for bundle in found for wanted in bundle] == files
    for bundle in found:
        assert 0 < len(bundle) <= most_files
        assert len(bundle) == 1 or sum(wanted["size"] for wanted in bundle) <= most_bytes


ranges = st.lists(
    st.tuples(st.integers(0, 400), st.integers(0, 400)).map(lambda pair: (min(pair), max(pair))), max_size=8
)


@given(st.integers(0, 400), ranges, st.integers(1, 100))
def test_pieces_are_exactly_what_has_not_arrived(size: int, have: list[tuple[int, int]], piece: int) -> None:
    arrived = merged([(start, min(end, size)) for start, end in have if start < min(end, size)])
    left = pieces(size, arrived, piece)
    bytes_left = [offset + byte for offset, length in left for byte in range(length)]
    assert bytes_left == [byte for byte in range(size) if not any(start <= byte < end for start, end in arrived)]
    assert all(0 < length <= piece for _, length in left)
    assert all(offset // piece == (offset + length - 1) // piece for offset, length in left)


@given(ranges)
def test_ranges_are_merged_to_the_same_bytes_without_touching(found: list[tuple[int, int]]) -> None:
    result = merged(found)
    assert {byte for start, end in result for byte in range(start, end)} == {
        byte for start, end in found for byte in range(start, end)
    }
    assert all(one[1] < other[0] for one, other in itertools.pairwise(result))


def test_a_file_is_one_piece_when_nothing_has_arrived() -> None:
    assert pieces(2 * PIECE_BYTES + 1, []) == [(0, PIECE_BYTES), (PIECE_BYTES, PIECE_BYTES), (2 * PIECE_BYTES, 1)]


# The proof -----------------------------------------------------------------------------------------------------------


def prove(source: Tree, target: Tree, allow_broken: bool = False) -> CopyProof:
    proof = prove_copy(replace(source, digest="ours"), replace(target, digest="theirs"), NAMES, False, allow_broken)
    assert proof is not None
    return proof


@given(trees(), trees())
def test_a_proof_holds_only_for_a_complete_copy(source: Tree, target: Tree) -> None:
    there = target.by_path()
    complete = all(
        e.path in there and (e.type, e.size, e.target) == (there[e.path].type, there[e.path].size, there[e.path].target)
        for e in source.entries
    )
    if source.entries:
        assert prove(source, target).holds == complete


def test_a_target_may_hold_more_and_have_other_times() -> None:
    assert prove(tree(file("a")), tree(file("a", mtime=5), file("b"))).holds


def test_faults_are_named_and_printable() -> None:
    link = Entry("li\nnk", "l", 0o777, 0, 0, 1, target="x", state="dangling")
    target = tree(file("a", 5), link, broken=("li\nnk",))
    proof = prove(tree(file("a"), file("b\udcff"), replace(link, state="inside")), target)
    assert not proof.holds
    assert (proof.missing, proof.different, proof.broken_links) == (("b\\xff",), ("a",), ("li\\nnk",))
    assert proof.faults == ("1 missing: b\\xff", "1 different: a", "1 links that lead nowhere: li\\nnk")


def test_links_broken_on_both_nodes_are_allowed_only_on_request() -> None:
    link = Entry("link", "l", 0o777, 0, 0, 1, target="x", state="dangling")
    both = tree(link, broken=("link",))
    assert not prove(both, both).holds
    assert prove(both, both, allow_broken=True).holds
    assert prove(both, both, allow_broken=True).allowed == ("link",)


@pytest.mark.parametrize("side", [0, 1])
def test_an_unreadable_file_is_a_fault_with_its_node(side: int) -> None:
    whole = tree(file("a", sha256=HASH), digest="one")
    unread = tree(file("a"), digest="one", unread=("a",))
    proof = prove_copy(*((unread, whole), (whole, unread))[side], NAMES, True, False)
    assert proof is not None
    assert proof.unread == (f"{NAMES[side]}:a",)
    assert not proof.holds
    both = prove_copy(unread, unread, NAMES, True, False)
    assert both is not None
    assert not both.holds, "what neither node could read is not proven"


def test_a_blob_damaged_on_the_source_is_a_fault_of_the_source() -> None:
    both = tree(file("a", sha256=HASH), digest="one", damaged=("a",))
    proof = prove_copy(both, both, NAMES, True, False)
    assert proof is not None
    assert proof.faults == ("1 damaged on the source: a",)


def test_brief_listings_prove_equality_and_nothing_else() -> None:
    brief = tree(digest="one", file_count=3, size=7)
    proof = prove_copy(brief, brief, NAMES, False, False)
    assert proof is not None
    assert (proof.holds, proof.files, proof.bytes) == (True, 3, 7)
    assert prove_copy(brief, replace(brief, digest="another"), NAMES, False, False) is None


# Settings ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("transport", "SSH", "transport is 'SSH', and not one of: auto, rsyncd, ssh"),
        ("network", "SSH", "network is 'SSH', and not one of: rails, management"),
        ("verify", "SSH", "verify is 'SSH', and not one of: size, hash"),
        ("dangling", "SSH", "dangling is 'SSH', and not one of: refuse, list"),
        *(("streams", count, f"streams is {count!r}, and not 1 to 64") for count in (0, -1, 65, "4")),
    ],
)
def test_a_wrong_value_of_an_option_is_refused(name: str, value: object, reason: str) -> None:
    CopyOptions().check()
    with pytest.raises(RefusedError) as caught:
        CopyOptions.of({name: value}).check()
    assert (caught.value.code, caught.value.reason) == ("SETTINGS_INVALID", reason)


def test_an_unknown_option_is_named_with_the_nearest() -> None:
    with pytest.raises(RefusedError, match="SETTINGS_INVALID: there is no option 'verfy': did you mean verify"):
        CopyOptions.of({"verfy": "hash"})


def test_known_node_names_are_resolved_to_addresses() -> None:
    assert [resolved(name) for name in ("localhost", "198.18.0.7", "::1")] == ["127.0.0.1", "198.18.0.7", "::1"]
    assert resolved("no-such-node.invalid") == "no-such-node.invalid"


# Words ---------------------------------------------------------------------------------------------------------------


def test_owners_are_matched_by_name_then_by_number() -> None:
    source, target = {0: "root", 1000: "nvidia", 1001: "gone"}, {0: "root", 1002: "nvidia", 1001: "else"}
    assert owner_map(source, target) == {0: 0, 1000: 1002, 1001: 1001}


@given(trees(), trees())
def test_changes_are_those_of_content_and_type(before: Tree, now: Tree) -> None:
    assert changed(before, before) == ()
    old, new = (
        {e.path: (e.type, e.size, e.target, e.type == "f" and e.mtime) for e in t.entries} for t in (before, now)
    )
    assert set(changed(before, now)) == {path for path in old | new if old.get(path) != new.get(path)}


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (5 << 30, "5.0 GiB"), (3 << 42, "12.0 TiB")]
)
def test_bytes_are_shown_as_people_read_them(count: int, text: str) -> None:
    assert human(count) == text


def test_a_plan_is_described_in_one_line() -> None:
    source = tree(file("a", 3 << 20), Entry("d", "d", 0o755, 0, 0, 1))
    assert describe(plan_copy(source, tree())) == "1 files, 3.0 MiB, 1 folders, links and attributes"
    assert describe(plan_copy(source, source)) == "nothing"


@given(
    st.text(st.characters(codec="utf-8") | st.characters(categories=["Cs"], min_codepoint=0xDC80, max_codepoint=0xDCFF))
)
def test_any_name_is_shown_in_one_printable_line(name: str) -> None:
    assert shown(name).isprintable()
    assert named([name]).isprintable()
