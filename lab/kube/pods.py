"""A node's pods as containers in its Docker, with the names and labels of cri-dockerd."""

from __future__ import annotations

from gb10.lab.kube.engine import POD_UID, Engine
from gb10.lab.kube.objects import Obj, name, namespace, uid

CONTAINER_NAME = "io.kubernetes.container.name"


def wanted_containers(pod: Obj) -> list[str]:
    return [str(container["name"]) for container in pod["spec"].get("containers") or []]


def container_name(container: str, pod: Obj) -> str:
    """Return the container's name in Docker: k8s_<container>_<pod>_<namespace>_<uid>_<attempt>."""
    return f"k8s_{container}_{name(pod)}_{namespace(pod)}_{uid(pod)}_0"


def container_labels(container: str, pod: Obj) -> dict[str, str]:
    return {
        CONTAINER_NAME: container,
        "io.kubernetes.docker.type": "container",
        "io.kubernetes.pod.name": name(pod),
        "io.kubernetes.pod.namespace": namespace(pod) or "",
        POD_UID: uid(pod),
    }


class PodContainers:
    """Keeps a Docker container for each container of each pod. Its methods raise EngineError.

    There are no sandboxes, which hold a pod's network, because pods have no network here.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        # Running containers: pod uid -> container name -> id. None: unknown, ask Docker.
        self._running: dict[str, dict[str, str]] | None = None
        engine.ensure_image()

    def forget(self) -> None:
        """Forget the running containers, so that the next `keep` asks Docker again."""
        self._running = None

    def keep(self, pods: list[Obj]) -> dict[str, dict[str, str]]:
        """Start missing containers and remove those of other pods. Return the ids by pod uid and container name."""
        try:
            running = self._running = self._found() if self._running is None else self._running
            for gone in set(running) - set(map(uid, pods)):
                self._remove(running.pop(gone))
            for pod in pods:
                self._start(pod, running.setdefault(uid(pod), {}))
        except Exception:
            self._running = None
            raise
        return running

    def _found(self) -> dict[str, dict[str, str]]:
        """Return the running containers. Remove those that have ended, to free their names."""
        found: dict[str, dict[str, str]] = {}
        for container in self._engine.pod_containers():
            labels = container["Labels"]
            if container["State"] == "running":
                found.setdefault(labels[POD_UID], {})[labels.get(CONTAINER_NAME, "")] = container["Id"]
            else:
                self._engine.remove(container["Id"])
        return found

    def _remove(self, containers: dict[str, str]) -> None:
        for container in containers.values():
            self._engine.remove(container)

    def _start(self, pod: Obj, running: dict[str, str]) -> None:
        for container in wanted_containers(pod):
            if container not in running:
                labels = container_labels(container, pod)
                running[container] = self._engine.run(container_name(container, pod), labels)
