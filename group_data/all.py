"""The default of every setting. An inventory can override each of them for a group or a host."""

# Pins -----------------------------------------------------------------------------------------------------------------

# Refuse every download whose digest stands neither here nor in gb10.lock: see docs/security.md.
require_pins = False
# The lock file, the same for all hosts. None: gb10.lock beside the inventory.
pins_file: str | None = None

# K3s ------------------------------------------------------------------------------------------------------------------

# The GPU Operator supports Kubernetes 1.33 to 1.36.
k3s_version = "v1.36.4+k3s1"

# Version -> architecture -> sha256 of the release's binary. A pin overrides the checksum file of the release. Set
# one: the checksum file comes from the same server as the binary, so it reveals damage but not forgery. These are of
# github.com/k3s-io/k3s/releases (sha256sum-<arch>.txt), and several public repositories pin the same ones.
k3s_sha256: dict[str, dict[str, str]] = {
    "v1.36.4+k3s1": {
        "arm64": "c920706346d5ad4e5cd3c7bf1bb09ce71ebe07fec829e513e40f1caf98aed8bb",
        "amd64": "835873f37245fc615f547a2fe2af9402a347875f13fa64a1f136de644955ea3f",
    },
}

# Base URL of the releases: it has <version>/k3s-arm64 and <version>/sha256sum-arm64.txt.
k3s_mirror = "https://github.com/k3s-io/k3s/releases/download"

# A folder on the controller with the binary (and the image archive) of the release. If set, nothing is downloaded.
k3s_airgap: str | None = None

# "docker": pods run in the node's Docker engine, beside vLLM. "containerd": they run in K3s' own containerd.
k3s_runtime = "docker"

# Components of K3s to disable. Nothing here needs an ingress or a load balancer on the nodes' ports.
k3s_disable = ["traefik", "servicelb"]

# Additional keys of /etc/rancher/k3s/config.yaml (docs.k3s.io/cli/server): for all nodes, the server, the agents.
k3s_config: dict[str, object] = {}
k3s_server_config: dict[str, object] = {}
k3s_agent_config: dict[str, object] = {}

# The content of /etc/rancher/k3s/registries.yaml (docs.k3s.io/installation/private-registry): mirrors and configs. Only
# containerd uses it: Docker has its own mirrors and logins.
k3s_registries: dict[str, object] = {}

# Time limit for K3s to start, and again for its node to become Ready, in seconds.
k3s_start_seconds = 180

# Time limit to drain a node before an upgrade, in seconds.
k3s_drain_seconds = 300

# Proxy for downloads and for K3s itself. Addresses of the cluster are never proxied.
http_proxy: str | None = None
https_proxy: str | None = None
no_proxy: list[str] = []

# Operators ------------------------------------------------------------------------------------------------------------

# Whether the deploy `cluster` installs them. Each also has its own deploy.
gpu_operator_enabled = True
network_operator_enabled = True  # never installed if no node has a ConnectX-7

# helm, on the head. The mirror has helm-<version>-linux-<arch>.tar.gz, and the same name with .sha256sum.
helm_version = "v4.3.1"
helm_sha256: dict[str, str] = {}  # architecture -> sha256 of the archive; takes precedence over the .sha256sum
helm_mirror = "https://get.helm.sh"

# The chart repository (with an index.yaml) of both operators.
chart_repository = "https://helm.ngc.nvidia.com/nvidia"

# GB10 needs v25.10.0 or newer.
gpu_operator_version = "v26.7.0"
gpu_operator_sha256: str | None = None  # of the chart's archive
gpu_operator_values: dict[str, object] = {}  # additional chart values, override ours; no secrets: --diff shows them
gpu_operator_time_slicing: int | None = None  # how many pods share a GPU; None: one pod
gpu_operator_wait_seconds = 900

network_operator_version = "26.4.1"
network_operator_sha256: str | None = None
network_operator_values: dict[str, object] = {}
network_operator_wait_seconds = 900

# The image of the RDMA shared device plugin. None: the version that belongs to the chart.
rdma_plugin_repository = "nvcr.io/nvidia/mellanox"
rdma_plugin_version: str | None = None

# Nodes ----------------------------------------------------------------------------------------------------------------

# Whether the deploy `cluster` provisions the nodes first. `gb10 provision NODE` does it separately.
node_enabled = False

# Switches for the parts of provisioning.
node_user = True
node_sudo = True
node_hostname = True  # the node's name in the inventory (or node_name); a wiped node comes back with its factory name
node_hosts = True  # write all nodes of the inventory into /etc/hosts, also with their rail addresses
node_data = True
node_huggingface = True
node_docker = True
node_performance = True
node_rails = True  # skipped without `rails` in the host's data, or without a ConnectX-7
node_sshd = True  # turn off password logins, once a login by key has worked
node_firewall = False  # ufw, if it is installed

# The account to create, authorize and add to the groups. None: the user of the SSH connection.
node_user_name: str | None = None
# Its authorized public keys: their text, or paths of .pub files on the controller. Other keys stay.
node_user_keys: list[str] = []

# A mounted partition or a plain directory. Nothing is ever formatted, and nothing is mounted over it.
node_data_path = "/data"
# Folder -> mode if it is created. Backups hold keys.
node_data_folders = {"huggingface": "755", "docker-images": "755", "backups": "700"}

# HF_HOME in every session.
node_huggingface_home = "/data/huggingface"

# Keys to merge into /etc/docker/daemon.json. With live-restore, containers keep running while dockerd restarts or is
# upgraded. NVIDIA's runtime becomes the default if it is installed.
node_docker_config: dict[str, object] = {"live-restore": True}

# MTU of both rails. Their addresses are in the host's data: rails = {"a": {...}, "b": {...}}.
node_rails_mtu = 9000

# Additional ufw rules: "allow 8000/tcp". SSH, the other nodes, the rails and pods are always allowed.
node_firewall_allow: list[str] = []

# Names (patterns) of containers that count as serving. While one runs, nothing restarts Docker or changes the rails.
# Containers of Kubernetes never count.
node_serving_containers = ["*"]
# Restart Docker and change the rails even while containers serve.
node_restart_while_serving = False

# After a change that may cut off a node, how long it waits for a new login before it rolls back, in seconds.
node_confirm_seconds = 45

# Images ---------------------------------------------------------------------------------------------------------------

# Image tags that the Docker engine of every node must have. A node that lacks one gets it from /data/docker-images or
# from another node. A tag without a version means "latest".
images: list[str] = []

# Models ---------------------------------------------------------------------------------------------------------------

# Repositories of the Hugging Face Hub that the cache of every node must have: "org/name", "datasets/org/name", or "*"
# for everything that the source has.
models: list[str] = []
# The host to copy them from. None: the first other node that has the repository (for "*": the head).
models_from: str | None = None

# Validation -----------------------------------------------------------------------------------------------------------

# The temporary container with which `gb10 validate` tests a GPU: `docker run --rm OPTIONS IMAGE COMMAND`. A node that
# lacks the image pulls it, as it was at its first use, and keeps it.
validate_gpu_image = "nvcr.io/nvidia/cuda:13.0.1-base-ubuntu24.04"
validate_gpu_options = ["--gpus", "all"]
validate_gpu_command = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]

# Time limit for a container, including the pull of its image, in seconds.
validate_container_seconds = 600

# How long to measure each rail in each direction, in seconds.
validate_bandwidth_seconds = 3

# The all-reduce of `gb10 validate --nccl`: one container on each node. The image needs PyTorch with NCCL; vLLM's image
# has both. Large buffers have frozen a Spark, so 128 MB is the maximum.
validate_nccl_image: str | None = None
validate_nccl_options = ["--gpus", "all", "--ipc", "host", "--ulimit", "memlock=-1", "--device", "/dev/infiniband"]
validate_nccl_command: list[str] | None = (
    None  # replaces our own program, which reads RANK, WORLD_SIZE, MASTER_ADDR ...
)
validate_nccl_megabytes = 128
validate_nccl_floor_gbps = 80.0  # minimum bus bandwidth; both rails carry up to 175, without RDMA about 25

# Backup ---------------------------------------------------------------------------------------------------------------

# Additional files and folders to back up. Models, images and logs do not belong here.
backup_paths: list[str] = []
# The hosts that keep a copy besides the controller. None: every other node of the inventory. Never the node itself.
backup_keepers: list[str] | None = None
# Where they keep it, below /data.
backup_folder = "/data/backups"
# Public keys for age (age1..., ssh-ed25519 ...). If set, only an owner of one of the private keys can read a backup.
backup_recipients: list[str] = []
# How many of the newest backups to keep, and for how many days. None: no limit. The newest proven backup always stays.
backup_keep_count: int | None = 10
backup_keep_days: int | None = 90
# Maximum age of a backup to count as fresh, in hours: an older one lacks the node's last changes.
backup_fresh_hours: float | None = 24.0

# Restore --------------------------------------------------------------------------------------------------------------

# Which backup of the controller to restore: its id, or "latest" for the node's newest proven one.
restore_from = "latest"
# Which parts of it to restore: identity, users, network, docker, k3s, system, extra. None: all.
restore_only: list[str] | None = None
# Risks that you accept. Without them gb10 refuses: RESTORE_OTHER_NODE, RESTORE_OTHER_MACHINE, RESTORE_UNPROVEN,
# RESTORE_AFTER_WIPE, RESTORE_K3S_VERSION.
restore_accept: list[str] = []
# Key file for age, to decrypt encrypted backups.
backup_identity_file: str | None = None
# Whether a restore also puts the node's old host keys into the controller's known_hosts.
restore_known_hosts = True

# Rebuild --------------------------------------------------------------------------------------------------------------

# Repositories to save from the Hugging Face cache of a node before its wipe, as in `models`; "*" means all that are
# complete. Those that the serving modes need are always saved.
rebuild_models = ["*"]

# How long solo serving must be healthy before a node may be wiped, in seconds.
rebuild_solo_seconds = 60

# Time limit for a rebuilt node to pass every check of `gb10 validate`, in seconds, and the checks to leave out.
rebuild_validate_seconds = 900
rebuild_validate_without: list[str] = []

# Executables on the controller. A hook is called as HOOK before|after STEP NODE; if it fails, the rebuild stops. NOTIFY
# TEXT is called when a person is needed and when the rebuild has ended.
rebuild_hooks: list[str] = []
rebuild_notify: str | None = None

# Serving --------------------------------------------------------------------------------------------------------------

# What to serve in each mode: "cluster" on all nodes together, "solo" on one while the other is away. Without modes,
# gb10 starts and stops nothing. A mode has these keys; docs/serving.md has examples:
#   models        repositories of the Hub; the first is served; the nodes that serve need all of them
#   image, images the image that serves, instead of serving_image; additional images that the nodes need
#   arguments     additional arguments of `vllm serve`
#   options       additional options of `docker run`
#   environment   additional variables in the container
#   served        the served model name, if it is not the model's own
#   start, stop   another launcher: shell commands for the "head" (the node that answers) and the "worker"
#   recognise     regular expressions that match its engine's command line, if it is neither vLLM nor SGLang
#   memory_gib    how much memory must be free before it starts
#   load_seconds  time limit for its first answer, instead of serving_load_seconds
serving_modes: dict[str, dict[str, object]] = {}

serving_image = "nvcr.io/nvidia/vllm:26.05-py3"
serving_port = 8000
# The address that the API listens on. None: the node's own one in the inventory; "0.0.0.0": all of its networks.
serving_listen: str | None = None
# A file on the nodes, readable by root alone, with the key that clients must show. Without it the API is open.
serving_api_key_file: str | None = None
serving_options = ["--gpus", "all", "--network", "host", "--shm-size", "16g"]
serving_options += ["--ulimit", "memlock=-1", "--ulimit", "stack=67108864"]
serving_rdma_options = ["--device", "/dev/infiniband"]  # additional options in cluster mode
serving_environment = {"HF_HUB_OFFLINE": "1"}  # never download a missing model
# GPU and system share the memory: a Spark freezes if the system has none left.
serving_arguments = ["--gpu-memory-utilization", "0.8"]
# A file on the nodes with additional variables (`docker run --env-file`), for other secrets.
serving_env_file: str | None = None

# Time limits in seconds: from the start to the first answer, for a stop, for a completion of one token.
serving_load_seconds = 900
serving_stop_seconds = 60
serving_completion_seconds = 60

# What `gb10 serving` and the deploy `serving` bring up: "cluster", "solo" or "off"; for "solo" also the node.
serving_mode: str | None = None
serving_node: str | None = None
