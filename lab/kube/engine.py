"""A client of the node's Docker engine."""

from __future__ import annotations

import http.client
import json
import os
import socket
from typing import Any
from urllib.parse import quote, urlencode

from gb10.lab.kube import pause

DEFAULT_SOCKET = "unix:///var/run/docker.sock"
POD_UID = "io.kubernetes.pod.uid"


class EngineError(Exception):
    """Docker does not answer or answers with an error."""


class _Connection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("docker", timeout=60)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Engine:
    """The calls that a kubelet needs. They raise EngineError."""

    def __init__(self) -> None:
        self.address = os.environ.get("DOCKER_HOST") or DEFAULT_SOCKET

    def _call(self, method: str, path: str, body: Any = None) -> Any:
        connection = _Connection(self.address.removeprefix("unix://"))
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        kind = "application/x-tar" if isinstance(body, bytes) else "application/json"
        try:
            connection.request(method, path, None if body is None else raw, {"Content-Type": kind})
            response = connection.getresponse()
            answer = response.read()
        except (OSError, http.client.HTTPException) as error:
            why = f"Cannot connect to the Docker daemon at {self.address}. Is the docker daemon running?"
            raise EngineError(f"{why} ({error})") from error
        finally:
            connection.close()
        if response.status >= 400:
            raise EngineError(f"{method} {path}: {response.status} {answer.decode(errors='replace').strip()}")
        return json.loads(answer) if answer.startswith((b"{", b"[")) and response.status != 204 else None

    def version(self) -> str:
        return str(self._call("GET", "/version")["Version"])

    def ensure_image(self) -> None:
        """Import the pause image unless the engine has it."""
        reference = f"{pause.IMAGE}:{pause.TAG}"
        try:
            self._call("GET", f"/images/{reference}/json")
        except EngineError as error:
            if " 404 " not in str(error):
                raise
            query = {"fromSrc": "-", "repo": pause.IMAGE, "tag": pause.TAG, "changes": 'ENTRYPOINT ["/pause"]'}
            self._call("POST", f"/images/create?{urlencode(query)}", pause.image())

    def pod_containers(self) -> list[dict[str, Any]]:
        """Return all containers with a pod's uid, running or not."""
        filters = quote(json.dumps({"label": [POD_UID]}))
        found: list[dict[str, Any]] = self._call("GET", f"/containers/json?all=1&filters={filters}")
        return found

    def run(self, name: str, labels: dict[str, str]) -> str:
        """Create and start a container of the pause image. Return its id."""
        body = {
            "Image": f"{pause.IMAGE}:{pause.TAG}",
            "Labels": labels,
            "StopSignal": "SIGKILL",  # so that a stop does not wait
            "HostConfig": {
                "NetworkMode": "host",  # creating a network takes longer than everything else
                "RestartPolicy": {"Name": "no"},
                "SecurityOpt": ["seccomp=unconfined"],  # the kubelet's default
            },
        }
        created = self._call("POST", f"/containers/create?name={quote(name)}", body)
        self._call("POST", f"/containers/{created['Id']}/start")
        return str(created["Id"])

    def remove(self, container: str) -> None:
        """Kill and remove a container, if it still exists."""
        try:
            self._call("DELETE", f"/containers/{container}?force=1&v=1")
        except EngineError as error:
            if " 404 " not in str(error) and " 409 " not in str(error):
                raise
