"""The programs of a copy: start the receiver on the target and the sender on the source, pass on their reports."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519
from pyinfra.api import Host, StringCommand

from gb10.facts.reading.launcher import Launch
from gb10.facts.reading.reports import report
from gb10.group_data.settings import SshSettings
from gb10.operations.copying.options import CopyRequest
from gb10.operations.copying.plan import file_jobs, large_jobs, owner_options, spread
from gb10.operations.copying.reports import CopyMoved, CopySent
from gb10.operations.copying.survey import Survey, management_address
from gb10.operations.kit.inventory import read_settings
from gb10.operations.kit.peers import ask, peer_run
from gb10.operations.kit.reports import Note
from gb10.programs.confined import HOMES

PROGRAMS = "gb10.programs.copying"
FAILURE = "COPY_FAILED"  # of a program that ends without an answer
START_SECONDS = 60
DELETE_SECONDS = 3600
SLOWEST = 1e6  # bytes per second: a slower copy is stopped, and may be resumed
SENDER_MEMORY_BYTES = 4 << 30  # with the stacks of its threads


@dataclass(frozen=True)
class _Session:
    """One copy, with the secrets that only its two ends know."""

    source: Host
    target: Host
    request: CopyRequest
    survey: Survey
    key: ed25519.Ed25519PrivateKey | None  # of a copy by ssh
    id: str = field(default_factory=lambda: secrets.token_hex(6))
    secret: str = field(default_factory=lambda: secrets.token_hex(32))

    @property
    def lifetime(self) -> int:
        """Seconds after which the copy must be over."""
        return START_SECONDS + int(3600 + self.survey.plan.size / SLOWEST)

    @property
    def user(self) -> str:
        """The user who may log in by ssh."""
        return read_settings(SshSettings, self.target).user or "root"

    def receiver_job(self) -> dict[str, Any]:
        """Return the job of gb10.programs.copying.receiving.unit:begin."""
        survey, plan = self.survey, self.survey.plan
        top = survey.source.top
        return {
            "id": self.id,
            "secret": self.secret,
            "lifetime": self.lifetime,
            "user": self.user,
            "ssh": _public(self.key) if self.key else "",
            "root": self.request.dest_path,
            "top": file_jobs([top], survey.source, survey.target)[0] if top else None,
            "rails": {
                way.name: {"address": way.peer, "peers": [way.local or management_address(self.source)]}
                for way in survey.ways
            },
            "large": large_jobs(plan, survey.source, survey.target),
            "references": plan.references,
            "stale": plan.stale,
            "halves": plan.halves,
        }

    def sender_job(self, ready: dict[str, Any]) -> dict[str, Any]:
        """Return the job of gb10.programs.copying.sending.sender:main, given the answer of the receiver's `begin`."""
        survey, plan, streams = self.survey, self.survey.plan, self.request.streams
        lists = spread(plan.compared, streams * len(survey.ways))
        return {
            "secret": self.secret,
            "ssh": self._ssh(self.key, ready["host_keys"]) if self.key else None,
            "root": survey.source.root,
            "peer": self.target.name,
            "unit": f"gb10-copy-{self.id}",
            "rails": [{**asdict(way), "port": ready["ports"][way.name]} for way in survey.ways],
            "large": large_jobs(plan, survey.source, survey.target),
            "small": file_jobs(plan.small, survey.source, survey.target),
            "compared": [[entry.path for entry in found] for found in lists],
            "finish": plan.finish,
            "again": plan.again,
            "references": bool(plan.references),
            "hard_links": any(entry.inode for entry in survey.source.files),
            "sparse": any(entry.sparse for entry in plan.compared),
            "owners": owner_options(survey.source, survey.target),
            "streams": streams,
            "total": plan.size,
            "every": self.request.progress_seconds,
        }

    def _ssh(self, key: ed25519.Ed25519PrivateKey, host_keys: Sequence[str]) -> dict[str, Any]:
        openssh = serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH
        private = key.private_bytes(*openssh, serialization.NoEncryption()).decode()
        port = read_settings(SshSettings, self.target).port
        return {"user": self.user, "port": port, "key": private, "host_keys": host_keys}


def transfer(source: Host, target: Host, request: CopyRequest, survey: Survey) -> None:
    """Send what is planned. Raise RefusedError if not all of it was sent."""
    if survey.plan.is_empty:
        return
    key = ed25519.Ed25519PrivateKey.generate() if request.is_encrypted else None
    session = _Session(source, target, request, survey, key)
    begin = Launch(
        f"{PROGRAMS}.receiving.unit:begin",
        session.receiver_job(),
        seconds=START_SECONDS,
        guarded=[request.dest_path, HOMES],  # the key of a copy by ssh is in a home
    )
    ready = ask(target, begin, FAILURE)
    try:
        send = Launch(
            f"{PROGRAMS}.sending.sender:main",
            session.sender_job(ready),
            seconds=session.lifetime,
            memory_bytes=SENDER_MEMORY_BYTES,
            on_report=lambda moved: report(source, _progress(moved)),
            guarded=[survey.source.root],
        )
        result = ask(source, send, FAILURE)
    except BaseException:
        # The receiver ends by itself, unless that is the very reason for this failure.
        stop = f"timeout 30 systemctl stop gb10-copy-{session.id}.service 2>/dev/null || true"
        peer_run(target, StringCommand(stop))
        raise
    report(source, CopySent(**{**result, "lost_rails": tuple(result["lost_rails"])}))


def _progress(told: dict[str, Any]) -> CopyMoved | Note:
    if "lost_rail" in told:
        return Note(f"rail {told['lost_rail']} carries nothing any more: going on without it")
    return CopyMoved(**told)


def _public(key: ed25519.Ed25519PrivateKey) -> str:
    openssh = serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    return key.public_key().public_bytes(*openssh).decode()


def delete(target: Host, request: CopyRequest, paths: Sequence[str]) -> None:
    """Remove paths on the target, the deepest first. Raise RefusedError if that fails."""
    job = {"root": request.dest_path, "paths": paths}
    launch = Launch(f"{PROGRAMS}.delete:main", job, seconds=DELETE_SECONDS, guarded=[request.dest_path])
    ask(target, launch, FAILURE)
