"""The rsyncs of a copy: for files that may be the same already and, at the end, links, folders and attributes."""

from __future__ import annotations

import contextlib
import os
import queue
import re
import signal
import subprocess
import threading
import time
from typing import Any

from gb10.programs.answer import RefusedError
from gb10.programs.copying.names import PARTIAL, SMALL, STAGING
from gb10.programs.copying.sending.rails import DEAD_SECONDS, CopyState, Rail, first_alive

ATTEMPTS = 5  # of an rsync, each on another rail
PAUSE_SECONDS = 1.0
LOST = {10, 12, 30, 35, 255, -signal.SIGTERM}  # exit status of rsync if the connection is lost
SOME_LEFT = {23, 24}  # exit status if some files could not be read or written
OF_TARGET = re.compile(r"rsync: \[(?:receiver|generator)\]|could not make way for |cannot delete non-empty ")


class Rsync:
    """Sends lists of paths with rsync; `run` runs in several threads.

    + job: of the sender
    """

    def __init__(self, job: dict[str, Any], rails: list[Rail], state: CopyState) -> None:
        self._job = job
        self._rails = rails
        self._state = state
        self._lists: queue.SimpleQueue[tuple[list[str], bool]] = queue.SimpleQueue()
        self._lists_left = 0
        self._ssh = ssh_options(job["ssh"], rails) if job["ssh"] else []

    @property
    def is_done(self) -> bool:
        return not self._lists_left

    def queue(self, paths: list[str], finish: bool = False) -> None:
        """Queue paths; `finish` marks those that come last."""
        if paths:
            with self._state.changed:
                self._lists_left += 1
            self._lists.put((paths, finish))

    def run(self, first: Rail) -> None:
        """Send lists forever, over this rail as long as it is alive."""
        try:
            while True:
                paths, finish = self._lists.get()
                self._send(first, paths, finish)
                with self._state.changed:
                    self._lists_left -= 1
                    self._state.changed.notify_all()
        except BaseException as error:  # the copy must not wait for this thread
            self._state.fail(error)

    def _send(self, first: Rail, paths: list[str], finish: bool) -> None:
        errors: list[str] = []
        for _ in range(ATTEMPTS):
            rail = first if first.alive else first_alive(self._rails)
            if rail is None:
                return  # the next beat ends the copy
            status, errors = self._rsync(rail, paths, finish)
            if status == 0:
                return
            if full := [line for line in errors if "No space left" in line or "quota" in line]:
                raise RefusedError("DISK_FULL", full[0])
            if status in SOME_LEFT:
                of_source, of_target = divided(errors)
                self._state.source_faults += of_source
                self._state.target_faults += of_target
                return
            if status not in LOST:
                break
            time.sleep(PAUSE_SECONDS)
        last = " ".join(errors[-2:]) or "no output"
        raise RefusedError("COPY_FAILED", f"rsync ended with status {status}: {last}")

    def _rsync(self, rail: Rail, paths: list[str], finish: bool) -> tuple[int, list[str]]:
        """Send paths over a rail; return the exit status of rsync and its error lines."""
        names, names_end = os.pipe2(os.O_CLOEXEC)
        command = [
            *("rsync", "-lptgoD", "--relative", "--numeric-ids", "--from0", f"--files-from=/proc/self/fd/{names}"),
            *("--no-implied-dirs", "--stats", "--no-human-readable", "--out-format=%i %l"),
            f"--timeout={DEAD_SECONDS * 3}",
            *(["--hard-links"] if finish and self._job["hard_links"] else []),
            *(["--sparse"] if self._job["sparse"] else []),
            *(["--ignore-times"] if self._job["again"] and not finish else []),
            *self._job["owners"],
            *(self._ssh_address(rail) if self._ssh else self._address(rail)),
        ]
        pipe = subprocess.PIPE
        if not self._ssh:
            rail.send({"do": "rsync"})  # the receiver lets no other rsync in
        process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, pass_fds=[names])
        os.close(names)
        threading.Thread(target=write_names, args=(names_end, paths), daemon=True).start()
        with rail.running(process):
            return self._follow(rail, process)

    def _address(self, rail: Rail) -> list[str]:
        local, peer = rail.way["local"], rail.way["peer"]
        return [
            *([f"--address={local}"] if local else []),
            *("--contimeout=10", "--password-file=-", f"--temp-dir=/{STAGING}/{SMALL}", f"{self._job['root']}/"),
            f"rsync://gb10@{f'[{peer}]' if ':' in peer else peer}:{rail.way['port']}/copy/",
        ]

    def _ssh_address(self, rail: Rail) -> list[str]:
        """Return the options for the way through the target's sshd: its forced command starts the same rsync daemon."""
        local = rail.way["local"]
        ssh = [*self._ssh, *(["-b", local] if local else [])]
        # rsync compares what has arrived of a large file, and sends the rest
        return [
            *("--password-file=-", f"--partial-dir={PARTIAL}", "-e", " ".join(ssh), f"{self._job['root']}/"),
            f"gb10@{rail.way['peer']}::copy/",
        ]

    def _follow(self, rail: Rail, process: subprocess.Popen[bytes]) -> tuple[int, list[str]]:
        errors: list[str] = []
        assert process.stdin is not None  # noqa: S101 - for mypy: all three are pipes
        assert process.stdout is not None  # noqa: S101
        assert process.stderr is not None  # noqa: S101
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(self._job["secret"].encode() + b"\n")
            process.stdin.close()
        stderr = process.stderr
        reader = threading.Thread(target=lambda: errors.extend(printable(line) for line in stderr), daemon=True)
        reader.start()
        for line in process.stdout:
            if line.startswith(b"<f"):
                with self._state.changed:
                    rail.sent += int(line.split()[1])
            elif sent := re.fullmatch(rb"Total bytes sent: ([\d,.]+)\s*", line):
                with self._state.changed:
                    self._state.wire += int(re.sub(rb"\D", b"", sent[1]))
        reader.join()
        return process.wait(), [line for line in errors if line]


def ssh_options(ssh: dict[str, Any], rails: list[Rail]) -> list[str]:
    """Return the ssh command of this copy. Key and host keys are only in the memory of this process.

    + ssh: user, port, key, host_keys
    """
    peers = [rail.way["peer"] for rail in rails]
    names = peers if ssh["port"] == 22 else [f"[{peer}]:{ssh['port']}" for peer in peers]
    hosts = [f"{name} {key}\n" for name in names for key in ssh["host_keys"]]
    return [
        *("ssh", "-T", "-F", "none", "-i", in_memory(ssh["key"]), "-l", ssh["user"], "-p", str(ssh["port"])),
        *("-o", f"UserKnownHostsFile={in_memory(''.join(hosts))}", "-o", "StrictHostKeyChecking=yes"),
        *("-o", "BatchMode=yes", "-o", "Compression=no", "-o", "ConnectTimeout=10", "-o", "IdentitiesOnly=yes"),
        *("-o", "ServerAliveInterval=3", "-c", "aes128-gcm@openssh.com,chacha20-poly1305@openssh.com"),
    ]


def divided(errors: list[str]) -> tuple[list[str], list[str]]:
    """Divide the error lines of rsync into those about the source and those about the target."""
    of_target = [line for line in errors if OF_TARGET.match(line)]
    return [line for line in errors if line.startswith("rsync: ") and line not in of_target], of_target


def in_memory(text: str) -> str:
    """Keep a text in memory; return a path where programs of this user can read it until this process ends."""
    descriptor = os.memfd_create("gb10-copy", os.MFD_CLOEXEC)
    os.fchmod(descriptor, 0o600)
    with open(descriptor, "w", closefd=False) as file:
        file.write(text)
    return f"/proc/{os.getpid()}/fd/{descriptor}"


def write_names(descriptor: int, paths: list[str]) -> None:
    with contextlib.suppress(BrokenPipeError), open(descriptor, "wb") as file:
        # with a leading ./ no name is taken for an option or a comment
        file.write(b"".join(b"./" + os.fsencode(path) + b"\0" for path in paths))


def printable(line: bytes) -> str:
    return line.decode(errors="backslashreplace").strip()
