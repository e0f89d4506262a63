"""The systemd unit of a receiver: all its processes end together, at its deadline at the latest, with its folder.

`begin` runs on the target and starts the unit, which outlives it. The unit runs

    receiver.pyz serve FOLDER           to receive the copy whose job is in the folder
    receiver.pyz lock-out NAME USER     to remove the SSH key of the copy when the unit has ended
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from typing import Any

from gb10.programs.answer import Outlet, RefusedError
from gb10.programs.copying.protocol import code_of, reason_of
from gb10.programs.copying.receiving.folder import ANSWER, JOB, PROGRAM, write_file, write_program
from gb10.programs.copying.receiving.receiver import GRACE_SECONDS, serve
from gb10.programs.copying.receiving.ssh_key import host_keys, let_in, lock_out
from gb10.programs.copying.receiving.target import make_root

START_SECONDS = 20


def begin(job: dict[str, Any], outlet: Outlet) -> dict[str, Any]:
    """Start a receiver; return {"ports": {RAIL: PORT}, "host_keys": [...]}. Only a copy over ssh gets host keys."""
    name = f"gb10-copy-{job['id']}"
    if not re.fullmatch(r"gb10-copy-[0-9a-f]{12}", name):
        raise RefusedError("COPY_FAILED", "that is no id of a copy")
    try:
        make_root(job["root"], job["top"])
        return start(name, f"/run/{name}", job)
    except OSError as error:
        raise RefusedError(code_of(error), reason_of(error)) from error


def start(name: str, folder: str, job: dict[str, Any]) -> dict[str, Any]:
    """Start the unit and wait until it listens. If it does not, leave nothing behind."""
    os.mkdir(folder, 0o700)
    try:
        write_program(f"{folder}/{PROGRAM}")
        write_file(f"{folder}/{JOB}", json.dumps(job))
        write_file(f"{folder}/{ANSWER}", "")
        with open(f"{folder}/{ANSWER}") as answer:
            run(unit_command(name, folder, job))
            ports = await_ports(name, folder, answer)
        if job["ssh"]:
            let_in(name, folder, job)
        return {"ports": ports, "host_keys": host_keys() if job["ssh"] else []}
    except BaseException:
        subprocess.run(["systemctl", "stop", name], check=False, stderr=subprocess.DEVNULL)
        shutil.rmtree(folder, ignore_errors=True)
        raise


def unit_command(name: str, folder: str, job: dict[str, Any]) -> list[str]:
    """Return the command that starts the unit, in a sandbox that can write only into the target folder."""
    program = f"{sys.executable} -I {folder}/{PROGRAM}"
    properties = {
        "RuntimeDirectory": name,
        "RuntimeDirectoryMode": "0700",
        "RuntimeMaxSec": str(job["lifetime"]),
        "TimeoutStopSec": str(GRACE_SECONDS * 2),
        "Environment": "LC_ALL=C.UTF-8",
        "ProtectSystem": "strict",
        "ReadWritePaths": json.dumps(os.path.realpath(job["root"])),
        "PrivateTmp": "yes",
        "NoNewPrivileges": "yes",
        "RestrictAddressFamilies": "AF_INET AF_INET6 AF_UNIX",
        "OOMScoreAdjust": "500",
        # runs however the unit ends, and outside of the sandbox, which cannot write into home folders
        "ExecStopPost": f"+{program} lock-out {name} {job['user']}",
    }
    command = ["systemd-run", "--quiet", "--collect", f"--unit={name}", f"--description=gb10 copy into {job['root']!a}"]
    command += [f"--property={key}={value}" for key, value in properties.items()]
    return [*command, *program.split(), "serve", folder]


def run(command: list[str]) -> None:
    """Run a command. Raise RefusedError if it fails."""
    done = subprocess.run(command, check=False, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        raise RefusedError("COPY_FAILED", f"{command[0]} failed: {done.stderr}")


def await_ports(unit: str, folder: str, answer: Any) -> dict[str, int]:
    """Wait for the answer of a unit; return its ports. Raise RefusedError if it does not start.

    + answer: the open file of the answer, which stays readable when the folder goes with the unit
    """
    deadline = time.monotonic() + START_SECONDS
    text, is_there = "", True
    while not text.endswith("\n") and is_there and time.monotonic() < deadline:
        is_there = os.path.exists(folder)
        time.sleep(0.02)
        text += answer.read()
    if not text.endswith("\n"):
        raise RefusedError("COPY_FAILED", f"the receiver did not start: {last_words(unit)}")
    found = json.loads(text)
    if "refused" in found:
        raise RefusedError(*found["refused"])
    ports: dict[str, int] = found["ports"]
    return ports


def last_words(unit: str) -> str:
    """Return the last line that a unit wrote into the journal."""
    # the journal may not have read the last lines yet
    subprocess.run(["timeout", "10", "journalctl", "--sync"], check=False, capture_output=True)
    journal = ["journalctl", f"--unit={unit}", "--output=cat", "--no-pager", "--lines=1"]
    said = subprocess.run(journal, check=False, capture_output=True, text=True).stdout.splitlines()
    return said[-1] if said else "its journal is empty"


def main(arguments: list[str]) -> None:
    """Run a command line of the unit."""
    match arguments:
        case ["serve", folder]:
            try:
                serve(folder)
            except RefusedError as error:
                sys.exit(f"gb10: {error}")
        case ["lock-out", name, user]:
            lock_out(name, user)
        case _:
            sys.exit(__doc__)
