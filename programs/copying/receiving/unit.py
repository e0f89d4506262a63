"""The systemd unit of a receiver. Its processes and its folder go together, at the latest at its deadline.

`begin` runs on the target and starts the unit, which outlives it. The unit runs

    receiver.pyz serve FOLDER             to receive the copy whose job is in the folder
    receiver.pyz remove-key NAME USER     to remove the SSH key of the copy after the unit has ended
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
import zipfile
from typing import Any

from gb10.programs.answer import Outlet, RefusedError
from gb10.programs.confined import HOMES, follow_no_links, give_up_mounting, real
from gb10.programs.copying.protocol import code_of, reason_of
from gb10.programs.copying.receiving.connections import authorize_key, host_keys, remove_key
from gb10.programs.copying.receiving.receiver import GRACE_SECONDS, serve
from gb10.programs.copying.receiving.run_folder import ANSWER, JOB, PROGRAM, read_job, write_file
from gb10.programs.copying.receiving.target import make_root

START_SECONDS = 20
MOST_TASKS = 512  # threads of streams, and rsyncs
MEMORY_BYTES = 8 << 30  # for the list of millions of files
# What rsync and the files' owners need. The receiver gives up the right to mount (CAP_SYS_ADMIN) once it is confined.
CAPABILITIES = " ".join(
    f"CAP_{name}"
    for name in ("CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "MKNOD", "SETGID", "SETUID", "SYS_ADMIN", "SYS_CHROOT")
)
START = "import sys\nfrom gb10.programs.copying.receiving.unit import main\nmain(sys.argv[1:])\n"


def begin(job: dict[str, Any], outlet: Outlet) -> dict[str, Any]:
    """Start a receiver; return {"ports": {RAIL: PORT}, "host_keys": [...]}, without host keys if not over ssh."""
    name = f"gb10-copy-{job['id']}"
    if not re.fullmatch(r"gb10-copy-[0-9a-f]{12}", name):
        raise RefusedError("COPY_FAILED", "that is no id of a copy")
    try:
        make_root(job["root"], job["top"])
        return _start(name, f"/run/{name}", job)
    except OSError as error:
        raise RefusedError(code_of(error), reason_of(error)) from error


def _start(name: str, folder: str, job: dict[str, Any]) -> dict[str, Any]:
    """Start the unit and wait until it listens. If that fails, leave nothing behind."""
    os.mkdir(folder, 0o700)
    try:
        write_program(f"{folder}/{PROGRAM}")
        write_file(f"{folder}/{JOB}", json.dumps(job))
        write_file(f"{folder}/{ANSWER}", "")
        with open(f"{folder}/{ANSWER}") as answer:
            done = subprocess.run(_unit_command(name, folder, job), check=False, stderr=subprocess.PIPE, text=True)
            if done.returncode:
                raise RefusedError("COPY_FAILED", f"systemd-run failed: {done.stderr}")
            ports = _await_ports(name, folder, answer)
        if job["ssh"]:
            authorize_key(name, folder, job)
        return {"ports": ports, "host_keys": host_keys() if job["ssh"] else []}
    except BaseException:
        subprocess.run(["systemctl", "stop", name], check=False, stderr=subprocess.DEVNULL)
        shutil.rmtree(folder, ignore_errors=True)
        raise


def write_program(path: str) -> None:
    """Write our loaded modules into a zip file that python3 can run."""
    texts = {"__main__": START}
    for name, module in list(sys.modules.items()):
        if name == "gb10" or name.startswith("gb10."):
            loader: Any = module.__spec__ and module.__spec__.loader
            place = name.replace(".", "/")
            texts[f"{place}/__init__" if hasattr(module, "__path__") else place] = loader.get_source(name) or ""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as file, zipfile.ZipFile(file, "w") as archive:
        for place, text in texts.items():
            archive.writestr(f"{place}.py", text)


def _unit_command(name: str, folder: str, job: dict[str, Any]) -> list[str]:
    """Return the command that starts the unit. Its sandbox can write only into the target folder."""
    program = f"{sys.executable} -I {folder}/{PROGRAM}"
    properties = {
        "RuntimeDirectory": name,
        "RuntimeDirectoryMode": "0700",
        "RuntimeMaxSec": str(job["lifetime"]),
        "TimeoutStopSec": str(GRACE_SECONDS * 2),
        "Environment": "LC_ALL=C.UTF-8",
        "ProtectSystem": "strict",
        "ReadWritePaths": json.dumps(real(job["root"])),
        "PrivateTmp": "yes",
        "NoNewPrivileges": "yes",
        "CapabilityBoundingSet": CAPABILITIES,
        "TasksMax": str(MOST_TASKS),
        "MemoryHigh": str(MEMORY_BYTES),
        "RestrictAddressFamilies": "AF_INET AF_INET6 AF_UNIX",
        "OOMScoreAdjust": "500",
        # runs however the unit ends, outside the sandbox, which cannot write into home folders
        "ExecStopPost": f"+{program} remove-key {name} {job['user']}",
    }
    command = ["systemd-run", "--quiet", "--collect", f"--unit={name}", f"--description=gb10 copy into {job['root']!a}"]
    command += [f"--property={key}={value}" for key, value in properties.items()]
    return [*command, *program.split(), "serve", folder]


def _await_ports(unit: str, folder: str, answer: Any) -> dict[str, int]:
    """Wait for the answer of a unit; return its ports. Raise RefusedError if it does not start.

    + answer: the open file of the answer: it stays readable after the folder is gone
    """
    deadline = time.monotonic() + START_SECONDS
    text, is_there = "", True
    while not text.endswith("\n") and is_there and time.monotonic() < deadline:
        is_there = os.path.exists(folder)
        time.sleep(0.02)
        text += answer.read()
    if not text.endswith("\n"):
        raise RefusedError("COPY_FAILED", f"the receiver did not start: {_last_journal_line(unit)}")
    found = json.loads(text)
    if "refused" in found:
        raise RefusedError(*found["refused"])
    ports: dict[str, int] = found["ports"]
    return ports


def _last_journal_line(unit: str) -> str:
    """Return the last line of a unit in the journal, which may lag behind until it is synced."""
    subprocess.run(["timeout", "10", "journalctl", "--sync"], check=False, capture_output=True)
    journal = ["journalctl", f"--unit={unit}", "--output=cat", "--no-pager", "--lines=1"]
    lines = subprocess.run(journal, check=False, capture_output=True, text=True).stdout.splitlines()
    return lines[-1] if lines else "its journal is empty"


def main(arguments: list[str]) -> None:
    """Run a command line of the unit."""
    match arguments:
        case ["serve", folder]:
            try:
                follow_no_links([read_job(folder)["root"]])
                give_up_mounting()
                serve(folder)
            except RefusedError as error:
                sys.exit(f"gb10: {error}")
        case ["remove-key", name, user]:
            follow_no_links([HOMES])
            remove_key(name, user)
        case _:
            sys.exit(__doc__)
