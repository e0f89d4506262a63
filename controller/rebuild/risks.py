"""What is lost with a wipe, said before a person is asked for it."""

from __future__ import annotations

from collections.abc import Iterator

from gb10.controller.inventory import InventoryHost
from gb10.controller.rebuild.memory import Memory
from gb10.facts.reading.docker import Belongings


def risks(host: InventoryHost, memory: Memory, belongings: Belongings | None) -> Iterator[str]:
    """Yield what of a node will not come back. `belongings` are the volumes and containers in its Docker engine."""
    name = host.name
    yield from (f"model {model} is not whole, or not chosen, and will not come back" for model in memory.lost_models)
    if memory.lost_images:
        yield f"images that `images` does not name will not come back: {', '.join(memory.lost_images)}"
    if belongings is None:
        yield f"nobody can tell which volumes and containers are in the Docker engine of {name}: they are erased"
    else:
        if belongings.volumes:
            yield f"volumes of Docker are erased with all that is in them: {', '.join(belongings.volumes)}"
        if belongings.containers:
            names = ", ".join(belongings.containers)
            yield f"containers will not come back, only how they were started is kept: {names}"
    yield f"every file of {name} that no backup holds is erased, also in home folders: name more in backup_paths"
    if not memory.own_device:
        yield f"/data of {name} is on the system's own partition: all on it is erased, but what others keep"
    if "head" in host.groups and memory.k3s:
        yield f"{name} runs the API server: while it is away, Kubernetes does not answer; pods go on"
