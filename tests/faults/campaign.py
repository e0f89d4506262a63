"""A lab for the fault campaign: bring it into a known state, rebuild a node with faults, check the result.

The checks do not ask the product. They use SSH (testinfra) and Docker.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import random
import shutil
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import testinfra

from gb10.controller.errors import CATALOGUE
from gb10.facts.reading.docker import STORE
from gb10.lab import serving
from gb10.lab.kube import pause
from gb10.lab.lab import Lab
from gb10.lab.node import USER
from gb10.lab.paths import engine_folder, labs_folder
from gb10.lab.person import Person
from gb10.lab.problem import LabError
from gb10.lab.shell import Docker
from tests.faults.hook import ENDED
from tests.faults.points import Point

HERE = Path(__file__).parent
BIN = Path(sys.executable).parent
ATTEMPTS = 6  # resumes of a rebuild before it counts as stuck
RUN_SECONDS = 400
NODE_SECONDS = 60.0  # until a node is on again after it was off or wiped
OUTAGE_SECONDS = 4.0  # without SSH
EXTRA_IMAGE, EXTRA_MODEL = "gb10-lab/extra:1", "gb10-lab/extra"
BYSTANDER = "bystander"  # a container and a service on the survivor that must stay as they are


class CampaignError(Exception):
    """The lab did not reach the state in which a rebuild begins."""


@dataclass(frozen=True)
class Verdict:
    """The result of a point. `ok` is None if the rebuild did not reach it."""

    point: Point
    ok: bool | None
    happened: str
    seconds: float

    def to_json(self) -> dict[str, Any]:
        return {"point": self.point.name, "ok": self.ok, "happened": self.happened, "seconds": round(self.seconds, 1)}


@dataclass
class NodesState:
    """The state of the nodes that must be the same before and after a rebuild."""

    machine_id: str
    known_hosts: str
    models: dict[str, str]
    image: str
    cordoned: dict[str, bool]
    bystander: str
    secret: str  # the cluster's token, which must not be in the events


@dataclass
class CampaignLab:
    """One lab and its gb10 commands."""

    lab: Lab
    folder: Path
    target: str = "spark-2"
    k3s: bool = True
    batches: int = field(default=0, init=False)
    timers: list[threading.Timer] = field(default_factory=list, init=False)  # of faults on nodes

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.state = self.lab.up(2)
        self.docker = Docker(self.state.docker_host)
        self.host_keys = ""  # of the target before its wipe, as a tar in base64
        self.survivor = next(node.name for node in self.state.nodes if node.name != self.target)
        self.inventory = self._write_inventory()
        self._reset()

    @property
    def own_state(self) -> Path:
        """Return the folder of gb10's state about these nodes. Each lab needs its own: names and addresses repeat."""
        return self.folder / "state"

    def _reset(self) -> None:
        shutil.rmtree(self.own_state, ignore_errors=True)
        self.own_state.mkdir()
        for shared in (labs_folder(), engine_folder()):
            (self.own_state / shared.name).symlink_to(shared.absolute())

    # The commands -----------------------------------------------------------------------------------------------------

    def gb10(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run gb10 without a terminal, as a script does. A timeout counts as a failure."""
        command = [str(BIN / "gb10"), *arguments]
        own = {"GB10_LAB": self.lab.name, "GB10_STATE": str(self.own_state)}
        environment = {**os.environ, **own, "GB10_INVENTORY": str(self.inventory)}
        try:
            return subprocess.run(
                command,
                cwd=self.folder,
                env={**environment, "NO_COLOR": "1"},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=RUN_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            return subprocess.CompletedProcess(command, -1, "", f"timeout after {RUN_SECONDS} s: {error.stderr!r}")

    def _write_inventory(self) -> Path:
        hook = self.folder / "hook"
        hook.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S -E "{HERE / "hook.py"}" "{self.folder}" "$@"\n')
        hook.chmod(0o755)
        (self.folder / "points.json").write_text("[]")
        more = {
            "gpu_operator_enabled": False,
            "network_operator_enabled": False,
            "images": [EXTRA_IMAGE],
            "rebuild_hooks": [str(hook)],
            "rebuild_solo_seconds": 2,
            "validate_bandwidth_seconds": 1,
            "rebuild_validate_without": ["rail-bandwidth", "gpu-container"],
        }
        path = self.folder / "inventory.py"
        path.write_text(
            "from gb10.lab.hosts import groups\n\n"
            f"more = {more!r}\n"
            "head, workers = ([(name, {**known, **more}) for name, known in group] for group in groups())\n"
        )
        return path

    # The nodes --------------------------------------------------------------------------------------------------------

    def sh(self, node: str, script: str, stdin: str | None = None) -> str:
        """Run a shell script on a node as root, without SSH."""
        return self.docker.inside(self.state.node(node).container, f"set -e\n{script}", stdin=stdin).strip()

    def host(self, node: str) -> Any:
        """Return a node for testinfra."""
        config = self.folder / "ssh_config"
        config.write_text(
            f"Host *\n  IdentityFile {self.state.key}\n  IdentitiesOnly yes\n"
            f"  UserKnownHostsFile {self.state.known_hosts}\n  StrictHostKeyChecking yes\n  BatchMode yes\n"
            "  KexAlgorithms curve25519-sha256\n"  # ssh's default takes most of the time of a check
        )
        address = self.state.node(node).address("management")
        return testinfra.get_host(f"ssh://{USER}@{address}", ssh_config=str(config))

    def converge(self) -> None:
        """Bring the lab into the initial state of every batch: a healthy cluster with a served model."""
        self._done("bootstrap" if self.k3s else "provision", *([] if self.k3s else ["spark-*"]))
        for node in (self.target, self.survivor):
            serving.download(self.docker, self.state.node(node))
        self._done("provision", "spark-*")
        self._done("serving", "cluster")
        self._bystanders()

    def _done(self, *arguments: str) -> None:
        done = self.gb10(*arguments)
        if done.returncode:
            raise CampaignError(f"gb10 {' '.join(arguments)}: {(done.stdout + done.stderr)[-1500:]}")

    def _bystanders(self) -> None:
        """Start a foreign container and a foreign service on the survivor."""
        archive = _base64(pause.image())
        self.sh(
            self.survivor,
            f"docker image inspect {BYSTANDER} >/dev/null 2>&1 || base64 -d | docker import - {BYSTANDER}\n"
            f"docker start {BYSTANDER} 2>/dev/null || "
            f"docker run -d --name {BYSTANDER} --restart always {BYSTANDER} /pause\n"
            f"printf '[Service]\\nExecStart=sleep infinity\\n[Install]\\nWantedBy=multi-user.target\\n' "
            f">/etc/systemd/system/{BYSTANDER}.service; systemctl enable --now {BYSTANDER}",
            stdin=archive,
        )

    def renew_target(self) -> None:
        """Give the target its own model and image, so that every step of a rebuild has work to do."""
        self.batches += 1
        self.sh(self.survivor, f"rm -rf {STORE}")  # so that images are saved again
        seed = f"{self.lab.name} {time.time()}"
        self.sh(
            self.survivor, f"rm -rf {serving.HOME}/hub/models--gb10-lab--extra; docker rmi -f {EXTRA_IMAGE} || true"
        )
        self.sh(self.target, f"rm -rf {serving.HOME}/hub/models--gb10-lab--extra; docker rmi -f {EXTRA_IMAGE} || true")
        self.sh(self.target, f"base64 -d | docker import - {EXTRA_IMAGE}", stdin=_base64(_image(seed)))
        self.sh(self.target, f"base64 -d | tar -x -C {serving.HOME}/hub", stdin=_base64(_model(seed)))

    # One rebuild ------------------------------------------------------------------------------------------------------

    def run_batch(self, points: list[Point]) -> list[Verdict]:
        """Rebuild the target once with these faults and return the verdicts."""
        for flag in self.folder.glob("*.*-*.*"):
            flag.unlink()
        self.renew_target()
        before = self._read_state()
        self.host_keys = self.sh(self.target, "cd / && tar -c etc/ssh/ssh_host_* | base64")
        hooks = [point.to_hook(self.target) for point in points]
        (self.folder / "points.json").write_text(json.dumps(hooks))
        started = time.monotonic()
        events = self.folder / f"events-{self.batches}.jsonl"
        events.unlink(missing_ok=True)  # the person would react to old events again
        person = Person(Lab(self.lab.name))
        with self._person_and_faults(person, events, points):
            ends = self._rebuild(person, events)
        (self.folder / "points.json").write_text("[]")
        late = [timer for timer in self.timers if timer.is_alive()]
        for timer in late:
            timer.join()
        self.timers.clear()
        # After a late fault the node is no longer as the rebuild left it.
        faults = ["a fault came after the end"] if late else [*self._faults(before, person, ends, events)]
        if faults and not points:
            raise CampaignError(f"a rebuild without faults failed: {'; '.join(faults)}")
        seconds = (time.monotonic() - started) / max(len(points), 1)
        return [self._verdict(point, ends, faults, seconds) for point in points]

    def _rebuild(self, person: Person, events: Path) -> list[str]:
        """Run a rebuild and resume it until it is done. Return how each attempt ended."""
        ends: list[str] = []
        arguments = ["rebuild", "run", self.target, "--events", str(events)]
        while True:
            done = self.gb10(*arguments)
            (self.folder / f"attempt-{self.batches}-{len(ends)}.txt").write_text(done.stdout + done.stderr)
            ends.append(_end(done))
            if done.returncode == 0 or len(ends) > ATTEMPTS + len(list(self.folder.glob("*.fired"))):
                return ends
            self._wait_until_up()
            arguments = ["rebuild", "resume", "--events", str(events)]
            if "REBUILD_NONE" in done.stdout + done.stderr:
                arguments = ["rebuild", "run", self.target, "--events", str(events)]
            if person.wiped:
                arguments += ["--accept-host-key", person.fingerprint(self.target)]

    def _wait_until_up(self) -> None:
        """Wait until the nodes are on. The product itself must notice services that do not run."""
        deadline = time.monotonic() + NODE_SECONDS
        for node in self.state.nodes:
            while time.monotonic() < deadline:
                with suppress(LabError):
                    self.sh(node.name, "systemctl is-active ssh")
                    break
                time.sleep(0.5)

    @contextmanager
    def _person_and_faults(self, person: Person, events: Path, points: list[Point]) -> Iterator[None]:
        """Run the simulated person and the thread that injects the faults requested by the hook."""
        stop = threading.Event()
        threads = [
            threading.Thread(target=person.follow, args=(events, stop), daemon=True),
            threading.Thread(target=self._serve, args=(points, stop), daemon=True),
        ]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            stop.set()
            for thread in threads:
                thread.join()

    def _serve(self, points: list[Point], stop: threading.Event) -> None:
        wanted = {self.folder / f"{point.name}.wanted": point for point in points}
        while not stop.wait(0.05):
            for path, point in wanted.items():
                if path.exists():
                    path.unlink()
                    node = self.target if point.where == "target" else self.survivor
                    (self.folder / f"{point.name}.fired").write_text(FAULTS[point.fault](self, node))
                    (self.folder / f"{point.name}.done").touch()

    # Checks -----------------------------------------------------------------------------------------------------------

    def _read_state(self) -> NodesState:
        return NodesState(
            machine_id=self.sh(self.target, "cat /etc/machine-id"),
            known_hosts=_sorted(self.state.known_hosts.read_text()),
            models=self._models(self.target),
            image=self._image(self.target),
            cordoned=self._cordons(),
            bystander=self._bystander(),
            secret=self.sh("spark-1", "cat /var/lib/rancher/k3s/server/token 2>/dev/null || true"),
        )

    def _models(self, node: str) -> dict[str, str]:
        """Return the digest of each file in the hub's snapshots."""
        script = f"cd {serving.HOME}/hub && find -L . -type f -path '*/snapshots/*' -exec sha256sum {{}} + | sort"
        return {line.split("  ", 1)[1]: line[:64] for line in self.sh(node, script).splitlines()}

    def _image(self, node: str) -> str:
        return self.sh(node, f"docker image inspect -f '{{{{json .RootFS.Layers}}}}' {EXTRA_IMAGE} 2>/dev/null || true")

    def _cordons(self) -> dict[str, bool]:
        if not self.k3s:
            return {}
        listed = json.loads(self.sh("spark-1", "k3s kubectl get nodes -o json"))
        return {
            item["metadata"]["name"]: bool(item["spec"].get("unschedulable"))
            for item in listed["items"]
            if any(c["type"] == "Ready" and c["status"] == "True" for c in item["status"]["conditions"])
        }

    def _bystander(self) -> str:
        container = f"docker inspect -f '{{{{.Id}}}} {{{{.State.Running}}}}' {BYSTANDER}"
        return self.sh(self.survivor, f"{container}; systemctl is-active {BYSTANDER} || true")

    def _faults(self, before: NodesState, person: Person, ends: list[str], events: Path) -> Iterator[str]:
        """Yield everything that is wrong after a rebuild."""
        if ends[-1] != "done":
            yield f"the rebuild is not done: {ends[-1]}"
            return
        if person.wiped != [self.target]:
            yield f"the person wiped {person.wiped or 'nothing'}"
        if self.sh(self.target, "cat /etc/machine-id") == before.machine_id:
            yield "the node still has its old installation"
        after = self._read_state()
        for name in ("models", "image", "cordoned", "bystander", "known_hosts"):
            if getattr(after, name) != getattr(before, name):
                yield f"{name} differ: {getattr(before, name)!r:.300} became {getattr(after, name)!r:.300}"
        yield from self._leftovers(before, events)

    def _leftovers(self, before: NodesState, events: Path) -> Iterator[str]:
        for node in (self.target, self.survivor):
            host = self.host(node)
            if host.run("sudo test -e /var/lib/gb10/rebuild.lock").rc == 0:
                yield f"{node} is still locked"
            units = host.run("systemctl list-units --all --plain --no-legend 'gb10-*'").stdout
            running = [line.split()[0] for line in units.splitlines() if " running " in line]
            if running:
                yield f"{', '.join(running)} runs on {node}"
            if self.k3s and not host.service("k3s" if node == "spark-1" else "k3s-agent").is_running:
                yield f"K3s does not run on {node}"
        if before.secret and before.secret in events.read_text():
            yield "the cluster's token is in the events"
        records = [json.loads(line) for line in events.read_text().splitlines()]
        wiped = next((number for number, event in enumerate(records) if event.get("kind") == "wiped"), len(records))
        if any(event["event"] == "wipe-asked" for event in records[wiped:]):
            yield "gb10 asked for the wipe of a wiped node"

    def _verdict(self, point: Point, ends: list[str], faults: list[str], seconds: float) -> Verdict:
        flag = self.folder / f"{point.name}.fired"
        if not flag.exists():
            why = faults[0] if faults else "the rebuild has no such step, or the step had nothing to do"
            return Verdict(point, False if faults else None, f"not reached: {why}", seconds)
        happened = f"{flag.read_text()}; {len(ends) - 1} x resumed"
        errors = [end for end in ends[:-1] if not end.startswith(("killed", "HOST_KEY_UNCONFIRMED"))]
        happened += f" after {', '.join(errors)}" if errors else ""
        happened += "".join(f"; {fault}" for fault in faults)
        return Verdict(point, False if faults else flag.read_text() != ENDED or None, happened, seconds)

    def step_seconds(self) -> dict[str, float]:
        """Return the duration of each step of the last rebuild, in order."""
        done = self.gb10("rebuild", "history", "--json")
        name = json.loads(done.stdout)["runs"][-1]["name"]
        records = json.loads(self.gb10("rebuild", "history", name, "--json").stdout)["runs"][0]["records"]
        return {record["step"]: float(record["seconds"]) for record in records if record["event"] == "step-done"}

    def close(self) -> None:
        self.lab.down()
        shutil.rmtree(self.folder, ignore_errors=True)


# Faults that are not a kill ------------------------------------------------------------------------------------------


def _schedule(campaign: CampaignLab, seconds: float, work: Callable[[], object]) -> None:
    timer = threading.Timer(seconds, work)
    timer.daemon = True
    campaign.timers.append(timer)
    timer.start()


def _ssh(campaign: CampaignLab, node: str) -> str:
    """Break all connections shortly after the step's begin and refuse new ones for some seconds."""

    def cut() -> None:
        campaign.sh(node, "systemctl stop ssh || true; pkill -x sshd-session || true; pkill -x sshd || true")
        _schedule(campaign, OUTAGE_SECONDS, lambda: campaign.sh(node, "systemctl start ssh"))

    _schedule(campaign, 0.7, cut)
    return f"SSH to {node} lost for {OUTAGE_SECONDS:.0f} s"


def _reboot(campaign: CampaignLab, node: str) -> str:
    _schedule(campaign, 0.7, lambda: campaign.lab.reboot(node))
    return f"{node} rebooted"


def _disk(campaign: CampaignLab, node: str) -> str:
    """Fill the disk for models for some seconds."""
    hub = f"{serving.HOME}/hub"
    campaign.sh(node, f"mkdir -p {hub}; mount -t tmpfs -o size=64k tmpfs {hub}; head -c 60k /dev/zero > {hub}/full")
    _schedule(campaign, 12.0, lambda: campaign.sh(node, f"umount -l {hub} || true"))
    return f"the disk of {node} full for 12 s"


def _service(what: str) -> Callable[[CampaignLab, str], str]:
    def stop(campaign: CampaignLab, node: str) -> str:
        campaign.sh(node, f"systemctl stop {what} || true")
        return f"{what} on {node} stopped"

    return stop


def _k3s(campaign: CampaignLab, node: str) -> str:
    return _service("k3s" if node == "spark-1" else "k3s-agent")(campaign, node)


def _host_keys(campaign: CampaignLab, node: str) -> str:
    """Give the node its old host keys, like a restore that is killed before it updates known_hosts."""
    campaign.sh(node, "base64 -d | tar -x -C / && systemctl reload ssh", stdin=campaign.host_keys)
    return f"{node} has its old host keys, but known_hosts does not"


def _power_off(campaign: CampaignLab, node: str) -> str:
    """Switch the other node off, and on again after some seconds."""
    campaign.docker("stop", "--time=1", campaign.state.node(node).container)
    _schedule(campaign, 15.0, lambda: campaign.lab.up(2))
    return f"{node} off for 15 s"


FAULTS: dict[str, Callable[[CampaignLab, str], str]] = {
    "ssh": _ssh,
    "reboot": _reboot,
    "disk": _disk,
    "docker": _service("docker.socket docker"),
    "k3s": _k3s,
    "host-keys": _host_keys,
    "lost": _power_off,
}


# The target's own image and model ------------------------------------------------------------------------------------


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _image(seed: str) -> bytes:
    return _tar({"extra/weights": random.Random(seed).randbytes(2 << 20)})  # noqa: S311 - no secret


def _model(seed: str) -> bytes:
    """Return a model in the classic layout."""
    content = random.Random(f"model {seed}").randbytes(3 << 20)  # noqa: S311 - no secret
    commit = hashlib.sha1(seed.encode()).hexdigest()  # noqa: S324 - as in git
    etag = hashlib.sha256(content).hexdigest()
    folder = "models--gb10-lab--extra"
    listing = {"format_version": 1, "files": {"model.safetensors": {"size": len(content), "blob_id": "0" * 40}}}
    plain = {
        f"{folder}/blobs/{etag}": content,
        f"{folder}/refs/main": commit.encode(),
        f"{folder}/trees/{commit}.json": json.dumps(listing).encode(),
    }
    return _tar(plain, {f"{folder}/snapshots/{commit}/model.safetensors": f"../../blobs/{etag}"})


def _tar(plain: dict[str, bytes], links: dict[str, str] | None = None) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for path, content in plain.items():
            entry = tarfile.TarInfo(path)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
        for path, goal in (links or {}).items():
            entry = tarfile.TarInfo(path)
            entry.type, entry.linkname = tarfile.SYMTYPE, goal
            archive.addfile(entry)
    return buffer.getvalue()


def _sorted(text: str) -> str:
    return "\n".join(sorted(text.splitlines()))


def _end(done: subprocess.CompletedProcess[str]) -> str:
    """Return how an attempt ended, in one word."""
    if done.returncode == 0:
        return "done"
    if done.returncode == -9:
        return "killed"
    text = done.stdout + done.stderr
    lines = [line for line in text.splitlines() if line.strip()]
    return next((word for line in reversed(lines) for word in line.replace(":", " ").split() if _is_code(word)), "?")


def _is_code(word: str) -> bool:
    return word in CATALOGUE
