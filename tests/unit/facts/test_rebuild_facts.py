"""Facts of a rebuild: the lock of a node, the pods that a drain moves, and whether an installation is at rest."""

from __future__ import annotations

import errno
import json
from typing import Any

import pytest
from pyinfra.api.exceptions import FactProcessError

from gb10.controller.journal import parse_records
from gb10.facts.cluster import EvictablePods
from gb10.facts.docker import BELONGINGS_FORMAT, DockerBelongings
from gb10.facts.node import KeptJournal, NodeLock, Settled
from gb10.facts.reading.docker import Belongings
from gb10.facts.reading.node import LockHolder
from tests.unit.facts.reading import answered, shell_accepts

HOLDER = LockHolder("20261123T221829Z-rebuild-1", "ann", "desk", 11503, "2026-11-23T22:18:29.385Z", "prepare spark-2")


def printed(**found: tuple[int, str]) -> list[str]:
    """Sections as a fact reads them: name -> status and text."""
    return answered({name.replace("_", "-"): [status, text] for name, (status, text) in found.items()})


def test_a_lock_tells_who_holds_the_node() -> None:
    assert NodeLock().process(printed(lock=(0, json.dumps(HOLDER.to_json())))) == HOLDER
    assert str(HOLDER) == "ann@desk (pid 11503, prepare spark-2)"


def test_no_lock_is_none_and_a_damaged_one_is_no_free_node() -> None:
    assert NodeLock().process(printed(lock=(errno.ENOENT, ""))) is None
    for status, text in ((0, '{"run": '), (errno.EACCES, "")):
        with pytest.raises(FactProcessError):
            NodeLock().process(printed(lock=(status, text)))


def test_a_kept_journal_has_all_of_its_records() -> None:
    kept = KeptJournal().process(printed(journal=(0, '{"v": 1, "event": "a"}\n{"v": 1, "event": "b"}\n')))
    assert [record["event"] for record in parse_records(str(kept).encode(), "a node")] == ["a", "b"]
    assert KeptJournal().process(printed(journal=(1, ""))) is None


def pod(name: str, node: str | None = "spark-2", owner: str | None = None, phase: str = "Running", **more: Any) -> Any:
    owners = [{"kind": owner}] if owner else []
    metadata = {"namespace": "default", "name": name, "ownerReferences": owners, **more}
    return {"metadata": metadata, "spec": {"nodeName": node} if node else {}, "status": {"phase": phase}}


def test_a_drain_moves_neither_daemons_nor_static_nor_finished_pods() -> None:
    pods = [
        pod("web-1", owner="ReplicaSet"),
        pod("bare"),
        pod("agent", owner="DaemonSet"),
        pod("job-1", owner="Job", phase="Succeeded"),
        pod("etcd", annotations={"kubernetes.io/config.mirror": "x"}),
        pod("waits", node=None, phase="Pending"),
        pod("other", node="spark-1"),
    ]
    found = EvictablePods().process(printed(pods=(0, json.dumps({"items": pods}))))
    assert found == {"spark-1": ("default/other",), "spark-2": ("default/bare", "default/web-1")}


def test_without_an_api_server_nobody_can_tell() -> None:
    assert EvictablePods().process(printed(pods=(1, ""))) is None


def settled(**other: tuple[int, str]) -> tuple[str, ...]:
    said = {
        "boot": (0, "8bc96d0a"),
        "uptime": (0, "63.20"),
        "system": (0, "running"),
        "cloud_init": (0, "status: done"),
        "packages": (1, ""),
        "docker": (0, "29.6.2"),
        "gpu": (0, "GPU 0: NVIDIA GB10"),
    }
    return Settled().process(printed(**{**said, **other})).waits_for


def test_an_installation_ends_by_itself_and_a_service_may_never() -> None:
    said = printed(
        boot=(0, "8bc96d0a"),
        uptime=(0, "63.20"),
        system=(0, "running"),
        cloud_init=(2, "status: running"),
        packages=(0, "4711"),
        docker=(1, ""),
        gpu=(9, ""),
    )
    found = Settled().process(said)
    assert found.installs == ("cloud-init", "the installation of packages")
    assert found.waits_for == (*found.installs, "Docker", "the GPU driver")


def test_a_node_at_rest_waits_for_nothing_and_one_that_is_degraded_neither() -> None:
    assert settled() == ()
    assert settled(system=(1, "degraded")) == ()


@pytest.mark.parametrize(
    ("part", "said", "what"),
    [
        ("system", (1, "starting"), "its boot (starting)"),
        ("cloud_init", (2, "status: running"), "cloud-init"),
        ("packages", (0, "/var/lib/dpkg/lock: 812"), "the installation of packages"),
        ("docker", (1, ""), "Docker"),
        ("gpu", (9, "NVIDIA-SMI has failed"), "the GPU driver"),
    ],
)
def test_what_is_still_under_way_is_named(part: str, said: tuple[int, str], what: str) -> None:
    assert settled(**{part: said}) == (what,)


def test_what_is_in_an_engine_beside_images_is_named_but_for_what_is_made_again() -> None:
    rows = [
        {"name": "registry", "pod": "", "serving": ""},
        {"name": "k8s_POD_web", "pod": "1f", "serving": ""},
        {"name": "gb10-serving-solo", "pod": "", "serving": "solo"},
    ]
    volumes = f"notebooks\n{'a' * 64}"
    found = DockerBelongings().process(
        printed(volumes=(0, volumes), containers=(0, "\n".join(json.dumps(row) for row in rows)))
    )
    assert found == Belongings(volumes=("a" * 12, "notebooks"), containers=("registry",))
    assert DockerBelongings().process(printed(volumes=(0, ""), containers=(0, ""))) == Belongings((), ())
    assert DockerBelongings().process(printed(volumes=(1, ""), containers=(1, ""))) is None
    with pytest.raises(FactProcessError):
        DockerBelongings().process(printed(volumes=(0, ""), containers=(0, '{"name": ')))


def test_the_shell_understands_the_question_for_what_is_in_an_engine() -> None:
    question = DockerBelongings().command()
    assert shell_accepts(question)
    assert '{{json (.Label "gb10.serving")}}' in BELONGINGS_FORMAT
