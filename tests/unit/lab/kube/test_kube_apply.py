from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gb10.lab.kube.apply import Manager, Path, decode_fields, encode_fields, leaves, track_apply, track_update
from gb10.lab.kube.errors import ApiError
from gb10.lab.kube.merge import strategic_merge
from gb10.lab.kube.objects import Obj

HELM, KUBECTL = Manager("helm", "Apply"), Manager("kubectl", "Update")


def config(**data: str) -> Obj:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": data}


def applied(old: Obj | None, wanted: Obj, manager: Manager = HELM, force: bool = False) -> Obj:
    return track_apply(old, strategic_merge(old or {}, wanted), wanted, manager, True, force)


def owners(obj: Obj) -> dict[str, set[Path]]:
    return {m["manager"]: decode_fields(m["fieldsV1"]) for m in obj["metadata"]["managedFields"]}


def test_an_apply_owns_the_fields_it_names() -> None:
    assert owners(applied(None, config(a="1", b="2"))) == {"helm": {("f:data", "f:a"), ("f:data", "f:b")}}


def test_a_field_that_is_no_longer_applied_is_dropped() -> None:
    first = applied(None, config(a="1", b="2"))
    assert applied(first, config(a="1"))["data"] == {"a": "1"}


def test_a_field_that_others_apply_too_stays() -> None:
    other = Manager("other", "Apply")
    both = applied(applied(None, config(a="1", b="2")), config(b="2"), other)
    assert applied(both, config(a="1"))["data"] == {"a": "1", "b": "2"}


def test_applying_over_anothers_edit_is_a_conflict_that_names_it() -> None:
    edited = track_update(first := applied(None, config(a="1")), {**first, "data": {"a": "2"}}, KUBECTL, True)
    with pytest.raises(ApiError, match=r'1 conflict: conflict with "kubectl": \.data\.a'):
        applied(edited, config(a="3"))


def test_a_forced_apply_takes_the_field_over() -> None:
    edited = track_update(first := applied(None, config(a="1")), {**first, "data": {"a": "2"}}, KUBECTL, True)
    forced = applied(edited, config(a="3"), force=True)
    assert forced["data"] == {"a": "3"}
    assert owners(forced) == {"helm": {("f:data", "f:a")}}


def test_an_update_that_changes_nothing_owns_nothing() -> None:
    first = applied(None, config(a="1"))
    again = track_update(first, dict(first), KUBECTL, True)
    assert owners(again) == owners(first)


def test_items_of_a_keyed_list_are_separate_fields() -> None:
    spec = {"spec": {"containers": [{"name": "c", "image": "i"}]}}
    assert ("f:spec", "f:containers", 'k:{"name":"c"}', "f:image") in leaves(spec, True)
    assert list(leaves(spec, False)) == [("f:spec", "f:containers")]


steps = st.text("abc", min_size=1, max_size=3).map(lambda name: f"f:{name}")


@given(st.sets(st.tuples(steps, steps)))
def test_encoding_and_decoding_fields_are_inverse(paths: set[Path]) -> None:
    assert decode_fields(encode_fields(paths)) == paths
