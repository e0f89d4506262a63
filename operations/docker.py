"""The Docker engine's configuration: our keys are merged into it without disturbing what serves."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from pyinfra.context import host

from gb10.facts.docker import DockerEngine, RunningContainers, serving
from gb10.facts.file import TextFile
from gb10.facts.node import CommandPaths
from gb10.facts.reading.launcher import Launch
from gb10.operations.file import show_diff
from gb10.operations.kit.inventory import merged
from gb10.operations.kit.operation import Commands, known, operation
from gb10.operations.kit.scripts import run_script, write_checked
from gb10.programs.answer import RefusedError

FILE = "/etc/docker/daemon.json"
RUNTIME = "nvidia-container-runtime"
RESTART_SECONDS = 120

# What dockerd takes over on SIGHUP, while all containers go on (docs.docker.com/reference/cli/dockerd, "Configuration
# reload behavior"). Everything else needs a restart.
RELOADED = {
    "allow-nondistributable-artifacts",
    "authorization-plugins",
    "debug",
    "default-runtime",
    "features",
    "insecure-registries",
    "labels",
    "live-restore",
    "max-concurrent-downloads",
    "max-concurrent-uploads",
    "max-download-attempts",
    "registry-mirrors",
    "runtimes",
    "shutdown-timeout",
}

Config = dict[str, Any]


@operation()
def daemon_config(config: Mapping[str, Any], disturb: bool, patterns: Sequence[str]) -> Commands:
    """
    Set keys of the Docker engine's configuration, and NVIDIA's runtime as its default if the node has it.

    + config: keys of daemon.json; all others stay
    + disturb: restart the engine even while a container is serving
    + patterns: names of containers that count as serving

    The engine reloads its configuration if that is enough, and is restarted otherwise; if nothing changes, neither
    happens.
    """
    commands = known(CommandPaths, names=("dockerd", RUNTIME))
    if commands["dockerd"] is None:
        raise RefusedError("DOCKER_ABSENT", f"{host.name} has no Docker engine")
    file, engine = known(TextFile, path=FILE), known(DockerEngine)
    current = parse_config(file.content if file else "")
    if current is None:
        raise RefusedError("DOCKER_CONFIG_REJECTED", f"{host.name}: {FILE} is no JSON object")
    wanted = merged(current, {**nvidia_runtime(current), **config} if commands[RUNTIME] else config)
    changed = changed_keys(current, wanted)
    runtime = wanted.get("default-runtime")
    if not changed and engine and runtime in (None, engine.default_runtime):
        host.noop("the Docker engine has its configuration")
        return
    verb = "reload" if engine and changed <= RELOADED else "restart"
    running = known(RunningContainers) if verb == "restart" and not disturb else None
    if busy := serving(running or (), patterns):
        what = f"a new {', '.join(sorted(changed - RELOADED))} needs a restart of Docker"
        raise RefusedError("SERVING_RUNS", f"{host.name}: {what}, and {', '.join(busy)} may be serving")
    # Other keys are somebody else's, and may hold secrets.
    show_diff(FILE, described(current, changed) if file else None, described(wanted, changed))
    check = "dockerd --validate --config-file"
    yield write_checked(FILE, described(wanted), "644", check, "DOCKER_CONFIG_REJECTED", keep_owner=True)
    yield take_over(verb, runtime or "", RESTART_SECONDS)


def described(config: Config, keys: Collection[str] | None = None) -> str:
    """Return the text of a daemon.json, of some keys alone if any are given."""
    chosen = config if keys is None else {key: value for key, value in config.items() if key in keys}
    return json.dumps(chosen, indent=4) + "\n"


def take_over(verb: str, runtime: str, seconds: int) -> Launch:
    """Return the command that makes Docker use the configuration that waits beside the present one, or undoes it.

    + verb: "reload" or "restart"
    + runtime: the default runtime that Docker must have then; "": any
    """
    arguments = (FILE, verb, runtime, str(seconds))
    return run_script("docker-config.sh", *arguments, seconds=3 * RESTART_SECONDS, outlives=True)


def parse_config(text: str) -> Config | None:
    """Return the keys of a daemon.json, or None if it is no JSON object."""
    try:
        found = json.loads(text) if text.strip() else {}
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def nvidia_runtime(config: Mapping[str, Any]) -> Config:
    """Return the keys that make NVIDIA's runtime the default, as nvidia-ctk writes them."""
    known_already = "nvidia" in (config.get("runtimes") or {})
    runtimes = {} if known_already else {"runtimes": {"nvidia": {"args": [], "path": RUNTIME}}}
    return {**runtimes, "default-runtime": "nvidia"}


def changed_keys(before: Mapping[str, Any], after: Mapping[str, Any]) -> set[str]:
    """Return the names of the keys that differ."""
    return {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}
