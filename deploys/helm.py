"""helm on the head, for the deploys that install charts."""

from __future__ import annotations

from pyinfra.context import host

from gb10.deploys.operator_settings import helm_client
from gb10.operations import helm


def install_helm() -> None:
    """Have helm on this host: once in a run, however many deploys ask for it, so that a dry run lists it once."""
    if not host.data.get("gb10_helm"):
        host.data.gb10_helm = True
        helm.binary(name="Install helm", client=helm_client())
