"""A copy of images to a node: find them, save them on the source, move missing blobs, load, prove."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pyinfra.api import FunctionCommand, Host, State
from pyinfra.context import host, state

from gb10.facts.copy import FileTree
from gb10.facts.docker import DockerEngine
from gb10.facts.images import DockerImages, SavedImages
from gb10.facts.reading.docker import STORE
from gb10.facts.reading.launcher import Launch
from gb10.facts.reading.reports import report
from gb10.operations.copying.folder_copy import run_copy
from gb10.operations.copying.image_plan import Action, ImagePlan, Side, engine_bytes, plan_images
from gb10.operations.copying.options import CopyRequest
from gb10.operations.copying.reports import ImageMoved, ImageProven, ImagesPlanned
from gb10.operations.copying.survey import survey_copy
from gb10.operations.kit.operation import Commands, UnreadFactError, known, say
from gb10.operations.kit.peers import ask, read_facts, this_node
from gb10.operations.kit.reports import Note
from gb10.programs.answer import RefusedError
from gb10.programs.images.store import check_room

LONGEST_SECONDS = 4 * 3600
ROUNDS = 3  # damaged blobs are fetched again twice
MOVE = CopyRequest(src_path=STORE, dest_path=STORE)  # how blobs go from store to store
DAMAGED = ("IMAGE_BLOB_DAMAGED", "IMAGE_INCOMPLETE")


@dataclass(frozen=True)
class Supply:
    """Images and their source; None is the node's own store."""

    plan: ImagePlan
    here: Side
    source: Host | None = None
    there: Side | None = None


Find = Callable[[], list[Supply]]


# Where the images are -------------------------------------------------------------------------------------------------


def images_here() -> Side:
    """Return the images of this node."""
    return Side(known(DockerImages), known(SavedImages))


def from_source(tags: Sequence[str], source: Host) -> Supply:
    """Find images as the source has them. Raise RefusedError if it lacks one."""
    here, there = _images_of(this_node(), source)
    if here is None or there is None:
        raise RefusedError("NODE_UNREACHABLE", f"{source.name} does not answer")
    plan = plan_images(tags, there, here)
    if absent := plan.of(Action.ABSENT):
        stopped = " (its Docker engine does not answer)" if there.engine is None else ""
        raise RefusedError("IMAGE_MISSING", f"{source.name} has no image {', '.join(absent)}{stopped}")
    return Supply(plan, here, source, there)


def from_anywhere(tags: Sequence[str], peers: Sequence[Host]) -> list[Supply]:
    """Find images on this node, then on its peers. Raise RefusedError for those that nobody has."""
    here = images_here()
    own = plan_images(tags, here, here)
    missing = own.of(Action.ABSENT)
    supplies = [Supply(ImagePlan(tuple(plan for plan in own.tags if plan.action != Action.ABSENT)), here)]
    for peer, there in zip(peers, _images_of(*peers) if missing else [], strict=False):
        has = [tag for tag in missing if there and there.contents(tag)]
        if there and has:
            supplies.append(Supply(plan_images(has, there, here), here, peer, there))
        missing = [tag for tag in missing if tag not in has]
    if missing:
        asked = ", ".join(peer.name for peer in peers) or "no other node"
        raise RefusedError("IMAGE_MISSING", f"neither {host.name} nor {asked} has {', '.join(missing)}")
    return supplies


def _images_of(*nodes: Host) -> list[Side | None]:
    """Return the images of nodes, read at the same time; None for one that cannot be reached."""
    facts = read_facts(*((node, fact, {}) for node in nodes for fact in (DockerImages, SavedImages)))
    pairs = zip(nodes, facts[::2], facts[1::2], strict=True)
    return [Side(engine, store) if node.connected else None for node, engine, store in pairs]


def _checked(supplies: list[Supply]) -> list[Supply]:
    """Return the supplies. Raise RefusedError if this node's engine does not answer, or if there is no room."""
    here = supplies[0].here
    if here.engine is None:
        raise RefusedError("DOCKER_STOPPED", "no Docker engine answers")
    if needed := sum(supply.plan.at_most_bytes for supply in supplies):
        check_room(STORE, _free_bytes(STORE), needed, "are to come")
    if new := max(engine_bytes(s.plan.to_load, s.there or s.here, s.here) for s in supplies):
        engine = known(DockerEngine)
        folder = engine.root if engine else "/var/lib/docker"
        # the engine unpacks the archive, and then the layers
        check_room(folder, _free_bytes(folder), 2 * new, "are needed to load an image")
    return supplies


def _free_bytes(folder: str) -> int:
    return known(FileTree, root=folder, paths=(), brief=True).free


# The copy -------------------------------------------------------------------------------------------------------------


def image_commands(find: Find, move: CopyRequest = MOVE) -> Commands:
    """Yield the command that gets images and proves that they are there; none if they are.

    + find: returns where to get them
    + move: how blobs move from store to store
    """
    try:
        supplies = _checked(find())
    except RefusedError as error:
        raise RefusedError(error.code, f"{host.name}: {error.reason}") from error
    if _is_done(supplies):
        host.noop("the images are there")
        if state.is_executing:
            _report_proofs(supplies)
        return
    for supply in supplies:
        plan, source = supply.plan, supply.source.name if supply.source else host.name
        for line in plan.lines():
            report(host, Note(f"{line} (from {source})" if supply.source else line))
        if plan.at_most_bytes:
            report(host, ImagesPlanned(source, host.name, plan.at_most_bytes, plan.tags))
    yield FunctionCommand(_copy_or_report, (supplies, find, move), {})


def _is_done(supplies: Sequence[Supply]) -> bool:
    return not any(supply.plan.to_load for supply in supplies)


def _report_proofs(supplies: Sequence[Supply]) -> None:
    """Report what the engine has now."""
    for supply in supplies:
        source = supply.source.name if supply.source else None
        for tag in supply.plan.of(Action.NOTHING):
            if image := supply.here.image(tag):
                layers = len(image.contents.layers)
                what = f"{layers} layer{'' if layers == 1 else 's'}, {image.contents.architecture}"
                text = f"proven: {host.name} has {tag}{f' as {source} has it' if source else ''}: {what}"
                report(host, Note(text))
                report(host, ImageProven(source, host.name, tag, image.contents))


def _copy_or_report(state: State, host: Host, supplies: list[Supply], find: Find, move: CopyRequest) -> bool:
    """Get images, and get damaged ones again. Return False after reporting a failure."""
    damage: list[str] = []
    try:
        for _ in range(ROUNDS):
            try:
                for supply in supplies:
                    _get(host, supply, move)
            except RefusedError as error:
                if error.code not in DAMAGED:
                    raise
                damage = [error.reason]
                report(host, Note(f"{error.reason}: fetched again", "yellow"))
            supplies = _checked(find())
            if _is_done(supplies):
                _report_proofs(supplies)
                return True
        raise RefusedError("IMAGE_MISSING" if damage else "IMAGE_LOAD_FAILED", f"not done after {ROUNDS} tries")
    except RefusedError as error:
        # an image that is damaged everywhere is missing in the end
        code = "IMAGE_BLOB_DAMAGED" if damage and error.code == "IMAGE_MISSING" else error.code
        say(host, code, f"{host.name}: {'; '.join([*damage, error.reason])}")
    except UnreadFactError as error:
        say(host, "FACT_UNREADABLE", f"{host.name}: {error} could not be read: see the lines above")
    return False


def _get(host: Host, supply: Supply, move: CopyRequest) -> None:
    """Get images from their source. Raise RefusedError if that fails."""
    plan, source = supply.plan, supply.source
    if source and (moving := plan.of(Action.MOVE)):
        if plan.to_save:
            run_store(source, "save", tags=plan.to_save)
            supply = _checked([from_source(moving, source)])[0]
        if supply.plan.paths:
            _move(source, host, replace(move, paths=tuple(supply.plan.paths)))
        for tag in moving:
            saved = supply.there.store.image(tag) if supply.there and supply.there.store else None
            if saved:
                run_store(host, "adopt", record=saved.record.to_json())
    if not plan.to_load:
        return
    try:
        run_store(host, "load", tags=plan.to_load)
    except RefusedError as error:
        if source and error.code in DAMAGED:
            # perhaps it was damaged on the source already
            run_store(source, "expel", digests=re.findall("sha256:[0-9a-f]{64}", error.reason))
        raise


def _move(source: Host, target: Host, request: CopyRequest) -> None:
    survey = survey_copy(source, target, request)
    for note in survey.notes:
        report(target, Note(note))
    for refusal in survey.refusals:
        raise RefusedError(refusal.code, refusal.text)
    if not survey.is_done:
        run_copy(source, target, request, survey)


def run_store(node: Host, command: str, **job: Any) -> None:
    """Run a function of gb10.programs.images.commands on a node and report its progress. Raise RefusedError."""
    launch = Launch(
        f"gb10.programs.images.commands:{command}",
        {"root": STORE, **job},
        seconds=LONGEST_SECONDS,
        on_report=lambda moved: report(node, ImageMoved(**moved)),
        guarded=[STORE],
    )
    try:
        ask(node, launch, "OPERATION_FAILED")
    except RefusedError as error:
        raise RefusedError(error.code, f"{node.name}: {error.reason}") from error
