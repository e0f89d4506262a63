"""Syncs of Docker images between two nodes with real Docker engines: what is sent, and what happens after failures."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import re
import shlex
import signal
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.lab.product import Done, Product

STORE = "/data/docker-images"
INTERFACES = ("enp1s0f0np0", "enP2p1s0f0np0", "enP7s7")
LAYER_BYTES = 12_000_000
SOURCE, TARGET = "spark-1", "spark-2"


class Node:
    """A node with its Docker engine and its store of saved images, seen without the product."""

    def __init__(self, name: str, host: Any) -> None:
        self.name = name
        self._host = host

    def __call__(self, command: str) -> str:
        """Run a command as root and return its output. It must succeed."""
        done = self._host.run("sudo sh -c %s", command)
        assert done.rc == 0, done.stderr
        return str(done.stdout).strip()

    def build(self, tag: str, **files: str) -> None:
        """Build an image with one layer for each file. Its content is a text, or a number of random bytes."""
        steps = "".join(f"COPY {name} /{name}\\n" for name in files)
        settings = "ENV A=1\\nLABEL b=c\\nEXPOSE 80\\nHEALTHCHECK CMD true\\nUSER 7\\nWORKDIR /x\\n"
        make = "; ".join(f"{_content(content)} > {name}" for name, content in files.items())
        self(
            f"mkdir -p /root/build && cd /root/build && {make} && "
            f"printf 'FROM scratch\\n{steps}{settings}' > Dockerfile && DOCKER_BUILDKIT=0 docker build -q -t {tag} ."
        )

    def image(self, tag: str) -> Any:
        """Return the engine's description of an image, or None."""
        done = self._host.run(f"sudo docker image inspect {tag}")
        return json.loads(done.stdout)[0] if done.rc == 0 else None

    def layers(self, tag: str) -> Any:
        """Return the layers of an image in the engine, or None."""
        image = self.image(tag)
        return image and image["RootFS"]["Layers"]

    def blobs(self) -> dict[str, int]:
        """Return the size in bytes of each blob in the store, by its name."""
        lines = self(f"find {STORE}/blobs -type f -printf '%f %s\\n' 2>/dev/null || true").splitlines()
        return {name: int(size) for name, size in map(str.split, lines)}

    def damage(self) -> str:
        """Change a byte of the largest blob in the store and return its name."""
        name = max(self.blobs().items(), key=lambda blob: blob[1])[0]
        self(f"printf x | dd of={STORE}/blobs/sha256/{name} bs=1 seek=5000 conv=notrunc status=none")
        return name

    def forget(self) -> None:
        """Empty the engine and the store."""
        self(f"docker image ls -aq | sort -u | xargs -r docker image rm -f; rm -rf {STORE} /root/build")

    def received(self) -> int:
        """Return the bytes received so far on all networks."""
        return sum(int(self(f"cat /sys/class/net/{name}/statistics/rx_bytes")) for name in INTERFACES)


def _content(content: str) -> str:
    """Return the command that prints a file's content. Random bytes are reproducible, so that layers are too."""
    if not content.isdigit():
        return f"echo {content}"
    return f"openssl enc -aes-128-ctr -nosalt -pass pass:1 -in /dev/zero 2>/dev/null | head -c {content}"


@pytest.fixture
def nodes(host_of: Callable[[str], Any]) -> Iterator[tuple[Node, Node]]:
    """The source and the target, without images."""
    pair = Node(SOURCE, host_of(SOURCE)), Node(TARGET, host_of(TARGET))
    for node in pair:
        node.forget()
    yield pair
    for node in pair:
        node("systemctl start docker")
        node.forget()


Sync = Callable[..., Done]


@pytest.fixture
def sync(product: Product) -> Sync:
    """Return a function that syncs images from the source to the target."""

    def run(*tags: str, dry: bool = False) -> Done:
        flags = ["--dry"] if dry else ["-y", "--fail-percent", "0"]
        arguments = ("gb10.deploys.sync_images", f"tags={json.dumps(tags)}", f"source={SOURCE}")
        return product.pyinfra("--json", f"--limit={TARGET}", *flags, *arguments)

    return run


def changed(done: Done) -> bool:
    """Return True if a run or dry run changes something."""
    assert done.status == 0, done.output
    document = done.json
    operations = (document["results"] or {}).get("operations") or document["plan"]
    return any(operation.get("success") or operation.get("hosts_with_change") for operation in operations)


def test_an_image_arrives_unchanged_on_another_node(nodes: tuple[Node, Node], sync: Sync) -> None:
    source, target = nodes
    source.build("vllm:1", base=str(LAYER_BYTES), top="hello")
    plan = sync("vllm:1", dry=True)
    assert changed(plan)
    assert re.search(r"vllm:1: saved on the source first, then at most 12\.0 MB \(from spark-1\)", plan.output)
    assert not source.blobs()
    assert not target.blobs()
    assert changed(sync("vllm:1"))
    ours, theirs = source.image("vllm:1"), target.image("vllm:1")
    for key in ("RootFS", "Architecture", "Config", "RepoTags"):
        assert theirs[key] == ours[key]
    assert not changed(sync("vllm:1", dry=True))
    before = target.received()
    assert not changed(sync("vllm:1"))
    assert target.received() - before < 1_000_000


def test_only_a_changed_layer_is_sent(nodes: tuple[Node, Node], sync: Sync) -> None:
    source, target = nodes
    source.build("vllm:1", base=str(LAYER_BYTES), top="hello")
    assert changed(sync("vllm:1"))
    source.build("vllm:1", base=str(LAYER_BYTES), top="world")
    before = target.received()
    assert changed(sync("vllm:1"))
    assert target.received() - before < 1_000_000
    assert target.layers("vllm:1") == source.layers("vllm:1")
    large = [size for size in target.blobs().values() if size >= LAYER_BYTES]
    assert len(large) == 1


def test_an_image_with_another_environment_is_synced(nodes: tuple[Node, Node], sync: Sync) -> None:
    source, target = nodes
    source.build("vllm:1", top="hello")
    assert changed(sync("vllm:1"))
    source("printf 'FROM vllm:1\\nENV NCCL_DEBUG=INFO\\n' | DOCKER_BUILDKIT=0 docker build -q -t vllm:1 -")
    assert changed(sync("vllm:1"))
    assert "NCCL_DEBUG=INFO" in target.image("vllm:1")["Config"]["Env"]
    assert not changed(sync("vllm:1"))


def test_another_tag_of_an_image_sends_no_blob(nodes: tuple[Node, Node], sync: Sync) -> None:
    source, target = nodes
    source.build("vllm:1", base=str(LAYER_BYTES))
    assert changed(sync("vllm:1"))
    source("docker tag vllm:1 registry.example:5000/team/vllm:2")
    before = target.blobs()
    assert changed(sync("registry.example:5000/team/vllm:2"))
    assert target.blobs() == before
    assert target.layers("registry.example:5000/team/vllm:2") == source.layers("vllm:1")


def test_a_damaged_blob_is_named_and_fetched_again(nodes: tuple[Node, Node], sync: Sync) -> None:
    source, target = nodes
    source.build("vllm:1", base=str(LAYER_BYTES))
    assert changed(sync("vllm:1"))
    blob = target.damage()
    target("docker image rm vllm:1")
    done = sync("vllm:1")
    assert changed(done)
    assert f"{blob} is damaged" in done.output
    assert target.layers("vllm:1") == source.layers("vllm:1")


def test_a_blob_damaged_on_both_nodes_is_saved_again(nodes: tuple[Node, Node], sync: Sync) -> None:
    source, target = nodes
    source.build("vllm:1", base=str(LAYER_BYTES))
    assert changed(sync("vllm:1"))
    target("docker image rm vllm:1")
    assert source.damage() == target.damage()
    assert changed(sync("vllm:1"))
    assert target.layers("vllm:1") == source.layers("vllm:1")


def test_a_blob_without_an_intact_copy_is_an_error(nodes: tuple[Node, Node], sync: Sync) -> None:
    source, target = nodes
    source.build("vllm:1", base=str(LAYER_BYTES))
    assert changed(sync("vllm:1"))
    for node in nodes:
        node("docker image rm vllm:1")
    blob = source.damage()
    target.damage()
    done = sync("vllm:1")
    assert done.status != 0
    assert re.search(rf"IMAGE_BLOB_DAMAGED: .*{blob}", done.output)
    assert target.image("vllm:1") is None


def test_a_tag_missing_on_the_source_stops_the_sync(nodes: tuple[Node, Node], sync: Sync) -> None:
    source, target = nodes
    source.build("vllm:1", top="hello")
    dry = sync("vllm:1", "vllm:9", dry=True)
    assert "would be refused: IMAGE_MISSING" in dry.output
    done = sync("vllm:1", "vllm:9")
    assert done.status != 0
    assert "IMAGE_MISSING: spark-2: spark-1 has no image vllm:9" in done.output
    assert target.image("vllm:1") is None


def test_a_stopped_docker_on_the_target_stops_the_sync(nodes: tuple[Node, Node], sync: Sync) -> None:
    source, target = nodes
    source.build("vllm:1", top="hello")
    target("systemctl stop docker.socket docker")
    done = sync("vllm:1")
    assert done.status != 0
    assert "DOCKER_STOPPED: spark-2" in done.output
    assert not source.blobs()


def test_saved_images_are_sent_while_docker_is_stopped(nodes: tuple[Node, Node], sync: Sync) -> None:
    source, target = nodes
    source.build("vllm:1", top="hello")
    layers = source.layers("vllm:1")
    assert changed(sync("vllm:1"))
    target("docker image rm vllm:1")
    target(f"rm -rf {STORE}")
    source("systemctl stop docker.socket docker")
    assert changed(sync("vllm:1"))
    assert target.layers("vllm:1") == layers
    done = sync("vllm:2")
    assert "its Docker engine does not answer" in done.output


def test_a_full_target_is_refused_before_anything_is_sent(nodes: tuple[Node, Node], sync: Sync) -> None:
    source, target = nodes
    source.build("vllm:1", base=str(LAYER_BYTES))
    target(f"mkdir -p {STORE} && mount -t tmpfs -o size=9m tmpfs {STORE} && mkdir -p {STORE}/blobs/sha256")
    try:
        done = sync("vllm:1")
        assert done.status != 0
        assert "DISK_FULL: spark-2" in done.output
        assert not target.blobs()
    finally:
        target(f"umount {STORE}")
    assert changed(sync("vllm:1"))


def test_the_next_save_completes_a_killed_one(nodes: tuple[Node, Node], product: Product) -> None:
    source, _ = nodes
    source.build("vllm:1", first=str(LAYER_BYTES), second=str(20 * LAYER_BYTES))
    save = ("gb10.deploys.save_images", 'tags=["vllm:1"]')
    kill_save = f"until [ -n \"$(ls {STORE}/blobs/sha256)\" ]; do sleep 0.01; done; kill -9 $(pgrep -f '^python3 -I ')"
    source(f"systemd-run --quiet --collect timeout 60 bash -c {shlex.quote(kill_save)}")
    product.pyinfra("-y", f"--limit={SOURCE}", *save)
    found = saved(product, SOURCE)
    assert not found["images"]
    assert source.blobs()
    done = product.pyinfra("--json", "-y", f"--limit={SOURCE}", *save)
    assert changed(done)
    (image,) = saved(product, SOURCE)["images"]
    assert not image["missing"]
    assert not image["damaged"]


def test_an_image_goes_over_ssh_on_request(nodes: tuple[Node, Node], product: Product) -> None:
    source, target = nodes
    source.build("vllm:1", first=str(LAYER_BYTES))
    options = ("--network", "management", "--transport", "ssh", "--verify", "hash", "--force")
    done = product.gb10("sync", "images", SOURCE, TARGET, "vllm:1", *options)
    assert done.status == 0, done.output
    assert "over the management network, as asked for" in done.output
    assert "sha256 of both nodes compared" in done.output
    assert target.layers("vllm:1") == source.layers("vllm:1")


def test_the_dry_run_of_a_first_sync_detects_a_full_disk(nodes: tuple[Node, Node], sync: Sync) -> None:
    source, target = nodes
    source.build("vllm:1", first=str(LAYER_BYTES))
    target(f"mkdir -p {STORE} && mount -t tmpfs -o size=8m tmpfs {STORE}")
    try:
        dry = sync("vllm:1", dry=True)
    finally:
        target(f"umount {STORE}")
    assert "would be refused: DISK_FULL" in dry.output
    assert source.blobs() == target.blobs() == {}


def test_a_full_docker_disk_is_refused_before_sending(nodes: tuple[Node, Node], sync: Sync) -> None:
    source, target = nodes
    source.build("vllm:1", first=str(LAYER_BYTES))
    root = target("docker info --format '{{.DockerRootDir}}'")
    target(f"systemctl stop docker.socket docker && mount -t tmpfs -o size=200m tmpfs {root} && systemctl start docker")
    try:
        done = sync("vllm:1")
    finally:
        target(f"systemctl stop docker.socket docker; umount -l {root}; systemctl start docker")
    assert done.status != 0
    assert f"DISK_FULL: spark-2: {root} has " in done.output
    assert target.blobs() == {}


def test_the_next_sync_resumes_after_a_killed_controller(nodes: tuple[Node, Node], product: Product) -> None:
    source, target = nodes
    source.build("vllm:1", first=str(LAYER_BYTES), second=str(20 * LAYER_BYTES))
    command = ("sync", "images", SOURCE, TARGET, "vllm:1")
    running = product.start(*command)
    source("timeout 60 sh -c 'until pgrep -f \"^docker image save\"; do sleep 0.05; done'")
    os.killpg(running.pid, signal.SIGKILL)
    running.communicate()
    for node in nodes:
        node("timeout 30 sh -c 'while pgrep -f \"^(python3 -I |docker image)\"; do sleep 0.5; done'")
    assert target.image("vllm:1") is None
    done = product.gb10(*command)
    assert done.status == 0, done.output
    assert "proven: spark-2 has vllm:1 as spark-1 has it: 3 layers" in done.output
    assert product.gb10(*command, "--dry-run").stdout.strip().endswith("Nothing to send.")


def saved(product: Product, node: str) -> Any:
    """Return the content of a node's store, verified by digest."""
    done = product.pyinfra("--json", f"--limit={node}", "fact", "gb10.facts.images.SavedImages", "deep=true")
    (by_host,) = done.json.values()
    return by_host[node]


def test_images_of_the_inventory_come_from_any_node(nodes: tuple[Node, Node], product: Product) -> None:
    source, target = nodes
    source.build("vllm:1", base=str(LAYER_BYTES))
    target.build("tools:1", top="hello")
    declared = product.with_data(images=["vllm:1", "tools:1"])
    planned = declared.plan("gb10.deploys.images")
    assert {host for _, host in planned} == {SOURCE, TARGET}
    assert declared.run("gb10.deploys.images") == planned
    assert source.layers("tools:1") == target.layers("tools:1")
    assert source.layers("vllm:1") == target.layers("vllm:1")
    assert declared.run("gb10.deploys.images") == set()
    # Each node has one image only in its own store, and the source's store is empty.
    target("docker image rm vllm:1")
    source("docker image rm vllm:1")
    source(f"rm -rf {STORE}")
    assert {host for _, host in declared.run("gb10.deploys.images")} == {SOURCE, TARGET}


def test_the_error_names_an_image_that_no_node_has(nodes: tuple[Node, Node], product: Product) -> None:
    done = product.with_data(images=["vllm:1"]).pyinfra("-y", "gb10.deploys.images")
    assert done.status != 0
    assert re.search("IMAGE_MISSING: .*neither spark-1 nor spark-2 has vllm:1", done.output)
    done = product.with_data(images=["no tag"]).pyinfra("-y", "gb10.deploys.images")
    assert "gb10: SETTINGS_INVALID" in done.output


def test_a_prune_removes_only_unused_blobs(nodes: tuple[Node, Node], product: Product) -> None:
    source, _ = nodes
    save = ("--json", "-y", f"--limit={SOURCE}", "gb10.deploys.save_images", 'tags=["vllm:1"]')
    prune = ("--json", "-y", f"--limit={SOURCE}", "gb10.deploys.prune_images")
    source.build("vllm:1", base=str(LAYER_BYTES), top="hello")
    assert changed(product.pyinfra(*save))
    assert not changed(product.pyinfra(*save))
    assert not changed(product.pyinfra(*prune))
    old = source.blobs()
    source.build("vllm:1", base=str(LAYER_BYTES), top="world")
    assert changed(product.pyinfra(*save))
    assert changed(product.pyinfra(*prune))
    assert not changed(product.pyinfra(*prune))
    assert sum(size >= LAYER_BYTES for size in source.blobs().values()) == 1
    assert old.keys() - source.blobs().keys()


@pytest.fixture
def containerd(nodes: tuple[Node, Node]) -> Iterator[Node]:
    """The target, with containerd's image store instead of Docker's own."""
    _, target = nodes
    before = target("cat /etc/docker/daemon.json 2>/dev/null || echo '{}'")
    settings = json.dumps({**json.loads(before), "features": {"containerd-snapshotter": True}})
    write = "mkdir -p /etc/docker && printf %s {} > /etc/docker/daemon.json"
    restart = f"{write}; systemctl reset-failed docker; systemctl restart docker"
    target(restart.format(shlex.quote(settings)))
    yield target
    target.forget()
    target(restart.format(shlex.quote(before)))


def test_images_go_to_containerds_store_and_back(
    nodes: tuple[Node, Node], containerd: Node, sync: Sync, product: Product
) -> None:
    source, target = nodes
    source.build("vllm:1", base=str(LAYER_BYTES), top="hello")
    assert changed(sync("vllm:1"))
    assert not changed(sync("vllm:1"))
    assert target.layers("vllm:1") == source.layers("vllm:1")
    layers = source.layers("vllm:1")
    source.forget()
    back = ("gb10.deploys.sync_images", 'tags=["vllm:1"]', f"source={TARGET}")
    assert changed(product.pyinfra("--json", "-y", f"--limit={SOURCE}", *back))
    assert source.layers("vllm:1") == layers


def pulled(tag: str) -> bytes:
    """Return an image with a compressed layer in OCI layout, as a registry and containerd's store have it."""
    inner = _tar({"hello": b"hello" * 1000})
    layer = gzip.compress(inner, mtime=0)
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Env": ["A=1"], "Cmd": ["/hello"]},
            "rootfs": {"type": "layers", "diff_ids": [_digest(inner)]},
        }
    ).encode()
    oci = "application/vnd.oci.image"
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": f"{oci}.manifest.v1+json",
            "config": _descriptor(config, f"{oci}.config.v1+json"),
            "layers": [_descriptor(layer, f"{oci}.layer.v1.tar+gzip")],
        }
    ).encode()
    names = {"io.containerd.image.name": f"docker.io/library/{tag}", "org.opencontainers.image.ref.name": "1"}
    root = {**_descriptor(manifest, f"{oci}.manifest.v1+json"), "annotations": names}
    blobs = {f"blobs/sha256/{_digest(content)[7:]}": content for content in (layer, config, manifest)}
    index = json.dumps({"schemaVersion": 2, "manifests": [root]}).encode()
    return _tar({**blobs, "oci-layout": b'{"imageLayoutVersion": "1.0.0"}', "index.json": index})


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _descriptor(content: bytes, media_type: str) -> dict[str, object]:
    return {"mediaType": media_type, "digest": _digest(content), "size": len(content)}


def _tar(files: dict[str, bytes]) -> bytes:
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return output.getvalue()


def test_compressed_layers_stay_compressed_in_a_sync(
    nodes: tuple[Node, Node], containerd: Node, root_of: Callable[[str], Path], product: Product
) -> None:
    source, target = nodes
    archive = pulled("pulled:1")
    (root_of(TARGET) / "root/pulled.tar").write_bytes(archive)
    target("docker load -q -i /root/pulled.tar; rm /root/pulled.tar")
    back = ("gb10.deploys.sync_images", 'tags=["pulled:1"]', f"source={TARGET}")
    assert changed(product.pyinfra("--json", "-y", f"--limit={SOURCE}", *back))
    assert source.layers("pulled:1") == target.layers("pulled:1")
    assert source.image("pulled:1")["Config"]["Env"] == ["A=1"]
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        wanted = {name.rpartition("/")[2] for name in tar.getnames() if name.startswith("blobs/")}
    assert wanted == source.blobs().keys() == target.blobs().keys()
    # Back in containerd's store it has the same digest.
    before = target.image("pulled:1")["Id"]
    target("docker image rm pulled:1")
    again = ("gb10.deploys.sync_images", 'tags=["pulled:1"]', f"source={SOURCE}")
    assert changed(product.pyinfra("--json", "-y", f"--limit={TARGET}", *again))
    assert target.image("pulled:1")["Id"] == before
