"""The HTTPS side of the API server."""

from __future__ import annotations

import errno
import json
import select
import ssl
import sys
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from gb10.lab.kube import discovery, nodepassword, protobuf, table
from gb10.lab.kube.errors import ApiError, StartError, no_such_resource
from gb10.lab.kube.faults import Faults
from gb10.lab.kube.identity import Authenticator, Caller
from gb10.lab.kube.objects import Obj
from gb10.lab.kube.resources import Resource
from gb10.lab.kube.store import Store
from gb10.lab.kube.verbs import Request, perform
from gb10.lab.kube.watch import watch

JOIN_PATH = "/v1-k3s/serving-kubelet.crt"
HANDSHAKE_SECONDS = 10


@dataclass(frozen=True)
class Cluster:
    """The state that all request handlers share."""

    store: Store
    authenticator: Authenticator
    faults: Faults
    version: str
    ca: bytes

    def resource_list(self) -> list[Resource]:
        return list(self.store.resources.values())


class ApiServer(ThreadingHTTPServer):
    """Listens on all addresses. Raises StartError if the port is in use."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128
    cluster: Cluster

    def __init__(self, port: int) -> None:
        self.tls: ssl.SSLContext | None = None
        try:
            super().__init__(("", port), Handler)
        except OSError as error:
            why = "address already in use" if error.errno == errno.EADDRINUSE else str(error.strerror)
            raise StartError(
                f"starting kubernetes: preparing server: failed to listen: listen tcp :{port}: bind: {why}"
            ) from error

    def open(self, cluster: Cluster, tls: ssl.SSLContext) -> None:
        """Set the cluster and the TLS context. Connections may be accepted from then on."""
        self.cluster = cluster
        self.tls = tls

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore clients that disconnect or fail the handshake."""


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: ApiServer

    def setup(self) -> None:
        if self.server.tls:  # in this thread, so that the handshake does not delay other connections
            self.request.settimeout(HANDSHAKE_SECONDS)
            self.request = self.server.tls.wrap_socket(self.request, server_side=True)
            self.request.settimeout(None)
        super().setup()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - name from the base class
        """Do nothing: requests are not logged."""

    def _send(self, code: int, body: Any, content_type: str = "application/json") -> None:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def _handle(self) -> None:
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            self.server.cluster.faults.raise_for(self.command, self.path)
            self._route(raw)
        except ApiError as error:
            self._send(error.code, error.body)
        except (ConnectionError, ssl.SSLError):
            self.close_connection = True
        except Exception as error:  # report a bug to the journal and the client, and keep the server running
            traceback.print_exc(file=sys.stderr)
            self._send(500, ApiError(500, "InternalError", repr(error)).body)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _handle  # noqa: N815 - names that http.server looks for

    def _route(self, raw: bytes) -> None:
        cluster, url = self.server.cluster, urlsplit(self.path)
        parts = url.path.strip("/").split("/")
        if parts[0] in ("readyz", "livez", "healthz", "ping"):
            ready = cluster.faults.ready()
            self._send(200 if ready else 500, b"ok" if ready else b"readyz check failed", "text/plain")
        elif parts == ["cacerts"]:
            self._send(200, cluster.ca, "text/plain")
        elif url.path == JOIN_PATH:
            self._join()
        else:
            self._route_known(self._caller(), url.query, parts, raw)

    def _caller(self) -> Caller:
        certificate = self.connection.getpeercert() if isinstance(self.connection, ssl.SSLSocket) else None
        authorization = self.headers.get("Authorization", "")
        caller = self.server.cluster.authenticator.caller(authorization, certificate)
        if caller is None:
            raise ApiError(401, "Unauthorized", "Unauthorized")
        return caller

    def _join(self) -> None:
        """Give a node its credential for the cluster's token and the node's own password."""
        cluster = self.server.cluster
        if not cluster.authenticator.may_join(self.headers.get("Authorization", "")):
            raise ApiError(401, "Unauthorized", "Unauthorized")
        node, password = self.headers.get("K3s-Node-Name", ""), self.headers.get("K3s-Node-Password", "")
        if not node or not password:
            raise ApiError(400, "BadRequest", "node name and password are required")
        if not nodepassword.accept(cluster.store, node, password):
            raise ApiError(403, "Forbidden", nodepassword.REJECTED)
        self._send(200, {"credential": cluster.authenticator.node_credential(node)})

    def _route_known(self, caller: Caller, query: str, parts: list[str], raw: bytes) -> None:
        cluster = self.server.cluster
        if parts == ["version"]:
            self._send(200, version_info(cluster.version))
        elif parts[:2] == ["openapi", "v2"]:
            self._send(200, discovery.OPENAPI_V2, discovery.OPENAPI_V2_TYPE)
        elif parts[:2] == ["openapi", "v3"]:
            self._send(200, discovery.openapi_v3(cluster.resource_list(), parts[2:], cluster.version))
        elif parts[0] not in ("api", "apis"):
            raise no_such_resource()
        elif len(parts) <= (2 if parts[0] == "api" else 3):
            self._discover(parts)
        else:
            self._serve_resource(caller, dict(parse_qsl(query, keep_blank_values=True)), parts, raw)

    def _discover(self, parts: list[str]) -> None:
        resources = self.server.cluster.resource_list()
        if len(parts) == 1 and "as=APIGroupDiscoveryList" in self.headers.get("Accept", ""):
            self._send(200, discovery.aggregated(resources, parts[0]), discovery.AGGREGATED)
        else:
            self._send(200, discovery.legacy(resources, parts))

    def _serve_resource(self, caller: Caller, query: dict[str, str], parts: list[str], raw: bytes) -> None:
        store = self.server.cluster.store
        resource, namespace, name, subresource = self._locate(parts)
        caller.check(self.command, resource.plural, resource.group, name)
        request = Request(
            method=self.command,
            resource=resource,
            namespace=namespace,
            name=name,
            subresource=subresource,
            query=query,
            content_type=self.headers.get("Content-Type", "").split(";")[0],
            agent=self.headers.get("User-Agent", ""),
            body=self._decode(raw),
        )
        accept = self.headers.get("Accept", "")
        if self.command == "GET" and query.get("watch") in ("true", "1"):
            self._stream(resource, accept, watch(store, request))
            return
        with store.cond:
            answer, code = perform(store, request)
        if isinstance(answer, bytes):
            self._send(code, answer, "text/plain")
        else:
            self._send(code, table.format_answer(resource, answer, accept))

    def _locate(self, parts: list[str]) -> tuple[Resource, str | None, str | None, str]:
        """Return the kind, namespace, name and subresource that a path names. Raise ApiError 404 if unknown."""
        start = 2 if parts[0] == "api" else 3
        group_version, rest = "/".join(parts[1:start]), parts[start:]
        namespace = None
        if rest[0] == "namespaces" and len(rest) > 2 and rest[2] not in ("status", "finalize"):
            namespace, rest = rest[1], rest[2:]
        plural, name, subresource = (*rest, "", "")[:3]
        resource = self.server.cluster.store.resources.get((group_version, plural))
        if resource is None or (subresource and subresource not in resource.subresources):
            raise no_such_resource()
        return resource, namespace, name or None, subresource

    def _decode(self, raw: bytes) -> Any:
        if not raw.strip():
            return {}
        if "protobuf" in self.headers.get("Content-Type", ""):
            return protobuf.decode_body(raw)
        try:
            return json.loads(raw)
        except ValueError:
            import yaml  # noqa: PLC0415 - slow to load, and hardly any client sends YAML

            return yaml.safe_load(raw)

    def _stream(self, resource: Resource, accept: str, events: Iterator[Obj | None]) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for event in events:
            if event is None:
                if select.select([self.connection], [], [], 0)[0]:
                    self.close_connection = True  # the client has disconnected
                    return
                continue
            if event["type"] not in ("BOOKMARK", "ERROR"):
                event = {**event, "object": table.format_answer(resource, event["object"], accept)}  # noqa: PLW2901
            line = json.dumps(event).encode() + b"\n"
            self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
        self.wfile.write(b"0\r\n\r\n")


def version_info(version: str) -> Obj:
    """Return the answer of /version for a K3s version such as v1.36.4+k3s1."""
    major, minor, *_ = version.removeprefix("v").split(".")
    return {
        "major": major,
        "minor": minor,
        "gitVersion": version,
        "gitCommit": "0" * 40,
        "gitTreeState": "clean",
        "buildDate": "1980-01-01T00:00:00Z",
        "goVersion": "go1.26",
        "compiler": "gc",
        "platform": "linux/amd64",
    }
