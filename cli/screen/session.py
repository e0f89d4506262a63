"""What the commands have in common: their options, the inventory, the log, and how they speak."""

from __future__ import annotations

import functools
import json
import shlex
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, NoReturn

import click

from gb10.cli.screen import console
from gb10.controller.errors import ExitStatus, Gb10Error
from gb10.controller.inventory import Inventory, InventoryHost, load_inventory
from gb10.controller.lock import cluster_lock
from gb10.controller.run.client import PyinfraProcess
from gb10.controller.run.log import RunLog
from gb10.controller.run.results import RunResult
from gb10.controller.run.runner import Runner


class Session:
    """One gb10 command, from its options to its exit status."""

    def __init__(
        self,
        command: str,
        source: str = "inventory.py",
        limit: tuple[str, ...] = (),
        verbosity: int = 0,
        as_json: bool = False,
    ) -> None:
        self.command = command
        self.source = source
        self.limit = limit
        self.verbosity = verbosity
        self.as_json = as_json
        self.log = RunLog(command)
        typed = ["gb10", *sys.argv[1:]]
        self.known = {
            "again": shlex.join(typed),
            "plan": shlex.join(
                [*(word for word in typed if word not in ("--dry-run", "--diff", "--yes")), "--dry-run"]
            ),
            "options": f" {shlex.join(['-i', source])}" if source in typed else "",
            "inventory": source,
        }

    @classmethod
    def of(cls, ctx: click.Context) -> Session:
        """The session that the running command has made, or a bare one if it had not come to that."""
        session = ctx.find_root().obj
        return session if isinstance(session, cls) else cls(ctx.invoked_subcommand or "gb10")

    @functools.cached_property
    def inventory(self) -> Inventory:
        return load_inventory(self.source)

    @property
    def hosts(self) -> tuple[InventoryHost, ...]:
        """The hosts that --limit leaves."""
        return self.inventory.select(self.limit)

    def runner(self, limit: Iterable[str] | None = None) -> Runner:
        """A runner for what --limit says, or for another limit."""
        chosen = self.limit if limit is None else tuple(limit)
        return Runner(self.inventory, self.log, limit=chosen, verbosity=self.verbosity, known=self.known)

    def lock(self) -> AbstractContextManager[None]:
        """Keep every other gb10 of this controller away from the nodes of the inventory."""
        return cluster_lock((host.endpoint for host in self.inventory.hosts), f"gb10 {self.command}")

    def run(
        self,
        target: str,
        title: str,
        *,
        limit: Iterable[str] | None = None,
        dry: bool = False,
        diff: bool = False,
        kwargs: Mapping[str, Any] | None = None,
    ) -> RunResult:
        """Run a deploy and show how it goes. Its errors are in the result."""
        runner = self.runner(limit)
        names = [host.name for host in runner.hosts]
        with console.progress(title, names, self.verbosity, quiet=self.as_json) as view:
            return runner.run(target, dry=dry, diff=diff, kwargs=kwargs, on_event=view.hear)

    def report(self, error: Gb10Error) -> None:
        """Print an error, with what to type next."""
        known = self._knowing(error)
        if self.as_json:
            print_json({"error": known.to_json()})
            return
        console.print_error(known)
        self.print_log()

    def finish(
        self, document: Mapping[str, Any], error: Gb10Error | None, status: ExitStatus = ExitStatus.OK
    ) -> NoReturn:
        """End the command: print the document if JSON is wanted, and exit with the error's status, or the given one."""
        if self.as_json:
            print_json({**document, "error": error.to_json() if error else None})
        else:
            self.print_log()
        sys.exit(int(error.status if error else status))

    def print_log(self) -> None:
        """Say where the whole log is, if there is one."""
        if self.log.path:
            console.print_note(f"The whole log: {self.log.path}")

    def _knowing(self, error: Gb10Error) -> Gb10Error:
        log = {"log": str(self.log.path)} if self.log.path else {}
        return error.with_details(**self.known, **log)


def print_json(document: Mapping[str, Any]) -> None:
    """Print a document on standard output."""
    click.echo(json.dumps(document, indent=2))


def run_status(results: Sequence[RunResult], detailed: bool) -> ExitStatus:
    """Given runs without an error, return the exit status.

    It is that of what a dry run says would be refused; else CHANGED, if that is asked for and something changed, or
    would in a dry run.
    """
    refused = next((error.status for result in results for error in result.foreseen), None)
    operations = [operation for result in results for operation in result.operations]
    changed = any(operation.changed or operation.conditional for operation in operations)
    return refused or (ExitStatus.CHANGED if detailed and changed else ExitStatus.OK)


Command = Callable[..., None]


def command_options(*, limit: bool = True) -> Callable[[Command], Command]:
    """The options of every command that works with nodes. The command is called with a Session and its own options."""

    def decorate(command: Command) -> Command:
        @functools.wraps(command)
        def with_session(
            inventory: str, verbosity: int, as_json: bool, limit: tuple[str, ...] = (), **own: Any
        ) -> None:
            PyinfraProcess.ours()
            ctx = click.get_current_context()
            session = Session(ctx.info_name or "gb10", inventory, limit, verbosity, as_json)
            ctx.find_root().obj = session
            try:
                command(session, **own)
            finally:
                session.log.close()

        options = [
            click.option(
                "-i",
                "--inventory",
                default="inventory.py",
                envvar="GB10_INVENTORY",
                show_default=True,
                show_envvar=True,
                help="The pyinfra inventory: which nodes there are.",
            ),
            click.option(
                "-v", "verbosity", count=True, help="More in the log: facts, -vv commands, -vvv their output."
            ),
            click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on standard output."),
        ]
        if limit:
            options.insert(1, click.option("--limit", multiple=True, help="Only these nodes or groups; repeatable."))
        return functools.reduce(lambda wrapped, option: option(wrapped), reversed(options), with_session)

    return decorate


def run_options(command: Command) -> Command:
    """The options of commands that change nodes."""
    for option in (
        click.option(
            "--detailed-exitcode",
            is_flag=True,
            help=f"Exit with {int(ExitStatus.CHANGED)} when something changed, with 0 when nothing did.",
        ),
        click.option("--diff", is_flag=True, help="Show what changes in files."),
        click.option("--dry-run", is_flag=True, help="Only show what would change."),
    ):
        command = option(command)
    return command
