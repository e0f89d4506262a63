"""The Docker engine that runs the nodes: the engine that answers, or our own, which leaves nothing behind."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

from gb10.lab.paths import engine_folder
from gb10.lab.problem import LabError
from gb10.lab.shell import Docker, ended, run

START_SECONDS = 60
STOP_SECONDS = 30
SOCKET_PATH_LENGTH = 107  # unix(7)
# The limit of inotify instances for each user: one systemd and one Docker engine a node exhaust the default of 128.
INOTIFY_INSTANCES = 4096
INOTIFY_LIMIT = Path("/proc/sys/fs/inotify/max_user_instances")


def ensure_engine() -> Docker:
    """Return an engine that answers. Start our own if there is none; raise LabError if that fails.

    DOCKER_HOST decides if it is set. Otherwise take our own engine if it runs, then the client's default, then a new
    one.
    """
    chosen = os.environ.get("DOCKER_HOST")
    if chosen:
        if Docker(chosen).answers():
            return Docker(chosen)
        raise LabError(f"No Docker engine answers at DOCKER_HOST={chosen}.", "Start it, or unset DOCKER_HOST.")
    for engine in (own_engine(), Docker("")):
        if engine.answers():
            return engine
    return start_own_engine()


def start_own_engine() -> Docker:
    """Start our own engine, with the data of its last run, and return it. Raise LabError if it cannot start."""
    _refuse_unless_startable()
    _start()
    return own_engine()


def own_engine() -> Docker:
    """Return the engine that the lab starts, whether it runs or not."""
    return Docker(f"unix://{engine_folder() / 'docker.sock'}")


def own_engine_pid() -> int | None:
    """Return the process id of our own dockerd, or None if it does not run.

    Checks the command line, because the id may belong to another process by now.
    """
    try:
        pid = int((engine_folder() / "pid").read_text())
        command = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
    except (OSError, ValueError):
        return None
    return pid if f"--data-root={engine_folder() / 'data'}" in command else None


def stop_own_engine() -> None:
    """Stop our own engine, if it runs, and remove every trace of it."""
    pid, bridges = own_engine_pid(), _bridges()
    if pid is not None:
        os.kill(pid, signal.SIGTERM)
        _wait_for_end(pid)
    folder = engine_folder()
    if not folder.exists():
        return
    for bridge in bridges:
        if Path("/sys/class/net", bridge).exists():
            run(["ip", "link", "delete", bridge])
    _restore_inotify_limit(folder)
    for mount in _mounts_below(folder):
        run(["umount", "--lazy", mount])
    if not (folder / "key.json.was-there").exists():
        Path("/etc/docker/key.json").unlink(missing_ok=True)
    shutil.rmtree(folder)
    _remove_cgroups()


def _bridges() -> list[str]:
    """Return the bridges of networks that our engine still has. It leaves them behind when it stops."""
    if not own_engine().answers():
        return []
    return [
        f"br-{network}" for network in own_engine()("network", "ls", "--quiet", "--filter", "label=gb10.lab").split()
    ]


def _refuse_unless_startable() -> None:
    if shutil.which("docker") is None or shutil.which("dockerd") is None:
        raise LabError(
            "No Docker engine answers, and Docker is not installed.",
            "Install it (Debian, Ubuntu: apt-get install docker.io), or set DOCKER_HOST to an engine.",
        )
    if os.geteuid() != 0:
        raise LabError(
            "No Docker engine answers this user.",
            "Start Docker and join its group (systemctl start docker; usermod -aG docker $USER), or run as root.",
        )


def _start() -> None:
    folder = engine_folder()
    if len(str(folder / "exec" / "containerd" / "containerd-debug.sock")) > SOCKET_PATH_LENGTH:
        raise LabError(f"The path {folder} is too long for a socket.", "Set GB10_STATE to a shorter path.")
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    (folder / "daemon.json").write_text("{}\n")
    if Path("/etc/docker/key.json").exists():
        (folder / "key.json.was-there").touch()
    (folder / "pid").unlink(missing_ok=True)
    command = [
        "setsid",
        "--fork",
        "dockerd",
        f"--data-root={folder / 'data'}",
        f"--exec-root={folder / 'exec'}",
        f"--pidfile={folder / 'pid'}",
        f"--host=unix://{folder / 'docker.sock'}",
        f"--config-file={folder / 'daemon.json'}",
        "--iptables=false",
        "--ip-masq=false",
        "--ip-forward=false",
        "--bridge=none",
        "--exec-opt=native.cgroupdriver=cgroupfs",
        f"--cgroup-parent=/{_cgroup()}",
    ]
    with (folder / "log").open("ab") as log:
        subprocess.run(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=True, cwd="/")
    _raise_inotify_limit(folder)
    deadline = time.monotonic() + START_SECONDS
    while not own_engine().answers():
        if time.monotonic() > deadline:
            end = "\n".join((folder / "log").read_text(errors="replace").splitlines()[-10:])
            raise LabError(f"dockerd did not start: {end}", f"Its log is {folder / 'log'}.")
        time.sleep(0.2)


def _wait_for_end(pid: int) -> None:
    deadline = time.monotonic() + STOP_SECONDS
    while not ended(pid):
        if time.monotonic() > deadline:
            raise LabError(
                f"Our Docker engine (process {pid}) does not stop.", f"Its log is {engine_folder() / 'log'}."
            )
        time.sleep(0.1)


def _raise_inotify_limit(folder: Path) -> None:
    present = INOTIFY_LIMIT.read_text().strip()
    if int(present) < INOTIFY_INSTANCES:
        (folder / "inotify.before").write_text(present)
        INOTIFY_LIMIT.write_text(f"{INOTIFY_INSTANCES}\n")


def _restore_inotify_limit(folder: Path) -> None:
    before = folder / "inotify.before"
    if before.exists():
        INOTIFY_LIMIT.write_text(before.read_text())


def _mounts_below(folder: Path) -> list[str]:
    """Return the mount points below a folder, deepest first."""
    points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return sorted((point for point in points if point.startswith(f"{folder}/")), reverse=True)


def _cgroup() -> str:
    """Return the name of our engine's cgroup, different for each state folder."""
    return f"gb10-lab-{hashlib.sha256(str(engine_folder()).encode()).hexdigest()[:8]}"


def _remove_cgroups() -> None:
    """Remove our engine's cgroups, which remain when the engine has stopped."""
    root = Path("/sys/fs/cgroup")
    for top in [root, *(entry for entry in root.iterdir() if entry.is_dir())]:
        ours = top / _cgroup()
        if ours.is_dir():
            for folder, _, _ in os.walk(ours, topdown=False):
                os.rmdir(folder)
