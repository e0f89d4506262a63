"""helm on the head, and the charts that it installs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pyinfra.context import host

from gb10.facts.reading.cluster import HelmRelease
from gb10.facts.reading.operators import Operator
from gb10.group_data.settings import ChartSettings, HelmSettings, OperatorSettings
from gb10.operations import helm as operations
from gb10.operations.kit.helm import Release, with_nfd
from gb10.operations.kit.inventory import HEAD, deploy, downloads_proxy, is_in, read_settings


@deploy("Helm", HelmSettings)
def helm(**overrides: Any) -> None:
    """
    Have helm on the head.

    + overrides: keys of group_data/all.py without their prefix: version, sha256, mirror
    """
    if is_in(HEAD):
        install_helm(helm_client(**overrides))


def helm_client(**overrides: Any) -> operations.Client:
    """Return the helm that this host is to have. Raise RefusedDeploy for what cannot be."""
    settings = read_settings(HelmSettings, **overrides)
    return operations.Client(settings.version, settings.mirror, settings.sha256, downloads_proxy())


def install_helm(client: operations.Client) -> None:
    """Have helm on this host: once in a run, however many deploys ask for it, so that a dry run lists it once."""
    if not host.data.get("gb10_helm"):
        host.data.gb10_helm = True
        operations.binary(name="Install helm", client=client)


def install_chart(
    title: str, operator: Operator, settings: OperatorSettings, ours: Callable[[], Mapping[str, Any]], repair: bool
) -> None:
    """Have an operator's chart in the cluster, from this host, with our values and over them those of the inventory."""

    def values(releases: Sequence[HelmRelease]) -> dict[str, Any]:
        return with_nfd(operator, ours(), settings.values, releases)

    install_helm(helm_client())
    operations.release(
        name=f"Install the {title} {settings.version}",
        wanted=Release(
            name=operator.release,
            namespace=operator.namespace,
            chart=operator.release,
            version=settings.version,
            repository=read_settings(ChartSettings).chart_repository,
            sha256=settings.sha256,
        ),
        values=values,
        seconds=settings.wait_seconds,
        repair=repair,
        values_key=f"{operator.release.replace('-', '_')}_values",
        proxy=downloads_proxy(),
    )
