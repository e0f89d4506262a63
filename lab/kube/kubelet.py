"""The node agent after it has joined: registration, heartbeat, and the node's pods."""

from __future__ import annotations

import http.client
import time
from urllib.parse import quote

from gb10.lab.kube import devices, host
from gb10.lab.kube.client import Client, RefusedError
from gb10.lab.kube.controllers import LEASE_NAMESPACE
from gb10.lab.kube.engine import EngineError
from gb10.lab.kube.journal import log
from gb10.lab.kube.node import NodeDescription
from gb10.lab.kube.objects import Obj, annotations_of, is_ready, name, namespace, now, now_micro, uid
from gb10.lab.kube.pods import PodContainers

TICK_SECONDS = 1.0
LEASE_SECONDS = 2.0
STATUS_SECONDS = 10.0
LEASES_PATH = f"/apis/coordination.k8s.io/v1/namespaces/{LEASE_NAMESPACE}/leases"


class Kubelet:
    """One node. `containers` is None with containerd, which is not imitated."""

    def __init__(self, client: Client, node: NodeDescription, containers: PodContainers | None) -> None:
        self._client = client
        self._node = node
        self._containers = containers
        self._trouble: str | None = None
        self._devices: str | None = None
        self._next_lease = self._next_status = 0.0
        self._last_tick = time.monotonic()
        self._cut_off = False

    def register(self) -> None:
        """Create the Node or update the existing one."""
        self._send_heartbeat()  # first, because an old heartbeat would make the node Unknown again
        try:
            self._client.call("POST", "/api/v1/nodes", self._node.registration())
        except RefusedError as error:
            if error.status != 409:
                raise
            meta = {"labels": self._node.own_labels(), "annotations": self._node.annotations()}
            self._client.call("PATCH", self._path(), {"metadata": meta})
            self._post_status()
        log("info", f"Successfully registered node {self._node.name}")

    def run(self) -> None:
        """Keep the node alive until the process ends."""
        while True:
            started = time.monotonic()
            try:
                self._tick(started)
                if self._cut_off:
                    log("info", "Connection to the server is back")
                self._cut_off = False
            except (OSError, http.client.HTTPException, RefusedError) as error:
                if not self._cut_off:
                    log("error", f"Unable to update node {self._node.name}: {error}")
                self._cut_off = True
            time.sleep(max(0.1, TICK_SECONDS - (time.monotonic() - started)))

    def _tick(self, moment: float) -> None:
        # After a gap the server may have marked the node Unknown. Only a new status makes it ready again.
        if self._cut_off or moment - self._last_tick > 2 * LEASE_SECONDS:
            self._next_status = 0.0
        if moment >= self._next_lease:
            self._send_heartbeat()
            self._next_lease = moment + LEASE_SECONDS
        self._last_tick = moment
        pods = self._client.call("GET", f"/api/v1/pods?fieldSelector=spec.nodeName={quote(self._node.name)}")["items"]
        pods = [pod for pod in pods if pod["status"].get("phase") != "Succeeded"]
        if moment >= self._next_status and self._containers:
            self._containers.forget()
        host.keep_pod_folders(pods)
        before = self._trouble
        identifiers = self._run_pods(pods)
        if moment >= self._next_status or self._trouble != before:
            self._post_status()
            self._next_status = moment + STATUS_SECONDS
        if not self._trouble:
            for pod in pods:
                self._post_pod(pod, identifiers.get(uid(pod), {}))

    def _send_heartbeat(self) -> None:
        spec = {"holderIdentity": self._node.name, "leaseDurationSeconds": 40, "renewTime": now_micro()}
        try:
            self._client.call("PATCH", f"{LEASES_PATH}/{self._node.name}", {"spec": spec})
        except RefusedError as error:
            if error.status != 404:
                raise
            self._client.call("POST", LEASES_PATH, {"metadata": {"name": self._node.name}, "spec": spec})

    def _path(self) -> str:
        return f"/api/v1/nodes/{self._node.name}"

    def _post_status(self) -> None:
        """Report the node's status. Unchanged conditions keep their transition time."""
        known = self._client.call("GET", self._path()).get("status", {}).get("conditions") or []
        status = self._node.status(self._trouble)
        for entry in status["conditions"]:
            same = next((c for c in known if (c["type"], c["status"]) == (entry["type"], entry["status"])), entry)
            entry["lastTransitionTime"] = same["lastTransitionTime"]
        self._client.call("PATCH", f"{self._path()}/status", {"status": status})
        self._report_devices()

    def _report_devices(self) -> None:
        found = devices.found()
        if found != self._devices:
            self._client.call("PATCH", self._path(), {"metadata": {"annotations": {devices.ANNOTATION: found}}})
            self._devices = found

    def _run_pods(self, pods: list[Obj]) -> dict[str, dict[str, str]]:
        """Start and remove containers as needed. If Docker fails, the node is not ready until a retry succeeds."""
        if self._containers is None:
            return {}
        try:
            identifiers = self._containers.keep(pods)
        except EngineError as error:
            if self._trouble is None:
                log("error", f"container runtime is down: {error}")
            self._trouble = str(error)
            return {}
        self._trouble = None
        return identifiers

    def _post_pod(self, pod: Obj, identifiers: dict[str, str]) -> None:
        """Report a pod as running, unless a test holds it."""
        if is_ready(pod) or "gb10.lab/hold" in annotations_of(pod) or pod["status"].get("phase") == "Succeeded":
            return
        path = f"/api/v1/namespaces/{namespace(pod)}/pods/{name(pod)}/status"
        try:
            self._client.call("PATCH", path, {"status": self._pod_status(pod, identifiers)})
        except RefusedError as error:
            if error.status != 404:  # deleted in the meantime
                raise

    def _pod_status(self, pod: Obj, identifiers: dict[str, str]) -> Obj:
        kinds = ("PodScheduled", "Initialized", "ContainersReady", "Ready")
        prefix = self._node.runtime.partition(":")[0]
        return {
            "phase": "Running",
            "conditions": [{"type": kind, "status": "True", "lastTransitionTime": now()} for kind in kinds],
            "hostIP": self._node.addresses[0],
            "startTime": pod["status"].get("startTime") or now(),
            "containerStatuses": [
                {
                    "name": container["name"],
                    "image": container.get("image", ""),
                    "ready": True,
                    "started": True,
                    "restartCount": 0,
                    "state": {"running": {"startedAt": now()}},
                    "containerID": f"{prefix}://{identifiers.get(container['name'], '')}",
                }
                for container in pod["spec"].get("containers") or []
            ],
        }
