"""Run the fault campaign or a part of it: kill a rebuild before, inside and after each step, and other faults.

`make faults`, `make faults FAULTS="--subset 12 --seed 7"`. It starts its own labs and takes them down afterwards.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import sys
import tempfile
import threading
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from gb10.lab.lab import Lab
from tests.faults.campaign import CampaignError, CampaignLab, Verdict
from tests.faults.points import Point, all_points, batches, chosen

CONSOLE = Console(width=None if sys.stdout.isatty() else 220, highlight=False)
SIGNS = {True: "[green]ok[/]", False: "[bold red]FAILED[/]", None: "[yellow]not reached[/]"}


def main() -> int:
    """Run the chosen points. Return 0 only if all were reached and none failed."""
    options = _options()
    started = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="gb10-faults-"))
    campaigns = _campaigns(options.labs, options.target, folder)
    try:
        points = _points(campaigns[0], options.seed)
        wanted = chosen(points, options.subset, options.seed)
        CONSOLE.print(f"{len(wanted)} of {len(points)} points, seed {options.seed}, {len(campaigns)} labs")
        if options.list:
            for point in wanted:
                CONSOLE.print(point.name)
            return 0
        verdicts = _run(campaigns, list(batches(wanted, options.together)))
    finally:
        for campaign in campaigns:
            campaign.lab.down()
    order = [point.name for point in wanted]
    verdicts.sort(key=lambda verdict: order.index(verdict.point.name))
    _show(verdicts, time.monotonic() - started)
    if options.json:
        options.json.write_text(json.dumps([verdict.to_json() for verdict in verdicts], indent=1))
    return ended(verdicts, folder)


def ended(verdicts: list[Verdict], folder: Path) -> int:
    """Print what to do next. Return the exit status: 0 only if all points are ok, so none was missed."""
    if missed := [verdict.point.name for verdict in verdicts if verdict.ok is None]:
        CONSOLE.print(f"Not reached. Try again with another --seed: --subset {','.join(missed)}")
    if any(verdict.ok is not True for verdict in verdicts):
        CONSOLE.print(f"Outputs and events: {folder}")
        return 1
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="seed for the times of kills and the choice of --subset")
    parser.add_argument(
        "--subset",
        help="a number of random points, or texts in the names of points: ssh,drain",
    )
    parser.add_argument("--together", type=int, default=7, help="most faults in one rebuild")
    parser.add_argument("--labs", type=int, default=2, help="number of labs")
    parser.add_argument("--target", default="spark-2", help="the node to rebuild; spark-1 is the head")
    parser.add_argument("--list", action="store_true", help="only list the points")
    parser.add_argument("--json", type=Path, help="also write the table to this file")
    return parser.parse_args()


def _campaigns(count: int, target: str, folder: Path) -> list[CampaignLab]:
    """Return `count` labs, each ready for a rebuild."""
    name = os.environ.get("GB10_LAB", "faults")
    campaigns = [CampaignLab(Lab(f"{name}-f{number}"), folder / str(number), target) for number in range(1, count + 1)]
    failed: list[CampaignError] = []

    def converge(campaign: CampaignLab) -> None:
        try:
            campaign.converge()
        except CampaignError as error:
            failed.append(error)

    threads = [threading.Thread(target=converge, args=(campaign,)) for campaign in campaigns]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        for campaign in campaigns:
            campaign.lab.down()
        sys.exit(f"The labs are not ready: {failed[0]}")
    return campaigns


def _points(campaign: CampaignLab, seed: int) -> list[Point]:
    """Return all points of a rebuild, from a first rebuild without faults."""
    campaign.run_batch([])
    seconds = campaign.step_seconds()
    return all_points(list(seconds), seconds, seed)


def _run(campaigns: list[CampaignLab], todo: list[list[Point]]) -> list[Verdict]:
    """Run the batches in parallel, one on each lab."""
    waiting: queue.SimpleQueue[list[Point]] = queue.SimpleQueue()
    for batch in todo:
        waiting.put(batch)
    verdicts: list[Verdict] = []

    def work(campaign: CampaignLab) -> None:
        while True:
            try:
                batch = waiting.get_nowait()
            except queue.Empty:
                return
            for verdict in _attempt(campaign, batch):
                verdicts.append(verdict)
                CONSOLE.print(f"{SIGNS[verdict.ok]}  {verdict.point.name}: {verdict.happened}", soft_wrap=True)

    threads = [threading.Thread(target=work, args=(campaign,)) for campaign in campaigns]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return verdicts


def _attempt(campaign: CampaignLab, batch: list[Point]) -> list[Verdict]:
    """Run a batch. Rebuild the lab after a failure, so that each batch begins in the same state."""
    try:
        verdicts = campaign.run_batch(batch)
    except Exception as error:
        verdicts = [Verdict(point, False, f"{type(error).__name__}: {error}", 0.0) for point in batch]
    if any(verdict.ok is False for verdict in verdicts):
        campaign.lab.down()
        campaign.__post_init__()
        campaign.converge()
    return verdicts


def _show(verdicts: list[Verdict], seconds: float) -> None:
    table = Table("point", "what happened", "verdict", "s", box=None, header_style="bold", pad_edge=False)
    for verdict in verdicts:
        table.add_row(verdict.point.name, verdict.happened, SIGNS[verdict.ok], f"{verdict.seconds:.0f}")
    CONSOLE.print(table)
    counts = {sign: sum(verdict.ok is sign for verdict in verdicts) for sign in (True, False, None)}
    CONSOLE.print(f"{counts[True]} ok, {counts[False]} failed, {counts[None]} not reached, in {seconds / 60:.1f} min")


if __name__ == "__main__":
    sys.exit(main())
