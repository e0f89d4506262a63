"""The requests that the pyinfra process serves, each with a state, an inventory and connections of its own."""

from __future__ import annotations

import functools
import json
import os
import pickle
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gevent
from pyinfra import logger
from pyinfra.api import Config, Host, State
from pyinfra.api.connect import connect_all
from pyinfra.api.operations import run_ops
from pyinfra.api.state import StateStage
from pyinfra.api.util import FILE_SHAS, TEMPLATES
from pyinfra.connectors.sshuserclient.client import get_host_keys, get_ssh_config
from pyinfra.context import ctx_config, ctx_host, ctx_inventory, ctx_state
from pyinfra_cli.exceptions import UnexpectedExternalError
from pyinfra_cli.inventory import make_inventory
from pyinfra_cli.util import PYTHON_CODES, exec_file, load_func, try_import_module_attribute

from gb10.controller.run import connections
from gb10.controller.run.messages import (
    FactFailed,
    FactQuery,
    FactsDone,
    FactValue,
    Failure,
    GetFacts,
    InventoryFailed,
    LoadedHost,
    LoadedInventory,
    LoadInventory,
    OperationResult,
    Ready,
    RunDeploy,
    RunDone,
    Stage,
    StageStarted,
    loads,
)
from gb10.controller.run.watching import HostsFailedError, Send, Watch, WatchedHost, WatchedState, operation_name
from gb10.facts.reading.reports import set_reporter
from gb10.group_data.settings import SETTINGS
from gb10.operations.kit.inventory import misspelt
from gb10.operations.kit.operation import RefusedDeploy
from gb10.operations.kit.pins import look_beside

CONFIG = Path("config.py")  # pyinfra's own, in the current folder
STRICT = {"ssh_strict_host_key_checking": "yes"}  # whatever the inventory says: `gb10 trust` asks a person
NOT_SAID = object()


def load_inventory(request: LoadInventory) -> LoadedInventory | InventoryFailed:
    """Load an inventory."""
    _forget()
    ctx_state.set(State(check_for_changes=False))
    ctx_config.set(Config())
    try:
        inventory = make_inventory(request.source, cwd=os.getcwd())
        return LoadedInventory(tuple(map(_loaded, inventory)), tuple(misspelt(inventory, [request.source])))
    except RefusedDeploy as error:
        return InventoryFailed(error.reason)
    except UnexpectedExternalError as error:
        return InventoryFailed(_one_line(error.exception, error.filename))
    except (Exception, SystemExit) as error:  # anything that an inventory raises is its own error
        return InventoryFailed(_one_line(error, request.source))
    finally:
        ctx_state.reset()
        ctx_config.reset()


def run_deploy(request: RunDeploy, send: Send) -> RunDone:
    """Run a deploy or an operation as pyinfra's command line does; send events."""
    watch = Watch(send, request.silence_seconds)
    state = WatchedState(watch, check_for_changes=request.dry, tolerant=False)
    try:
        with _running(state, request) as config:
            config.DIFF = request.diff
            config.FAIL_PERCENT = None if request.dry else 0
            connect_all(state)
            _turn(state, "prepare", StateStage.Prepare)
            _prepare(state, request)
            if request.dry:
                return RunDone(tuple(_plan(state)))
            _turn(state, "execute", StateStage.Execute)
            run_ops(state)
    except MemoryError:
        raise
    except Exception as error:
        _give_up(watch, error)
    return RunDone()


def get_facts(request: GetFacts, send: Send) -> FactsDone:
    """Read facts of all hosts in parallel. A fact that fails stops neither other facts nor other hosts."""
    watch = Watch(send, request.silence_seconds)
    state = WatchedState(watch, check_for_changes=True, tolerant=True)
    values: list[FactValue] = []
    try:
        with _running(state, request):
            state.print_fact_info = True
            connect_all(state)
            send(StageStarted("facts"))
            import_fact = functools.partial(try_import_module_attribute, prefix="pyinfra.facts")
            facts = [(query, import_fact(query.fact)) for query in request.queries]
            reader = functools.partial(_read, state, facts, values, request.seconds)
            readers = [gevent.spawn(reader, host) for host in list(state.active_hosts)]
            gevent.joinall(readers, raise_error=True)
    except MemoryError:
        raise
    except Exception as error:
        _give_up(watch, error)
    return FactsDone(tuple(values))


def hosts() -> list[Host]:
    """Return the hosts of the current request."""
    state = ctx_state.get()
    return list(state.inventory) if state and state.initialised else []


def abandon(work: gevent.Greenlet) -> None:
    """Stop the current request, which this greenlet serves. Its connections stay open."""
    if hosts():
        state = ctx_state.get()
        state.abandoned = True
        state.pool.kill(block=False)
    work.kill(block=False)


def end_commands() -> None:
    """End the commands that the current request runs on the nodes."""
    gevent.joinall([gevent.spawn(connections.end_commands, host) for host in hosts()])


@contextmanager
def _running(state: WatchedState, request: RunDeploy | GetFacts) -> Iterator[Config]:
    """Set up a state with its inventory for the block. Close all connections at the end."""
    _forget()
    state.cwd = os.getcwd()
    config = Config()
    ctx_state.set(state)
    ctx_config.set(config)
    set_reporter(state.watch.report)
    look_beside(request.source)
    try:
        if CONFIG.exists():
            exec_file(str(CONFIG.absolute()))
        data = request.data if isinstance(request, RunDeploy) else {}
        inventory = make_inventory(request.source, cwd=state.cwd, override_data={**data, **STRICT})
        ctx_inventory.set(inventory)
        for host in inventory:
            host.__class__ = WatchedHost  # pyinfra makes them itself, and has no hook for facts
        chosen = None if request.hosts is None else [host for host in inventory if host.name in request.hosts]
        config.lock_current_state()
        state.init(inventory, config, initial_limit=chosen)
        state.add_callback_handler(state.watch)  # type: ignore[no-untyped-call] # pyinfra leaves it untyped
        _say_more(state, request.verbosity)
        _turn(state, "connect", StateStage.Connect)
        yield config
    finally:
        if state.initialised and not state.abandoned:
            _turn(state, "disconnect", StateStage.Disconnect)
            gevent.joinall([gevent.spawn(host.disconnect) for host in state.inventory if host.connected])
        if not state.abandoned:
            for context in (ctx_state, ctx_inventory, ctx_config):
                context.reset()


def _give_up(watch: Watch, error: Exception) -> None:
    if not isinstance(error, HostsFailedError):
        logger.warning(traceback.format_exc())
    watch.aborted(error)


def _forget() -> None:
    """Clear pyinfra's caches of the process: files, host keys and nodes may have changed."""
    for cache in (FILE_SHAS, TEMPLATES, PYTHON_CODES):
        cache.clear()
    for memoized in (get_host_keys, get_ssh_config, Host._get_temp_directory):
        memoized.cache.clear()


def _turn(state: WatchedState, stage: Stage, pyinfras: StateStage) -> None:
    state.set_stage(pyinfras)
    state.watch.send(StageStarted(stage))


def _say_more(state: WatchedState, verbosity: int) -> None:
    """Make pyinfra as verbose as its own command with -v, -vv and -vvv."""
    state.print_fact_info = state.print_noop_info = verbosity > 0
    state.print_input = state.print_fact_input = verbosity > 1
    state.print_output = state.print_fact_output = verbosity > 2


def _prepare(state: WatchedState, request: RunDeploy) -> None:
    function = try_import_module_attribute(request.target, prefix="pyinfra.operations")

    def prepare() -> None:
        function(**request.arguments)
        state.watch.send(Ready(ctx_host.get().name))

    prepare.__name__ = function.__name__
    load_func(state, prepare)


def _plan(state: WatchedState) -> Iterator[OperationResult]:
    """Yield the operations of a dry run, each with the hosts that it would change."""
    for op_hash in state.get_op_order():  # type: ignore[no-untyped-call]
        would: dict[bool, list[str]] = {True: [], False: []}
        for host in state.activated_hosts:
            data = state.ops[host].get(op_hash)
            if data and data.operation_meta._maybe_is_change:
                would[bool(data.global_arguments["_if"])].append(host.name)
        name = operation_name(state, op_hash)
        yield OperationResult(name, changed=tuple(sorted(would[False])), conditional=tuple(sorted(would[True])))


def _read(
    state: WatchedState, facts: list[tuple[FactQuery[Any], Any]], values: list[FactValue], seconds: float, host: Host
) -> None:
    """Read the facts of one host one after the other."""
    watch = state.watch
    with ctx_host.use(host):
        for query, fact in facts:
            unread = watch.unread[host.name]
            try:
                with gevent.Timeout(seconds):
                    value = host.get_fact(fact, **query.arguments)
                    if watch.unread[host.name] == unread:
                        values.append(FactValue(host.name, query, loads(pickle.dumps(value))))
            except gevent.Timeout:
                connections.close(host)
                failure = Failure("NODE_UNREACHABLE", host.name, reason=f"no answer within {seconds:.0f} s")
                watch.send(FactFailed(host.name, query.fact, (failure,), ()))
            except MemoryError:
                raise
            except Exception as error:  # a bug in a fact, such as a value that is not ours
                logger.warning(traceback.format_exc())
                failure = Failure("INTERNAL", host.name, reason=f"{query}: {type(error).__name__}: {error}")
                watch.send(FactFailed(host.name, query.fact, (failure,), ()))


def _loaded(host: Host) -> LoadedHost:
    """Return the settings of ours in a host's data. No password is among them: error texts may quote settings."""
    said = {name: found for name in SETTINGS if (found := host.data.get(name, NOT_SAID)) is not NOT_SAID}
    return LoadedHost(host.name, tuple(host.groups), json.loads(json.dumps(said, default=str)))


def _one_line(error: BaseException, filename: str) -> str:
    """Return an error of an inventory in one line, with its file and line."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == filename]
    line = getattr(error, "lineno", None) or (lines[-1] if lines else None)
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    return f"{type(error).__name__}: {' '.join(text.split())} ({filename}{f', line {line}' if line else ''})"
