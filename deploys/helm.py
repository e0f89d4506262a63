"""helm on the head, and the charts that it installs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pyinfra.context import host

from gb10.deploys.operator_settings import OperatorSettings, downloads_proxy, helm_client
from gb10.deploys.settings import value
from gb10.facts.reading.helm import HelmRelease
from gb10.operations import helm
from gb10.operations.kit.charts import Release
from gb10.operations.operators import Operator, with_nfd


def install_helm() -> None:
    """Have helm on this host: once in a run, however many deploys ask for it, so that a dry run lists it once."""
    if not host.data.get("gb10_helm"):
        host.data.gb10_helm = True
        helm.binary(name="Install helm", client=helm_client())


def install_chart(
    title: str, operator: Operator, settings: OperatorSettings, ours: Callable[[], Mapping[str, Any]], repair: bool
) -> None:
    """Have an operator's chart in the cluster, from this host, with our values and over them those of the inventory."""

    def values(releases: Sequence[HelmRelease]) -> dict[str, Any]:
        return with_nfd(operator, ours(), settings.values, releases)

    install_helm()
    helm.release(
        name=f"Install the {title} {settings.version}",
        wanted=Release(
            name=operator.release,
            namespace=operator.namespace,
            chart=operator.release,
            version=settings.version,
            repository=str(value("chart_repository")),
            sha256=settings.sha256,
        ),
        values=values,
        seconds=settings.wait_seconds,
        repair=repair,
        values_key=f"{operator.release.replace('-', '_')}_values",
        proxy=downloads_proxy(),
    )
