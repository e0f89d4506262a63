"""What all commands share: options, the inventory, the log, the lock, and their end."""

from __future__ import annotations

import functools
import json
import shlex
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, fields
from typing import Any, NoReturn

import click

from gb10.cli.screen import console
from gb10.controller.errors import ExitStatus, Gb10Error
from gb10.controller.inventory import Inventory, InventoryHost, load_inventory
from gb10.controller.lock import cluster_lock
from gb10.controller.run.client import PyinfraProcess
from gb10.controller.run.results import RunResult
from gb10.controller.run.runner import RunLog, Runner

Command = Callable[..., None]


@dataclass(frozen=True)
class Options:
    """The options that several commands have."""

    inventory: str = "inventory.py"
    limit: tuple[str, ...] = ()
    verbosity: int = 0
    as_json: bool = False
    dry_run: bool = False
    diff: bool = False
    detailed_exitcode: bool = False
    require_pins: bool = False


class Session:
    """One gb10 command, from its options to its exit status. `command` is "rebuild run"."""

    def __init__(self, command: str, options: Options | None = None, parameters: Iterable[str] = ()) -> None:
        self.command = command
        self.options = options or Options()
        self.log = RunLog(command.replace(" ", "-"))
        source, typed = self.options.inventory, ["gb10", *sys.argv[1:]]
        plan = [word for word in typed if word not in ("--dry-run", "--diff", "--yes")]
        plan += [f"--{name.replace('_', '-')}" for name in ("dry_run", "diff") if name in parameters]
        # For the remedies of errors.
        self.known = {
            "again": shlex.join(typed),
            "plan": shlex.join(plan),
            "options": f" {shlex.join(['-i', source])}" if source in typed else "",
            "inventory": source,
        }

    @classmethod
    def of(cls, ctx: click.Context) -> Session:
        """Return the session of the running command; a new one if the command did not get that far."""
        session = ctx.find_root().obj
        return session if isinstance(session, cls) else cls(ctx.invoked_subcommand or "gb10")

    @functools.cached_property
    def inventory(self) -> Inventory:
        return load_inventory(self.options.inventory)

    @property
    def hosts(self) -> tuple[InventoryHost, ...]:
        """The hosts that --limit selects."""
        return self.inventory.select(self.options.limit)

    @property
    def interactive(self) -> bool:
        """Return True if a person can answer questions."""
        return sys.stdin.isatty() and not self.options.as_json

    def named_hosts(self, nodes: Sequence[str], everyone: bool) -> tuple[InventoryHost, ...]:
        """Return the hosts named on the command line. Raise USAGE for names and --all together, or neither."""
        if bool(nodes) == everyone:
            raise Gb10Error("USAGE", reason="name the nodes, or use --all")
        return self.inventory.select(nodes)

    def runner(self, limit: Iterable[str] | None = None) -> Runner:
        """Return a runner for the hosts of --limit, or of another limit."""
        chosen = self.options.limit if limit is None else tuple(limit)
        data = {"require_pins": True} if self.options.require_pins else {}
        return Runner(
            self.inventory, self.log, limit=chosen, verbosity=self.options.verbosity, known=self.known, data=data
        )

    def lock(self) -> AbstractContextManager[None]:
        """Lock the nodes against every other gb10 of this controller. A dry run needs no lock."""
        if self.options.dry_run:
            return nullcontext()
        return cluster_lock((host.endpoint for host in self.inventory.hosts), f"gb10 {self.command}")

    def run(self, deploy: str, title: str, *, limit: Iterable[str] | None = None, **arguments: Any) -> RunResult:
        """Run a deploy and show its progress. Its errors are in the result."""
        options, runner = self.options, self.runner(limit)
        names = [host.name for host in runner.hosts]
        with console.progress(f"{title}, dry run" if options.dry_run else title, names, options.verbosity) as on_event:
            return runner.run(deploy, dry=options.dry_run, diff=options.diff, kwargs=arguments, on_event=on_event)

    def confirm(self, question: str) -> None:
        """Ask a person to agree. Raise CONFIRM_NEEDED or DECLINED."""
        if not self.interactive:
            raise Gb10Error("CONFIRM_NEEDED")
        if not click.confirm(question, err=True):
            raise Gb10Error("DECLINED")

    def print_result(self, result: RunResult) -> None:
        console.print_result(result, self.options.diff)

    def print_error(self, error: Gb10Error) -> None:
        """Print the error that ends the command, with its remedy."""
        log = {"log": str(self.log.path)} if self.log.path else {}
        known = error.with_details(**self.known, **log)
        if self.options.as_json:
            print_json({"error": known.to_json()})
        else:
            console.print_error(known)
            self.print_log()

    def print_log(self) -> None:
        """Print the path of the log, if there is one."""
        if self.log.path:
            console.print_note(f"The whole log: {self.log.path}")

    def finish(
        self,
        document: Mapping[str, Any],
        error: Gb10Error | None = None,
        status: ExitStatus = ExitStatus.OK,
        *,
        results: Sequence[RunResult] = (),
    ) -> NoReturn:
        """End the command: print the document under --json, and exit.

        The exit status is that of the error, else that of the first error in the results, else that of what would be
        refused, else CHANGED if --detailed-exitcode asks for it, else `status`.
        """
        error = error or next((result.error for result in results if result.error), None)
        if self.options.as_json:
            print_json({**document, "error": error.to_json() if error else None})
        else:
            self.print_log()
        refused = next((foreseen.status for result in results for foreseen in result.foreseen), None)
        operations = [operation for result in results for operation in result.operations]
        changed = any(operation.changed or operation.conditional for operation in operations)
        detailed = ExitStatus.CHANGED if self.options.detailed_exitcode and changed else status
        sys.exit(int(error.status if error else refused or detailed))


def print_json(document: Mapping[str, Any]) -> None:
    click.echo(json.dumps(document, indent=2))


def options(*decorators: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Return a decorator that adds options to a command, in this order."""
    return lambda command: functools.reduce(lambda wrapped, option: option(wrapped), reversed(decorators), command)


_inventory = click.option(
    "-i",
    "--inventory",
    default="inventory.py",
    envvar="GB10_INVENTORY",
    show_default=True,
    show_envvar=True,
    help="The pyinfra inventory: which nodes there are.",
)
_limit = click.option("--limit", multiple=True, help="Only these nodes or groups; repeatable.")
_verbosity = click.option(
    "-v", "verbosity", count=True, help="More in the log: facts, -vv commands, -vvv their output."
)
_json = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on standard output.")
_dry_run = click.option("--dry-run", is_flag=True, help="Only show what would change.")
_diff = click.option("--diff", is_flag=True, help="Show what changes in files.")
_detailed_exitcode = click.option(
    "--detailed-exitcode",
    is_flag=True,
    help=f"Exit with {int(ExitStatus.CHANGED)} when something changed, with 0 when nothing did.",
)

require_pins = click.option(
    "--require-pins", is_flag=True, help="Download nothing whose digest stands neither in group_data/ nor in gb10.lock."
)
run_options = options(_dry_run, _diff, _detailed_exitcode)  # of commands that change nodes


def command_options(*, limit: bool = True) -> Callable[[Command], Command]:
    """Add the options of all commands that work with nodes, and call the command with a Session and its own options."""

    def decorate(command: Command) -> Command:
        @functools.wraps(command)
        def with_session(**given: Any) -> None:
            PyinfraProcess.ours()
            ctx = click.get_current_context()
            shared = {field.name: given.pop(field.name) for field in fields(Options) if field.name in given}
            name = ctx.command_path.removeprefix(ctx.find_root().command_path).strip()
            parameters = [parameter.name or "" for parameter in ctx.command.params]
            session = Session(name, Options(**shared), parameters)
            ctx.find_root().obj = session
            console.stdout.quiet = console.stderr.quiet = session.options.as_json
            try:
                command(session, **given)
            finally:
                session.log.close()

        return options(_inventory, *([_limit] if limit else []), _verbosity, _json)(with_session)

    return decorate
