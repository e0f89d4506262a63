from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from gb10.lab.kube.errors import ApiError, StartError
from gb10.lab.kube.objects import Obj
from gb10.lab.kube.persistence import Database
from gb10.lab.kube.resources import NODES, PODS, SECRETS, built_in
from gb10.lab.kube.store import EVENTS_KEPT, Store

CONFIGS = built_in("configmaps")
WIDGETS = {
    "metadata": {"name": "widgets.demo.example"},
    "spec": {
        "group": "demo.example",
        "scope": "Namespaced",
        "names": {"plural": "widgets", "kind": "Widget"},
        "versions": [{"name": "v1", "served": True, "storage": True}],
    },
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "db" / "state.db"


def config(name: str, **more: Any) -> Obj:
    return {"metadata": {"name": name, **more}, "data": {"a": "b"}}


def changed(store: Store, name: str, data: dict[str, str]) -> Obj:
    old = store.get(CONFIGS, "default", name)
    return store.update(CONFIGS, old, {**old, "data": data})


def test_objects_survive_a_reopening_of_the_file(file: Path) -> None:
    store = Store(Database(file))
    kept = store.create(CONFIGS, "default", config("kept"))
    store.create(CONFIGS, "default", config("gone"))
    store.remove(CONFIGS, store.get(CONFIGS, "default", "gone"))
    store.close()

    again = Store(Database(file))
    assert again.get(CONFIGS, "default", "kept") == kept
    assert ("default", "gone") not in again.table(CONFIGS)


def test_revisions_continue_after_a_restart_and_a_last_deletion(file: Path) -> None:
    store = Store(Database(file))
    store.create(CONFIGS, "default", config("gone"))
    store.remove(CONFIGS, store.get(CONFIGS, "default", "gone"))
    last = store.revision
    store.close()
    assert Store(Database(file)).revision == last


def test_a_copy_of_the_open_store_is_complete(file: Path, tmp_path: Path) -> None:
    store = Store(Database(file))
    store.create(SECRETS, "default", {"metadata": {"name": "s"}, "stringData": {"a": "b"}})
    with sqlite3.connect(file) as source, sqlite3.connect(tmp_path / "copy.db") as target:
        source.backup(target)
    assert Store(Database(tmp_path / "copy.db")).get(SECRETS, "default", "s")["data"] == {"a": "Yg=="}


def test_custom_kinds_are_served_after_a_restart(file: Path) -> None:
    store = Store(Database(file))
    store.create(built_in("customresourcedefinitions"), None, WIDGETS)
    store.close()
    assert ("demo.example/v1", "widgets") in Store(Database(file)).resources


def test_a_file_that_is_not_a_database_is_refused(file: Path) -> None:
    file.parent.mkdir()
    file.write_text("this is not a database, and long enough to be looked at" * 20)
    with pytest.raises(StartError, match="not a database"):
        Database(file)


def test_only_the_owner_can_read_the_datastore(file: Path) -> None:
    Database(file)
    assert file.stat().st_mode & 0o777 == 0o600


def test_only_changes_of_the_spec_count_the_generation() -> None:
    store = Store()
    store.create(CONFIGS, "default", config("c"))
    assert changed(store, "c", {"a": "c"})["metadata"]["generation"] == 2
    old = store.get(CONFIGS, "default", "c")
    labelled = store.update(CONFIGS, old, {**old, "metadata": {**old["metadata"], "labels": {"x": "y"}}})
    assert labelled["metadata"]["generation"] == 2


def test_an_update_without_changes_makes_no_revision() -> None:
    store = Store()
    store.create(CONFIGS, "default", config("c"))
    before = store.revision
    changed(store, "c", {"a": "b"})
    assert store.revision == before


def test_an_update_from_an_older_revision_is_a_conflict() -> None:
    store = Store()
    stale = store.create(CONFIGS, "default", config("c"))
    changed(store, "c", {"a": "c"})
    with pytest.raises(ApiError) as refused:
        store.update(CONFIGS, store.get(CONFIGS, "default", "c"), {**stale, "data": {}})
    assert refused.value.body["reason"] == "Conflict"


def test_an_object_stays_until_its_finalizer_is_gone() -> None:
    store = Store()
    store.create(CONFIGS, "default", config("c", finalizers=["lab/hold"]))
    store.delete(CONFIGS, store.get(CONFIGS, "default", "c"))
    marked = store.get(CONFIGS, "default", "c")
    assert marked["metadata"]["deletionTimestamp"]
    store.update(CONFIGS, marked, {**marked, "metadata": {**marked["metadata"], "finalizers": []}})
    assert ("default", "c") not in store.table(CONFIGS)


def test_owned_objects_are_deleted_too_unless_orphaned() -> None:
    for policy, left in (("Background", False), ("Orphan", True)):
        store = Store()
        owner = store.create(CONFIGS, "default", config("owner"))
        reference = {"uid": owner["metadata"]["uid"], "name": "owner"}
        store.create(CONFIGS, "default", config("child", ownerReferences=[reference]))
        store.delete(CONFIGS, owner, policy)
        assert (("default", "child") in store.table(CONFIGS)) is left


def test_deleting_a_namespace_deletes_its_contents() -> None:
    store = Store()
    store.create(built_in("namespaces"), None, {"metadata": {"name": "work"}})
    store.create(PODS, "work", {"metadata": {"name": "p"}, "spec": {}})
    store.delete(built_in("namespaces"), store.get(built_in("namespaces"), None, "work"))
    assert store.all(PODS) == []


def test_a_watcher_too_far_behind_gets_an_error() -> None:
    store = Store()
    node = store.create(NODES, None, {"metadata": {"name": "n"}})
    for number in range(EVENTS_KEPT + 1):
        node = store.commit(NODES, "MODIFIED", {**node, "status": {"n": number}}, node)
    assert len(store.events_after(store.revision - 10)) == 10
    with pytest.raises(ApiError) as refused:
        store.events_after(1)
    assert refused.value.code == 410


def test_an_immutable_secret_cannot_be_changed() -> None:
    store = Store()
    secret = store.create(SECRETS, "default", {"metadata": {"name": "s"}, "immutable": True, "data": {"a": "Yg=="}})
    with pytest.raises(ApiError, match="immutable"):
        store.update(SECRETS, secret, {**secret, "data": {"a": "Yw=="}})
