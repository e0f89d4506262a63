"""What a node answers does not depend on the shell, the language and the noise of those who log in to it."""

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
# What differs from one look to the next.
PASSING = {
    "age_seconds",
    "clock",
    "clock_offset_seconds",
    "memory_available_kib",
    "memory_available_mib",
    "seconds",
    "taken_at",
    "up_seconds",
}
NOISE = """\
echo 'Bienvenue : gb10-000000000000000000000000 answer 5'
echo 'gb10: DISK_FULL: there is no room' >&2
echo 'CHECK {"outcome": "fail"}'
echo '@@gb10 hostname'
echo '[sudo] password for nvidia:' >&2
"""
FRENCH = "LANG=fr_FR.UTF-8\nLC_ALL=fr_FR.UTF-8\nLANGUAGE=fr\n"


def steady(value: Any) -> Any:
    """The part of an answer that stays the same."""
    if isinstance(value, dict):
        return {key: steady(inner) for key, inner in value.items() if key not in PASSING}
    return [steady(inner) for inner in value] if isinstance(value, list) else value


def answers(product: Product) -> dict[str, Any]:
    """What facts, status and a dry run say of the nodes."""
    facts = product.pyinfra("--json", "fact", *FACTS)
    assert facts.status == 0, facts.output
    status = product.gb10("status", "--json")
    assert status.status == 0, status.output
    return {**steady(facts.json), "status": steady(status.json), "plan": product.plan(NODE)}


@pytest.fixture(scope="module")
def plain() -> dict[str, Any]:
    """What the nodes said before, once it is known."""
    return {}


@pytest.fixture(params=["bash", "fish"])
def odd_logins(lab: Any, request: pytest.FixtureRequest, product: Product, cluster: None, plain: Any) -> Iterator[None]:
    """Logins that print a lot, speak French and may have a shell of another kind."""
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


def test_logins_of_any_kind_change_no_answer(
    product: Product, odd_logins: None, plain: dict[str, Any], over_ssh: Any, lab: Any
) -> None:
    noisy = over_ssh("spark-1").run("ls /nowhere; :")
    # The bytes: testinfra asks the noisy login for its encoding.
    assert b"Bienvenue" in noisy.stdout_bytes
    assert b"Aucun fichier" in noisy.stderr_bytes, "the login does not speak French"
    before = lab.look()
    found = answers(product)
    for name, answer in plain.items():
        assert found[name] == answer, name
    done = product.gb10("bootstrap")
    assert done.status == 0, done.output
    assert lab.look() == before
