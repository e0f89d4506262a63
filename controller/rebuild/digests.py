"""The proof by digest: what the node that stays has is compared with the node to wipe, byte by byte."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator, Sequence

from gb10.controller.cluster.queries import CHECKED_STORE, contents_of
from gb10.controller.cluster.view import download_command
from gb10.controller.inventory import InventoryHost
from gb10.controller.rebuild.gate import Demand
from gb10.controller.rebuild.snapshot import Snapshot
from gb10.controller.rebuild.step import SHOWN, Evidence, count, first_names
from gb10.controller.rebuild.target import Target
from gb10.facts.reading.copy import shown
from gb10.facts.reading.docker import STORE
from gb10.facts.reading.huggingface import Content, folder_name

NAME = "digests"


class DigestProof:
    """Compares the sha256 of every file of the models that come back, and of the blobs of the saved images."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._remedies: list[str] = []

    def demand(self) -> Demand | None:
        """Read what has changed since it was last read, and return the demand; None if nothing comes back."""
        snapshot, began = self._target.snapshot, time.monotonic()
        if not (snapshot.models or snapshot.images):
            return None
        self._remedies = []
        faults = [*self._models(snapshot), *self._images(snapshot)]
        what = " and ".join(
            count(found, name) for found, name in ((snapshot.models, "model"), (snapshot.images, "image")) if found
        )
        same = f"{what} on {self._target.keeper.name}, with equal sha256 of every file"
        evidence = Evidence(not faults, f"not the same: {first_names(faults)}" if faults else same)
        return Demand.of(NAME, evidence, time.monotonic() - began, " && ".join(dict.fromkeys(self._remedies)))

    def _models(self, snapshot: Snapshot) -> Iterator[str]:
        """Yield the files of models that are not proven to be the same on both nodes."""
        host, keeper = self._target.host, self._target.keeper
        names = {folder_name(model.name, model.kind): name for name, model in snapshot.models.items()}
        if not names:
            return
        queries = dict.fromkeys(contents_of(node, names) for node in (host, keeper))
        found = self._target.deploys.read("Compare the models", (host.name, keeper.name), queries)
        here, there = (found.of(node.name, contents_of(node, names)) or {} for node in (host, keeper))
        for folder, name in names.items():
            yield from self._differences(name, here.get(folder), there.get(folder))

    def _differences(self, name: str, here: Content | None, there: Content | None) -> Iterator[str]:
        host, keeper = self._target.host, self._target.keeper
        if here is None or there is None:
            yield f"{name} on {(host if here is None else keeper).name}"
            return
        if here.damaged:
            self._remedies += [_removal(host, here, here.damaged), download_command(host, name)]
            yield from (f"{host.name}:{host.hub}/{shown(path)}" for path in here.damaged)
        wrong = [path for path, digest in here.digests.items() if digest is None or there.digests.get(path) != digest]
        if wrong or there.damaged:
            sync = self._target.tools.person.command("sync models", host.name, keeper.name, name)
            self._remedies += [_removal(keeper, there, [*there.damaged, *wrong]), sync]
            yield from (f"{keeper.name}:{keeper.hub}/{shown(path)}" for path in (*there.damaged, *wrong))

    def _images(self, snapshot: Snapshot) -> Iterator[str]:
        """Yield the blobs of saved images whose content is not what their names say."""
        keeper = self._target.keeper
        if not snapshot.images:
            return
        found = self._target.deploys.read("Check the saved images", (keeper.name,), [CHECKED_STORE])
        store = found.of(keeper.name, CHECKED_STORE)
        for image in store.images if store else ():
            if image.tag in snapshot.images and image.damaged:
                sync = self._target.tools.person.command("sync images", self._target.name, keeper.name, image.tag)
                self._remedies.append(sync)
                yield from (f"{keeper.name}:{STORE}, {digest} of {image.tag}" for digest in image.damaged)


def _removal(host: InventoryHost, content: Content, paths: Sequence[str]) -> str:
    """Return the command that removes the content of files from a host's hub, so that it is copied again."""
    files = dict.fromkeys(content.files.get(path, path) for path in paths[:SHOWN])
    command = shlex.join(["sudo", "rm", "-f", *(f"{host.hub}/{file}" for file in files)])
    return f"{host.ssh} {shlex.quote(command)}"
