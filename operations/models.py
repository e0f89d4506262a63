"""Hugging Face models on a node, copied from another node that has them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict

from pyinfra.api import Host
from pyinfra.context import host

from gb10.facts.huggingface import HuggingFaceModels
from gb10.facts.reading.huggingface import HUB_FILES, HuggingFaceCache, Repository, folder_name
from gb10.facts.reading.reports import Refused, report
from gb10.operations.copying.folder_copy import copy_commands
from gb10.operations.copying.options import CopyOptions, CopyRequest
from gb10.operations.copying.plan import human, named
from gb10.operations.kit.operation import Commands, known, operation, refuse
from gb10.operations.kit.peers import reached, read_fact, read_facts, this_node
from gb10.operations.kit.reports import Note
from gb10.operations.kit.scripts import run_script
from gb10.programs.answer import RefusedError

EVERYTHING = "*"
CLIENT_MEMORY_BYTES = 32 << 30  # the Hub's client may take a lot to be fast


@operation()
def present(names: Sequence[str], source: Host, hub: str, source_hub: str, options: CopyOptions) -> Commands:
    """
    Have models in the Hugging Face cache of this node, with their blobs in the store that all models share.

    + names: as on the Hub: "org/name", "datasets/org/name"; "*" is the whole hub
    + source: the node that has them
    + hub, source_hub: the folder hub/ of both nodes
    + options: how to copy

    Unfinished downloads on the source are left out.
    """
    if not reached(source):
        raise RefusedError("NODE_UNREACHABLE", f"{source.name} cannot be reached")
    cache = read_fact(source, HuggingFaceModels, hub=source_hub)
    if cache is None:
        raise RefusedError("MODEL_MISSING", f"{source.name} has no Hugging Face cache {source_hub}")
    everything = EVERYTHING in names
    found = cache.repositories if everything else tuple(filter(None, (_repository(cache, name) for name in names)))
    refusals = [*_absent(cache, () if everything else names, source), *_broken(found, source, options.dangling)]
    for refusal in refusals:
        yield from refuse(refusal.code, refusal.text)
    if not refusals:
        yield from _copy(found, source, source_hub, hub, options, everything)


@operation()
def available(
    names: Sequence[str], peers: Sequence[Host], hub: str, peer_hubs: Mapping[str, str], options: CopyOptions
) -> Commands:
    """
    Have models in the Hugging Face cache of this node; missing ones come from a node that has them.

    + names: as on the Hub: "org/name", "datasets/org/name"
    + peers: the nodes to ask, in this order
    + hub: the folder hub/ of this node
    + peer_hubs: name of a node -> that folder there
    + options: how to copy
    """
    own = known(HuggingFaceModels, hub=hub)
    caches = read_facts(*((peer, HuggingFaceModels, {"hub": peer_hubs[peer.name]}) for peer in peers))
    found = givers(names, own, dict(zip((peer.name for peer in peers), caches, strict=True)))
    if absent := [name for name, giver in found.items() if giver is None]:
        asked = ", ".join(peer.name if peer.connected else f"{peer.name} (not reached)" for peer in peers)
        text = f"neither {host.name} nor {asked or 'any other node'} has {', '.join(absent)}"
        raise RefusedError("MODEL_MISSING", text)
    if not found:
        host.noop("the models are here")
    for peer, cache in zip(peers, caches, strict=True):
        wanted = [name for name in names if found.get(name) == peer.name]
        given = list(filter(None, (_repository(cache, name) for name in wanted)))
        if given:
            yield from _copy(given, peer, peer_hubs[peer.name], hub, options)


@operation()
def downloaded(names: Sequence[str], home: str, seconds: int) -> Commands:
    """
    Download models that this node lacks, or has in part, from the Hugging Face Hub, by the client on the node.

    + names: as on the Hub: "org/name", "datasets/org/name"
    + home: the folder of the cache (HF_HOME)
    + seconds: time limit for each

    An interrupted download is resumed. A gated model needs a login of the client: gb10 never sees its token.
    """
    cache = known(HuggingFaceModels, hub=f"{home}/hub")
    found = {name: _repository(cache, name) for name in names}
    lacking = [name for name, repository in found.items() if repository is None or not repository.complete]
    if not lacking:
        host.noop("all of them are there")
    for name in lacking:
        repository, kind = split_name(name)
        arguments = (repository, kind, home)
        yield run_script("download-model.sh", *arguments, seconds=seconds, memory_bytes=CLIENT_MEMORY_BYTES)


def _copy(
    repositories: Sequence[Repository],
    source: Host,
    source_hub: str,
    hub: str,
    options: CopyOptions,
    everything: bool = False,
) -> Commands:
    """Yield the command that copies repositories to this node, or the whole hub of the source with `everything`."""
    for repository in repositories:
        report(host, Note(describe_repository(repository)))
    request = CopyRequest(
        src_path=source_hub,
        dest_path=hub,
        paths=None if everything else tuple(repository.folder for repository in repositories),
        also=HUB_FILES,
        **asdict(options),
    )
    yield from copy_commands(source, this_node(), request)


def givers(
    names: Sequence[str], own: HuggingFaceCache | None, others: Mapping[str, HuggingFaceCache | None]
) -> dict[str, str | None]:
    """Given a node's cache and those of others, return missing model -> the node that gives it, or None if nobody can.

    A model that is here but incomplete, such as a download that broke off, comes only from a node that has it
    complete: perhaps the missing files are not wanted.
    """
    found: dict[str, str | None] = {}
    for name in names:
        here = _repository(own, name)
        if here and here.complete:
            continue
        there = {node: _repository(cache, name) for node, cache in others.items()}
        whole = [node for node, repository in there.items() if repository and repository.complete]
        sound = [node for node, repository in there.items() if repository and repository.sound]
        if giver := next(iter(whole or ([] if here and here.sound else sound)), None):
            found[name] = giver
        elif not (here and here.sound):
            found[name] = None
    return found


def split_name(name: str) -> tuple[str, str]:
    """Given a name as people type it, return the name and kind of the repository."""
    for kind in ("dataset", "space"):
        if name.startswith(f"{kind}s/"):
            return name.removeprefix(f"{kind}s/"), kind
    return name, "model"


def describe_repository(repository: Repository) -> str:
    """Return a line that describes what a cache has of a repository."""
    shared = f", {human(repository.shared_size)} of it in the shared store" if repository.shared_blobs else ""
    revisions = len(repository.revisions)
    parts = [f"{human(repository.size)}{shared}", f"{revisions} revision{'' if revisions == 1 else 's'}"]
    absent = max((len(revision.absent or ()) for revision in repository.revisions), default=0)
    if absent:
        parts.append(f"{absent} files of the repository are not on the source")
    if repository.incomplete_downloads:
        parts.append(f"{repository.incomplete_downloads} unfinished downloads are left out")
    return f"{repository.name}: {', '.join(parts)}"


def _repository(cache: HuggingFaceCache | None, name: str) -> Repository | None:
    return cache.repository(*split_name(name)) if cache else None


def _absent(cache: HuggingFaceCache, names: Sequence[str], source: Host) -> Iterator[Refused]:
    for name in names:
        found = _repository(cache, name)
        if found is None or not found.revisions:
            what = f"no {name} ({folder_name(*split_name(name))})" if found is None else f"{name} without any revision"
            yield Refused("MODEL_MISSING", f"{source.name} has {what} in {cache.root}")


def _broken(found: Sequence[Repository], source: Host, dangling: str) -> Iterator[Refused]:
    """Yield the reasons to refuse repositories: torn files, and links that lead nowhere unless they are allowed."""
    for repository in found:
        where = f"{repository.name} on {source.name}"
        torn = [path for revision in repository.revisions for path in revision.torn]
        lost = [path for revision in repository.revisions for path in revision.dangling]
        if torn:
            yield Refused("MODEL_BROKEN", f"{where}: files of a wrong size: {named(torn)}")
        if lost and dangling == "refuse":
            yield Refused("MODEL_BROKEN", f"{where}: links that lead nowhere: {named(lost)}")
