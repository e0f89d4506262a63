"""How a gb10 command starts and how it ends: commands are loaded when they are called, errors become exit statuses."""

from __future__ import annotations

import importlib
import importlib.util
import signal
import sys
import traceback
from contextlib import suppress
from types import FrameType
from typing import Any, NoReturn

import click

# Name, and what it does in a line: the commands themselves are not imported for the help.
COMMANDS = {
    "bootstrap": "Bring the cluster up, or bring it up to date.",
    "provision": "Have a vanilla DGX OS node ready.",
    "status": "Show the nodes and whether the cluster is healthy.",
    "validate": "Prove that GPUs, rails and operators work.",
    "kubeconfig": "Merge access to the cluster into your kubeconfig.",
    "serving": "Show what is served, or switch it.",
    "sync": "Copy models and images from node to node.",
    "backup": "Back nodes up, off the node, and prove it.",
    "restore": "Put a backup back onto a node.",
    "rebuild": "Take the cluster through the wipe of its nodes.",
    "wipe-all": "Have all nodes reinstalled, and make a new cluster of them.",
    "teardown": "Remove K3s from the nodes, and nothing else.",
    "lab": "Simulate nodes on this machine.",
}


class Gb10Group(click.Group):
    """The commands of COMMANDS, each `gb10.cli.NAME:NAME`, with _ for -."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for name in COMMANDS if importlib.util.find_spec(f"gb10.cli.{_module(name)}")]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.list_commands(ctx):
            return None
        command = getattr(importlib.import_module(f"gb10.cli.{_module(cmd_name)}"), _module(cmd_name))
        return command if isinstance(command, click.Command) else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name]) for name in self.list_commands(ctx)])

    def invoke(self, ctx: click.Context) -> Any:
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, _interrupt)
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit):
            raise
        except (Exception, KeyboardInterrupt, click.Abort) as error:
            _end(ctx, error)


def _module(command: str) -> str:
    """The name of a command in Python."""
    return command.replace("-", "_")


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    """A terminal that goes away, or a service manager, ends gb10 as Ctrl-C does."""
    raise KeyboardInterrupt


def _end(ctx: click.Context, error: BaseException) -> NoReturn:
    """Say what went wrong and what to do, and exit with the status of the catalogue."""
    errors = importlib.import_module("gb10.controller.errors")
    session = importlib.import_module("gb10.cli.screen.session").Session.of(ctx)
    if isinstance(error, errors.Gb10Error):
        known = error
    elif isinstance(error, KeyboardInterrupt | click.Abort):
        known = errors.Gb10Error("INTERRUPTED")
    else:
        with suppress(Exception):  # whatever is wrong with the log, the error itself has to be told
            session.log.write("".join(traceback.format_exception(error)))
        known = errors.Gb10Error("INTERNAL", reason=f"{type(error).__name__}: {error}")
    session.report(known)
    sys.exit(int(known.status))
