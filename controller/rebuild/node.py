"""The rebuild of one node, as a list of steps: brought to safety, wiped by a person, and brought back as it was."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from dataclasses import replace
from typing import Any, Literal

from gb10.controller.cluster.health import disagreements, rail_faults
from gb10.controller.cluster.sight import LOCK, SETTLED, copied, download_command, sound
from gb10.controller.cluster.status_model import ClusterStatus
from gb10.controller.cluster.validate import unproven, validate
from gb10.controller.errors import Gb10Error
from gb10.controller.inventory import InventoryHost
from gb10.controller.rebuild.arrival import (
    Arrived,
    Before,
    Seen,
    accept_host_key,
    instructions,
    judge,
    known_host_keys,
    look,
    settle_host_key,
    wait_for_wipe,
)
from gb10.controller.rebuild.backup import BackupPart
from gb10.controller.rebuild.gate import Demand, check, overridden
from gb10.controller.rebuild.memory import Memory, Needs, kept, look_at, recall
from gb10.controller.rebuild.risks import BELONGINGS, risks
from gb10.controller.rebuild.serving import ServingPart
from gb10.controller.rebuild.steps import AWAY, Evidence, Step, undo
from gb10.controller.rebuild.survivor import Survivor
from gb10.controller.rebuild.tools import Tools
from gb10.facts.reading.images import STORE
from gb10.facts.reading.k3s import UNITS
from gb10.group_data.settings import NodeNetwork, RebuildSettings
from gb10.operations.copying.plan import human
from gb10.programs.images.names import familiar

SETTLE_SECONDS = 3600.0  # updates after an installation take their time
JOIN_SECONDS = 120.0
BUSY_SECONDS = 90.0  # until a copy has ended whose run was killed
K3S_CHECKS = ("k3s", "gpu-operator", "network-operator", "gpu-allocatable", "rdma-allocatable")
RAIL_CHECKS = ("rails", "rail-mtu", "rail-bandwidth")
ROOM_FACTOR = 1.1  # of what comes back, for what an estimate does not know
DOCKER = "docker"  # its unit
REBOOTSTRAP = "rebootstrap"  # the event by which the journal knows that a new cluster is wanted

PERSON_NEEDED = ("unwiped", "other-machine", "undecided", "no-login", "no-sudo")  # what does not pass by itself

Condition = Literal["intact", "wiped", "away"]


class NodeRebuild:
    """The steps of one node. What they know of it comes from facts, and from the journal what facts cannot tell."""

    def __init__(self, target: InventoryHost, tools: Tools) -> None:
        self.target = target
        self.tools = tools
        self.sight = tools.sight
        self.journal = tools.journal
        others = [host for host in tools.inventory.hosts if host.name != target.name]
        # The head keeps what a worker has; where the head itself is wiped, the first worker does.
        self.others = sorted(others, key=lambda host: "head" not in host.groups)
        self.backups = BackupPart(target, tools)
        self._passed = False  # the gate, in this very process
        self._validated = False
        self._demands: tuple[Demand, ...] = ()

    # What is known ----------------------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        return self.target.name

    @property
    def keeper(self) -> InventoryHost:
        """The node that keeps models and images meanwhile. Raise REBUILD_IMPOSSIBLE where there is none."""
        if not self.others:
            raise Gb10Error("REBUILD_IMPOSSIBLE", f"{self.name} is alone: no other node could keep its models")
        return self.others[0]

    @functools.cached_property
    def serving(self) -> ServingPart:
        return ServingPart(self.target, self.keeper, self.tools)

    @property
    def is_head(self) -> bool:
        return "head" in self.target.groups

    @property
    def memory(self) -> Memory:
        """What was before; while nothing was written down yet, what is now."""
        return recall(self.journal, self.name) or self._first_memory()

    @property
    def asked(self) -> bool:
        """Whether somebody was asked to wipe the node."""
        return self.journal.last("wipe-asked", node=self.name) is not None

    @property
    def overrides(self) -> dict[str, str]:
        """What the gate does without for this node, and why. What was said of another node does not count here."""
        said = self.journal.of("overridden", node=self.name)
        found = {name: why for record in said for name, why in record["overrides"].items()}
        if "images" in found:  # what is in no engine cannot be saved either
            found.setdefault("saved-images", found["images"])
        return found

    @property
    def rebootstrap(self) -> bool:
        """Whether a head is to come back with a new cluster."""
        return self.journal.last(REBOOTSTRAP) is not None

    def condition(self) -> Condition:
        """Whether the node is as before, away, or another installation. Raise what keeps that from being known.

        A new installation that has its old host keys back already is known by them again after this.
        """
        memory = recall(self.journal, self.name)
        if self.journal.last("returned", node=self.name):
            settle_host_key(self.target)  # we may have been ended right after its old keys came back
            return "wiped"
        if memory is None or not self.asked:
            self.sight.identity(self.target)
            return "intact"
        seen = judge(self.target, memory.before, look(self.target), away=False)
        if seen.kind in ("still-there", "unwiped"):
            return "intact"
        return "away"

    def needs(self) -> Needs:
        """Models and images that serving needs, beyond those that the inventory declares."""
        return self.serving.needs()

    def wake(self, names: tuple[str, ...], *, whole: bool) -> None:
        """Start what ran on these nodes when this began, and was stopped since.

        Unless the cluster is `whole`, with this node in it, never K3s on this one; and where it is the head, on none:
        an agent that finds no server does not come up.
        """
        for name in sorted(names, key=lambda name: name != self._head.name):  # no agent starts without its server
            joins = self.memory.k3s and (whole or not (self.is_head or name == self.name))
            services = [DOCKER, *(UNITS.values() if joins else ())]
            self.tools.work("start_services", f"See what runs on {name}", (name,), services=services)
        self.sight.forget()

    # The list ---------------------------------------------------------------------------------------------------------

    def steps(self) -> list[Step]:
        """The steps that this node needs now: without K3s those of K3s are absent, and so on."""
        condition = self.condition()
        if condition == "away":
            self.sight.absent.add(self.name)
        before = list(self._before() if condition == "intact" else self._meanwhile())
        return [*before, self._wipe(), *self._after()]

    def _before(self) -> Iterator[Step]:
        yield self._preflight()
        for demand, step in self._safety():
            if demand not in self.overrides:  # what the gate does without, nobody has to bring about
                yield step
        yield self._gate()

    def take_back(self) -> list[str]:
        """Undo what brought everything to safety, also what nobody asks for any more; return what that was."""
        return list(undo([step for _, step in self._safety()]))

    def _safety(self) -> Iterator[tuple[str, Step]]:
        """What brings everything to safety, each by the name of the gate's demand."""
        memory = self.memory
        if memory.models:
            yield "models", self._sync_models()
        if memory.images:
            yield "images", self._sync_images()
            yield "saved-images", self._save_images()
        if self.serving.is_served(memory):
            for step in self.serving.degrade():
                yield "solo", step
        if memory.k3s:
            yield "drained", self._drain()
        yield "backup", self.backups.backup()

    def _meanwhile(self) -> Iterator[Step]:
        """What has to hold while the node is away: something answers, whatever happened to the node that stayed."""
        wanted = self.serving.is_served(self.memory) and "solo" not in self.overrides
        if wanted and not self.serving.has_begun_again():
            yield next(self.serving.degrade())

    def _after(self) -> Iterator[Step]:
        yield self._settle()
        yield self._provision()
        if self._has_backup:
            yield self.backups.restore(without_k3s=self._new_cluster)
        if self.target.rails:
            yield self._rails()
        if self.memory.images:
            yield self._images()
        if self.memory.models:
            yield self._models()
        if self.memory.k3s:
            yield self._rejoin()
            yield self._admit()
        yield self.green()
        yield self._validate()
        if self.serving.is_served(self.memory):
            yield self.serving.restore(self.memory)

    @property
    def _has_backup(self) -> bool:
        """Whether a backup can be restored: before the wipe that is the gate's matter."""
        is_back = self.journal.last("returned", node=self.name) is not None
        return not is_back or self.journal.last("backed-up", node=self.name) is not None

    @property
    def _new_cluster(self) -> bool:
        """Whether a head comes back with another cluster: because that is wanted, or for want of a backup."""
        return self.is_head and (self.rebootstrap or not self._has_backup)

    # Before the wipe --------------------------------------------------------------------------------------------------

    def _preflight(self) -> Step:
        def verify() -> Evidence:
            memory = recall(self.journal, self.name)
            if memory is None:
                return Evidence(False, "nothing is written down yet")
            return Evidence(True, _described(memory))

        def run() -> None:
            if not self.others:
                self.keeper  # noqa: B018 - raises
            for host in self.tools.inventory.hosts:
                self.sight.identity(host)
            status = self.sight.status()
            if not status.healthy:
                raise Gb10Error("NODES_UNWELL", reason="; ".join(status.reasons), cure="; ".join(status.remedies))
            self._check_rails(status)
            self._check_k3s()
            check_recognisable(self.target, self.sight.identity(self.target))
            self.tools.report("remembered", node=self.name, memory=self._first_memory().to_json())

        plan = f"look whether all nodes are well, and write down what {self.name} is and has"
        return Step("preflight", "Look at all nodes", lambda: plan, verify, run)

    def _check_rails(self, status: ClusterStatus) -> None:
        """Refuse where the rails of the others would not fit those that the node comes back with."""
        network = self.target.settings(NodeNetwork)
        mtu = network.rails_mtu if network.rails else None
        for node in status.nodes:
            halves = node.connectx7.halves if node.connectx7 and node.name != self.name else ()
            for half in halves if mtu else ():
                if half.rail in self.target.rails and half.mtu_bytes != mtu:
                    text = (
                        f"rail {half.rail} of {node.name} has MTU {half.mtu_bytes}, {self.name} comes back with {mtu}"
                    )
                    raise Gb10Error("RAIL_FAULT", text, host=node.name)

    def _check_k3s(self) -> None:
        """Refuse where a restore after the wipe would: for K3s' state another version than its own is none."""
        install, wanted = self.sight.overview(self.target).get("k3s") or {}, self.target.wanted_k3s
        restored = not self._new_cluster and "backup" not in self.overrides
        if restored and wanted and install.get("version") not in (None, wanted):
            text = f"{self.name} has K3s {install['version']}, and would come back with {wanted}"
            raise Gb10Error("REBUILD_K3S_VERSION", text, host=self.name)

    def _sync_models(self) -> Step:
        def missing() -> list[str]:
            there = self.sight.repositories(self.keeper)
            return [name for name, found in self._now().models.items() if not copied(found, there.get(name))]

        def verify() -> Evidence:
            lacking = [*missing(), *self._lacking_models()]
            return self._proven(lacking, self._now().models, "model", f"whole on {self.keeper.name}")

        def run() -> None:
            self.copy_models(self.target, self.keeper, missing())

        def plan() -> str:
            return _copying(missing(), self._now().models, self.target, self.keeper)

        return Step("sync-models", f"Copy models to {self.keeper.name}", plan, verify, run, kind="copy")

    def _lacking_models(self) -> list[str]:
        """What a mode of serving needs, and neither node has whole."""
        there, now = self.sight.repositories(self.keeper), self._now()
        wanted = self.serving.needs()[0] if self.serving.is_served(now) else ()
        return [name for name in wanted if name not in now.models and not (name in there and sound(there[name]))]

    def _sync_images(self) -> Step:
        def missing() -> list[str]:
            there = self.sight.engine_images(self.keeper)
            return [tag for tag, contents in self._now().images.items() if there.get(tag) != contents]

        def verify() -> Evidence:
            lacking = [*missing(), *self._lacking_images()]
            return self._proven(lacking, self._now().images, "image", f"in the engine of {self.keeper.name}")

        def run() -> None:
            if tags := missing():  # what neither node has is for a person to pull
                self._copy_images(self.target, self.keeper, tags)

        def plan() -> str:
            return _copying(missing(), self._now().images, self.target, self.keeper)

        return Step("sync-images", f"Copy images to {self.keeper.name}", plan, verify, run, kind="copy")

    def _lacking_images(self) -> list[str]:
        """What a mode of serving needs, and no engine of the two nodes has."""
        there, now = self.sight.engine_images(self.keeper), self._now()
        wanted = map(familiar, self.serving.needs()[1] if self.serving.is_served(now) else ())
        return [tag for tag in wanted if tag not in now.images and tag not in there]

    def _save_images(self) -> Step:
        def missing() -> list[str]:
            there = self.sight.saved_images(self.keeper)
            return [tag for tag, contents in self._now().images.items() if there.get(tag) != contents]

        def verify() -> Evidence:
            return self._proven(missing(), self._now().images, "image", f"saved on {self.keeper.name}")

        def run() -> None:
            self.tools.work("save_images", "Save images", (self.keeper.name,), tags=missing())

        def plan() -> str:
            tags = missing()
            return f"save {', '.join(tags)} on {self.keeper.name}" if tags else "nothing: all is saved"

        return Step("save-images", f"Save images on {self.keeper.name}", plan, verify, run, kind="copy")

    def _drain(self) -> Step:
        def verify() -> Evidence:
            member, pods = self.sight.member(self.target), self.sight.evictable(self.target)
            if member is None or pods is None:
                return Evidence(False, "no API server answers")
            if not member["cordoned"]:
                return Evidence(False, f"{self.name} is not cordoned")
            if pods:
                return Evidence(False, f"on {self.name} are still {_first(pods)}")
            return Evidence(True, "cordoned, and no pod is left that could be elsewhere")

        def run() -> None:
            self.tools.work("drain_node", f"Drain {self.name}", (self._head.name,), node=self.target.node_name)

        def plan() -> str:
            pods = self.sight.evictable(self.target) or ()
            return f"keep new pods off {self.name}, and move {len(pods)} away"

        def undo() -> str | None:
            if self.sight.evictable(self.target) is None:
                text = f"no API server answers, so nobody can tell whether pods may run on {self.name}"
                raise Gb10Error("SERVER_UNREACHABLE", text, host=self._head.name)
            member = self.sight.member(self.target)
            if member is None or member["cordoned"] == self.memory.cordoned:
                return None
            self._have_cordon()
            return f"pods may run on {self.name} again"

        return Step("drain", f"Drain {self.name}", plan, verify, run, undo, patience_seconds=30)

    def _gate(self) -> Step:
        def verify() -> Evidence:
            if not self._passed:
                return Evidence(False, "it is asked anew each time")
            done = [demand.name for demand in self._demands if demand.override]
            without = f", without {', '.join(done)}" if done else ""
            return Evidence(True, f"all that brings {self.name} back is proven{without}")

        def run() -> None:
            self.sight.forget()
            without = self.is_head and self.memory.k3s and "backup" in self.overrides
            if without and not self.rebootstrap:
                text = f"without a backup {self.name} comes back with another cluster: say so with --rebootstrap"
                raise Gb10Error("REBUILD_IMPOSSIBLE", text, host=self.name)
            self._check_k3s()
            self._remember()
            self.backups.remember()
            self._demands = overridden(self._demanded(), self.overrides)
            found = [demand.to_json() for demand in self._demands]
            self.tools.report("gate", node=self.name, demands=found)
            check(self._demands, self.name)
            self._passed = True

        plan = f"ask for every proof that {self.name} can come back, and stop where one is missing"
        return Step("gate", "The gate", lambda: plan, verify, run)

    def risks(self) -> list[str]:
        """What will not come back, as far as can be told now."""
        found = self.tools.runner([self._pattern(self.target)]).facts([BELONGINGS])
        return list(risks(self.target, self.memory, found.of(self.name, BELONGINGS)))

    def demands(self) -> tuple[Demand, ...]:
        """Everything that has to be proven before the wipe, as it is now; nothing once that has begun."""
        return tuple(self._demanded()) if self.condition() == "intact" else ()

    def _demanded(self) -> Iterator[Demand]:
        now = self._now()
        if now.models or now.lost_models or self._lacking_models():
            yield self._demand("models", self._sync_models(), self._models_remedy())
        if now.images or self._lacking_images():
            yield self._demand("images", self._sync_images(), self._images_remedy())
        if now.images:
            yield self._demand("saved-images", self._save_images(), self.tools.gb10("rebuild resume"))
        if now.k3s:
            drain = f"kubectl drain {self.target.node_name} --ignore-daemonsets --delete-emptydir-data"
            yield self._demand("drained", self._drain(), drain)
        if self.serving.is_served(now):
            yield self.serving.demand()
        yield self.backups.demand()
        yield self._lock_demand()
        yield self._room_demand(now)

    def _sync(self, what: str) -> str:
        return self.tools.gb10(f"sync {what}", self.name, self.keeper.name)

    def _models_remedy(self) -> str:
        """What is on neither node cannot be copied: it has to be downloaded."""
        downloads = [download_command(self.keeper, name) for name in self._lacking_models()]
        return " && ".join(downloads) or self._sync("models")

    def _images_remedy(self) -> str:
        """Likewise: it has to be pulled."""
        pulls = [f"{self.keeper.ssh} sudo docker pull {tag}" for tag in self._lacking_images()]
        return " && ".join(pulls) or self._sync("images")

    def _demand(self, name: str, step: Step, remedy: str) -> Demand:
        evidence = step.verify()
        return Demand(name, evidence.holds, evidence.text, self.sight.age_seconds, "" if evidence.holds else remedy)

    def _lock_demand(self) -> Demand:
        for host in self.tools.inventory.hosts:
            holder = self.sight.of(host, LOCK)
            if holder is None or holder["run"] != self.journal.run:
                whose = f"is held by {holder['owner']}@{holder['controller']}" if holder else "is held by nobody"
                text = f"the lock of {host.name} {whose}"
                return Demand("lock", False, text, self.sight.age_seconds, self.tools.gb10("rebuild unlock", host.name))
        return Demand("lock", True, "all nodes are locked by this run", self.sight.age_seconds)

    def _room_demand(self, now: Memory) -> Demand:
        size, wanted = int(self.sight.data(self.target)["size_bytes"]), int(now.bytes * ROOM_FACTOR)
        text = f"{human(wanted)} come back, its disk has {human(size)}"
        remedy = "Name less in rebuild_models (group_data/)"
        return Demand("room", wanted < size, text, self.sight.age_seconds, "" if wanted < size else remedy)

    # The wipe ---------------------------------------------------------------------------------------------------------

    def _wipe(self) -> Step:
        def verify() -> Evidence:
            record = self.journal.last("returned", node=self.name)
            if record is None:
                return Evidence(False, f"{self.name} has not come back yet")
            return Evidence(True, f"another installation on the same machine, host key {record['host_key']}")

        def run() -> None:
            memory, host = self.memory, self.target
            self.ask_for_wipe(again=self.condition() != "intact")
            arrived = wait_for_wipe(
                host, memory.before, self.seen, meanwhile=self._survivor(), poll_seconds=self.tools.poll_seconds
            )
            welcome(self.tools, host, arrived)
            self.sight.forget()

        plan = f"ask you to reinstall {self.name}, and wait until it is back, however long that takes"
        return Step("wipe", f"Wait for {self.name} to be wiped", lambda: plan, verify, run, kind="human", destroys=True)

    def ask_for_wipe(self, *, again: bool) -> None:
        """Say what has to be done at the box: once to ask for it, and again to whoever waits for what was begun."""
        lines = list(instructions(self.target, self.memory.before, self.memory.own_device))
        if again:
            self.tools.report("instructions", node=self.name, instructions=lines)
            return
        self.tools.report("wipe-asked", node=self.name, instructions=lines, risks=self.risks())
        self.tools.notify(f"{self.name} may be wiped now")

    def seen(self, seen: Seen) -> None:
        """Tell what is seen of the node, to everybody where it changes, and to whoever is needed for it to go on."""
        self.tools.report("seen", node=self.name, **seen.to_json())
        if seen.reminder:
            return
        self.journal.write("sighted", node=self.name, kind=seen.kind, text=seen.text, lines=list(seen.lines))
        if seen.kind in PERSON_NEEDED:
            self.tools.notify(" ".join((seen.text, *seen.lines)))

    def _survivor(self) -> Survivor:
        served = self.serving.is_served(self.memory) and "solo" not in self.overrides
        return Survivor(self.target, self.keeper, self.tools, self.serving.alone if served else None)

    # Back again -------------------------------------------------------------------------------------------------------

    def _settle(self) -> Step:
        def verify() -> Evidence:
            state = self.sight.of(self.target, SETTLED)
            if state["waits_for"]:
                return Evidence(False, f"{self.name} still waits for {', '.join(state['waits_for'])}")
            unlocked = [host.name for host in self.tools.inventory.hosts if not self._is_ours(host)]
            if unlocked:
                return Evidence(False, f"{', '.join(unlocked)} is not locked by this run")
            return Evidence(True, "boot, packages, Docker and GPU driver are at rest, and the nodes are locked")

        def run() -> None:
            lock = functools.partial(self.tools.lock, self.tools.inventory.names, f"bring {self.name} back")
            self._patiently(lock, AWAY, SETTLE_SECONDS)  # updates boot it once more

        plan = f"wait until {self.name} has done with its first boot and its updates"
        return Step("settle", f"Let {self.name} settle", lambda: plan, verify, run, patience_seconds=SETTLE_SECONDS)

    def _is_ours(self, host: InventoryHost) -> bool:
        holder = self.sight.of(host, LOCK)
        return holder is not None and holder["run"] == self.journal.run

    def _provision(self) -> Step:
        def verify() -> Evidence:
            found = self.tools.runner([self._pattern(self.target)]).run("gb10.deploys.node", dry=True)
            found.check()
            lacking = [operation.name for operation in found.changed]
            if lacking:
                return Evidence(False, f"not as the inventory says: {_first(lacking)}")
            return Evidence(True, f"all {len(found.operations)} parts are as the inventory says")

        def run() -> None:
            self.tools.work("node", f"Provision {self.name}", (self.name,))

        plan = f"accounts, hostname, /data, Docker, rails and sshd of {self.name}, as the inventory says"
        return Step("provision", f"Provision {self.name}", lambda: plan, verify, run, looks_first=False)

    def _rails(self) -> Step:
        def verify() -> Evidence:
            status = self.sight.status()
            nodes = {node.name: node for node in status.nodes}
            faults = [
                fault for host in (self.target, self.keeper) for fault in rail_faults(nodes[host.name], host.rails)
            ]
            faults += [text for _, text in disagreements(status.nodes)]
            if faults:
                return Evidence(False, "; ".join(faults))
            if nodes[self.name].connectx7 is None:
                return Evidence(True, f"{self.name} has no ConnectX-7")
            return Evidence(True, f"{len(self.target.rails)} rails to {self.keeper.name} are up")

        plan = "see the rails come up"
        return Step("rails", "Rails", lambda: plan, verify, patience_seconds=60)

    def _images(self) -> Step:
        def missing() -> list[str]:
            there = self.sight.engine_images(self.target)
            return [tag for tag, contents in self.memory.images.items() if there.get(tag) != contents]

        def verify() -> Evidence:
            return self._proven(missing(), self.memory.images, "image", f"in the engine of {self.name}")

        def run() -> None:
            self._copy_images(self.keeper, self.target, missing())

        plan = f"{count(self.memory.images, 'image')} from {self.keeper.name}"
        return Step("images", f"Copy images back to {self.name}", lambda: plan, verify, run, kind="copy")

    def _models(self) -> Step:
        def missing() -> list[str]:
            there = self.sight.repositories(self.target)
            return [name for name, found in self.memory.models.items() if not copied(found, there.get(name))]

        def verify() -> Evidence:
            return self._proven(missing(), self.memory.models, "model", f"whole on {self.name}")

        def run() -> None:
            self.copy_models(self.keeper, self.target, missing())

        plan = f"{count(self.memory.models, 'model')} ({human(self.memory.bytes)}) from {self.keeper.name}"
        return Step("models", f"Copy models back to {self.name}", lambda: plan, verify, run, kind="copy")

    def _rejoin(self) -> Step:
        def verify() -> Evidence:
            install = self.sight.overview(self.target).get("k3s") or {}
            if install.get("unit_state") != "active":
                return Evidence(False, f"K3s on {self.name} is {install.get('unit_state') or 'not installed'}")
            waiting = [host.name for host in self.tools.inventory.hosts if not self._is_ready(host)]
            if waiting:
                return Evidence(False, f"{', '.join(waiting)} is not Ready")
            return Evidence(True, f"{self.name} is Ready, with K3s {install['version']}")

        def run() -> None:
            if self._new_cluster:
                workers = tuple(host.name for host in self.others if "workers" in host.groups)
                self.tools.work("k3s_teardown", "Take the workers out of the old cluster", workers)
                self.tools.work("cluster", "Bring a new cluster up", self.tools.inventory.names)
            else:
                deploy = "k3s_server" if self.is_head else "k3s_agent"
                self.tools.work(deploy, f"Let {self.name} join again", (self.name,))
                if self.is_head:  # agents that were stopped while it was away can come up now
                    self.wake(self.tools.inventory.names, whole=True)

        plan = "a new cluster on all nodes" if self._new_cluster else "K3s, under its old name"
        return Step(
            "rejoin",
            f"Bring {self.name} back into the cluster",
            lambda: plan,
            verify,
            run,
            patience_seconds=JOIN_SECONDS,
        )

    def _is_ready(self, host: InventoryHost) -> bool:
        member = self.sight.member(host)
        return bool(member and member["ready"])

    def _admit(self) -> Step:
        wanted = self.memory.cordoned

        def verify() -> Evidence:
            member = self.sight.member(self.target)
            if member is None:
                return Evidence(False, f"{self.name} is no node of the cluster")
            said = "cordoned, as it was before" if wanted else "pods may run on it"
            return Evidence(
                member["cordoned"] == wanted, said if member["cordoned"] == wanted else "it is not as before"
            )

        plan = "keep it cordoned, as it was before" if wanted else f"let pods onto {self.name} again"
        return Step("admit", f"Let pods onto {self.name}", lambda: plan, verify, self._have_cordon)

    def _have_cordon(self) -> None:
        title = f"Cordon {self.name} as before" if self.memory.cordoned else f"Let pods onto {self.name}"
        node, cordoned = self.target.node_name, self.memory.cordoned
        self.tools.work("admit_node", title, (self._head.name,), node=node, cordoned=cordoned)
        self.sight.forget()

    def _validate(self) -> Step:
        def verify() -> Evidence:
            if self._validated:
                return Evidence(True, "GPU, rails and cluster do what they are for")
            return Evidence(False, "it is tried anew each time")

        def run() -> None:
            check_works(self.tools, self.untried(), [self._pattern(self.target)])
            self._validated = True

        plan = f"a container on the GPU of {self.name}, packets on its rails, and what the cluster says"
        return Step("validate", f"Validate {self.name}", lambda: plan, verify, run, looks_first=False)

    def untried(self) -> set[str]:
        """The checks that make no sense here: what was not there before is not asked for."""
        memory, found = self.memory, set(self.target.settings(RebuildSettings).validate_without)
        found |= set() if memory.k3s else set(K3S_CHECKS)
        found |= set() if "gpu-operator" in memory.operators else {"gpu-operator", "gpu-allocatable"}
        found |= set() if "network-operator" in memory.operators else {"network-operator", "rdma-allocatable"}
        return found | (set() if self.target.rails else set(RAIL_CHECKS))

    def green(self) -> Step:
        """The step that is done when nothing is amiss on any node."""

        def verify() -> Evidence:
            status = self.sight.status()
            if not status.healthy:
                return Evidence(False, "; ".join(status.reasons))
            return Evidence(True, f"all {len(status.nodes)} nodes are healthy")

        def run() -> None:
            self.wake(self.tools.inventory.names, whole=True)

        plan = "see that all nodes are healthy, and start Docker and K3s where they were stopped meanwhile"
        seconds = self.target.settings(RebuildSettings).validate_seconds
        return Step("green", "All is green", lambda: plan, verify, run, patience_seconds=seconds)

    def whereabouts(self) -> list[str]:
        """What is where, as far as is written down, for a person who has to go on without us. Nobody is asked."""
        memory = recall(self.journal, self.name)
        if memory is None or not self.asked:
            return []
        keeper, resume = self.keeper.name, self.tools.gb10("rebuild resume")
        return [
            *self.last_known(),
            *([f"its models ({len(memory.models)}) are on {keeper}, in {self.keeper.hub}"] if memory.models else []),
            *([f"its images ({len(memory.images)}) are on {keeper}, in {STORE}"] if memory.images else []),
            f"nothing further is destroyed: once the other nodes answer, {resume} brings it back",
        ]

    def last_known(self) -> list[str]:
        """How far the node is, and where its backup lies, as is written down."""
        backup, back = (self.journal.last(event, node=self.name) for event in ("backed-up", "returned"))
        return [
            f"{self.name} was wiped and is back, not yet as it was" if back else f"{self.name} may be wiped by now",
            *([f"its backup {backup['backup']} is on {' and '.join(backup['places'])}"] if backup else []),
        ]

    # Common -----------------------------------------------------------------------------------------------------------

    @property
    def _head(self) -> InventoryHost:
        return self.tools.inventory.head

    def _pattern(self, host: InventoryHost) -> str:
        return self.tools.inventory.limit_pattern(host)

    def _now(self) -> Memory:
        """What the node has now, with what must stay as it was written down first."""
        return look_at(self.sight, self.target, self.needs(), recall(self.journal, self.name))

    def _first_memory(self) -> Memory:
        """What is to be written down of the node before anything is changed."""
        mode, where = self.serving.mode_now()
        memory = look_at(self.sight, self.target, self.needs())
        return replace(memory, serving=mode, serving_node=where)

    def _remember(self) -> None:
        """Write down once more what the node has and gets back, right before it is gone, and say what it does not."""
        now = self._now()
        wanted = kept(now, self.sight, self.keeper, self.overrides)
        if lost := [name for name in (*now.models, *now.images) if name not in {**wanted.models, **wanted.images}]:
            self.tools.report("left-behind", node=self.name, keeper=self.keeper.name, names=lost)
        if wanted != recall(self.journal, self.name):
            self.tools.report("remembered", node=self.name, memory=wanted.to_json())

    def copy_models(self, source: InventoryHost, target: InventoryHost, names: list[str]) -> None:
        """Copy models from one node to another. Raise what stops it."""
        self._copy("models", f"Copy {count(names, 'model')}", target, names=names, source=source.name)

    def _copy_images(self, source: InventoryHost, target: InventoryHost, tags: list[str]) -> None:
        self._copy("sync_images", f"Copy {count(tags, 'image')}", target, tags=tags, source=source.name)

    def _copy(self, deploy: str, title: str, target: InventoryHost, **what: Any) -> None:
        to = (target.name,)
        copy = functools.partial(self.tools.work, deploy, f"{title} to {target.name}", to, copies=True, **what)
        self._patiently(copy, ("COPY_BUSY",), BUSY_SECONDS)

    def _patiently(self, work: Callable[[], Any], codes: Iterable[str], seconds: float) -> None:
        """Do something, and for so long do it again when it fails for a reason that passes. Raise what it raised."""
        deadline, said = time.monotonic() + seconds, ""
        while True:
            try:
                work()
                return
            except Gb10Error as error:
                if error.code not in codes or time.monotonic() > deadline:
                    raise
                if error.summary != said:
                    said = error.summary
                    self.tools.report("waiting", node=self.name, text=said)
            time.sleep(self.tools.poll_seconds)

    def _proven(self, missing: list[str], wanted: Mapping[str, Any], what: str, where: str) -> Evidence:
        if missing:
            return Evidence(False, f"not {where}: {_first(missing)}")
        return Evidence(True, f"{count(wanted, what)} {where}")


def welcome(tools: Tools, host: InventoryHost, arrived: Arrived) -> None:
    """Have a person confirm the new host key of a node that is back, and write down that it is."""
    if known_host_keys(host) != (arrived.host_key,):
        tools.confirm(host, arrived.host_key)
        accept_host_key(host, arrived.host_key)
    shown = {"host_key": arrived.host_key.fingerprint, "machine_id": arrived.machine_id}
    tools.report("returned", node=host.name, **shown)
    tools.sight.absent.discard(host.name)


def check_recognisable(host: InventoryHost, identity: Mapping[str, Any]) -> None:
    """Raise REBUILD_IMPOSSIBLE for a node of which nothing would tell, when it is back, that it is the wiped one."""
    before = Before.of(identity)
    lacking = [*(["machine-id"] if not before.machine_id else []), *(["MAC"] if not before.macs else [])]
    if lacking:
        text = f"{host.name} tells no {' and no '.join(lacking)}: nobody could recognise it after its wipe"
        raise Gb10Error("REBUILD_IMPOSSIBLE", text, host=host.name)


def check_works(tools: Tools, without: set[str], limit: Iterable[str] = ()) -> None:
    """Try what the nodes are for, but for some checks, on all or those that are meant. Raise the faults."""
    found = validate(tools.runner, list(limit), without=without, while_serving=True)
    if unproven(found):
        failed = [check for check in found.checks if check.outcome == found.outcome]
        raise Gb10Error("NOT_VALIDATED", "; ".join(f"{check.check}: {check.reason}" for check in failed) or None)


def _described(memory: Memory) -> str:
    parts = [count(memory.models, "model"), count(memory.images, "image")]
    k3s = f"K3s {memory.k3s}" if memory.k3s else "no K3s"
    return ", ".join([k3s, *parts, *(["cordoned"] if memory.cordoned else [])])


def _copying(missing: list[str], wanted: Mapping[str, Any], source: InventoryHost, target: InventoryHost) -> str:
    if not missing:
        return f"nothing: {target.name} has all {len(wanted)}"
    return f"{_first(missing)} from {source.name} to {target.name}"


def count(things: Sized, what: str) -> str:
    """How many there are, in words: "1 model", "2 models"."""
    return f"{len(things)} {what}{'' if len(things) == 1 else 's'}"


def _first(names: Any) -> str:
    names = list(names)
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
