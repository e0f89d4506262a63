"""What an inventory may say about K3s, and what is refused before anything is done."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pyinfra.api import Config, Inventory, State
from pyinfra.context import ctx_host, ctx_state

from gb10.deploys.settings import k3s_role
from gb10.operations.preflight import preflight


@pytest.fixture
def on() -> Iterator[Any]:
    """Given a host's data, stand on it: in a cluster of two beside which there is another host."""

    def stand(name: str = "spark-1", **data: Any) -> Any:
        hosts = [(each, data if each == name else {}) for each in ("spark-1", "spark-2", "nas")]
        groups = {"head": (["spark-1"], {}), "workers": (["spark-2"], {}), "storage": (["nas"], {})}
        state = State(Inventory((hosts, {}), **groups), Config())
        host = state.inventory.get_host(name)
        ctx_state.set(state)
        ctx_host.set(host)
        return host

    yield stand
    ctx_host.reset()
    ctx_state.reset()


@pytest.mark.parametrize(("name", "role"), [("spark-1", "server"), ("spark-2", "agent"), ("nas", None)])
def test_the_groups_of_a_host_are_its_role(on: Any, name: str, role: str | None) -> None:
    on(name)
    assert k3s_role() == role


def test_a_host_outside_the_cluster_is_not_even_asked(on: Any) -> None:
    assert not on("nas").connected
    assert list(preflight._inner(role=None, version="v1.36.4+k3s1", runtime="docker", config={})) == []
