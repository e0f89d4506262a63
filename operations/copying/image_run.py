"""Images brought to a node: saved on the source, moved as far as they are missing, loaded, proven."""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from typing import Any

from pyinfra.api import FunctionCommand, Host, State
from pyinfra.context import host, state

from gb10.facts.reading.docker import STORE, with_tag
from gb10.facts.reading.launcher import Launch
from gb10.facts.reading.reports import report
from gb10.operations.copying.between import run_copy
from gb10.operations.copying.image_plan import Action
from gb10.operations.copying.image_supply import Supply, check_supplies, from_source
from gb10.operations.copying.reports import ImageMoved, ImageProven, ImagesPlanned
from gb10.operations.copying.survey import Wanted, look
from gb10.operations.kit.operation import UnreadFactError, refuse, say
from gb10.operations.kit.peers import ask
from gb10.operations.kit.reports import Note
from gb10.programs.answer import RefusedError

LONGEST_SECONDS = 4 * 3600
ROUNDS = 3  # of getting blobs that turned out to be damaged once more
MOVE = Wanted(src_path=STORE, dest_path=STORE)  # how blobs go from store to store
DAMAGED = ("IMAGE_BLOB_DAMAGED", "IMAGE_INCOMPLETE")

Find = Callable[[], list[Supply]]


def image_commands(find: Find, move: Wanted = MOVE) -> Generator[FunctionCommand, None, None]:
    """Yield the command that gets images and proves that they are there; none if they are.

    + find: returns where to get them
    + move: how blobs move from store to store
    """
    try:
        supplies = find()
        check_supplies(supplies)
    except RefusedError as error:
        yield from refuse(error.code, f"{host.name}: {error.reason}")
        return
    if not any(supply.plan.to_load for supply in supplies):
        host.noop("the images are there")
        if state.is_executing:
            _report_proofs(supplies)
        return
    for supply in supplies:
        _report_plan(supply)
    yield FunctionCommand(_bring, (supplies, find, move), {})


def _report_plan(supply: Supply) -> None:
    plan, source = supply.plan, supply.source.name if supply.source else host.name
    for line in plan.lines():
        report(host, Note(f"{line}{f' (from {source})' if supply.source else ''}"))
    if plan.at_most_bytes:
        report(host, ImagesPlanned(source, host.name, plan.at_most_bytes, plan.tags))


def _report_proofs(supplies: Sequence[Supply]) -> None:
    """Report what the engine has now."""
    for supply in supplies:
        source = supply.source.name if supply.source else None
        for tag in supply.plan.of(Action.NOTHING):
            if image := with_tag(supply.here.engine or (), tag):
                layers = len(image.contents.layers)
                what = f"{layers} layer{'' if layers == 1 else 's'}, {image.contents.architecture}"
                text = f"proven: {host.name} has {tag}{f' as {source} has it' if source else ''}: {what}"
                report(host, Note(text))
                report(host, ImageProven(source, host.name, tag, image.contents))


def _bring(state: State, host: Host, supplies: list[Supply], find: Find, move: Wanted) -> bool:
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
            supplies = find()
            check_supplies(supplies)
            if not any(supply.plan.to_load for supply in supplies):
                _report_proofs(supplies)
                return True
        raise RefusedError("IMAGE_MISSING" if damage else "IMAGE_LOAD_FAILED", f"not done after {ROUNDS} tries")
    except RefusedError as error:
        # what is damaged everywhere is missing in the end
        code = "IMAGE_BLOB_DAMAGED" if damage and error.code == "IMAGE_MISSING" else error.code
        say(host, code, f"{host.name}: {'; '.join([*damage, error.reason])}")
    except UnreadFactError as error:
        say(host, "FACT_UNREADABLE", f"{host.name}: {error} could not be read: see the lines above")
    return False


def _get(host: Host, supply: Supply, move: Wanted) -> None:
    """Get images from where they are. Raise RefusedError if that fails."""
    plan, source = supply.plan, supply.source
    if source and (moving := plan.of(Action.MOVE)):
        if plan.to_save:
            run_store(source, "save", tags=plan.to_save)
            supply = from_source(moving, source)
            check_supplies([supply])
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


def _move(source: Host, target: Host, wanted: Wanted) -> None:
    survey = look(source, target, wanted)
    for note in survey.notes:
        report(target, Note(note))
    for refusal in survey.refusals:
        raise RefusedError(refusal.code, refusal.text)
    if not survey.is_done:
        run_copy(source, target, wanted, survey)


def store_command(command: str, **job: Any) -> FunctionCommand:
    """Return the command that runs a function of gb10.programs.images.commands on the current node."""
    return FunctionCommand(_run_here, (command, job), {})


def _run_here(state: State, host: Host, command: str, job: dict[str, Any]) -> bool:
    try:
        run_store(host, command, **job)
    except RefusedError as error:
        say(host, error.code, error.reason)
        return False
    return True


def run_store(node: Host, command: str, **job: Any) -> None:
    """Run a function of gb10.programs.images.commands on a node and report its progress. Raise RefusedError."""
    launch = Launch(
        f"gb10.programs.images.commands:{command}",
        {"root": STORE, **job},
        seconds=LONGEST_SECONDS,
        told=lambda told: report(node, ImageMoved(**told)),
    )
    try:
        ask(node, launch, "OPERATION_FAILED")
    except RefusedError as error:
        raise RefusedError(error.code, f"{node.name}: {error.reason}") from error
