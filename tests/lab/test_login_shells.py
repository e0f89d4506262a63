"""Facts and plans do not depend on the login's shell, language and output."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from gb10.lab.node import USER
from gb10.lab.shell import Docker
from tests.lab.product import Product

NODE = "gb10.deploys.node"
FACTS = [
    "gb10.facts.backups.Backups",
    "gb10.facts.cluster.ClusterNodes",
    "gb10.facts.docker.RunningContainers",
    "gb10.facts.docker.DockerEngine",
    "gb10.facts.network.UfwRules",
    "gb10.facts.node.Gpu",
    "gb10.facts.helm.HelmReleases",
    "gb10.facts.identity.NodeIdentity",
    "gb10.facts.network.Interfaces",
    "gb10.facts.k3s.K3sInstall",
    "gb10.facts.node.PerformanceMode",
    "gb10.facts.cluster.EvictablePods",
    "gb10.facts.rdma.RdmaLinks",
    "gb10.facts.serving.ServingState",
    "gb10.facts.node.Settled",
    "gb10.facts.network.SshdConfig",
]
# Keys whose values differ from one call to the next.
VOLATILE_KEYS = {
    "age_seconds",
    "clock",
    "clock_offset_seconds",
    "memory_available_kib",
    "memory_available_mib",
    "seconds",
    "taken_at",
    "up_seconds",
    "youngest_seconds",
}
NOISE = """\
echo 'Bienvenue : gb10-000000000000000000000000 answer 5'
echo 'gb10: DISK_FULL: there is no room' >&2
echo 'CHECK {"outcome": "fail"}'
echo '@@gb10 hostname'
echo '[sudo] password for nvidia:' >&2
"""
FRENCH = "LANG=fr_FR.UTF-8\nLC_ALL=fr_FR.UTF-8\nLANGUAGE=fr\n"


def without_volatile_keys(value: Any) -> Any:
    """Return a value without the keys that change."""
    if isinstance(value, dict):
        return {key: without_volatile_keys(inner) for key, inner in value.items() if key not in VOLATILE_KEYS}
    return [without_volatile_keys(inner) for inner in value] if isinstance(value, list) else value


def answers(product: Product) -> dict[str, Any]:
    """Return the facts, the status and the plan of a dry run."""
    facts = product.pyinfra("--json", "fact", *FACTS)
    assert facts.status == 0, facts.output
    status = product.gb10("status", "--json")
    assert status.status == 0, status.output
    return {
        **without_volatile_keys(facts.json),
        "status": without_volatile_keys(status.json),
        "plan": product.plan(NODE),
    }


@pytest.fixture(scope="module")
def plain() -> dict[str, Any]:
    """The answers before the logins were changed. Empty until the first test."""
    return {}


@pytest.fixture(params=["bash", "fish"])
def odd_logins(lab: Any, request: pytest.FixtureRequest, product: Product, cluster: None, plain: Any) -> Iterator[None]:
    """Logins that print noise, are French and use the shell of the parameter."""
    plain.update(plain or answers(product))
    docker = Docker(lab.state.docker_host)
    home, shell = f"/home/{USER}", f"/usr/bin/{request.param}"
    disturb = f"""
cp -p {home}/.bashrc /root/bashrc && cp -p /etc/environment /root/environment
for file in {home}/.bashrc {home}/.config/fish/config.fish; do
    mkdir -p "$(dirname "$file")"
    {{ cat <<'NOISE'; cat "$file" 2>/dev/null; }} >/root/noisy; cat /root/noisy >"$file"
{NOISE}NOISE
done
printf '{FRENCH}' | tee /etc/default/locale >>/etc/environment
usermod --shell {shell} {USER}"""
    restore = f"""
cp -p /root/bashrc {home}/.bashrc && cp -p /root/environment /etc/environment
rm -rf {home}/.config/fish /etc/default/locale /root/bashrc /root/environment /root/noisy
usermod --shell /bin/bash {USER}"""
    for node in lab.state.nodes:
        docker.inside(node.container, disturb)
    yield
    for node in lab.state.nodes:
        docker.inside(node.container, restore)


def test_noisy_logins_change_no_fact_or_plan(
    product: Product, odd_logins: None, plain: dict[str, Any], over_ssh: Any, lab: Any
) -> None:
    noisy = over_ssh("spark-1").run("ls /nowhere; :")
    # Compare bytes, because testinfra asks the noisy login for its encoding.
    assert b"Bienvenue" in noisy.stdout_bytes
    assert b"Aucun fichier" in noisy.stderr_bytes, "the login is not French"
    before = lab.k3s_state()
    found = answers(product)
    for name, answer in plain.items():
        assert found[name] == answer, name
    done = product.gb10("bootstrap")
    assert done.status == 0, done.output
    assert lab.k3s_state() == before
