"""Upgrades of several nodes when one fails."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pyinfra.api import Config, Host, Inventory, State
from pyinfra.api.exceptions import ConnectError
from pyinfra.context import ctx_host, ctx_state

from gb10.operations.upgrade import _upgrade
from gb10.programs.answer import RefusedError

NOBODY_THERE = {"ssh_hostname": "127.0.0.1", "ssh_port": 1, "ssh_connect_retries": 0}


@pytest.fixture
def state() -> Iterator[State]:
    names = ["spark-1", "spark-2", "spark-3"]
    state = State(Inventory(([(name, NOBODY_THERE) for name in names], {})), Config())
    ctx_state.set(state)
    yield state
    ctx_host.reset()
    ctx_state.reset()


def upgrade(state: State, name: str) -> None:
    host = state.inventory.get_host(name)
    assert isinstance(host, Host)
    ctx_host.set(host)
    head = state.inventory.get_host("spark-1")
    list(_upgrade("agent", "v1.36.5+k3s1", {}, name, head, 1, 1))


def test_no_node_is_upgraded_after_one_that_failed(state: State) -> None:
    with pytest.raises(ConnectError):
        upgrade(state, "spark-2")
    with pytest.raises(RefusedError, match="UPGRADE_HELD"):
        upgrade(state, "spark-3")
    assert not state.inventory.get_host("spark-3").connected
