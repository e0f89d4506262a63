"""`k3s server`: the control plane and its own node."""

from __future__ import annotations

import base64
import os
import signal
import ssl
import threading
from dataclasses import dataclass
from pathlib import Path

from gb10.lab.kube import addons, agent, bootstrap, client, config, host, operators, paths, pki, tokens
from gb10.lab.kube.api import ApiServer, Cluster
from gb10.lab.kube.controllers import CONTROLLERS, ControlLoop, NodeLifecycle
from gb10.lab.kube.errors import StartError
from gb10.lab.kube.faults import Faults
from gb10.lab.kube.identity import ADMIN_GROUP, Authenticator
from gb10.lab.kube.journal import log, notify
from gb10.lab.kube.node import NodeDescription
from gb10.lab.kube.persistence import Database
from gb10.lab.kube.pki import KeyPair
from gb10.lab.kube.store import Store

PORT = 6443
GRACE_SECONDS = 8.0
# K3s' certificate also has these names; the address is the first of its service network.
SERVICE_NAMES = ("10.43.0.1", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "localhost")


@dataclass(frozen=True)
class Secrets:
    """The passwords behind the server token and the agent token."""

    server: str
    agent: str


class Folder:
    """The server's folder below the data folder, and its files."""

    def __init__(self, data_dir: Path) -> None:
        self.root = data_dir / "server"
        self.server_ca = self._pair("server-ca")
        self.client_ca = self._pair("client-ca")
        self.serving = self._pair("serving-kube-apiserver")
        self.admin = self._pair("client-admin")

    def _pair(self, name: str) -> KeyPair:
        return KeyPair.in_folder(self.root / "tls", name)

    def ca(self) -> bytes:
        return self.server_ca.certificate.read_bytes()


def run(options: config.Options, version: str) -> None:
    """Start the cluster and serve until SIGTERM. Raise StartError if it cannot start."""
    log("info", f"Starting k3s {version}")
    runtime, containers = agent.container_runtime(options)
    node = agent.describe_node(options, version, runtime, ("control-plane",))
    host.prepare()
    port = options.number("https-listen-port", PORT)
    server = ApiServer(port)
    folder = Folder(paths.rooted(options.text("data-dir") or paths.DATA_DIR))
    database = Database(folder.root / "db" / "state.db")
    secrets = establish(folder, database, options)
    issue_certificates(folder, node, options.many("tls-san"))
    write_tokens(folder, secrets)
    store = Store(database)
    faults = Faults(paths.rooted(paths.FAULTS))
    cluster = Cluster(
        store=store,
        authenticator=Authenticator(store, secrets.server, secrets.agent),
        faults=faults,
        version=version,
        ca=folder.ca(),
    )
    addons.deploy(store, options.many("disable"))
    server.open(cluster, tls_context(folder))
    # Before any thread starts, so that only this one receives the signals.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    grace = float(os.environ.get("GB10_LAB_GRACE") or GRACE_SECONDS)
    ControlLoop(store, [NodeLifecycle(grace), *CONTROLLERS, *operators.controllers(faults)]).start()
    threading.Thread(target=server.serve_forever, args=(3600,), daemon=True).start()
    write_kubeconfig(folder, options, port)
    wait_ready(f"https://127.0.0.1:{port}", folder)
    notify("READY=1")
    log("info", "k3s is up and running")
    token = tokens.parse(tokens.format_token(folder.ca(), "server", secrets.server))
    home = agent.agent_folder(options)
    membership = agent.Membership(f"https://127.0.0.1:{port}", token, node, containers, home)
    threading.Thread(target=lambda: agent.join(membership, lambda: None).run(), daemon=True).start()
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    notify("STOPPING=1")
    store.close()
    os._exit(0)  # the threads never end; the pods' containers stay, as with K3s


def establish(folder: Folder, database: Database, options: config.Options) -> Secrets:
    """Read or create the cluster's passwords and CAs. Raise StartError for a token of another cluster."""
    given = options.secret("token") or _kept_token(folder.root / "token")
    password = tokens.parse(given).password if given else None
    agent_given = options.secret("agent-token")
    if bootstrap.restore(database, folder.root, password):
        assert password is not None  # noqa: S101 - restore refuses to continue without one
        return Secrets(password, tokens.parse(agent_given).password if agent_given else password)
    password = password or tokens.new_password()
    secrets = Secrets(password, tokens.parse(agent_given).password if agent_given else password)
    for authority, name in ((folder.server_ca, "k3s-server-ca"), (folder.client_ca, "k3s-client-ca")):
        if not authority.exists():
            pki.make_authority(authority, name)
    passwd = f"{secrets.server},server,server,k3s:server\n{secrets.agent},node,node,k3s:agent\n"
    paths.write_secret(folder.root / "cred" / "passwd", passwd)
    bootstrap.save(database, folder.root, password)
    return secrets


def _kept_token(path: Path) -> str | None:
    return path.read_text().strip() if path.exists() else None


def issue_certificates(folder: Folder, node: NodeDescription, more_names: list[str]) -> None:
    """Issue the certificates. The serving one is new at each start, because its names may change."""
    names = ("127.0.0.1", *node.addresses, node.name, *SERVICE_NAMES, *more_names)
    pki.issue(folder.serving, folder.server_ca, "/CN=kube-apiserver", "serverAuth", dict.fromkeys(names))
    if not folder.admin.exists():
        subject = f"/O={ADMIN_GROUP}/CN=system:admin"
        pki.issue(folder.admin, folder.client_ca, subject, "clientAuth")


def write_tokens(folder: Folder, secrets: Secrets) -> None:
    """Write the file token, and node-token and agent-token beside it, which are links to it if equal."""
    paths.write_secret(folder.root / "token", tokens.format_token(folder.ca(), "server", secrets.server) + "\n")
    _link(folder.root / "node-token", folder.root / "token")
    if secrets.agent == secrets.server:
        _link(folder.root / "agent-token", folder.root / "token")
    else:
        (folder.root / "agent-token").unlink(missing_ok=True)
        agent_token = tokens.format_token(folder.ca(), "node", secrets.agent)
        paths.write_secret(folder.root / "agent-token", agent_token + "\n")


def _link(path: Path, target: Path) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to(target)


def tls_context(folder: Folder) -> ssl.SSLContext:
    """Return the server's TLS context. It accepts client certificates that the client CA has signed."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder.serving.certificate, folder.serving.key)
    context.load_verify_locations(folder.client_ca.certificate)
    context.verify_mode = ssl.CERT_OPTIONAL
    return context


def kubeconfig(folder: Folder, port: int) -> str:
    """Return the administrator's kubeconfig, in K3s' form."""

    def encoded(path: Path) -> str:
        return base64.b64encode(path.read_bytes()).decode()

    return f"""apiVersion: v1
clusters:
- cluster:
    certificate-authority-data: {encoded(folder.server_ca.certificate)}
    server: https://127.0.0.1:{port}
  name: default
contexts:
- context:
    cluster: default
    user: default
  name: default
current-context: default
kind: Config
preferences: {{}}
users:
- name: default
  user:
    client-certificate-data: {encoded(folder.admin.certificate)}
    client-key-data: {encoded(folder.admin.key)}
"""


def write_kubeconfig(folder: Folder, options: config.Options, port: int) -> None:
    """Write the kubeconfig as the settings say. Raise StartError if the mode is not an octal number."""
    path = paths.rooted(options.text("write-kubeconfig") or paths.KUBECONFIG)
    mode = options.text("write-kubeconfig-mode") or "0600"
    try:
        paths.write_secret(path, kubeconfig(folder, port), int(mode, 8))
    except ValueError as error:
        raise StartError(f'failed to set {path} to mode {mode}: strconv.ParseInt: parsing "{mode}"') from error


def admin_client(url: str, folder: Folder) -> client.Client:
    """Return a client with the administrator's rights."""
    context = client.verifying_context(folder.ca())
    context.load_cert_chain(folder.admin.certificate, folder.admin.key)
    return client.Client(url, context)


def wait_ready(url: str, folder: Folder) -> None:
    """Wait until /readyz succeeds. A test's fault can delay that."""
    connection = admin_client(url, folder)
    pause = threading.Event()
    while True:
        try:
            connection.raw("GET", "/readyz")
        except client.RefusedError:
            pause.wait(0.5)
        else:
            connection.close()
            return
