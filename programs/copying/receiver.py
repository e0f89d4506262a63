"""The receiving side of a copy: it lives for one copy, and leaves nothing behind.

This file runs on the target, as text for its own python3: standard library only.

    begin(job)      become a transient unit, and print {"ports": {RAIL: PORT}} when it listens
    serve FOLDER    what the unit runs; FOLDER below /run is its own, and goes with it
    lock-out NAME USER    what the unit runs when it has ended

It listens on the rails' addresses alone and talks to the peer alone. Who connects is either rsync, which then talks
to an rsync daemon of this copy's own (one folder, one user, one secret), or our sender:

    control         lines of JSON: what is there, heartbeats, "this file is complete", "that is all"
    data            pieces of large files and bundles of small ones, several connections at a time, on whatever rail

A large file grows under WORKSHOP in the target folder, beside a map of what has arrived of it, so that a later copy
can go on after any kill. It gets its name when it is whole and on the disk. It is written past the page cache where
the file system allows that: on a machine whose GPU has no memory of its own, a terabyte of models would fill that.

With "ssh" in the job, rsync comes through the node's own sshd instead: with a key for this copy alone, that is good for
its rsync daemon alone, from the peer alone, and expires.

The contract: nothing is accepted from anybody but the peer with the secret, nothing is written outside the target
folder, and when the sender is gone this ends too.
"""

import errno
import fcntl
import glob
import hashlib
import hmac
import itertools
import json
import mmap
import os
import pwd
import re
import secrets
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any

WORKSHOP = ".gb10-copy"
PARTIAL = ".gb10-partial"
PORTS = range(8873, 8973)
START_SECONDS = 20
HELLO_SECONDS = 15
AWAIT_SENDER_SECONDS = 60
SILENCE_SECONDS = 30  # the sender speaks every second
GRACE_SECONDS = 5  # for rsync, to put aside what it has of a file
KEEP_SECONDS = 14 * 24 * 3600  # of parts of files that no copy has asked for since
BUFFER_BYTES = 1 << 20
DIRECT_BYTES = 4 << 20  # of one write past the page cache
BLOCK_BYTES = 4096  # to which such writes are aligned
F_SETPIPE_SZ = 1031  # fcntl(2)
FRAME = struct.Struct(
    "!IQQI"
)  # index, offset, length, number of extents; of a bundle the length of its list, and of it
BUNDLE = 0xFFFFFFFF  # in place of an index: a bundle of small files, whose list (JSON) comes before them
EXTENT = struct.Struct("!QQ")  # offset, length: between them the file has holes

Range = tuple[int, int]
Answer = Callable[[dict[str, Any]], None]


class CopyError(Exception):
    """What went wrong, as `gb10: CODE: reason`."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(f"gb10: {code}: {reason}")
        self.code = code
        self.reason = reason


def log(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def merged(ranges: list[Range]) -> list[Range]:
    """Given ranges (start, end) in any order, return them sorted, and those that touch as one."""
    found: list[Range] = []
    for start, end in sorted(ranges):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((start, end))
    return found


class Part:
    """A large file that is arriving."""

    def __init__(self, root: str, wanted: dict[str, Any], boot: str) -> None:
        self.wanted = wanted
        self.size: int = wanted["size"]
        self.final = os.path.join(root, wanted["path"])
        base = os.path.join(root, WORKSHOP, wanted["key"])
        self.path, self.map = f"{base}.part", f"{base}.map"
        self.boot = boot
        self.lock = threading.Lock()
        self.finishing = threading.Lock()
        self.users = 0  # streams that write into it now
        self.is_named = False
        self.descriptor: int | None = None
        self.direct: int | None = None  # the same file, to be written past the page cache
        self.ranges: list[Range] = self.read_map()

    def read_map(self) -> list[Range]:
        """What has arrived. What was not on the disk when the machine went down is not believed."""
        try:
            with open(self.map) as file:
                boot, *lines = file.read().splitlines()
            if boot == self.boot and os.path.getsize(self.path) == self.size:
                pairs = [(int(offset), int(length)) for offset, length in (line.split() for line in lines)]
                return merged([(offset, offset + length) for offset, length in pairs])
        except (OSError, ValueError):
            pass
        for path in (self.path, self.map):
            with suppress(FileNotFoundError):
                os.unlink(path)
        return []

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """While a stream writes into it, its descriptors stay open: their numbers must not come to mean other files.

        Raise ConnectionError for a piece of a file that has its name: its sender lost a rail and has sent it twice.
        """
        with self.lock:
            if self.is_named:
                raise ConnectionError(f"{self.wanted['path']!r} is complete already")
            self.users += 1
        try:
            yield
        finally:
            with self.lock:
                self.users -= 1
                if self.is_named and not self.users:
                    self.close()

    def open(self) -> int:
        with self.lock:
            if self.descriptor is None:
                if not os.path.exists(self.map):
                    with open(self.map, "w") as file:
                        file.write(f"{self.boot}\n")
                self.descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
                os.ftruncate(self.descriptor, self.size)
                with suppress(OSError):  # not every file system can do that
                    self.direct = os.open(self.path, os.O_WRONLY | os.O_DIRECT | os.O_NOFOLLOW | os.O_CLOEXEC)
            return self.descriptor

    def arrived(self, offset: int, length: int) -> None:
        with self.lock:
            if self.is_named:
                return
            with open(self.map, "a") as file:
                file.write(f"{offset} {length}\n")
            self.ranges = merged([*self.ranges, (offset, offset + length)])

    def complete(self) -> None:
        """Give the file its name. A sender that lost its rail may ask twice."""
        with self.finishing:
            if not self.is_named:
                self.finish()

    def finish(self) -> None:
        if self.size and self.ranges != [(0, self.size)]:
            raise CopyError("COPY_FAILED", f"{self.wanted['path']!r} is not complete")
        descriptor = self.open()
        os.fdatasync(descriptor)
        os.fchown(descriptor, self.wanted["uid"], self.wanted["gid"])
        os.fchmod(descriptor, self.wanted["mode"])
        os.utime(descriptor, ns=(time.time_ns(), self.wanted["mtime"]))
        os.makedirs(os.path.dirname(self.final), exist_ok=True)
        with self.lock:
            os.rename(self.path, self.final)
            os.unlink(self.map)
            self.is_named = True
            if not self.users:
                self.close()

    def close(self) -> None:
        """Let go of the file, with the time that it must have: a stream may have written the same bytes once more."""
        if self.descriptor is not None:
            os.utime(self.descriptor, ns=(time.time_ns(), self.wanted["mtime"]))
        for opened in (self.descriptor, self.direct):
            if opened is not None:
                os.close(opened)
        self.descriptor = self.direct = None


class Intake:
    """A stream that carries files, and how they get from it into a file."""

    def __init__(self, stream: socket.socket, folder: str) -> None:
        self.stream = stream
        self.folder = folder  # for what is not whole
        os.mkdir(folder)
        self.end, self.mouth = os.pipe2(os.O_CLOEXEC)
        self.capacity = fcntl.fcntl(self.mouth, F_SETPIPE_SZ, BUFFER_BYTES)
        self.buffer = memoryview(mmap.mmap(-1, DIRECT_BYTES))  # which is aligned

    def close(self) -> None:
        os.close(self.end)
        os.close(self.mouth)
        with suppress(OSError):
            os.rmdir(self.folder)

    def move(self, descriptor: int, at: int, end: int) -> int:
        """Write what comes next to a file, from one place to at most another; return how many bytes that were.

        Through a pipe: the kernel moves them without copying twice. Raise ConnectionError where nothing comes, and
        other OSErrors where it cannot be written.
        """
        try:
            count = os.splice(self.stream.fileno(), self.mouth, min(end - at, self.capacity))
        except OSError as error:
            raise ConnectionError(f"nothing comes from the sender: {error.strerror}") from error
        if not count:
            raise ConnectionError("the sender is gone")
        moved = 0
        while moved < count:
            moved += os.splice(self.end, descriptor, count - moved, offset_dst=at + moved)
        return count

    def fill(self, part: Part, at: int, end: int) -> int:
        """As `move`, into a part: whole blocks past the page cache, where that can be."""
        descriptor, blocks = part.open(), (end - at) // BLOCK_BYTES * BLOCK_BYTES
        if part.direct is None:
            return self.move(descriptor, at, end)
        if at % BLOCK_BYTES or not blocks:
            return self.move(descriptor, at, min(end, at + BLOCK_BYTES - at % BLOCK_BYTES))
        chunk, written = self.receive(min(blocks, DIRECT_BYTES)), 0
        while written < len(chunk):
            try:
                written += os.pwrite(part.direct or descriptor, chunk[written:], at + written)
            except OSError as error:
                if error.errno != errno.EINVAL or part.direct is None:
                    raise
                part.direct = None  # its blocks are larger than ours; it is closed with this process
        return written

    def receive(self, count: int) -> memoryview:
        """Return what comes next, at most the size of the buffer. Raise ConnectionError where nothing comes."""
        filled = 0
        while filled < count:
            try:
                more = self.stream.recv_into(self.buffer[filled:count], 0, socket.MSG_WAITALL)
            except OSError as error:
                raise ConnectionError(f"nothing comes from the sender: {error.strerror}") from error
            if not more:
                raise ConnectionError("the sender is gone")
            filled += more
        return self.buffer[:count]


class Receiver:
    """One copy."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        with open(os.path.join(folder, "job.json")) as file:
            self.job: dict[str, Any] = json.load(file)
        self.root = os.path.realpath(self.job["root"])
        self.secret = self.job["secret"].encode()
        self.peers = {peer for rail in self.job["rails"].values() for peer in rail["peers"]}
        self.parts: dict[int, Part] = {}
        self.controls: list[Answer] = []  # ways to speak to the sender
        self.last_word = time.monotonic()
        self.seen_sender = self.ended = False
        self.rsyncs: list[subprocess.Popen[bytes]] = []
        self.streams: set[socket.socket] = set()  # that carry files
        self.folders: set[str] = set()  # in which files may be written
        self.numbers = itertools.count()  # of streams
        self.lock = threading.Lock()
        self.completing = ThreadPoolExecutor(4)

    def run(self) -> None:
        os.umask(0o077)
        signal.signal(signal.SIGTERM, self.stop)
        os.makedirs(os.path.join(self.root, WORKSHOP, "tmp"), exist_ok=True)
        with open(os.path.join(self.root, WORKSHOP, "lock"), "w") as guard:
            try:
                fcntl.flock(guard, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise CopyError("COPY_BUSY", f"another copy into {self.root} is running") from None
            self.clean()
            self.prepare()
            ports = {name: self.listen(rail["address"]) for name, rail in self.job["rails"].items()}
            write_file(os.path.join(self.folder, "ready.json"), json.dumps({"ports": ports}))
            self.stay()
            self.finish()

    def stop(self, *_: object) -> None:
        self.ended = True

    def clean(self) -> None:
        """Remove what a copy that was killed left, except parts that may be continued: by this copy, or soon."""
        with os.scandir(os.path.join(self.root, WORKSHOP, "tmp")) as found:
            for entry in found:
                if entry.is_dir(follow_symlinks=False):
                    shutil.rmtree(entry.path)
                else:
                    os.unlink(entry.path)
        stale, wanted = set(self.job["stale"]), {file["key"] for file in self.job["large"]}
        for name in os.listdir(workshop := os.path.join(self.root, WORKSHOP)):
            key, _, kind = name.rpartition(".")
            path = os.path.join(workshop, name)
            given_up = kind in ("part", "map") and time.time() - os.stat(path).st_mtime > KEEP_SECONDS
            if key in stale or (given_up and key not in wanted):
                os.unlink(path)
        for path in self.job["halves"]:
            folder = os.path.join(self.root, os.path.dirname(path), PARTIAL)
            if os.path.isdir(folder) and not os.path.islink(folder):
                shutil.rmtree(folder)

    def prepare(self) -> None:
        with open("/proc/sys/kernel/random/boot_id") as file:
            boot = file.read().strip()
        for index, wanted in enumerate(self.job["large"]):
            self.have_folder(os.path.dirname(os.path.join(self.root, wanted["path"])))
            self.parts[index] = Part(self.root, wanted, boot)
        write_file(os.path.join(self.folder, "secrets"), f"gb10:{self.job['secret']}\n")
        allowed = {"hosts allow": " ".join(sorted(self.peers)), "hosts deny": "*"}
        write_file(os.path.join(self.folder, "rsyncd.conf"), self.rsync_configuration(allowed))
        # what comes through sshd has no address; there the key is bound to the peer's
        write_file(os.path.join(self.folder, "rsyncd-ssh.conf"), self.rsync_configuration({}))

    def rsync_configuration(self, hosts: dict[str, str]) -> str:
        settings = {
            **hosts,
            "uid": "0",
            "gid": "0",
            "use chroot": "yes",
            "numeric ids": "yes",
            "munge symlinks": "no",
            "path": self.root.replace("%", "%%"),
            "list": "no",
            "read only": "no",
            "write only": "yes",
            "refuse options": "delete*",
            "auth users": "gb10",
            "secrets file": os.path.join(self.folder, "secrets"),
            "timeout": str(SILENCE_SECONDS * 2),
        }
        # without names: a lookup waits for a name server that may be out of reach
        return "reverse lookup = no\n[copy]\nreverse lookup = no\n" + "".join(
            f"{key} = {value}\n" for key, value in settings.items()
        )

    def listen(self, address: str) -> int:
        server = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        for port in PORTS:
            try:
                server.bind((address, port))
                server.listen(128)
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise CopyError("RAIL_DOWN", f"nothing can listen on {address}: {error.strerror}") from error
                continue
            threading.Thread(target=self.accept, args=(server,), daemon=True).start()
            return port
        raise CopyError("COPY_FAILED", f"no port of {PORTS[0]} to {PORTS[-1]} is free on {address}")

    def accept(self, server: socket.socket) -> None:
        while True:
            stream, sender = server.accept()
            if sender[0] not in self.peers:
                log(f"refused a connection from {sender[0]}: it is not the peer")
                stream.close()
                continue
            threading.Thread(target=self.serve, args=(stream, sender[0]), daemon=True).start()

    def serve(self, stream: socket.socket, sender: str) -> None:
        with stream:
            try:
                stream.settimeout(HELLO_SECONDS)
                if self.peek(stream).startswith(b"@RSYNCD:") and not self.job["ssh"]:
                    stream.settimeout(None)
                    self.serve_rsync(stream)
                    return
                kind = self.authenticate(stream)
                stream.settimeout(None)  # Python's own timeout would cost a system call for each read
                stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", SILENCE_SECONDS * 2, 0))
                if kind == "control":
                    self.serve_control(stream)
                else:
                    self.serve_data(stream)
            except KeyError as error:
                log(f"{sender} asked for what is not part of this copy: {error}")
            except CopyError as error:
                log(f"{error} (from {sender})")
            except (OSError, ValueError, struct.error) as error:
                log(f"the connection from {sender} broke: {error}")

    def peek(self, stream: socket.socket) -> bytes:
        deadline = time.monotonic() + HELLO_SECONDS
        while time.monotonic() < deadline:
            start = stream.recv(8, socket.MSG_PEEK)
            if not start or len(start) == 8:
                return start
            time.sleep(0.01)
        return b""

    def authenticate(self, stream: socket.socket) -> str:
        """Have both sides prove that they know the secret, without sending it; return what the stream is for."""
        lines = stream.makefile("rb", buffering=0)
        word, kind, theirs = lines.readline(256).decode().split()
        ours = secrets.token_hex(16)
        stream.sendall(f"{ours}\n".encode())
        proof = lines.readline(256).decode().strip()
        if word != "GB10" or not hmac.compare_digest(proof, proven(self.secret, "sender", kind, theirs, ours)):
            raise CopyError("COPY_REFUSED", "refused a connection that does not know the secret of this copy")
        stream.sendall((proven(self.secret, "receiver", kind, theirs, ours) + "\n").encode())
        return kind

    def serve_rsync(self, stream: socket.socket) -> None:
        command = ["rsync", "--daemon", f"--config={self.folder}/rsyncd.conf"]
        child = subprocess.Popen(command, stdin=stream.fileno(), stdout=stream.fileno())
        with self.lock:
            self.rsyncs.append(child)
        stream.close()
        child.wait()
        with self.lock:
            self.rsyncs.remove(child)

    def serve_control(self, stream: socket.socket) -> None:
        answers = threading.Lock()

        def answer(document: dict[str, Any]) -> None:
            with answers:
                stream.sendall(json.dumps(document).encode() + b"\n")

        self.last_word = time.monotonic()
        with self.lock:
            self.controls.append(answer)
            self.seen_sender = True
        try:
            for line in stream.makefile("rb"):
                self.last_word = time.monotonic()
                self.obey(json.loads(line), answer)
        finally:
            with self.lock:
                self.controls.remove(answer)

    def obey(self, word: dict[str, Any], answer: Answer) -> None:
        match word["do"]:
            case "hello":
                answer({"have": {index: part.ranges for index, part in self.parts.items()}})
            case "beat":
                with self.lock:  # the sender says it on every rail
                    write_file(os.path.join(self.folder, "progress.json"), json.dumps(word["progress"]))
                answer({"beat": word["number"]})
            case "complete":
                self.completing.submit(self.complete, word["index"], answer)
            case "note":
                for blob, links in self.job["references"].items():
                    note_references(self.root, blob, links)
                answer({"noted": True})
            case "end":
                self.tidy()
                answer({"ended": True})
                self.ended = True

    def complete(self, index: int, answer: Answer) -> None:
        try:
            self.parts[index].complete()
            with suppress(OSError):
                answer({"completed": index})
        except (CopyError, OSError) as error:
            self.give_up(index, error)

    def give_up(self, index: int, error: Exception) -> None:
        """Tell the sender why the copy cannot go on."""
        with self.lock:
            answers = list(self.controls)
        for answer in answers:
            with suppress(OSError):
                answer({"failed": index, "code": code_of(error), "reason": str(error)})

    def serve_data(self, stream: socket.socket) -> None:
        with self.lock:
            self.streams.add(stream)
        # A folder of its own for each stream: those who make files in one folder wait for each other.
        intake = Intake(stream, os.path.join(self.root, WORKSHOP, "tmp", f"stream-{next(self.numbers)}"))
        try:
            self.take_files(intake)
        finally:
            intake.close()
            with self.lock:
                self.streams.discard(stream)

    def take_files(self, intake: Intake) -> None:
        while frame := received(intake.stream, FRAME.size):
            index, offset, length, count = FRAME.unpack(frame)
            try:
                if index == BUNDLE:
                    for wanted in json.loads(received(intake.stream, offset)):
                        self.take_small(intake, wanted)
                else:
                    extents = [EXTENT.unpack(received(intake.stream, EXTENT.size)) for _ in range(count)]
                    self.take_piece(intake, self.parts[index], (offset, length), extents)
            except ConnectionError:
                raise
            except (CopyError, OSError) as error:
                self.give_up(index, error)
                raise
            intake.stream.sendall(b"+")

    def take_piece(self, intake: Intake, part: Part, piece: Range, extents: list[Range]) -> None:
        offset, length = piece
        if offset + length > part.size or not all(
            offset <= start <= start + size <= offset + length for start, size in extents
        ):
            raise CopyError("COPY_FAILED", "a piece does not belong into its file")
        with part.in_use():
            part.open()  # also where the piece is all hole
            for start, size in extents:
                at, end = start, start + size
                try:
                    while at < end:
                        at += intake.fill(part, at, end)
                except OSError:
                    part.arrived(start, at - start)
                    raise
            part.arrived(offset, length)

    def take_small(self, intake: Intake, wanted: dict[str, Any]) -> None:
        """Take one small file: it has its name when it is whole."""
        final = os.path.join(self.root, wanted["path"])
        self.have_folder(os.path.dirname(final))
        temporary = os.path.join(intake.folder, "small")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            left = wanted["size"]
            while left:
                left -= os.write(descriptor, intake.receive(min(left, DIRECT_BYTES)))
            os.fchown(descriptor, wanted["uid"], wanted["gid"])
            os.fchmod(descriptor, wanted["mode"])
            os.utime(descriptor, ns=(wanted["mtime"], wanted["mtime"]))
        except BaseException:
            os.unlink(temporary)
            raise
        finally:
            os.close(descriptor)
        os.rename(temporary, final)

    def have_folder(self, folder: str) -> None:
        """Make a folder inside the root. Raise CopyError for one that is outside."""
        if folder in self.folders:
            return
        real = os.path.realpath(folder)
        if real != self.root and not real.startswith(self.root + "/"):
            raise CopyError("COPY_FAILED", f"{folder!r} is outside of {self.root}")
        os.makedirs(folder, exist_ok=True)
        self.folders.add(folder)

    def stay(self) -> None:
        """Return when the copy is over, or the sender is gone."""
        began = time.monotonic()
        while True:
            time.sleep(0.05)
            now = time.monotonic()
            if self.ended:
                return
            if not self.seen_sender and now - began > AWAIT_SENDER_SECONDS:
                log("no sender came")
                return
            if self.seen_sender and (not self.controls or now - self.last_word > SILENCE_SECONDS):
                log("the sender is gone")
                return

    def finish(self) -> None:
        """End whatever still goes on, and write down what has arrived."""
        with self.lock:
            for stream in self.streams:
                with suppress(OSError):
                    stream.shutdown(socket.SHUT_RDWR)
        deadline = time.monotonic() + GRACE_SECONDS
        while (self.rsyncs or self.streams) and time.monotonic() < deadline:
            time.sleep(0.02)
        with self.lock:
            for child in self.rsyncs:
                child.terminate()
        self.completing.shutdown(wait=True)
        self.tidy()

    def tidy(self) -> None:
        """Remove the workshop, unless a later copy can go on with what is in it."""
        workshop = os.path.join(self.root, WORKSHOP)
        if os.path.isdir(workshop) and not [name for name in os.listdir(workshop) if name.endswith(".part")]:
            shutil.rmtree(workshop, ignore_errors=True)


def note_references(root: str, blob: str, links: list[str]) -> None:
    """Add links to the notes of a blob in a shared store (huggingface_hub, utils/_shared_blobs.py).

    Without them its owner would remove the blob with the last link that it knows of. The lock is the one that it takes.
    """
    path = os.path.join(root, blob)
    folder = os.path.dirname(path)
    os.makedirs(folder, exist_ok=True)
    owner = os.stat(folder)
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    lock, notes = os.open(f"{path}.lock", flags, 0o666), -1
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        notes = os.open(f"{path}.refs", flags | os.O_APPEND, 0o666)
        for descriptor in (lock, notes):
            os.fchmod(descriptor, 0o666)
            os.fchown(descriptor, owner.st_uid, owner.st_gid)
        with open(notes, "rb", closefd=False) as file:
            known = file.read().decode(errors="surrogateescape").splitlines()
        missing = [link for link in links if link not in known]
        if missing:
            os.write(notes, "".join(f"{link}\n" for link in missing).encode(errors="surrogateescape"))
            os.fsync(notes)
    finally:
        for descriptor in (lock, notes):
            if descriptor >= 0:
                os.close(descriptor)


def received(stream: socket.socket, count: int) -> bytes:
    """Given a number of bytes, return them; nothing at the end of the stream. Raise ConnectionError if none come."""
    found = b""
    while len(found) < count:
        try:
            more = stream.recv(count - len(found))
        except OSError as error:
            raise ConnectionError(f"nothing comes from the sender: {error.strerror}") from error
        if not more:
            return b""
        found += more
    return found


def proven(secret: bytes, *words: str) -> str:
    return hmac.new(secret, " ".join(words).encode(), hashlib.sha256).hexdigest()


def code_of(error: Exception) -> str:
    if isinstance(error, CopyError):
        return error.code
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    return "DISK_FULL" if full else "COPY_FAILED"


def write_file(path: str, text: str) -> None:
    """Write a file that only root can read; a reader sees all of it, or none."""
    descriptor = os.open(f"{path}.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(descriptor, "w", errors="surrogateescape") as file:
        file.write(text)
    os.rename(f"{path}.new", path)


def begin(document: dict[str, Any]) -> None:
    """Given a job, with the text of this program, start it as a unit, and print its ports."""
    try:
        print(start(document))
    except CopyError as error:
        sys.exit(str(error))
    except OSError as error:
        sys.exit(f"gb10: {code_of(error)}: {error}")


def start(document: dict[str, Any]) -> str:
    """Become a unit of systemd, so that all of it ends together, in time, and with its folder."""
    name = f"gb10-copy-{document['id']}"
    if not re.fullmatch(r"gb10-copy-[0-9a-f]{12}", name):
        raise CopyError("COPY_FAILED", "that is no id of a copy")
    root = document["root"]
    make_root(root, document["top"])
    folder = f"/run/{name}"
    os.mkdir(folder, 0o700)
    write_file(f"{folder}/receiver.py", document.pop("program"))
    write_file(f"{folder}/job.json", json.dumps(document))
    properties = {
        "RuntimeDirectory": name,
        "RuntimeDirectoryMode": "0700",
        "RuntimeMaxSec": str(document["lifetime"]),
        "TimeoutStopSec": str(GRACE_SECONDS * 2),
        "ProtectSystem": "strict",
        "ReadWritePaths": json.dumps(os.path.realpath(root)),
        "PrivateTmp": "yes",
        "NoNewPrivileges": "yes",
        "RestrictAddressFamilies": "AF_INET AF_INET6 AF_UNIX",
        "OOMScoreAdjust": "500",
        # whatever ends the unit: without the sandbox, in which a home folder cannot be written to
        "ExecStopPost": f"+{sys.executable} {folder}/receiver.py lock-out {name} {document['user']}",
    }
    command = ["systemd-run", "--quiet", "--collect", f"--unit={name}", f"--description=gb10 copy into {root!a}"]
    command += [f"--property={key}={value}" for key, value in properties.items()]
    try:
        subprocess.run([*command, sys.executable, f"{folder}/receiver.py", "serve", folder], check=True)
        ready = json.loads(await_ready(name, folder))
        if document["ssh"]:
            let_in(name, folder, document)
        return json.dumps({**ready, "host_keys": host_keys() if document["ssh"] else []})
    except BaseException:
        subprocess.run(["systemctl", "stop", name], check=False, stderr=subprocess.DEVNULL)
        shutil.rmtree(folder, ignore_errors=True)
        raise


def make_root(root: str, top: dict[str, Any] | None) -> None:
    """Make the target folder with the source's owner and mode, unless it is there: then it keeps its own."""
    os.makedirs(os.path.dirname(os.path.abspath(root)), exist_ok=True)
    try:
        os.mkdir(root)
    except FileExistsError:
        if not os.path.isdir(root):
            raise CopyError("COPY_PATH", f"{root} is there, and no folder") from None
        return
    if top:
        os.chown(root, top["uid"], top["gid"])
        os.chmod(root, top["mode"])


def authorized_keys(user: str) -> str:
    return os.path.join(pwd.getpwnam(user).pw_dir, ".ssh", "authorized_keys")


def let_in(name: str, folder: str, document: dict[str, Any]) -> None:
    """Let the sender's key in, for the rsync daemon of this copy, from the peer, until the copy must be over."""
    peers = ",".join(sorted({peer for rail in document["rails"].values() for peer in rail["peers"]}))
    until = time.strftime("%Y%m%d%H%M", time.localtime(time.time() + document["lifetime"]))
    sudo = "" if document["user"] == "root" else "sudo -n "
    forced = f"{sudo}rsync --server --daemon --config={folder}/rsyncd-ssh.conf ."
    line = f'restrict,from="{peers}",expiry-time="{until}",command="{forced}" {document["ssh"]} {name}\n'
    path = authorized_keys(document["user"])
    owner = pwd.getpwnam(document["user"])
    if not os.path.isdir(os.path.dirname(path)):
        os.mkdir(os.path.dirname(path), 0o700)
        os.chown(os.path.dirname(path), owner.pw_uid, owner.pw_gid)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    with open(descriptor, "r+") as file:
        os.fchown(descriptor, owner.pw_uid, owner.pw_gid)
        text = file.read()
        file.write(line if not text or text.endswith("\n") else f"\n{line}")


def lock_out(name: str, user: str) -> None:
    """Take the key of a copy back."""
    with suppress(FileNotFoundError), open(authorized_keys(user), "r+") as file:
        lines = file.readlines()
        kept = [line for line in lines if not line.endswith(f" {name}\n")]
        if kept != lines:
            file.seek(0)
            file.writelines(kept)
            file.truncate()


def host_keys() -> list[str]:
    found = []
    for path in sorted(glob.glob("/etc/ssh/ssh_host_*_key.pub")):
        with open(path) as file:
            found.append(" ".join(file.read().split()[:2]))
    return found


def await_ready(unit: str, folder: str) -> str:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        with suppress(FileNotFoundError), open(f"{folder}/ready.json") as file:
            return file.read()
        if not os.path.exists(folder):
            break
        time.sleep(0.02)
    # what it said last may not have been read yet
    subprocess.run(["timeout", "10", "journalctl", "--sync"], check=False, capture_output=True)
    journal = ["journalctl", f"--unit={unit}", "--output=cat", "--no-pager", "--lines=20"]
    said = subprocess.run(journal, check=False, capture_output=True, text=True).stdout.splitlines()
    known = next((line for line in said if line.startswith("gb10: ")), None)
    if known:
        _, code, reason = known.split(": ", 2)
        raise CopyError(code, reason)
    raise CopyError("COPY_FAILED", f"the receiver did not start: {said[-1] if said else 'its journal is empty'}")


def main(arguments: list[str]) -> None:
    """Do what the command line says."""
    try:
        match arguments:
            case ["serve", folder]:
                Receiver(folder).run()
            case ["lock-out", name, user]:
                lock_out(name, user)
            case _:
                sys.exit(__doc__)
    except CopyError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main(sys.argv[1:])
