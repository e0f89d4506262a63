"""Pins: what was downloaded once is refused when the same version is something else later."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gb10.lab.mirror import MirrorControl
from tests.lab import registry
from tests.lab.product import Product

HEAD, WORKER = "spark-1", "spark-2"
IMAGE = f"127.0.0.1:{registry.PORT}/cuda:13"
MACHINES = {"x86_64": ("amd64", "k3s"), "aarch64": ("arm64", "k3s-arm64")}


class Mirrored:
    """The binary of the wanted K3s on the mirror, with the release's own list of digests."""

    def __init__(self, lab: Any, machine: str) -> None:
        self.architecture, name = MACHINES[machine]
        folder: Path = Path(lab.state.mirror_folder) / "k3s" / lab.state.k3s_version
        self.pin = f"k3s/{lab.state.k3s_version}/{self.architecture}"
        self._binary, self._list = folder / name, folder / f"sha256sum-{self.architecture}.txt"

    def publish(self, content: bytes) -> str:
        """Serve other bytes, list their digest, and return it."""
        digest = hashlib.sha256(content).hexdigest()
        self._binary.write_bytes(content)
        self._list.write_text(f"{digest}  {self._binary.name}\n")
        return digest

    def read(self) -> bytes:
        return self._binary.read_bytes()


@pytest.fixture
def mirrored(lab: Any, host_of: Any) -> Iterator[Mirrored]:
    found = Mirrored(lab, host_of(HEAD).check_output("uname -m"))
    before = found.read()
    yield found
    found.publish(before)


def test_other_bytes_of_a_known_version_are_refused_by_name(
    product: Product, fresh_nodes: Any, mirrored: Mirrored, host_of: Any
) -> None:
    product = product.with_data(pins_file=None)
    lock_file = product.folder / "gb10.lock"
    product.plan()
    assert not lock_file.exists()
    first = product.pyinfra("-y", f"--limit={HEAD}", "gb10.deploys.k3s_server")
    assert first.status == 0, first.output
    old = hashlib.sha256(mirrored.read()).hexdigest()
    pins = json.loads(lock_file.read_text())["pins"]
    assert pins[mirrored.pin]["sha256"] == old
    assert host_of(HEAD).check_output("sha256sum /usr/local/bin/k3s").split()[0] == old

    new = mirrored.publish(mirrored.read() + b"\n")
    refused = product.gb10("bootstrap")
    assert refused.status == 5, refused.output
    for part in ("PIN_DIFFERS", mirrored.pin, new, old, "gb10 lock --update"):
        assert part in refused.output
    assert host_of(WORKER).run("ls /usr/local/bin/k3s*").rc != 0
    assert json.loads(lock_file.read_text())["pins"] == pins

    accepted = product.gb10("lock", "--update", mirrored.pin)
    assert accepted.status == 0, accepted.output
    done = product.gb10("bootstrap")
    assert done.status == 0, done.output
    shown = {pin["name"]: pin for pin in product.gb10("lock", "--json").json["pins"]}
    assert shown[mirrored.pin]["sha256"] == new
    assert host_of(WORKER).check_output("sha256sum /usr/local/bin/k3s").split()[0] == new
    # What is in place needs no pin.
    lock_file.unlink()
    done = product.gb10("bootstrap", "--require-pins")
    assert done.status == 0, done.output


def test_nothing_is_downloaded_where_every_pin_is_required(
    whole: Product, bare_nodes: None, mirrored: Mirrored, mirror: MirrorControl
) -> None:
    for arguments in (["--require-pins", "--dry-run"], ["--require-pins"]):
        refused = whole.gb10("bootstrap", *arguments)
        assert refused.status == 6, refused.output
        for part in ("PIN_MISSING", mirrored.pin, "k3s_sha256", "helm_sha256", "gpu_operator_sha256"):
            assert part in refused.output
    assert not mirror.requests()


def test_a_broken_lock_file_is_refused_and_stays_as_it_is(product: Product, bare_nodes: None) -> None:
    product = product.with_data(pins_file=None)
    lock_file = product.folder / "gb10.lock"
    broken = '{"version": 1, "pins": {<<<<<<< HEAD}}'
    lock_file.write_text(broken)
    for command in (["bootstrap"], ["lock"], ["lock", "--update", "k3s/v1.36.4+k3s1/arm64"]):
        refused = product.gb10(*command)
        assert refused.status == 6, refused.output
        assert "PINS_UNUSABLE" in refused.output
        assert str(lock_file) in refused.output
    assert lock_file.read_text() == broken


@pytest.fixture
def tagged(host_of: Any, lab: Any) -> Iterator[Path]:
    """A registry on the head. Return the file that says which image its tag names."""
    head, folder = host_of(HEAD), lab.root(HEAD) / "run"
    (folder / "registry.py").write_text(Path(registry.__file__).read_text())
    (folder / "tagged").write_text("old")
    architecture = MACHINES[head.check_output("uname -m")][0]
    head.check_output(
        f"sudo systemd-run --quiet --unit=test-registry python3 /run/registry.py {architecture} /run/tagged"
    )
    head.check_output(f"curl -sf --retry 20 --retry-delay 1 --retry-connrefused http://127.0.0.1:{registry.PORT}/v2/")
    yield folder / "tagged"
    head.check_output(f"sudo systemctl stop test-registry; sudo docker rmi -f {IMAGE}")


def test_an_image_whose_tag_moved_is_pulled_as_at_first(product: Product, tagged: Path, host_of: Any) -> None:
    product, head = product.with_data(pins_file=None, validate_gpu_image=IMAGE), host_of(HEAD)
    pin = f"image/{IMAGE}"

    def pulled() -> str:
        head.run(f"sudo docker rmi -f {IMAGE}")
        done = product.pyinfra("-y", f"--limit={HEAD}", "gb10.deploys.validate", "pairs={}")
        assert done.status == 0, done.output
        head.check_output(f"sudo docker rm -f word; sudo docker create --name word {IMAGE} true")
        return str(head.check_output("sudo docker cp word:/word - | tar -xO; sudo docker rm word >/dev/null"))

    assert pulled() == "old"
    tagged.write_text("new")
    assert pulled() == "old"
    assert product.gb10("lock", "--update", pin).status == 0
    assert pulled() == "new"


def test_an_image_without_a_pin_is_not_pulled_if_pins_are_required(
    product: Product, tagged: Path, host_of: Any
) -> None:
    strict = product.with_data(pins_file=None, require_pins=True, validate_gpu_image=IMAGE)
    done = strict.pyinfra("-y", f"--limit={HEAD}", "gb10.deploys.validate", "pairs={}")
    assert done.status != 0
    assert f"image/{IMAGE}" in done.output
    assert "validate_gpu_image" in done.output
    assert host_of(HEAD).run(f"sudo docker image inspect {IMAGE}").rc != 0
