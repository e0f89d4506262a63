"""Every pin and path in one place. A host or group of the inventory may set each of these otherwise."""

# K3s ------------------------------------------------------------------------------------------------------------------

# Within the range of the GPU Operator: Kubernetes 1.33 to 1.36.
k3s_version = "v1.36.4+k3s1"

# Version -> architecture -> sha256 of the release's binary. A pin beats the list that the release itself brings, and
# should be set: that list comes from the same place as the binary, and shows damage but not forgery.
k3s_sha256: dict[str, dict[str, str]] = {
    "v1.36.4+k3s1": {
        "arm64": "c920706346d5ad4e5cd3c7bf1bb09ce71ebe07fec829e513e40f1caf98aed8bb",
        "amd64": "835873f37245fc615f547a2fe2af9402a347875f13fa64a1f136de644955ea3f",
    },
}

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

# The content of /etc/rancher/k3s/registries.yaml (docs.k3s.io/installation/private-registry): mirrors and configs. It
# counts with containerd only: Docker has mirrors and logins of its own.
k3s_registries: dict[str, object] = {}

# How long a start of K3s may take, and then its node until it is Ready, in seconds.
k3s_start_seconds = 180

# How long the pods of a node may take to leave it before an upgrade, in seconds.
k3s_drain_seconds = 300

# For downloads, and for K3s itself. Addresses of the cluster are left out of it.
http_proxy: str | None = None
https_proxy: str | None = None
no_proxy: list[str] = []

# Operators ------------------------------------------------------------------------------------------------------------

# Whether the deploy `cluster` installs them. Each has a deploy of its own, too.
gpu_operator_enabled = True
network_operator_enabled = True  # left out on nodes without a ConnectX-7, whatever stands here

# helm, on the head. Below the mirror lie helm-<version>-linux-<arch>.tar.gz and the same name with .sha256sum.
helm_version = "v4.3.1"
helm_sha256: dict[str, str] = {}  # architecture -> sha256 of the archive: a pin beats the list beside it
helm_mirror = "https://get.helm.sh"

# Where both charts lie, with an index.yaml.
chart_repository = "https://helm.ngc.nvidia.com/nvidia"

# GB10 needs v25.10.0 or newer.
gpu_operator_version = "v26.7.0"
gpu_operator_sha256: str | None = None  # of the chart's archive
gpu_operator_values: dict[str, object] = {}  # more values of the chart, over ours; no secrets: --diff shows them
gpu_operator_time_slicing: int | None = None  # how many pods may share a GPU; None: each has it alone
gpu_operator_wait_seconds = 900

network_operator_version = "26.4.1"
network_operator_sha256: str | None = None
network_operator_values: dict[str, object] = {}
network_operator_wait_seconds = 900

# The image of the RDMA shared device plugin; without a version the one that belongs to the chart.
rdma_plugin_repository = "nvcr.io/nvidia/mellanox"
rdma_plugin_version: str | None = None

# Nodes ----------------------------------------------------------------------------------------------------------------

# Whether the deploy `cluster` provisions the nodes first. They have a deploy of their own: gb10 provision NODE.
node_enabled = False

# The parts of provisioning, each with a switch of its own.
node_user = True
node_sudo = True
node_hostname = True  # the node's name in the inventory (or node_name); a wiped node comes back with its factory's
node_hosts = True  # all nodes of the inventory in /etc/hosts, also by their rails
node_data = True
node_huggingface = True
node_docker = True
node_performance = True
node_rails = True  # without `rails` in the host's data, or without a ConnectX-7, nothing is done
node_sshd = True  # passwords open no session any more; only after a login by key has been seen to work
node_firewall = False  # ufw, where it is installed

# Whose account is made, opened and put into the groups; None: the user who connects.
node_user_name: str | None = None
# Public keys that open it: their text, or paths of .pub files on the controller. Others stay.
node_user_keys: list[str] = []

# A partition that is mounted, or a plain directory: nothing is ever formatted, or mounted over.
node_data_path = "/data"
# Folder -> mode of a new one. Backups hold keys.
node_data_folders = {"huggingface": "755", "docker-images": "755", "backups": "700"}

# HF_HOME, in every session.
node_huggingface_home = "/data/huggingface"

# Keys that are merged into /etc/docker/daemon.json. With live-restore containers go on while dockerd is restarted or
# upgraded. NVIDIA's runtime becomes the default where it is installed.
node_docker_config: dict[str, object] = {"live-restore": True}

# Both halves of the cabled port; their addresses stand in the host's data: rails = {"a": {...}, "b": {...}}.
node_rails_mtu = 9000

# More rules of ufw: "allow 8000/tcp". SSH, the other nodes, the rails and pods are always let in.
node_firewall_allow: list[str] = []

# Names of containers that count as serving: while one runs, nothing restarts Docker or changes the rails. Containers of
# Kubernetes never count.
node_serving_containers = ["*"]
# Do both nevertheless.
node_restart_while_serving = False

# How long a node waits for a new login after a change that may have cut the way to it, before it takes it back.
node_confirm_seconds = 45

# Images ---------------------------------------------------------------------------------------------------------------

# Tags that must be in the Docker engine of every node. A node that lacks one gets it from /data/docker-images, or from
# another node. Without a version, "latest" is meant.
images: list[str] = []

# Models ---------------------------------------------------------------------------------------------------------------

# Repositories of the Hugging Face Hub that must be in the cache of every node: "org/name", "datasets/org/name", or "*"
# for all that the source has.
models: list[str] = []
# The host that has them; None: a node that lacks one gets it from the first other node that has it ("*": the head).
models_from: str | None = None

# Validation -----------------------------------------------------------------------------------------------------------

# The throw-away container by which `gb10 validate` proves that a GPU works: `docker run --rm OPTIONS IMAGE COMMAND`.
# A node that lacks the image pulls it, and keeps it.
validate_gpu_image = "nvcr.io/nvidia/cuda:13.0.1-base-ubuntu24.04"
validate_gpu_options = ["--gpus", "all"]
validate_gpu_command = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]

# How long a container may take, with its image's pull, in seconds.
validate_container_seconds = 600

# How long each rail is measured in each direction, in seconds.
validate_bandwidth_seconds = 3

# The all-reduce of `gb10 validate --nccl`, one container on each node. The image needs PyTorch with NCCL: that of vLLM
# has both. Large buffers have frozen a Spark: 128 MB is the most.
validate_nccl_image: str | None = None
validate_nccl_options = ["--gpus", "all", "--ipc", "host", "--ulimit", "memlock=-1", "--device", "/dev/infiniband"]
validate_nccl_command: list[str] | None = (
    None  # instead of our own program, which reads RANK, WORLD_SIZE, MASTER_ADDR ...
)
validate_nccl_megabytes = 128
validate_nccl_floor_gbps = 80.0  # bus bandwidth; both rails carry up to 175, a node without RDMA some 25

# Backup ---------------------------------------------------------------------------------------------------------------

# Files and folders that belong into a backup beside what makes a node this node. Not models, images or logs.
backup_paths: list[str] = []
# The hosts that keep a copy beside the controller; None: every other node of the inventory. Never the node itself.
backup_keepers: list[str] | None = None
# Where they keep it, below /data.
backup_folder = "/data/backups"
# age's public keys (age1..., ssh-ed25519 ...): then only who has one of their private keys can read a backup.
backup_recipients: list[str] = []
# A backup is thrown away when it is not among so many newest ones, or older than so many days; None switches one off.
# The newest one that was proven always stays.
backup_keep_count: int | None = 10
backup_keep_days: int | None = 90
# How old a backup may be to be proven, in hours: in an older one the node's last changes are missing.
backup_fresh_hours: float | None = 24.0

# Restore --------------------------------------------------------------------------------------------------------------

# Which backup of the controller: its id, or "latest", the node's newest that is proven.
restore_from = "latest"
# Only these parts of it: identity, users, network, docker, k3s, system, extra. None: all.
restore_only: list[str] | None = None
# What a person has agreed to: RESTORE_OTHER_NODE, RESTORE_OTHER_MACHINE, RESTORE_UNPROVEN, RESTORE_AFTER_WIPE,
# RESTORE_K3S_VERSION are refused otherwise.
restore_accept: list[str] = []
# age's key file, for backups that are encrypted.
backup_identity_file: str | None = None
# Whether a node's old host keys replace those of its new installation in the controller's known_hosts as well.
restore_known_hosts = True

# Rebuild --------------------------------------------------------------------------------------------------------------

# What is brought to safety from the Hugging Face cache of a node that is to be wiped: repositories as in `models`; "*"
# is all that is whole there. What the serving modes need is always among it.
rebuild_models = ["*"]

# How long solo serving must have been healthy before a node may be wiped, in seconds.
rebuild_solo_seconds = 60

# How long a node that came back may take until every check of `gb10 validate` passes, in seconds, and the checks that
# are left out.
rebuild_validate_seconds = 900
rebuild_validate_without: list[str] = []

# Executables on the controller. A hook is called as HOOK before|after STEP NODE, and stops the rebuild when it fails;
# a notification as NOTIFY TEXT, when a person is needed or the rebuild has ended.
rebuild_hooks: list[str] = []
rebuild_notify: str | None = None

# Serving --------------------------------------------------------------------------------------------------------------

# What is served, by mode: "cluster" over all nodes together, "solo" on one of them while the other is away. Without
# any, gb10 starts and stops nothing. A mode takes these keys; docs/serving.md has examples:
#   models        repositories of the Hub; the first is served, all must be on the nodes that serve
#   image, images the image that serves, instead of serving_image; and more that must be there
#   arguments     more arguments of `vllm serve`
#   options       more options of `docker run`
#   environment   more variables in the container
#   served        the name under which the model answers, where it is not the model's own
#   start, stop   another launcher: shell commands for the "head" (the node that answers) and the "worker"
#   recognise     regular expressions that find its engine's command line, where it is neither vLLM nor SGLang
#   memory_gib    how much memory must be free before it is started
#   load_seconds  how long it may take to its first answer, instead of serving_load_seconds
serving_modes: dict[str, dict[str, object]] = {}

serving_image = "nvcr.io/nvidia/vllm:26.05-py3"
serving_port = 8000
serving_options = ["--gpus", "all", "--network", "host", "--shm-size", "16g"]
serving_options += ["--ulimit", "memlock=-1", "--ulimit", "stack=67108864"]
serving_rdma_options = ["--device", "/dev/infiniband"]  # more of them in cluster mode
serving_environment = {"HF_HUB_OFFLINE": "1"}  # what is not there is not silently downloaded
# GPU and system share the memory: without room for the system, a Spark freezes.
serving_arguments = ["--gpu-memory-utilization", "0.8"]
# A file on the nodes with more variables (`docker run --env-file`), for what nobody else may see: VLLM_API_KEY=...
serving_env_file: str | None = None

# How long a start may take to its first answer, a stop, and a completion of one token, in seconds.
serving_load_seconds = 900
serving_stop_seconds = 60
serving_completion_seconds = 60

# What `gb10 serving` and the deploy `serving` bring about: "cluster", "solo" or "off", and for "solo" the node.
serving_mode: str | None = None
serving_node: str | None = None
