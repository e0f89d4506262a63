"""Start and end of every gb10 command: load it when it is called, turn errors into exit statuses."""

from __future__ import annotations

import importlib
import signal
import sys
import traceback
from contextlib import suppress
from types import FrameType
from typing import Any, NoReturn

import click

# Name, module and help of each command: help and completion import none of the modules.
COMMANDS = {
    "trust": ("trust", "Show the SSH host keys of nodes at first contact, and ask."),
    "bootstrap": ("cluster", "Bring the cluster up, or bring it up to date."),
    "provision": ("cluster", "Prepare a vanilla DGX OS node."),
    "status": ("status", "Show the nodes and whether the cluster is healthy."),
    "validate": ("status", "Prove that GPUs, rails and operators work."),
    "kubeconfig": ("cluster", "Merge access to the cluster into your kubeconfig."),
    "serving": ("serving", "Show what is served, or switch it."),
    "lock": ("lock", "Show the pins of downloads, or accept changed ones."),
    "sync": ("sync", "Copy models and images from node to node."),
    "backup": ("backup", "Back nodes up, off the node, and prove it."),
    "restore": ("restore", "Put a backup back onto a node."),
    "rebuild": ("rebuild", "Take the cluster through the wipe of its nodes."),
    "wipe-all": ("wipe_all", "Make a new cluster after all nodes are reinstalled."),
    "teardown": ("cluster", "Remove K3s from the nodes, and nothing else."),
    "lab": ("lab", "Simulate nodes on this machine."),
}
HELP = {"-h", "--help"}


class Gb10Group(click.Group):
    """The commands in COMMANDS; `wipe-all` is the function `wipe_all` of its module."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"gb10.cli.{COMMANDS[cmd_name][0]}")
        command: click.Command = getattr(module, cmd_name.replace("-", "_"))
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """Find the command. The process that has pyinfra loads while the command itself is imported."""
        if args[0] in COMMANDS and args[0] != "lab" and not HELP.intersection(args) and not ctx.resilient_parsing:
            importlib.import_module("gb10.controller.run.client").PyinfraProcess.ours()
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:
        _signals.clear()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup leaves it
                signal.signal(number, _interrupt)
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit):
            raise
        except (Exception, KeyboardInterrupt, click.Abort) as error:
            _end(ctx, error)


_signals: list[int] = []  # that asked this command to end


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    """End gb10 as Ctrl-C does, when the terminal goes away or a service manager stops it."""
    _signals.append(number)
    raise KeyboardInterrupt


def _end(ctx: click.Context, error: BaseException) -> NoReturn:
    """Print the error with its remedy, and exit with its status."""
    errors = importlib.import_module("gb10.controller.errors")
    session = importlib.import_module("gb10.cli.screen.session").Session.of(ctx)
    if isinstance(error, errors.Gb10Error):
        known = error
    # An import that is interrupted may fail with an error of its own.
    elif _signals or isinstance(error, KeyboardInterrupt | click.Abort):
        known = errors.Gb10Error("INTERRUPTED")
    else:
        with suppress(Exception):  # a broken log must not hide the error
            session.log.write("".join(traceback.format_exception(error)))
        known = errors.Gb10Error("INTERNAL", reason=f"{type(error).__name__}: {error}")
    session.print_error(known)
    sys.exit(int(known.status))
