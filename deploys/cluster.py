"""The whole cluster in one run, and in strict order."""

from __future__ import annotations

from typing import Any

from pyinfra.api import deploy

from gb10.deploys.k3s import check_k3s, install_k3s
from gb10.deploys.settings import HEAD, WORKERS, head, is_in, k3s_settings
from gb10.operations import k3s


@deploy("Cluster")
def cluster(**overrides: Any) -> None:
    """
    Have the whole cluster up: first the server on the head, then the agents on the workers.

    + overrides: keys of group_data/all.py without their prefix: version, runtime, config ...

    pyinfra interleaves the operations of different hosts, but for those that all of them share: such ones stand between
    the parts, so that no agent starts before the server answers.
    """
    settings = k3s_settings(**overrides)
    check_k3s("server" if is_in(HEAD) else "agent", settings)
    if is_in(HEAD):
        install_k3s("server", settings)
    k3s.server_answers(name="Wait for the K3s server", head=head(), seconds=settings.start_seconds)
    if is_in(WORKERS):
        install_k3s("agent", settings)
