"""The overview: its parts are those of the facts it is made of, and none can spoil another."""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyinfra.api.exceptions import FactProcessError
from reading import damaged, process, run, shell_accepts

from gb10.facts.identity import NodeIdentity
from gb10.facts.overview import CLUSTER_PARTS, MARK, NODE_PARTS, NodeOverview


@pytest.fixture(scope="module")
def here() -> list[str]:
    """What this machine prints."""
    return run(NodeOverview().command())


def test_the_command_is_a_shell_command_that_asks_for_every_part() -> None:
    command = NodeOverview().command()
    assert shell_accepts(command)
    for part in (*NODE_PARTS, *CLUSTER_PARTS):
        assert f"p {part} " in command.get_raw_value()


def test_a_machine_that_is_no_node_has_an_overview(here: list[str]) -> None:
    found = NodeOverview().process(here)
    assert found.identity is not None
    assert found.identity.machine_id == NodeIdentity().process(run(NodeIdentity().command())).machine_id
    assert found.troubles == {}
    assert json.loads(json.dumps(found.to_json()))["identity"]["hostname"] == found.identity.hostname


def test_the_cluster_is_asked_only_where_a_server_is(here: list[str]) -> None:
    assert f"{MARK}nodes" not in here
    assert NodeOverview().process(here).nodes is None


def test_a_part_that_is_not_understood_fails_no_other(here: list[str]) -> None:
    start = here.index(f"{MARK}gpu")
    end = next((at for at in range(start + 1, len(here)) if here[at].startswith(MARK)), len(here))
    found = NodeOverview().process([*here[: start + 1], "@@gb10 gpus", "no row", "", "@@gb10= 0", *here[end:]])
    assert found.gpu is None
    assert list(found.troubles) == ["gpu"]
    assert found.identity is not None


def test_half_an_overview_is_none(here: list[str]) -> None:
    start = here.index(f"{MARK}identity")
    end = next((at for at in range(start + 1, len(here)) if here[at].startswith(MARK)), len(here))
    with pytest.raises(FactProcessError, match="nothing about identity"):
        NodeOverview().process([*here[:start], *here[end:]])


def test_values_of_helm_releases_stay_on_the_node() -> None:
    assert " no-values" in NodeOverview().command().get_raw_value()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_garbage_is_an_error_of_the_host_and_never_a_crash(here: list[str], data: st.DataObject) -> None:
    process(NodeOverview(), data.draw(damaged(here)))
