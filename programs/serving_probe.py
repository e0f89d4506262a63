"""The model servers of a node, and the answers of the server on a port. Nothing is written.

Command lines and environments may hold keys: they are read here and never leave the node.
"""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
from fnmatch import fnmatchcase
from typing import Any

from gb10.programs.answer import Outlet

OURS = "gb10.serving"  # label of containers that gb10 started: the mode
SPEC = "gb10.serving.spec"  # and a digest of how
INTERPRETER = re.compile(r"(python[\d.]*|sh|bash|dash)$")
MODULES = re.compile(r"(vllm\.entrypoints|sglang\.launch_server)")
CONTAINER = re.compile(r"[0-9a-f]{64}")
# Options for the number of GPUs that work together: a GB10 has one, so more than one means several nodes.
SPANS = {
    "--tensor-parallel-size": ("--tensor-parallel-size", "-tp", "--tp", "--tp-size"),
    "--pipeline-parallel-size": ("--pipeline-parallel-size", "-pp", "--pp-size"),
    "--data-parallel-size": ("--data-parallel-size", "-dp", "--dp-size"),
    "--nnodes": ("--nnodes", "-n"),
}
HERE, OK = "127.0.0.1", 200
EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104 - compared only
LISTEN = "0A"  # state of a socket in /proc/net/tcp
HEALTH_SECONDS = 5


def command_of(arguments: list[str]) -> list[str] | None:
    """Return the arguments of the engine that a process runs; None for any other process."""
    words = arguments[1:] if INTERPRETER.fullmatch(os.path.basename(arguments[0])) else arguments
    while words and words[0] in ("-u", "-s", "-E", "-I"):
        words = words[1:]
    if len(words) > 1 and words[0] == "-m" and MODULES.match(words[1]):
        return words[2:]
    if len(words) > 1 and os.path.basename(words[0]) == "vllm" and words[1] == "serve":
        return words[2:]
    return None


def option(command: list[str], names: tuple[str, ...]) -> str | None:
    """Return the value of an option among arguments, or None."""
    for word, following in zip(command, [*command[1:], ""]):  # noqa: B905 - Python 3.10 is enough here, and both fit
        name, equals, value = word.partition("=")
        if name.startswith("--"):
            name = name.replace("_", "-")
        if name in names:
            return value if equals else following
    return None


def classify(arguments: list[str], marks: dict[str, list[str]]) -> tuple[str, str] | None:
    """Given a process's arguments and patterns of other engines by mode, return the mode it serves in, and why.

    "member" works for an engine that may be on another node; "undecided" is an engine whose mode cannot be read.
    None for any other process.
    """
    line = " ".join(arguments)
    for mode, patterns in marks.items():
        for pattern in patterns:
            if re.search(pattern, line):
                return mode, f"its command matches {pattern}"
    if arguments[0].startswith("ray::") or os.path.basename(arguments[0]) == "raylet":
        return "member", "it is a process of Ray"
    command = command_of(arguments)
    return None if command is None else spanned(command)


def spanned(command: list[str]) -> tuple[str, str]:
    """Return the mode that the arguments of an engine ask for, and why."""
    told = {name: value for name, names in SPANS.items() if (value := option(command, names)) is not None}
    if wrong := [name for name, value in told.items() if not value.isdigit()]:
        return "undecided", f"{wrong[0]} is no number"
    if wide := [f"{name} {value}" for name, value in told.items() if int(value) > 1]:
        return "cluster", ", ".join(wide)
    if not told and option(command, ("--config",)) is not None:
        return "undecided", "its options are in a file"
    return "solo", "one GPU"


def processes() -> list[tuple[int, list[str], str | None]]:
    """Return id, arguments and container id of each process that does not belong to Kubernetes."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/cmdline", "rb") as file:
                arguments = file.read().decode(errors="replace").rstrip("\0").split("\0")
            with open(f"/proc/{name}/cgroup") as file:
                cgroup = file.read()
        except OSError:
            continue  # it has ended
        if arguments[0] and "kubepods" not in cgroup:
            container = CONTAINER.search(cgroup)
            found.append((int(name), arguments, container[0] if container else None))
    return found


def containers() -> dict[str, dict[str, Any]] | None:
    """Return id -> `docker inspect` of running containers and of ours; None if no engine answers."""
    try:
        listed = docker("ps", "--all", "--no-trunc", "--format", f'{{{{.ID}}}} {{{{.State}}}} {{{{.Label "{OURS}"}}}}')
    except (OSError, subprocess.SubprocessError):
        return None
    rows = (line.split(" ", 2) for line in listed.splitlines())
    every = [row[0] for row in rows if row[1] == "running" or row[2]]
    if not every:
        return {}
    try:
        return {found["Id"]: found for found in json.loads(docker("container", "inspect", *every))}
    except (subprocess.SubprocessError, ValueError):
        return containers()  # one went between the two commands


def docker(*words: str) -> str:
    done = subprocess.run(["docker", *words], capture_output=True, text=True, timeout=20, check=True)
    return done.stdout


def age(pid: int) -> float:
    """Return the seconds since a process started."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            ticks = int(file.read().rpartition(")")[2].split()[19])
        with open("/proc/uptime") as file:
            return round(float(file.read().split()[0]) - ticks / os.sysconf("SC_CLK_TCK"), 1)
    except OSError:
        return 0.0


def key_of(pid: int, arguments: list[str]) -> str | None:
    """Return the API key of an engine, or None."""
    told = option(arguments, ("--api-key",))
    if told:
        return told
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            entries = file.read().decode(errors="replace").split("\0")
    except OSError:
        return None
    return next((entry.partition("=")[2] for entry in entries if entry.startswith("VLLM_API_KEY=")), None)


def listening(port: int) -> str:
    """Return the address that the server on a port listens on: of several, one that others reach; without any, HERE."""
    found = []
    for family, name in ((socket.AF_INET, "tcp"), (socket.AF_INET6, "tcp6")):
        try:
            with open(f"/proc/net/{name}") as file:
                rows = [line.split()[1:4] for line in file.readlines()[1:]]
        except OSError:  # without IPv6
            continue
        for local, _, state in rows:
            address, _, number = local.partition(":")
            if state == LISTEN and int(number, 16) == port:
                words = [bytes.fromhex(address[at : at + 8])[::-1] for at in range(0, len(address), 8)]
                found.append(socket.inet_ntop(family, b"".join(words)).removeprefix("::ffff:"))
    return max(found, key=lambda address: (not is_local(address), address in EVERYWHERE), default=HERE)


def is_local(address: str) -> bool:
    """Return True if only this machine reaches an address."""
    return address == "::1" or address.startswith("127.")


def ask(
    place: tuple[str, int], path: str, key: str | None, seconds: float, body: dict[str, Any] | None = None
) -> tuple[int, str]:
    """Return HTTP status and answer of the server at a place. Status 0: nothing listens; 1: it does not answer."""
    try:
        stream = socket.create_connection(place, seconds)
    except ConnectionRefusedError:
        return 0, ""
    except OSError:
        return 1, ""
    from http.client import HTTPConnection, HTTPException  # noqa: PLC0415 - half of the time of a look that needs none

    headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {key}"} if key else {})}
    connection = HTTPConnection(*place)
    connection.sock = stream
    try:
        connection.request("POST" if body else "GET", path, json.dumps(body) if body else None, headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode(errors="replace") if answer.status == OK else ""
    except (OSError, ValueError, HTTPException):  # ValueError: a key that no header can hold
        return 1, ""
    finally:
        connection.close()


def answers(port: int, key: str | None, complete_seconds: float) -> dict[str, Any]:
    """Return the answers of the server on a port; with `complete_seconds`, also to a prompt, within that time."""
    address = listening(port)
    place = (HERE if address in EVERYWHERE else address, port)
    status, _ = ask(place, "/health", key, HEALTH_SECONDS)
    health = {0: "none", 1: "silent", 200: "up", 503: "dead"}.get(status, f"status {status}")
    found: dict[str, Any] = {"health": health, "models": [], "completion": None, "trouble": None, "open_at": None}
    if health != "up":
        return found
    status, text = ask(place, "/v1/models", None, HEALTH_SECONDS)
    if status == OK and not is_local(address):
        found["open_at"] = address
    if status != OK and key:
        status, text = ask(place, "/v1/models", key, HEALTH_SECONDS)
    try:
        found["models"] = [str(model["id"]) for model in json.loads(text)["data"]]
    except (ValueError, KeyError, TypeError):
        found["trouble"] = f"/v1/models answered with status {status}"
    if complete_seconds and found["models"]:
        prompt = {"model": found["models"][0], "prompt": "1", "max_tokens": 1, "temperature": 0}
        status, text = ask(place, "/v1/completions", key, complete_seconds, prompt)
        try:
            found["completion"] = isinstance(json.loads(text)["choices"][0]["text"], str)
        except (ValueError, KeyError, TypeError, IndexError):
            found["completion"] = False
            said = f"answered with status {status}" if status > 1 else f"said nothing in {complete_seconds:g} s"
            found["trouble"] = f"/v1/completions {said}"
    return found


def engines(marks: dict[str, list[str]], known: dict[str, dict[str, Any]]) -> tuple[list[dict[str, Any]], str | None]:
    """Return the processes that serve, and the API key of the first that has one."""
    found, key = [], None
    for pid, arguments, container in processes():
        kind = classify(arguments, marks)
        about = known.get(container or "", {})
        if kind is None or is_kubernetes(about):
            continue
        key = key or key_of(pid, arguments)
        name = about.get("Name", "").removeprefix("/") or None
        found.append({"pid": pid, "container": name, "mode": kind[0], "why": kind[1], "age_seconds": age(pid)})
    return found, key


def is_kubernetes(container: dict[str, Any]) -> bool:
    labels = (container.get("Config") or {}).get("Labels") or {}
    return any(label.startswith("io.kubernetes.") for label in labels)


def writes(container: dict[str, Any], folder: str) -> bool:
    """Return True if a folder, one above it or one in it is mounted in a container, and not only to be read."""
    places = [mount["Source"] for mount in container.get("Mounts") or () if mount.get("RW") and mount.get("Source")]
    return any(f"{folder}/".startswith(f"{place.rstrip('/')}/") or place.startswith(f"{folder}/") for place in places)


def described(container: dict[str, Any], patterns: list[str], hub: str) -> dict[str, Any]:
    """Describe a container. `gpu` is true if it has a GPU and its name matches one of the patterns."""
    config, state, host = container["Config"], container["State"], container.get("HostConfig") or {}
    labels, name = config.get("Labels") or {}, container["Name"].removeprefix("/")
    return {
        "name": name,
        "image": config["Image"],
        "mode": labels.get(OURS),
        "spec": labels.get(SPEC),
        "running": bool(state["Running"]),
        "exit_code": None if state["Running"] else state["ExitCode"],
        "gpu": bool(host.get("DeviceRequests")) and any(fnmatchcase(name, pattern) for pattern in patterns),
        "writes_models": writes(container, hub),
    }


def memory_available_kib() -> int | None:
    with open("/proc/meminfo") as file:
        return next((int(line.split()[1]) for line in file if line.startswith("MemAvailable:")), None)


def look(job: dict[str, Any], outlet: Outlet) -> dict[str, Any]:
    """Return the serving state.

    The job has port, marks, patterns, hub and complete_seconds: see the fact ServingState.
    """
    known = containers()
    found, key = engines(job["marks"], known or {})
    others = [one for one in (known or {}).values() if not is_kubernetes(one)]
    return {
        "docker": known is not None,
        "engines": found,
        "containers": [described(one, job["patterns"], job["hub"]) for one in others],
        "memory_available_kib": memory_available_kib(),
        **answers(job["port"], key, job["complete_seconds"]),
    }
