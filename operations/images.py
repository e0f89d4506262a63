"""Docker images between nodes: saved into a store of blobs, moved as far as they are missing, loaded.

The contract: what makes two images the same is in gb10.programs.image_store.Contents, never their ID. Every operation
leaves a store that is intact, and an engine that has an image either as it was or as it should be.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import asdict, dataclass, replace

from pyinfra import logger
from pyinfra.api import FunctionCommand, Host, State, StringCommand, operation
from pyinfra.api.command import QuoteString
from pyinfra.api.exceptions import OperationValueError
from pyinfra.context import host, state

from gb10.facts.docker import DockerEngine
from gb10.facts.images import DockerImages, SavedImages, store_program
from gb10.facts.reading.images import STORE, with_tag
from gb10.facts.tree import FileTree
from gb10.operations.copying.between import copy, tell, this_node
from gb10.operations.copying.image_plan import Action, ImagePlan, Side, engine_bytes, megabytes, plan_images, plan_loads
from gb10.operations.copying.survey import Network, Transport, Verify, Wanted, look, mistaken, read_facts
from gb10.operations.kit.failures import UnreadFactError, guarded, known, refuse, say
from gb10.operations.kit.peers import peer_run
from gb10.programs.image_store import SPARE_BYTES, familiar

Commands = Generator[StringCommand | FunctionCommand, None, None]

LONGEST_SECONDS = 4 * 3600
ROUNDS = 3  # of getting blobs that turned out to be damaged once more
REFUSAL = re.compile(r"gb10-refused: ([A-Z_]+): (.*)")
MOVE = Wanted(src_path=STORE, dest_path=STORE)  # how blobs go from store to store
DAMAGED = ("IMAGE_BLOB_DAMAGED", "IMAGE_INCOMPLETE")


@operation()
@guarded
def save(tags: Sequence[str]) -> Commands:
    """
    Have images of the engine in the node's store.

    + tags: as people type them; without a version, "latest" is meant

    What is saved already is not read again. Layers that images share are there once.
    """
    side, wanted = _here(), _familiar(tags)
    if side.engine is None:
        yield from refuse("DOCKER_STOPPED", f"{host.name}: no Docker engine answers")
        return
    contents = {tag: image.contents for image in side.engine for tag in image.tags}
    absent = [tag for tag in wanted if tag not in contents]
    if absent:
        yield from refuse("IMAGE_MISSING", f"{host.name} has no image {', '.join(absent)}")
        return
    unsaved = [tag for tag in wanted if not side.is_saved(tag, contents[tag])]
    if not unsaved:
        host.noop("the images are saved")
        return
    yield store_command("save", *unsaved)


@operation()
@guarded
def load(tags: Sequence[str]) -> Commands:
    """
    Have images of the node's store in its engine, as the store has them.

    + tags: as people type them; without a version, "latest" is meant

    Every blob is checked on the way. Layers that the engine has are not loaded again.
    """
    side = _here()
    if side.engine is None:
        yield from refuse("DOCKER_STOPPED", f"{host.name}: no Docker engine answers")
        return
    saved = {image.tag: image.record.contents for image in (side.store.images if side.store else ()) if image.intact}
    wanted = _familiar(tags)
    absent = [tag for tag in wanted if tag not in saved]
    if absent:
        yield from refuse("IMAGE_MISSING", f"{host.name} has no intact {', '.join(absent)} in {STORE}")
        return
    unloaded = [tag for tag in wanted if not side.has(tag, saved[tag])]
    if not unloaded:
        host.noop("the images are loaded")
        return
    yield store_command("load", *unloaded)


@operation()
@guarded
def sync(
    tags: Sequence[str],
    source: Host,
    network: Network = "rails",
    transport: Transport = "rsyncd",
    verify: Verify = "size",
    force: bool = False,
    progress_seconds: float = 10.0,
) -> Commands:
    """
    Have images in the engine as another node has them, by way of both nodes' stores.

    + tags: as people type them; without a version, "latest" is meant
    + source: the host that has them, in its engine or in its store
    + network, transport, verify, force, progress_seconds: as gb10.operations.cx7.sync has them

    Only blobs that this node's store lacks are moved. A blob that turns out to be damaged when it is
    loaded is fetched again.
    """
    move = replace(
        MOVE, network=network, transport=transport, verify=verify, force=force, progress_seconds=progress_seconds
    )
    if mistakes := mistaken(move):
        yield from refuse("SETTINGS_INVALID", f"{host.name}: {'; '.join(mistakes)}")
        return
    wanted = _familiar(tags)
    yield from _get(lambda: [_from_source(wanted, source)], move)


@operation()
@guarded
def present(tags: Sequence[str], peers: Sequence[Host]) -> Commands:
    """
    Have images in the engine: as they are here already, from the node's own store, or from a peer that has them.

    + tags: as people type them; without a version, "latest" is meant
    + peers: the hosts to ask, in this order
    """
    wanted = _familiar(tags)
    yield from _get(lambda: _from_anywhere(wanted, peers))


@operation()
@guarded
def prune() -> Commands:
    """Remove what no image of the store needs: layers of images that were saved anew since, and damaged blobs.

    Not while another node sends images: until it is done, nothing tells what they are for.
    """
    store = known(SavedImages)
    if store is None or not store.surplus_bytes:
        host.noop("every blob is needed")
        return
    yield store_command("prune")


# Where from -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Supply:
    """Images, and where they come from: the node's own store where there is no source."""

    plan: ImagePlan
    here: Side
    source: Host | None = None
    there: Side | None = None


class _RefusedError(Exception):
    """Why images cannot be had: a code of the catalogue, and what happened."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class _ToldError(Exception):
    """Why images cannot be had has been said already."""


def _familiar(tags: Iterable[str]) -> list[str]:
    try:
        return list(dict.fromkeys(map(familiar, tags)))
    except ValueError as error:
        raise OperationValueError(f"gb10: SETTINGS_INVALID: {host.name}: {error}") from error


def _here() -> Side:
    return Side(known(DockerImages), known(SavedImages))


def _sides(*nodes: Host) -> list[Side | None]:
    """The images of nodes, looked at at the same time; None for one that cannot be reached."""
    facts = read_facts(*((node, fact, {}) for node in nodes for fact in (DockerImages, SavedImages)))
    pairs = zip(nodes, facts[::2], facts[1::2], strict=True)
    return [Side(engine, store) if node.connected else None for node, engine, store in pairs]


def _from_source(tags: Sequence[str], source: Host) -> Supply:
    """Where to get images that must be as the source has them. Raise _RefusedError where it has not all of them."""
    here, there = _sides(this_node(), source)
    if here is None or there is None:
        raise _RefusedError("NODE_UNREACHABLE", f"{source.name} does not answer")
    plan = plan_images(tags, there, here)
    if absent := plan.of(Action.ABSENT):
        stopped = " (its Docker engine does not answer)" if there.engine is None else ""
        raise _RefusedError("IMAGE_MISSING", f"{source.name} has no image {', '.join(absent)}{stopped}")
    return Supply(plan, here, source, there)


def _from_anywhere(tags: Sequence[str], peers: Sequence[Host]) -> list[Supply]:
    """Where to get images that only must be there. Raise _RefusedError for those that nobody has."""
    here = _here()
    own = plan_loads(tags, here)
    supplies, wanted = [Supply(own.but(Action.ABSENT), here)], own.of(Action.ABSENT)
    for peer, there in zip(peers, _sides(*peers) if wanted else [], strict=False):
        has = [tag for tag in wanted if there and there.contents(tag)]
        if there and has:
            supplies.append(Supply(plan_images(has, there, here), here, peer, there))
        wanted = [tag for tag in wanted if tag not in has]
    if wanted:
        asked = ", ".join(peer.name for peer in peers) or "no other node"
        raise _RefusedError("IMAGE_MISSING", f"neither {host.name} nor {asked} has {', '.join(wanted)}")
    return supplies


# Getting them ---------------------------------------------------------------------------------------------------------


def _get(find: Callable[[], list[Supply]], move: Wanted = MOVE) -> Commands:
    """Given what finds out where to get images, and how, get them and prove that they are there."""
    try:
        supplies = find()
        _check(supplies)
    except _RefusedError as error:
        yield from refuse(error.code, f"{host.name}: {error}")
        return
    if not any(supply.plan.to_load for supply in supplies):
        host.noop("the images are there")
        if state.is_executing:
            _tell_proof(supplies)
        return
    for supply in supplies:
        _tell_plan(supply)
    yield FunctionCommand(_bring, (supplies, find, move), {})


def _tell_plan(supply: Supply) -> None:
    plan, source = supply.plan, supply.source.name if supply.source else host.name
    for line in plan.lines():
        host.log(f"{line}{f' (from {source})' if supply.source else ''}", logger.info)
    if plan.at_most_bytes:
        tell("plan", {"source": source, "target": host.name, "bytes": plan.at_most_bytes, **plan.to_json()})


def _tell_proof(supplies: Sequence[Supply]) -> None:
    """Say what the engine has now, for people and for programs that keep it."""
    for supply in supplies:
        source = supply.source.name if supply.source else None
        for tag in supply.plan.of(Action.NOTHING):
            if image := with_tag(supply.here.engine or (), tag):
                contents = image.contents
                what = f"{_count(contents.layers, 'layer')}, {contents.architecture}"
                host.log(f"proven: {host.name} has {tag}{f' as {source} has it' if source else ''}: {what}")
                proof = {"source": source, "target": host.name, "tag": tag, "contents": asdict(contents)}
                host.log(f"gb10-images-proof: {json.dumps(proof)}")


def _check(supplies: Sequence[Supply]) -> None:
    """Raise _RefusedError where an engine is missing, or room."""
    here = supplies[0].here
    if here.engine is None:
        raise _RefusedError("DOCKER_STOPPED", "no Docker engine answers")
    if needed := sum(supply.plan.at_most_bytes for supply in supplies):
        _check_room(STORE, needed, "are to come")
    if new := max(engine_bytes(s.plan.to_load, s.there or s.here, s.here) for s in supplies):
        engine = known(DockerEngine)
        # the engine unpacks the archive, and then the layers
        _check_room(engine.root if engine else "/var/lib/docker", 2 * new, "are needed to load an image")


def _check_room(folder: str, needed: int, what: str) -> None:
    free = known(FileTree, root=folder, paths=(), brief=True).free
    if free < needed + SPARE_BYTES:
        raise _RefusedError("DISK_FULL", f"{folder} has {megabytes(free)} free; {megabytes(needed)} {what}")


def _count(things: Sequence[str], name: str) -> str:
    return f"{len(things)} {name}{'' if len(things) == 1 else 's'}"


def _bring(state: State, host: Host, supplies: list[Supply], find: Callable[[], list[Supply]], move: Wanted) -> bool:
    """Get images, and once more what turned out to be damaged."""
    damage = ""
    try:
        for _ in range(ROUNDS):
            try:
                for supply in supplies:
                    _supply(host, supply, move)
            except _RefusedError as error:
                if error.code not in DAMAGED:
                    raise
                damage = str(error)
                host.log(f"{damage}: fetched again", logger.warning)
            supplies = find()
            _check(supplies)
            if not any(supply.plan.to_load for supply in supplies):
                _tell_proof(supplies)
                return True
        raise _RefusedError("IMAGE_MISSING" if damage else "IMAGE_LOAD_FAILED", f"not done after {ROUNDS} tries")
    except _RefusedError as error:
        # what is damaged everywhere is missing in the end
        code = "IMAGE_BLOB_DAMAGED" if damage and error.code == "IMAGE_MISSING" else error.code
        say(host, code, f"{host.name}: {'; '.join(filter(None, (damage, str(error))))}")
    except UnreadFactError as error:
        say(host, "FACT_UNREADABLE", f"{host.name}: {error} could not be read: see the lines above")
    except _ToldError:
        pass
    return False


def _supply(host: Host, supply: Supply, move: Wanted) -> None:
    """Get images from where they are. Raise _RefusedError where that fails."""
    plan, source = supply.plan, supply.source
    if source and (moving := plan.of(Action.MOVE)):
        if plan.to_save:
            _run(source, "save", *plan.to_save)
            supply = _from_source(moving, source)
            _check([supply])
        if supply.plan.paths:
            _move(source, host, replace(move, paths=tuple(supply.plan.paths)))
        for tag in moving:
            saved = supply.there.store.image(tag) if supply.there and supply.there.store else None
            if saved:
                _run(host, "adopt", json.dumps(saved.record.to_json()))
    if not plan.to_load:
        return
    try:
        _run(host, "load", *plan.to_load)
    except _RefusedError as error:
        if source and error.code in DAMAGED:
            # what came may have been damaged before it came
            _run(source, "expel", *re.findall("sha256:[0-9a-f]{64}", str(error)))
        raise


def _move(source: Host, target: Host, wanted: Wanted) -> None:
    survey = look(source, target, wanted)
    for note in survey.notes:
        target.log(note)
    for refusal in survey.refusals:
        raise _RefusedError(*refusal)
    if not survey.is_done and not copy(state, host, source, target, wanted, survey):
        raise _ToldError


def _run(node: Host, *words: str) -> None:
    """Run a command of the store on a node, and show how far it is. Raise _RefusedError where it fails."""
    done, output = peer_run(node, store_command("--inner", *words), shown=True)
    if not done:
        refusal = REFUSAL.search(output)
        why = " ".join(output.split()[-40:]) or "it said nothing"
        code, message = refusal.groups() if refusal else ("OPERATION_FAILED", f"{words[0]} failed: {why}")
        raise _RefusedError(code, f"{node.name}: {message}")


def store_command(*words: str) -> StringCommand:
    """Given a command of gb10.programs.image_store without the store, return what runs it on a node."""
    at = 2 if words[0] == "--inner" else 1
    arguments = map(QuoteString, (*words[:at], STORE, *words[at:]))
    return StringCommand(f"timeout {LONGEST_SECONDS} python3 -", *arguments, _stdin=store_program())
