"""What keeps a node from serving: what runs there and may not be stopped, and what it lacks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pyinfra.context import host

from gb10.facts.file import SecretFile, SecretFileState
from gb10.facts.huggingface import HuggingFaceModels
from gb10.facts.images import DockerImages
from gb10.facts.reading.docker import with_tag
from gb10.facts.reading.huggingface import HuggingFaceCache
from gb10.facts.reading.reports import Refused
from gb10.facts.reading.serving import NodeServing
from gb10.operations.kit.failures import known
from gb10.operations.kit.peers import read_facts
from gb10.operations.kit.serving_plan import Plan
from gb10.operations.kit.serving_site import Site
from gb10.operations.models import split_name
from gb10.programs.images.contents import EngineImage
from gb10.programs.images.names import familiar


def in_the_way(plan: Plan, mine: NodeServing) -> Iterator[Refused]:
    """Yield the reasons why what runs here may not be stopped."""
    own = plan.settings.described(mine.mode)
    if mine.engines and not mine.docker:
        yield Refused("DOCKER_STOPPED", "an engine runs, and no Docker engine answers that could stop it")
    elif mine.mode == "undecided" and {engine.mode for engine in mine.engines} != {"member"}:
        yield Refused("SERVING_UNDECIDED", "; ".join(mine.reasons))
    elif mine.foreign and not (own and own.stop):
        names = ", ".join(dict.fromkeys(one.container or f"process {one.pid}" for one in mine.foreign))
        yield Refused("SERVING_FOREIGN", f"{names} serves ({mine.mode}), and gb10 did not start it")


def lacking(plan: Plan, site: Site) -> Iterator[Refused]:
    """Yield what this node lacks to serve."""
    if plan.mode is None or plan.rank(host.name) is None:
        return
    models, tags = plan.settings.needs([plan.mode])
    if plan.settings.env_file and plan.own and not plan.own.start:
        yield from _lacking_env_file(plan.settings.env_file, known(SecretFile, path=plan.settings.env_file))
    if tags:
        head = site.members[0]
        mine = known(DockerImages)
        heads = read_facts((head, DockerImages, {}))[0] if head.name != host.name else mine
        yield from _lacking_images([familiar(tag) for tag in tags], mine, heads, head.name)
    if models:
        hub = f"{site.home}/hub"
        yield from _lacking_models(models, known(HuggingFaceModels, hub=hub), hub)


def _lacking_env_file(path: str, found: SecretFileState | None) -> Iterator[Refused]:
    if found is None:
        yield Refused("SERVING_NOT_READY", f"it has no {path}, which serving_env_file names")
    elif found.mode not in ("600", "400"):
        yield Refused("SERVING_NOT_READY", f"others may read {path}: chmod 600 it")


def _lacking_images(
    tags: Sequence[str],
    mine: Sequence[EngineImage] | None,
    heads: Sequence[EngineImage] | None,
    head: str,
) -> Iterator[Refused]:
    if mine is None:
        yield Refused("DOCKER_STOPPED", "no Docker engine answers")
        return
    for tag in tags:
        image, other = with_tag(mine, tag), with_tag(heads or (), tag)
        if image is None:
            yield Refused("SERVING_NOT_READY", f"it has no image {tag}")
        elif other and image.contents != other.contents:
            yield Refused("SERVING_NOT_READY", f"its image {tag} is not that of {head}")


def _lacking_models(names: Sequence[str], cache: HuggingFaceCache | None, hub: str) -> Iterator[Refused]:
    for name in names:
        found = cache.repository(*split_name(name)) if cache else None
        if found is None:
            yield Refused("SERVING_NOT_READY", f"it has no {name} in {hub}")
        elif not found.sound:
            yield Refused("SERVING_NOT_READY", f"its {name} is not whole")
