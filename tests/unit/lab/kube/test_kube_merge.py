from __future__ import annotations

import pytest

from gb10.lab.kube.errors import ApiError
from gb10.lab.kube.merge import json_patch, merge_patch, strategic_merge


def test_merge_patch_removes_nulls_and_replaces_lists() -> None:
    current = {"a": {"b": 1, "c": 2}, "list": [1, 2]}
    assert merge_patch(current, {"a": {"b": None, "d": 3}, "list": [9]}) == {"a": {"c": 2, "d": 3}, "list": [9]}
    assert current == {"a": {"b": 1, "c": 2}, "list": [1, 2]}


def test_strategic_merge_merges_containers_by_name() -> None:
    current = {"containers": [{"name": "a", "image": "1"}, {"name": "b", "image": "1"}]}
    patch = {"containers": [{"name": "b", "image": "2"}, {"name": "c", "image": "3"}]}
    assert strategic_merge(current, patch)["containers"] == [
        {"name": "a", "image": "1"},
        {"name": "b", "image": "2"},
        {"name": "c", "image": "3"},
    ]


def test_strategic_merge_deletes_an_item_by_directive() -> None:
    current = {"env": [{"name": "a", "value": "1"}, {"name": "b", "value": "1"}]}
    assert strategic_merge(current, {"env": [{"name": "a", "$patch": "delete"}]}) == {
        "env": [{"name": "b", "value": "1"}]
    }


def test_strategic_merge_replaces_by_directive() -> None:
    assert strategic_merge({"s": {"a": 1}}, {"s": {"$patch": "replace", "b": 2}}) == {"s": {"b": 2}}


def test_strategic_merge_retains_only_the_named_keys() -> None:
    assert strategic_merge({"a": 1, "b": 2}, {"$retainKeys": ["b"], "c": 3}) == {"b": 2, "c": 3}


def test_strategic_merge_removes_single_texts_from_a_list() -> None:
    patch = {"$deleteFromPrimitiveList/finalizers": ["x"]}
    assert strategic_merge({"finalizers": ["x", "y"]}, patch) == {"finalizers": ["y"]}


def test_strategic_merge_keeps_other_finalizers() -> None:
    assert strategic_merge({"finalizers": ["x"]}, {"finalizers": ["y", "x"]}) == {"finalizers": ["x", "y"]}


def test_json_patch_adds_replaces_and_removes() -> None:
    document = {"a": [1, 3], "b": {"c/d": 1}, "e": 1}
    patched = json_patch(
        document,
        [
            {"op": "add", "path": "/a/1", "value": 2},
            {"op": "add", "path": "/a/-", "value": 4},
            {"op": "replace", "path": "/b/c~1d", "value": 5},
            {"op": "remove", "path": "/e"},
            {"op": "test", "path": "/a/0", "value": 1},
        ],
    )
    assert patched == {"a": [1, 2, 3, 4], "b": {"c/d": 5}}


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "test", "path": "/a", "value": 2},
        {"op": "remove", "path": "/none"},
        {"op": "replace", "path": "/none/deeper", "value": 1},
        {"op": "move", "path": "/a", "from": "/b"},
    ],
)
def test_json_patch_refuses_operations_that_do_not_apply(operation: dict[str, object]) -> None:
    with pytest.raises(ApiError) as refused:
        json_patch({"a": 1}, [operation])
    assert refused.value.code == 422
