"""The sending side of a copy: several streams over every rail, and it goes on over those that are left.

This file runs on the source, as text for its own python3: standard library only. Its job (JSON) comes on standard
input. It prints a line of progress now and then, and at last one with the result:

    gb10-copy: sent=1048576 of=4294967296 seconds=1.5 a=524288 b=524288
    gb10-copy-result: {"sent": ..., "wire": ..., "seconds": ..., "rails": {...}, "lost_rails": [...]}

Large files go in pieces, each over whatever stream is free, so that one file alone fills all rails too. Small ones go
in bundles over the same streams. What may be the same already is left to rsync, which sends the difference. What shows
the files to readers comes last, by one more rsync: folders, links, names and attributes.

The contract: when standard output is closed, its reader is gone, and this ends; the other side notices that by itself.
"""

import collections
import contextlib
import fcntl
import hashlib
import hmac
import json
import os
import queue
import re
import resource
import secrets
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from typing import Any, NoReturn

FRAME = struct.Struct("!IQQI")  # as copy_receiver.py has them
EXTENT = struct.Struct("!QQ")
PIECE_BYTES = 8 << 20
BUNDLE = 0xFFFFFFFF  # in place of an index: a bundle of small files
BUNDLE_FILES = 256
MSG_MORE = 0x8000  # send(2): more follows at once
SENDFILE_BYTES = 4 << 20
CONNECT_SECONDS = 5
DEAD_SECONDS = 10  # a connection on which nothing comes back for so long carries nothing
DEAD_BEATS = 10  # nor does a rail on which so many were not answered; seconds may pass while this machine stands still
COMPLETE_SECONDS = 1800  # a file may have to wait for a slow disk
ATTEMPTS = 5  # of an rsync, each on another rail
BEAT_SECONDS = 1.0
GONE = -1_000_000
LOST = {10, 12, 30, 35, 255, -signal.SIGTERM}  # what rsync returns when the connection is gone
SOME_LEFT = {23, 24}  # files could not be read or written, or vanished: the proof will name them
TARGET_SAYS = re.compile(r"rsync: \[(?:receiver|generator)\]|could not make way for |cannot delete non-empty ")

Range = tuple[int, int]
Piece = tuple[int, int, int]  # index, offset, length
Wanted = dict[str, Any]  # a file, as it was planned


class RefusedError(ConnectionError):
    """The receiver is there, and does not want to talk to us."""


class CopyError(Exception):
    """What went wrong, as `gb10: CODE: reason`."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(f"gb10: {code}: {reason}")


def pieces(size: int, have: list[Range], piece: int = PIECE_BYTES) -> list[Range]:
    """Given a file's size and the ranges (start, end) that have arrived, return what is left as (offset, length)."""
    found: list[Range] = []
    at = 0
    for start, end in [*sorted(have), (size, size)]:
        while at < start:
            # pieces end at multiples of the piece, so that those of a later copy are the same
            stop = min(start, (at // piece + 1) * piece)
            found.append((at, stop - at))
            at = stop
        at = max(at, end)
    return found


def bundles(files: list[Wanted], most_bytes: int = PIECE_BYTES, most_files: int = BUNDLE_FILES) -> list[list[Wanted]]:
    """Given small files, return them in bundles of about as many bytes as a piece has."""
    found: list[list[Wanted]] = []
    size = 0
    for wanted in files:
        if not found or size + wanted["size"] > most_bytes or len(found[-1]) >= most_files:
            found.append([])
            size = 0
        found[-1].append(wanted)
        size += wanted["size"]
    return found


class Rail:
    """One way to the peer, with all that goes over it now."""

    def __init__(self, job: dict[str, Any]) -> None:
        self.name: str = job["name"]
        self.interface: str | None = job["interface"]
        self.local: str | None = job["local"]
        self.peer: str = job["peer"]
        self.port: int = job["port"]
        self.alive = False
        self.is_closed = False  # by the receiver
        self.sent = 0
        self.control: socket.socket | None = None
        self.answered = 0  # number of the last beat that the receiver has answered
        self.sockets: set[socket.socket] = set()
        self.processes: set[subprocess.Popen[bytes]] = set()
        self.lock = threading.Lock()

    def connect(self, kind: str, secret: bytes) -> socket.socket:
        """Open a stream to the receiver, and have both sides prove that they know the secret. Raise OSError."""
        stream = socket.socket(socket.AF_INET6 if ":" in self.peer else socket.AF_INET, socket.SOCK_STREAM)
        try:
            if self.interface:
                # what the routing table would send over another network is not a rail's traffic
                stream.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, self.interface.encode())
            if self.local:
                stream.bind((self.local, 0))
            stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, DEAD_SECONDS * 1000)
            stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            stream.settimeout(CONNECT_SECONDS)
            stream.connect((self.peer, self.port))
            self.greet(stream, kind, secret)
            stream.settimeout(None)
        except BaseException:
            stream.close()
            raise
        with self.lock:
            self.sockets.add(stream)
        return stream

    def greet(self, stream: socket.socket, kind: str, secret: bytes) -> None:
        lines = stream.makefile("rb", buffering=0)
        ours = secrets.token_hex(16)
        stream.sendall(f"GB10 {kind} {ours}\n".encode())
        theirs = lines.readline(256).decode().strip()
        if not theirs:
            raise RefusedError("it hangs up")
        stream.sendall((proven(secret, "sender", kind, ours, theirs) + "\n").encode())
        proof = lines.readline(256).decode().strip()
        if not hmac.compare_digest(proof, proven(secret, "receiver", kind, ours, theirs)):
            raise RefusedError("one side does not know the secret of this copy")

    def fail(self) -> None:
        """Give the rail up, and wake whoever waits for it."""
        self.alive = False
        with self.lock:
            for stream in self.sockets:
                with contextlib.suppress(OSError):
                    stream.shutdown(socket.SHUT_RDWR)
            for process in self.processes:
                process.terminate()


class Sender:
    """One copy."""

    def __init__(self, job: dict[str, Any]) -> None:
        self.job = job
        self.root: str = job["root"]
        self.secret: bytes = job["secret"].encode()
        self.rails = [Rail(rail) for rail in job["rails"]]
        self.large: list[dict[str, Any]] = job["large"]
        self.began = time.monotonic()
        self.lock = threading.Condition()
        self.work: collections.deque[Piece | list[Wanted]] = collections.deque()
        self.bundles_left = 0
        self.left: dict[int, int] = {}  # index -> pieces that have not arrived
        self.completing: dict[int, float] = {}  # index -> since when
        self.lists: queue.SimpleQueue[tuple[list[str], bool]] = queue.SimpleQueue()
        self.lists_left = 0
        self.answers: dict[str, Any] = {}
        self.troubles: list[str] = []  # what went wrong with single files: the rest is copied nevertheless
        self.complaints: list[str] = []  # the same, of the target
        self.fatal: BaseException | None = None
        self.wire = 0  # with what rsync needs beside the content of files
        self.resumed = 0
        self.number = 0
        self.shown = 0.0
        self.ssh: dict[str, str] = {}  # the files that ssh needs, where the copy goes by ssh

    # -- the whole -----------------------------------------------------------------------------------------------------

    def run(self) -> dict[str, Any]:
        """Copy; return the result. Raise CopyError."""
        try:
            self.connect()
            self.keep_key()
            self.plan_pieces(self.ask("hello", "have"))
            self.start_streams()
            self.wait(lambda: not (self.left or self.bundles_left or self.completing or self.lists_left))
            if self.job["references"]:
                self.ask("note", "noted")
            self.queue_list(self.job["finish"], finish=True)
            self.wait(lambda: not self.lists_left)
            if self.complaints:
                raise CopyError("COPY_FAILED", f"on {self.job['peer']}: {'; '.join(self.complaints[:5])}")
            if self.troubles:
                raise CopyError("SOURCE_CHANGED", "; ".join(self.troubles[:5]))
            self.ask("end", "ended")
            return self.result()
        finally:
            for rail in self.rails:
                rail.fail()

    def keep_key(self) -> None:
        """Lay the key of this copy where ssh can read it, and nobody else; it goes with this process."""
        if ssh := self.job["ssh"]:
            names = [rail.peer if ssh["port"] == 22 else f"[{rail.peer}]:{ssh['port']}" for rail in self.rails]
            hosts = [f"{name} {key}" for name in names for key in ssh["host_keys"]]
            self.ssh = {"key": in_memory(ssh["key"]), "known_hosts": in_memory("\n".join(hosts) + "\n")}

    def result(self) -> dict[str, Any]:
        seconds = time.monotonic() - self.began
        sent = sum(rail.sent for rail in self.rails)
        return {
            "sent": sent,
            "wire": self.wire,
            "resumed": self.resumed,
            "seconds": round(seconds, 3),
            "rails": {rail.name: rail.sent for rail in self.rails},
            "lost_rails": [rail.name for rail in self.rails if not rail.alive],
        }

    def wait(self, condition: Any) -> None:
        """Look after the rails and say how far we are, until a condition holds."""
        next_beat = 0.0
        while True:
            with self.lock:
                if self.fatal:
                    raise self.fatal
                if condition():
                    return
                self.lock.wait(0.1)
            now = time.monotonic()
            if now >= next_beat:
                next_beat = now + BEAT_SECONDS
                self.beat(now)
            self.show(now)

    def beat(self, now: float) -> None:
        self.number += 1
        alive = [rail for rail in self.rails if rail.alive]
        if alive and all(rail.is_closed for rail in alive):
            why = f"there, sudo journalctl --unit={self.job['unit']} says why"
            raise CopyError("COPY_FAILED", f"the receiver on {self.job['peer']} ended before the copy did: {why}")
        progress = {"total": self.job["total"], "peer": self.job["peer"], "source": self.root, **self.result()}
        for rail in self.rails:
            if not rail.alive:
                continue
            if self.number - rail.answered > DEAD_BEATS or self.has_no_carrier(rail):
                self.lose(rail)
                continue
            self.tell(rail, {"do": "beat", "number": self.number, "progress": progress})
        if not any(rail.alive for rail in self.rails):
            raise CopyError("RAIL_DOWN", "no rail carries anything any more; what has arrived is kept")
        for index, since in list(self.completing.items()):
            if now - since > COMPLETE_SECONDS:
                raise CopyError("COPY_FAILED", f"{self.large[index]['path']!r} does not get onto the target's disk")

    def has_no_carrier(self, rail: Rail) -> bool:
        if not rail.interface:
            return False
        with contextlib.suppress(OSError), open(f"/sys/class/net/{rail.interface}/operstate") as file:
            return file.read().strip() in ("down", "lowerlayerdown")
        return False

    def lose(self, rail: Rail) -> None:
        print(f"gb10-copy-note: rail {rail.name} carries nothing any more: going on without it", flush=True)
        rail.fail()
        with self.lock:
            self.lock.notify_all()
        for index in list(self.completing):
            self.request_completion(index)

    def show(self, now: float) -> None:
        """Print a line of progress when it is time; raise BrokenPipeError when nobody reads any more."""
        poll = select.poll()
        poll.register(sys.stdout.fileno(), select.POLLERR | select.POLLHUP)
        if poll.poll(0):
            raise BrokenPipeError("the reader is gone")
        if now - self.shown < self.job["every"]:
            return
        self.shown = now
        rails = " ".join(f"{rail.name}={rail.sent}" for rail in self.rails)
        sent = sum(rail.sent for rail in self.rails)
        print(f"gb10-copy: sent={sent} of={self.job['total']} seconds={now - self.began:.1f} {rails}", flush=True)

    def fail(self, error: BaseException) -> None:
        with self.lock:
            self.fatal = self.fatal or error
            self.lock.notify_all()

    # -- control -------------------------------------------------------------------------------------------------------

    def connect(self) -> None:
        reasons, refused = [], False
        for rail in self.rails:
            try:
                rail.control = rail.connect("control", self.secret)
            except OSError as error:
                refused = refused or isinstance(error, RefusedError)
                reasons.append(f"{rail.peer} over rail {rail.name}: {error}")
                continue
            rail.alive = True
            threading.Thread(target=self.listen, args=(rail, rail.control), daemon=True).start()
        if not any(rail.alive for rail in self.rails):
            if refused:
                raise CopyError("COPY_REFUSED", f"the receiver on {self.job['peer']} refuses us: {'; '.join(reasons)}")
            raise CopyError("RAIL_DOWN", f"the receiver cannot be reached: {'; '.join(reasons)}")

    def listen(self, rail: Rail, control: socket.socket) -> None:
        """Take in what the receiver answers."""
        hung_up = True
        try:
            for line in control.makefile("rb"):
                answer = json.loads(line)
                rail.answered = answer.get("beat", rail.answered)
                self.hear(answer)
        except ConnectionResetError:
            pass
        except (OSError, ValueError):
            hung_up = False
        with self.lock:
            closed = rail.alive and "ended" not in self.answers
        if closed:
            rail.is_closed = hung_up  # which a rail that is down cannot tell
            rail.answered = GONE  # the next beat gives it up

    def hear(self, answer: dict[str, Any]) -> None:
        with self.lock:
            if "completed" in answer:
                self.completing.pop(answer["completed"], None)
            elif "failed" in answer:
                self.fatal = self.fatal or CopyError(answer["code"], answer["reason"])
            else:
                self.answers |= answer
            self.lock.notify_all()

    def tell(self, rail: Rail, word: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):
            assert rail.control is not None  # noqa: S101 - for mypy: it is alive
            rail.control.sendall(json.dumps(word).encode() + b"\n")

    def ask(self, word: str, answer: str) -> Any:
        """Ask the receiver for something over whatever rail is alive; return its answer."""
        for rail in self.rails:
            if rail.alive:
                self.tell(rail, {"do": word})
        self.wait(lambda: answer in self.answers)
        return self.answers[answer]

    def request_completion(self, index: int) -> None:
        rail = next((rail for rail in self.rails if rail.alive), None)
        if rail:
            self.tell(rail, {"do": "complete", "index": index})

    # -- files, in pieces and in bundles -------------------------------------------------------------------------------

    def plan_pieces(self, have: dict[str, list[Range]]) -> None:
        order = sorted(range(len(self.large)), key=lambda index: -self.large[index]["size"])
        for index in order:
            size = self.large[index]["size"]
            found = pieces(size, [(start, end) for start, end in have.get(str(index), [])])
            self.resumed += size - sum(length for _, length in found)
            self.work += [(index, offset, length) for offset, length in found]
            self.left[index] = len(found)
            if not found:
                self.complete(index)
        small = bundles(self.job["small"])
        self.bundles_left = len(small)
        self.work += small

    def start_streams(self) -> None:
        for paths in self.job["compared"]:
            self.queue_list(paths)
        alive = [rail for rail in self.rails if rail.alive]
        # While one stream waits for the target's disk another one sends; beyond that, more of them than cores only take
        # time from each other. An rsync often waits.
        busy = min(self.job["streams"], max(2, (os.cpu_count() or 1) // len(alive)))
        for number in range(self.job["streams"]):
            for rail in alive:
                if self.work and number < busy:
                    threading.Thread(target=self.send_work, args=(rail,), daemon=True).start()
                first = alive[(alive.index(rail) + number) % len(alive)]
                threading.Thread(target=self.send_lists, args=(first,), daemon=True).start()

    def take(self, rail: Rail) -> Piece | list[Wanted] | None:
        """What is to be sent next; None when there will be nothing for this rail any more."""
        with self.lock:
            while rail.alive and not self.fatal and (self.left or self.bundles_left):
                if self.work:
                    return self.work.popleft()
                self.lock.wait(1)
        return None

    def send_work(self, rail: Rail) -> None:
        stream: socket.socket | None = None
        failures = 0
        try:
            while work := self.take(rail):
                try:
                    stream = stream or rail.connect("data", self.secret)
                    if isinstance(work, tuple):
                        self.send_piece(rail, stream, work)
                    else:
                        self.send_bundle(rail, stream, work)
                    failures = 0
                except OSError:
                    self.put_back(work)
                    stream, failures = None, failures + 1
                    if failures >= ATTEMPTS:
                        rail.answered = GONE  # the next beat gives it up
                        return
                    time.sleep(0.2)
        except BaseException as error:  # whatever it is, the copy must not wait for this thread
            self.fail(error)

    def put_back(self, work: Piece | list[Wanted]) -> None:
        with self.lock:
            self.work.appendleft(work)
            self.lock.notify_all()

    def send_bundle(self, rail: Rail, stream: socket.socket, bundle: list[Wanted]) -> None:
        """Send small files that still are what they were; name the others."""
        with contextlib.ExitStack() as opened:
            files = []
            for wanted in bundle:
                try:
                    descriptor = os.open(os.path.join(self.root, wanted["path"]), os.O_RDONLY | os.O_CLOEXEC)
                except OSError as error:
                    self.trouble(f"{wanted['path']!r} cannot be read any more ({error.strerror})")
                    continue
                opened.callback(os.close, descriptor)
                if self.is_same(descriptor, wanted):
                    files.append((descriptor, wanted))
                else:
                    self.trouble(f"{wanted['path']!r} changed during the copy")
            header = json.dumps([wanted for _, wanted in files]).encode()
            size = sum(wanted["size"] for _, wanted in files)
            stream.sendall(FRAME.pack(BUNDLE, len(header), size, 0) + header, MSG_MORE)
            for descriptor, wanted in files:
                if not send_range(stream, descriptor, 0, wanted["size"]):
                    raise ConnectionError("the receiver waits for what is not there any more")
            self.await_arrival(stream)
        with self.lock:
            rail.sent += size
            self.wire += size + len(header)
            self.bundles_left -= 1
            self.lock.notify_all()

    def trouble(self, trouble: str) -> None:
        with self.lock:
            if trouble not in self.troubles:
                self.troubles.append(trouble)

    def send_piece(self, rail: Rail, stream: socket.socket, piece: Piece) -> None:
        index, offset, length = piece
        wanted = self.large[index]
        try:
            descriptor = os.open(os.path.join(self.root, wanted["path"]), os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            self.skip(index, f"{wanted['path']!r} was removed during the copy ({error.strerror})")
            return
        try:
            if not self.is_same(descriptor, wanted):
                self.skip(index, f"{wanted['path']!r} changed during the copy")
                return
            extents = data_extents(descriptor, offset, length) if wanted["sparse"] else [(offset, length)]
            header = FRAME.pack(index, offset, length, len(extents))
            stream.sendall(header + b"".join(EXTENT.pack(*extent) for extent in extents))
            for start, size in extents:
                if not send_range(stream, descriptor, start, size):
                    self.skip(index, f"{wanted['path']!r} became shorter during the copy")
                    raise ConnectionError("the receiver waits for what is not there any more")
            self.await_arrival(stream)
        finally:
            os.close(descriptor)
        self.arrived(rail, piece)

    def is_same(self, descriptor: int, wanted: dict[str, Any]) -> bool:
        found = os.fstat(descriptor)
        return (found.st_size, found.st_mtime_ns) == (wanted["size"], wanted["mtime"])

    def await_arrival(self, stream: socket.socket) -> None:
        if stream.recv(1) != b"+":
            raise ConnectionError("the receiver is gone")

    def arrived(self, rail: Rail, piece: Piece) -> None:
        with self.lock:
            rail.sent += piece[2]
            self.wire += piece[2]
            index = piece[0]
            if index not in self.left:
                return
            self.left[index] -= 1
            whole = self.left[index] == 0
        if whole:
            self.complete(index)

    def complete(self, index: int) -> None:
        """Have the receiver give a file its name, if it is still what was planned."""
        wanted = self.large[index]
        try:
            found = os.stat(os.path.join(self.root, wanted["path"]))
            same = (found.st_size, found.st_mtime_ns) == (wanted["size"], wanted["mtime"])
        except OSError:
            same = False
        if not same:
            self.skip(index, f"{wanted['path']!r} changed during the copy")
            return
        with self.lock:
            self.completing[index] = time.monotonic()
            self.left.pop(index, None)
            self.lock.notify_all()
        self.request_completion(index)

    def skip(self, index: int, trouble: str) -> None:
        """Leave a file out that is not what it was when the copy was planned."""
        with self.lock:
            if index in self.left:
                self.troubles.append(trouble)
                self.left.pop(index)
                self.work = collections.deque(work for work in self.work if isinstance(work, list) or work[0] != index)
            self.lock.notify_all()

    # -- all else, by rsync --------------------------------------------------------------------------------------------

    def queue_list(self, paths: list[str], finish: bool = False) -> None:
        if paths:
            with self.lock:
                self.lists_left += 1
            self.lists.put((paths, finish))

    def send_lists(self, first: Rail) -> None:
        try:
            while True:
                paths, finish = self.lists.get()
                self.send_list(first, paths, finish)
                with self.lock:
                    self.lists_left -= 1
                    self.lock.notify_all()
        except BaseException as error:  # as above
            self.fail(error)

    def send_list(self, first: Rail, paths: list[str], finish: bool) -> None:
        said: list[str] = []
        for _ in range(ATTEMPTS):
            rail = first if first.alive else next((rail for rail in self.rails if rail.alive), None)
            if rail is None:
                return  # the next beat says so
            status, said = self.rsync(rail, paths, finish)
            if status == 0:
                return
            if any("No space left" in line or "quota" in line for line in said):
                raise CopyError("DISK_FULL", next(line for line in said if "No space left" in line or "quota" in line))
            if status in SOME_LEFT:
                ours, theirs = blamed(said)
                self.troubles += ours
                self.complaints += theirs
                return
            if status not in LOST:
                break
            time.sleep(1)
        raise CopyError("COPY_FAILED", f"rsync ended with status {status}: {' '.join(said[-2:]) or 'without a word'}")

    def rsync(self, rail: Rail, paths: list[str], finish: bool) -> tuple[int, list[str]]:
        """Send some paths over a rail; return rsync's status, and what it complained about."""
        names, names_end = os.pipe2(os.O_CLOEXEC)
        command = [
            *("rsync", "-lptgoD", "--relative", "--numeric-ids", "--from0", f"--files-from=/proc/self/fd/{names}"),
            *(
                "--no-implied-dirs",
                "--stats",
                "--no-human-readable",
                "--out-format=%i %l",
                f"--timeout={DEAD_SECONDS * 3}",
            ),
            *(["--hard-links"] if finish and self.job["hard_links"] else []),
            *(["--sparse"] if self.job["sparse"] else []),
            *(["--ignore-times"] if self.job["again"] and not finish else []),
            *self.job["owners"],
            *(self.way_by_ssh(rail) if self.ssh else self.way(rail)),
        ]
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, pass_fds=[names]
        )
        os.close(names)
        threading.Thread(target=write_names, args=(names_end, paths), daemon=True).start()
        with rail.lock:
            rail.processes.add(process)
        try:
            return self.follow(rail, process)
        finally:
            process.kill()
            process.wait()
            with rail.lock:
                rail.processes.discard(process)

    def way(self, rail: Rail) -> list[str]:
        local = [f"--address={rail.local}"] if rail.local else []
        peer = f"[{rail.peer}]" if ":" in rail.peer else rail.peer
        return [
            *(*local, "--contimeout=10", "--password-file=-", "--temp-dir=/.gb10-copy/tmp", f"{self.root}/"),
            f"rsync://gb10@{peer}:{rail.port}/copy/",
        ]

    def way_by_ssh(self, rail: Rail) -> list[str]:
        """Through the target's sshd, and by its forced command to the same rsync daemon."""
        ssh = [
            *("ssh", "-T", "-F", "none", "-i", self.ssh["key"], "-l", self.job["ssh"]["user"]),
            *("-p", str(self.job["ssh"]["port"]), "-o", f"UserKnownHostsFile={self.ssh['known_hosts']}"),
            *("-o", "StrictHostKeyChecking=yes"),
            *("-o", "BatchMode=yes", "-o", "Compression=no", "-o", "ConnectTimeout=10", "-o", "IdentitiesOnly=yes"),
            *("-o", "ServerAliveInterval=3", "-c", "aes128-gcm@openssh.com,chacha20-poly1305@openssh.com"),
            *(["-b", rail.local] if rail.local else []),
        ]
        # a large file may be half there: what has arrived of it is compared, and not sent again
        return [
            *("--password-file=-", "--partial-dir=.gb10-partial", "-e", " ".join(ssh), f"{self.root}/"),
            f"gb10@{rail.peer}::copy/",
        ]

    def follow(self, rail: Rail, process: "subprocess.Popen[bytes]") -> tuple[int, list[str]]:
        complaints: list[str] = []
        assert process.stdin is not None  # noqa: S101 - for mypy: all three are pipes
        assert process.stdout is not None  # noqa: S101
        assert process.stderr is not None  # noqa: S101
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(self.secret + b"\n")
            process.stdin.close()
        errors = process.stderr
        reader = threading.Thread(target=lambda: complaints.extend(printable(line) for line in errors), daemon=True)
        reader.start()
        for line in process.stdout:
            if line.startswith(b"<f"):
                with self.lock:
                    rail.sent += int(line.split()[1])
            elif sent := re.fullmatch(rb"Total bytes sent: ([\d,.]+)\s*", line):
                with self.lock:
                    self.wire += int(re.sub(rb"\D", b"", sent[1]))
        reader.join()
        return process.wait(), [line for line in complaints if line]


def blamed(said: list[str]) -> tuple[list[str], list[str]]:
    """Given what rsync complained about, return what is wrong with the source, and what with the target."""
    theirs = [line for line in said if TARGET_SAYS.match(line)]
    return [line for line in said if line.startswith("rsync: ") and line not in theirs], theirs


def in_memory(text: str) -> str:
    """Given a text, return the path under which other programs of this user can read it while this process lives."""
    descriptor = os.memfd_create("gb10-copy", os.MFD_CLOEXEC)
    os.fchmod(descriptor, 0o600)
    with open(descriptor, "w", closefd=False) as file:
        file.write(text)
    return f"/proc/{os.getpid()}/fd/{descriptor}"


def write_names(descriptor: int, paths: list[str]) -> None:
    with contextlib.suppress(BrokenPipeError), open(descriptor, "wb") as file:
        # a leading ./ keeps a name from being taken for anything else
        file.write(b"".join(b"./" + os.fsencode(path) + b"\0" for path in paths))


def data_extents(descriptor: int, offset: int, length: int) -> list[Range]:
    """Given a piece of a file with holes, return (offset, length) of where it has data."""
    found: list[Range] = []
    at, end = offset, offset + length
    while at < end:
        try:
            start = os.lseek(descriptor, at, os.SEEK_DATA)
        except OSError:
            break  # nothing but a hole up to the end
        if start >= end:
            break
        at = min(os.lseek(descriptor, start, os.SEEK_HOLE), end)
        found.append((start, at - start))
    return found


def send_range(stream: socket.socket, descriptor: int, offset: int, length: int) -> bool:
    """Send a range of a file; return whether the file has it all."""
    end = offset + length
    while offset < end:
        count = os.sendfile(stream.fileno(), descriptor, offset, min(end - offset, SENDFILE_BYTES))
        if not count:
            return False
        offset += count
    return True


def proven(secret: bytes, *words: str) -> str:
    return hmac.new(secret, " ".join(words).encode(), hashlib.sha256).hexdigest()


def printable(line: bytes) -> str:
    return line.decode(errors="backslashreplace").strip()


def interrupted(*_: object) -> NoReturn:
    raise CopyError("INTERRUPTED", "the copy was stopped; what has arrived is kept")


def main(job: dict[str, Any]) -> None:
    """Do the job."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupted)
    # a bundle's files are all open while it is sent, and there are several streams
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    # a pipe of the size of one line would make us wait for a slow reader
    with contextlib.suppress(OSError):
        fcntl.fcntl(sys.stdout.fileno(), fcntl.F_SETPIPE_SZ, 1 << 20)
    try:
        print(f"gb10-copy-result: {json.dumps(Sender(job).run())}", flush=True)
    except CopyError as error:
        sys.exit(str(error))
    except BrokenPipeError:
        os._exit(1)  # nobody is there to be told


if __name__ == "__main__":
    main(json.load(sys.stdin))
