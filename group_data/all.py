"""Every pin and path in one place. A host or group of the inventory may set each of these otherwise."""

# K3s ------------------------------------------------------------------------------------------------------------------

# Within the range of the GPU Operator: Kubernetes 1.33 to 1.36.
k3s_version = "v1.36.4+k3s1"

# Architecture -> sha256 of the release's binary. A pin beats the list that the release itself brings, and should be
# set: that list comes from the same place as the binary, and shows damage but not forgery.
k3s_sha256: dict[str, str] = {}

# Below it lie <version>/k3s-arm64 and <version>/sha256sum-arm64.txt.
k3s_mirror = "https://github.com/k3s-io/k3s/releases/download"

# A folder on the controller that holds the binary (and the release's image archive): then nothing is downloaded.
k3s_airgap: str | None = None

# "docker" (pods run in the node's Docker engine, beside vLLM) or "containerd" (K3s' own).
k3s_runtime = "docker"

# Parts of K3s that are left out: nothing here needs an ingress or a load balancer on the nodes' ports.
k3s_disable = ["traefik", "servicelb"]

# More keys of /etc/rancher/k3s/config.yaml (docs.k3s.io/cli/server): for every node, for the server, for agents.
k3s_config: dict[str, object] = {}
k3s_server_config: dict[str, object] = {}
k3s_agent_config: dict[str, object] = {}

# The content of /etc/rancher/k3s/registries.yaml (docs.k3s.io/installation/private-registry): mirrors and configs.
k3s_registries: dict[str, object] = {}

# How long a start of K3s may take, and then its node until it is Ready, in seconds.
k3s_start_seconds = 180

# For downloads, and for K3s itself. Addresses of the cluster are left out of it.
http_proxy: str | None = None
https_proxy: str | None = None
no_proxy: list[str] = []
