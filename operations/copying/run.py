"""A copy in progress: the receiver started on one node, the sender on the other, and what they say."""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519
from pyinfra.api import Host, StringCommand
from pyinfra.context import host

from gb10.facts.reading.bandwidth import RailBandwidth, Verdict
from gb10.facts.reading.launcher import program_text, run_program
from gb10.group_data.settings import ServingCare, SshSettings
from gb10.operations.copying.plan import file_jobs, large_jobs, owner_options, spread
from gb10.operations.copying.survey import Survey, Wanted, Way, has_sudo, management_address, run_on
from gb10.operations.kit.failures import say
from gb10.operations.kit.inventory import read_settings
from gb10.operations.kit.peers import peer_run
from gb10.operations.validate import measured, serving_on

MEASURE_FROM_BYTES = 8 << 30  # a smaller copy is over before a measurement pays
MEASURE_SECONDS = 1
START_SECONDS = 60
SLOWEST = 1e6  # bytes per second: a copy that is slower than that is stopped, and may be resumed


@dataclass(frozen=True)
class _Session:
    """What only the two sides of one copy know of each other. `lifetime` is in seconds."""

    user: str  # who may come in by ssh
    lifetime: int
    key: ed25519.Ed25519PrivateKey | None  # of a copy by ssh
    id: str = field(default_factory=lambda: secrets.token_hex(6))
    secret: str = field(default_factory=lambda: secrets.token_hex(32))


def transfer(source: Host, target: Host, wanted: Wanted, survey: Survey) -> bool:
    """Send what is planned; return whether all of it was, and say why not."""
    if survey.plan.is_empty:
        return True
    session = _Session(
        user=read_settings(SshSettings, target).user or "root",
        lifetime=START_SECONDS + int(3600 + survey.plan.size / SLOWEST),
        key=ed25519.Ed25519PrivateKey.generate() if wanted.transport == "ssh" else None,
    )
    ready = _start_receiver(source, target, wanted, survey, session)
    if ready is None:
        return False
    sent = False
    try:
        sent = _send(source, target, wanted, survey, session, ready)
    finally:
        if not sent:  # it would end by itself, but the reason for this may be that it does not
            stop = f"timeout 30 systemctl stop gb10-copy-{session.id}.service 2>/dev/null || true"
            peer_run(target, StringCommand(stop))
    return sent


def _start_receiver(
    source: Host, target: Host, wanted: Wanted, survey: Survey, session: _Session
) -> dict[str, Any] | None:
    """Return the receiver's ports and, for ssh, the keys of its host; None where it does not start."""
    job = {
        "id": session.id,
        "secret": session.secret,
        "lifetime": session.lifetime,
        "user": session.user,
        "ssh": _public(session.key) if session.key else "",
        "root": wanted.dest_path,
        "top": file_jobs([survey.source.top], survey.source, survey.target)[0] if survey.source.top else None,
        "rails": {way.name: {"address": way.peer, "peers": _addresses(source, way)} for way in survey.ways},
        "large": large_jobs(survey.plan, survey.source, survey.target),
        "references": survey.plan.references,
        "stale": survey.plan.stale,
        "halves": survey.plan.halves,
    }
    text = program_text("gb10.programs.copying", "receiver.py")
    done, output = peer_run(target, run_program(text, "begin", job, START_SECONDS))
    if not done:
        quote(host, target, output)
        return None
    ready: dict[str, Any] = json.loads(output.splitlines()[-1])
    return ready


def _public(key: ed25519.Ed25519PrivateKey) -> str:
    openssh = serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    return key.public_key().public_bytes(*openssh).decode()


def _private(key: ed25519.Ed25519PrivateKey) -> str:
    openssh = serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH
    return key.private_bytes(*openssh, serialization.NoEncryption()).decode()


def _addresses(source: Host, way: Way) -> list[str]:
    if way.local:
        return [way.local]
    return [management_address(source)]


def _send(source: Host, target: Host, wanted: Wanted, survey: Survey, session: _Session, ready: dict[str, Any]) -> bool:
    plan, ports = survey.plan, ready["ports"]
    ssh = None
    if session.key:
        port = read_settings(SshSettings, target).port
        ssh = {"user": session.user, "port": port, "key": _private(session.key), "host_keys": ready["host_keys"]}
    job = {
        "secret": session.secret,
        "ssh": ssh,
        "root": survey.source.root,
        "peer": target.name,
        "unit": f"gb10-copy-{session.id}",
        "rails": [
            {"name": w.name, "interface": w.interface, "local": w.local, "peer": w.peer, "port": ports[w.name]}
            for w in survey.ways
        ],
        "large": large_jobs(plan, survey.source, survey.target),
        "small": file_jobs(plan.small, survey.source, survey.target),
        "compared": [[e.path for e in found] for found in spread(plan.compared, wanted.streams * len(survey.ways))],
        "finish": plan.finish,
        "again": plan.again,
        "references": bool(plan.references),
        "hard_links": any(entry.inode for entry in survey.source.files),
        "sparse": any(entry.sparse for entry in plan.compared),
        "owners": owner_options(survey.source, survey.target),
        "streams": wanted.streams,
        "total": plan.size,
        "every": wanted.progress_seconds,
    }
    text = program_text("gb10.programs.copying", "sender.py")
    done, output = run_on(source, run_program(text, "main", job, session.lifetime), has_sudo(), shown=True)
    if not done:
        quote(host, source, output)
        return False
    return True


def quote(where: Host, node: Host, output: str) -> None:
    """Say what a program said before it failed."""
    lines = [line for line in output.splitlines() if line.strip()]
    known = next((line for line in reversed(lines) if line.startswith("gb10: ")), None)
    if known:
        _, code, reason = known.split(": ", 2)
        say(where, code, reason)
    else:
        say(where, "COPY_FAILED", f"the copy on {node.name} ended: {lines[-1] if lines else 'without a word'}")


def delete(target: Host, wanted: Wanted, paths: Sequence[str]) -> bool:
    """Remove paths on the target, the deepest first; return whether that went well."""
    text = program_text("gb10.programs.copying", "delete.py")
    done, output = peer_run(target, run_program(text, "main", {"root": wanted.dest_path, "paths": paths}, 3600))
    if not done:
        quote(host, target, output)
    return done


def carries_enough(source: Host, target: Host, wanted: Wanted, survey: Survey) -> bool:
    """Measure the rails before a large copy; return whether none is throttled, and say which is.

    Not while something is served: a measurement takes all that the rails have.
    """
    if survey.plan.size < MEASURE_FROM_BYTES or wanted.force or wanted.network != "rails":
        return True
    for node in (source, target):
        if busy := serving_on([node], read_settings(ServingCare, node).serving_containers):
            host.log(f"the rails are not measured: {busy}")
            return True
    throttled = [_is_throttled(source, target, way) for way in survey.ways]
    return not any(throttled)


def _is_throttled(source: Host, target: Host, way: Way) -> bool:
    found = measured(source, target, way, MEASURE_SECONDS)
    fault, text = judge_rate(found, f"{way.interface} from {source.name} to {target.name}")
    if fault:
        say(host, "LINK_THROTTLED", text)
    else:
        host.log(text)
    return fault


def judge_rate(found: RailBandwidth | str, way: str) -> tuple[bool, str]:
    """Given a measurement, or why there is none, return whether the rail is throttled, and that in words."""
    if isinstance(found, str):
        return False, f"what {way} carries is not known: {found}"
    if found.measured_gbps is None:
        return False, f"what {way} carries is not known: {found.trouble or 'nothing was measured'}"
    rate = f"{way} carries {found.measured_gbps:.1f} Gb/s"
    if found.verdict is Verdict.THROTTLED:
        return True, f"{rate}, and its link says {found.link_gbps:.0f} Gb/s"
    return False, f"{rate}: {found.verdict}"
