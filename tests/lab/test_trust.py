"""A person meets a reinstalled node: every command refuses its new host key until `gb10 trust`."""

from __future__ import annotations

from typing import Any

from gb10.lab.person import Person
from tests.lab.product import Product

WORKER = "spark-2"


def test_a_reinstalled_node_is_refused_until_it_is_trusted(product: Product, lab: Any) -> None:
    lab.wipe(WORKER)
    known = lab.state.known_hosts.read_text()
    try:
        for command in (["provision", WORKER, "--dry-run"], ["sync", "images", "spark-1", WORKER, "busybox:lab"]):
            done = product.gb10(*command)
            assert done.status == 4, done.output
            assert "SSH_HOST_KEY" in done.output
            assert "gb10 trust" in done.output
        done = product.pyinfra("--limit", WORKER, "gb10.deploys.node", "--dry")
        assert done.status != 0, done.output

        wrong = product.gb10("trust", WORKER, "--fingerprint", "SHA256:AAAA")
        assert (wrong.status, "HOST_KEY_REFUSED" in wrong.output) == (6, True), wrong.output
        assert lab.state.known_hosts.read_text() == known

        shown = Person(lab.lab).fingerprint(WORKER)
        done = product.gb10("trust", WORKER, "--fingerprint", shown)
        assert done.status == 0, done.output
        new = [line for line in lab.state.known_hosts.read_text().splitlines() if line not in known.splitlines()]
        assert [line.split()[:2] for line in new] == [[f"{WORKER},{lab.address(WORKER)}", "ssh-ed25519"]]
        done = product.gb10("provision", WORKER, "--dry-run")
        assert done.status == 0, done.output
    finally:
        lab.wipe(WORKER, trust=True)
