"""The node's Docker engine, and streams whose bytes are counted."""

from __future__ import annotations

import io
import json
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from gb10.programs.answer import RefusedError
from gb10.programs.images.contents import EngineImage
from gb10.programs.images.store import BUFFER_BYTES
from gb10.programs.meter import Meter


class Engine:
    """The node's Docker engine."""

    def __init__(self) -> None:
        info = json.loads(self._docker("info", "--format", "{{json .}}") or "{}")
        if not info.get("ServerVersion"):
            raise RefusedError("DOCKER_STOPPED", "no Docker engine answers")
        self.root = Path(info.get("DockerRootDir") or "/var/lib/docker")
        # containerd's image store accepts complete archives only
        self.takes_parts = "io.containerd.snapshotter" not in json.dumps(info.get("DriverStatus"))

    def images(self) -> list[EngineImage]:
        """Return every image, including those without a tag."""
        ids = sorted(set(self._docker("image", "ls", "--quiet", "--no-trunc").split()))
        lines: list[str] = []
        for start in range(0, len(ids), 100):
            inspect = ("image", "inspect", "--format", "{{json .}}", *ids[start : start + 100])
            lines += self._docker(*inspect).splitlines()
        return [EngineImage.inspected(json.loads(line)) for line in lines if line.startswith("{")]

    def tag(self, image: EngineImage, tag: str) -> None:
        self._docker("image", "tag", image.id, tag)

    @contextmanager
    def save(self, tag: str) -> Iterator[IO[bytes]]:
        """Open the archive of an image. Raise RefusedError if the engine ends it too early."""
        with tempfile.TemporaryFile() as output:
            process = subprocess.Popen(
                ["docker", "image", "save", tag], stdout=subprocess.PIPE, stderr=output, bufsize=0
            )
            assert process.stdout  # noqa: S101 - for the type checker: it is a pipe
            try:
                yield process.stdout
                while process.stdout.read(BUFFER_BYTES):
                    pass  # padding
            except RefusedError:
                # If the engine ended the archive too early, report its own reason.
                if process.stdout.read(1) or process.wait() == 0:
                    raise
            finally:
                process.stdout.close()  # ends an engine that still writes
                process.wait()
            if process.returncode != 0:
                raise RefusedError("IMAGE_SAVE_FAILED", f"docker save of {tag}: {_last_line(output)}")

    def load(self, write: Callable[[IO[bytes]], None]) -> None:
        """Load the archive that `write` writes. Raise RefusedError if the engine does not accept it."""
        command = ["docker", "image", "load", "--quiet"]
        with tempfile.TemporaryFile() as output:
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=output, stderr=output)
            assert process.stdin  # noqa: S101 - for the type checker: it is a pipe
            try:
                with suppress(BrokenPipeError):  # the engine reports why
                    write(process.stdin)
                    process.stdin.close()
                status = process.wait()
            except BaseException:
                process.kill()  # before its input ends, so that half an archive is not taken for a whole one
                raise
            finally:
                process.wait()
                with suppress(BrokenPipeError):
                    process.stdin.close()
            if status != 0:
                reason = _last_line(output)
                code = "DISK_FULL" if "no space left" in reason else "IMAGE_LOAD_FAILED"
                raise RefusedError(code, f"docker load: {reason}")

    @staticmethod
    def _docker(*arguments: str) -> str:
        result = subprocess.run(["docker", *arguments], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
        return result.stdout.decode()


def _last_line(file: IO[bytes]) -> str:
    file.seek(0)
    lines = file.read(BUFFER_BYTES).decode(errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "no output")


class Metered(io.RawIOBase):
    """A stream whose bytes are counted by a meter."""

    def __init__(self, stream: IO[bytes], meter: Meter) -> None:
        self._stream = stream
        self._meter = meter

    def read(self, size: int = -1) -> bytes:
        chunk = self._stream.read(size)
        self._meter.count(len(chunk))
        return chunk
