"""The error catalogue: for each error a stable code, an exit status, what happened, and what to type next.

Lower layers report a code and a text, and know nothing of this file; the runner turns them into a Gb10Error.
`python -m gb10.controller.errors` prints the catalogue as Markdown tables for docs/troubleshooting.md.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from string import Formatter

Detail = str | int | list[str]


class ExitStatus(IntEnum):
    """How a gb10 command ends. Scripts may rely on these numbers."""

    meaning: str

    def __new__(cls, value: int, meaning: str) -> ExitStatus:
        status = int.__new__(cls, value)
        status._value_ = value
        status.meaning = meaning
        return status

    OK = 0, "done, or nothing to do"
    FAILED = 1, "an operation failed on a node"
    USAGE = 2, "the command line, the inventory or a setting is wrong; no node was touched"
    CHANGED = 3, "only with `--detailed-exitcode`: done, and something changed (in a dry run: would change)"
    UNREACHABLE = 4, "a node cannot be reached, or rejects the login"
    UNVERIFIED = 5, "a check failed: a wrong checksum, a node that is not ready, an unhealthy cluster"
    REFUSED = 6, "gb10 refused to begin; nothing was changed"
    WAITING = 7, "a person has to answer first"
    LOCKED = 8, "another gb10 is working on the same nodes"
    INTERNAL = 70, "a bug in gb10"
    INTERRUPTED = 130, "Ctrl-C, SIGTERM or SIGHUP"


# Values of the placeholders in the catalogue where the error itself has none.
DEFAULT_DETAILS: Mapping[str, str] = {
    "again": "gb10 bootstrap",  # the command to type again
    "copy": "gb10 sync models SRC DST",  # a copy command, to which options can be added
    "cure": "See what to do: gb10 status",
    "host": "the node",
    "inventory": "inventory.py",
    "known": "the hosts of the inventory",
    "log": "the log",
    "owner": "another gb10",
    "options": "",  # options that select the inventory, for other commands than this one
    "path": "the file",
    "plan": "gb10 bootstrap --dry-run --diff",  # the command itself if it has no dry run
    "reason": "no reason given",
    "resume": "gb10 rebuild resume",  # the command that continues interrupted work
    "since": "a while ago",
    "ssh": "ssh NODE true",
    "ssh_base": "ssh NODE",
    "wanted": "?",
}

# Each entry: CODE (exit status): what happened -> what to do. Placeholders are the keys of DEFAULT_DETAILS.
_ENTRIES = """\
# What a person typed
USAGE (USAGE): {reason}
  -> gb10 --help
INVENTORY_MISSING (USAGE): there is no inventory {inventory}
  -> Name yours: gb10 status -i PATH/TO/inventory.py
INVENTORY_BROKEN (USAGE): the inventory {inventory} cannot be loaded: {reason}
  -> Correct it, then check how pyinfra reads it: pyinfra {inventory} debug-inventory
HOST_UNKNOWN (USAGE): {wanted} matches no host of {inventory}
  -> Choose from: {known}
SETTINGS_INVALID (USAGE): a setting is invalid
  -> Correct it in the inventory or in group_data/, then: {plan}

# Connections
NODE_UNREACHABLE (UNREACHABLE): {host} does not answer: {reason}
  -> Check power and network until this works: {ssh}. Then: {again}
SSH_AUTH (UNREACHABLE): {host} rejects the SSH login: {reason}
  -> Check ssh_user and ssh_key in the inventory until this works: {ssh}. Then: {again}
SSH_HOST_KEY (UNREACHABLE): {host} shows an unexpected SSH host key: {reason}
  -> Compare its fingerprint with what the node's own screen shows: gb10 trust{options} {host}. Then: {again}
HOST_KEY_REFUSED (REFUSED): the SSH host key of {host} is refused, and known_hosts unchanged: {reason}
  -> Read the fingerprint on {host}'s own screen: ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub. Then: {again}
SUDO_PASSWORD (UNREACHABLE): sudo on {host} asks for a password
  -> On {host}, allow sudo without one: echo "$USER ALL=(ALL) NOPASSWD: ALL" | sudo tee /etc/sudoers.d/90-gb10.
     Then: {again}

# Refusals before a node is changed
ARCH_UNSUPPORTED (REFUSED): K3s has no release for the architecture of {host}
  -> Only arm64 and amd64 are supported. Leave the node out: {again} --limit OTHER-NODE
CLOCK_SKEW (REFUSED): the clock of {host} is off by more than 5 minutes
  -> On {host}: sudo timedatectl set-ntp true, and wait until `timedatectl` reports it as synchronized. Then: {again}
DUPLICATE_HOSTNAME (REFUSED): two nodes have the same hostname
  -> On one of them: sudo hostnamectl set-hostname NEW-NAME. Then: {again}
PORT_TAKEN (REFUSED): a port that K3s needs is in use on {host}
  -> See which program listens on it: {ssh_base} sudo ss -ltnp. Stop it, then: {again}
DOCKER_ABSENT (REFUSED): no Docker engine answers on {host}
  -> Start it: {ssh_base} sudo systemctl start docker. Or set k3s_runtime = 'containerd'. Then: {again}
ROLE_CONFLICT (REFUSED): K3s on {host} has another role than the inventory gives the node
  -> Correct its group in the inventory, or remove K3s: gb10 teardown{options} --limit {host}. Then: {again}
FACT_UNREADABLE (FAILED): the state of {host} could not be read, so nothing was changed there
  -> Read {log}, then: {again}
NODE_ANSWER (FAILED): {host} sent an invalid or too large answer
  -> Check what replaces or wraps the system's own programs on {host}, then: {again}
PROGRAM_FAILED (FAILED): a gb10 program ended on {host} without an answer
  -> Read {log}, then: {again}
AIRGAP_MISSING (USAGE): a file for the air-gapped installation is missing on the controller
  -> Put it into the folder that k3s_airgap names, then: {again}
VERSION_SKIP (REFUSED): Kubernetes must not be upgraded by more than one minor version at a time
  -> Set k3s_version in group_data/ to the next minor version, then: {again}. Repeat up to the version that you want
VERSION_DOWNGRADE (REFUSED): Kubernetes cannot be downgraded in place
  -> Set k3s_version in group_data/ to the installed version or a newer one, then: {again}
ADOPT_FLAGS (REFUSED): the settings of the existing K3s on {host} differ from the inventory
  -> Set what is named above in the inventory or in group_data/, then: {plan}
KUBECONFIG_CONFLICT (REFUSED): {path} already has another cluster named {wanted}
  -> Choose another name: gb10 kubeconfig{options} --context NEW-NAME
KUBECONFIG_UNSAFE (REFUSED): the kubeconfig of {host} has more than an address and certificates
  -> Find out who changed /etc/rancher/k3s/k3s.yaml on {host}; K3s writes it anew when it starts. Then: {again}
DECLINED (REFUSED): the answer was no; nothing was changed
  -> When you are sure: {again}
CONFIRM_NEEDED (WAITING): this command asks a question, and there is no terminal to answer it
  -> Run it in a terminal, or answer in advance: {again} --yes
LOCKED (LOCKED): {owner} has been working on the same nodes since {since}
  -> Wait until it is done, then: {again}

# Work on a node
VERSION_UNKNOWN (FAILED): the mirror does not have that version
  -> Correct the version or the mirror (k3s_ or helm_) in group_data/, then: {again}
DOWNLOAD_FAILED (FAILED): a download to {host} failed
  -> Nothing was replaced, and the partial file is kept. Check the mirror (k3s_ or helm_) and http_proxy, then: {again}
CHECKSUM_MISMATCH (UNVERIFIED): the checksum of a download to {host} is wrong
  -> The file was deleted and nothing was replaced. Check checksum and mirror (k3s_ or helm_), then: {again}
PIN_DIFFERS (UNVERIFIED): a download to {host} is another one than at its first use
  -> Nothing was replaced. Ask its publisher why it changed. If it is right: gb10 lock{options} --update NAME (the name
     at the start of the message), then: {again}
PIN_MISSING (REFUSED): a download has no pin, and require_pins asks for one
  -> Set the digest in group_data/ as named above, or pin it at its first use, without require_pins. Then: {again}
PINS_UNUSABLE (REFUSED): the lock file of pins cannot be used
  -> Take it back from version control (git checkout gb10.lock), or correct it: see docs/security.md. Then: {again}
DISK_FULL (FAILED): {host} has no disk space left
  -> See what fills it: {ssh_base} df -h. Make room, then: {again}
TOKEN_REJECTED (FAILED): the head rejects the token of {host}
  -> Remove {host} and let it join again: gb10 teardown{options} --limit {host}, then: {again}
TOKEN_CHANGED (FAILED): the token file on {host} does not hold the token of its cluster
  -> Remove the file: {ssh_base} sudo rm /etc/rancher/k3s/token. This writes it again from K3s' own copy: {again}
NODE_PASSWORD_REJECTED (FAILED): the head knows another node by the name of {host}
  -> Unless that node still exists, have the head forget it: gb10 teardown{options} --limit {host}. Then: {again}
SERVER_UNREACHABLE (FAILED): {host} cannot reach the API server of the head
  -> Check the head with gb10 status{options}, and port 6443 between the nodes. Then: {again}
SERVICE_FAILED (FAILED): K3s does not start on {host}
  -> Read why: {ssh_base} sudo journalctl -u 'k3s*' -n 50. Then: {again}
DRAIN_FAILED (FAILED): {host} could not be drained
  -> See which pods stay: kubectl get pods -A --field-selector spec.nodeName={host}. Then: {again}
UPGRADE_HELD (FAILED): {host} was not upgraded because the upgrade of another node failed
  -> Fix that node first (see its own error), then: {again}
NODE_NOT_READY (UNVERIFIED): {host} did not become Ready in time
  -> See why: kubectl describe node {host}. Then: {again}
TEARDOWN_LEFTOVER (UNVERIFIED): parts of K3s are left on {host}
  -> Remove what is named above, then: {again}
K3S_ABSENT (FAILED): K3s is not installed on {host}
  -> Install it first: gb10 bootstrap{options}

# Provisioning
DATA_BLOCKED (REFUSED): the path of a data folder on {host} is not a folder
  -> Look at it: {ssh_base} ls -ld PATH. Move it away, then: {again}
DATA_NOT_MOUNTED (REFUSED): the data file system is not mounted on {host}
  -> Mount it: {ssh_base} sudo mount -a. Then: {again}
DOCKER_CONFIG_REJECTED (FAILED): Docker on {host} rejects its configuration
  -> The old configuration is in place. Look at it: {ssh_base} cat /etc/docker/daemon.json. Then: {again}
SERVING_RUNS (REFUSED): a container that may be serving runs on {host}
  -> See what runs: {ssh_base} docker ps. Stop serving, then: {again}
SSHD_REJECTED (FAILED): sshd on {host} rejects its configuration
  -> The old configuration is in place. See why: {ssh_base} sudo sshd -T. Then: {again}
SUDOERS_REJECTED (FAILED): sudo on {host} rejects the rule for the user
  -> The old rules are in place. See what sudo reads: {ssh_base} sudo visudo -c. Then: {again}
RAILS_REJECTED (FAILED): netplan refused the rail settings of {host}, or they cut the connection; they were undone
  -> Correct rails in the inventory, then see what would be written: {plan}
FIREWALL_REJECTED (FAILED): the firewall of {host} refused its rules, or they cut the connection; it was switched off
  -> See its rules: {ssh_base} sudo ufw show added. Then: {again}
KEY_LOGIN_FAILED (REFUSED): no login by key to {host} has succeeded yet, so passwords stay allowed
  -> Make a login by key work: {ssh}. Then: {again}
RAIL_UNKNOWN (REFUSED): {host} does not have the network interface of a rail
  -> Correct rails in the inventory; the interfaces are: {ssh_base} ip -br link. Then: {again}
RDMA_DOWN (REFUSED): no half of a ConnectX-7 is up
  -> Check the cable between the nodes: {ssh_base} rdma link. Then: {again}
NETPLAN_ABSENT (REFUSED): {host} has no netplan
  -> Install it: {ssh_base} sudo apt-get install netplan.io. Then: {again}
NETPLAN_BROKEN (REFUSED): netplan on {host} cannot read its own files
  -> See why: {ssh_base} sudo netplan get. Then: {again}
NETPLAN_CONFLICT (REFUSED): another netplan file on {host} configures a rail differently
  -> Find it: {ssh_base} sudo grep -rn addresses /etc/netplan. Remove the rail from it, then: {again}
TRIAL_RUNS (FAILED): an earlier network change on {host} is still on trial
  -> The trial ends by itself within minutes, and is undone if the connection was lost. Then: {again}

# Images
DOCKER_STOPPED (FAILED): no Docker engine answers on {host}
  -> Start it: {ssh_base} sudo systemctl start docker. Then: {again}
IMAGE_MISSING (REFUSED): none of the nodes has an image that is to be copied
  -> See what a node has: {ssh_base} sudo docker image ls. Pull it on one node, or correct its tag, then: {again}
IMAGE_SAVE_FAILED (FAILED): Docker could not save an image completely
  -> The image store is unchanged. Read Docker's log: {ssh_base} sudo journalctl -u docker -n 50. Then: {again}
IMAGE_LOAD_FAILED (FAILED): Docker on {host} could not load an image
  -> See why: {ssh_base} sudo journalctl -u docker -n 50. Then: {again}
IMAGE_BLOB_DAMAGED (UNVERIFIED): a part of an image on {host} does not match its digest, and no node has an intact copy
  -> The image was not loaded. Pull it again on one node, then: {again}
IMAGE_INCOMPLETE (UNVERIFIED): parts of a saved image are missing on {host}
  -> Copy it from a node that has it: gb10 sync images OTHER-NODE {host} TAG
STORE_BROKEN (UNVERIFIED): the image store on {host} holds an invalid record
  -> Remove what is named above from /data/docker-images/images, then: {again}

# Serving
SERVING_UNDESCRIBED (USAGE): the inventory does not describe how to serve
  -> Describe serving_modes in the inventory or in group_data/ (docs/serving.md has examples), then: {again}
SERVING_UNDECIDED (REFUSED): the mode in which {host} serves cannot be determined
  -> Look: {ssh_base} sudo docker ps. Stop it by hand, or add a recognise pattern to serving_modes. Then: {again}
SERVING_FOREIGN (REFUSED): {host} serves something that gb10 did not start
  -> Stop it by hand, or give its mode start and stop commands in serving_modes. Then: {again}
SERVING_NOT_READY (REFUSED): {host} lacks something that the wanted mode needs; the present mode keeps serving
  -> Copy it there: gb10 sync models OTHER-NODE {host}, gb10 sync images OTHER-NODE {host}. Then: {again}
SERVING_STUCK (FAILED): serving on {host} does not stop
  -> Look: {ssh_base} sudo docker ps. Stop it, then: {again}
SERVING_MEMORY (FAILED): {host} has too little free memory for the model
  -> See which processes use it: {ssh_base} 'ps -eo rss,args --sort=-rss | head'. Then: {again}
SERVING_FAILED (UNVERIFIED): the model is not served
  -> Read its log: {ssh_base} 'sudo docker logs --tail 100 $(sudo docker ps -aqf label=gb10.serving)'. Then: {again}

# Charts
CHART_UNKNOWN (FAILED): the chart repository does not have that chart or version
  -> Correct the version or the repository in group_data/, then: {again}
CHART_UNREACHABLE (FAILED): {host} gets no answer from the chart repository
  -> Check chart_repository and http_proxy in group_data/, then: {again}
CHART_BROKEN (UNVERIFIED): the chart repository delivers a damaged archive
  -> Nothing was installed. Check chart_repository in group_data/, then: {again}
CHART_WRONG (UNVERIFIED): the deployed chart is not the wanted one
  -> Check the repository and the checksum in group_data/, then: {again}
VALUES_REJECTED (FAILED): the chart rejects its values
  -> Correct the values in group_data/, then: {plan}
HELM_PENDING (REFUSED): an interrupted helm operation left a release pending
  -> If no helm is running ({ssh_base} pgrep -a helm): gb10 bootstrap{options} --repair
HELM_FAILED (FAILED): helm failed on {host}
  -> Read {log}, then: {again}
OPERATOR_NOT_READY (UNVERIFIED): an operator did not become ready in time
  -> See what it waits for: kubectl get pods -A | grep -v Running. Then: {again}
DOCKER_RUNTIME (REFUSED): NVIDIA's runtime is not Docker's default runtime
  -> Set up Docker for pods: gb10 provision{options} head workers. Or set k3s_runtime = 'containerd'. Then: {again}
OPERATOR_LEFTOVER (UNVERIFIED): parts of an operator are left in the cluster
  -> Remove what is named above, then: {again}

# Copies between nodes
COPY_PATH (USAGE): that folder or node cannot take part in a copy
  -> Name a node of the inventory and an absolute path, then: {again}
PATH_LINKED (REFUSED): a path that gb10 works at as root is a link, or lies behind one, that others may have made
  -> See who made it: {ssh_base} ls -ld PATH. Remove it, or name in the inventory where it leads. Then: {again}
COPY_SAME_NODE (USAGE): source and target of the copy are the same node
  -> Name two nodes, then: {again}
COPY_SOURCE_MISSING (REFUSED): the source does not have what is to be copied
  -> Correct the path, or choose another source, then: {again}
COPY_DANGLING (REFUSED): links on the source point nowhere, or out of what is copied
  -> Fix or remove them on the source, then: {again}. Or copy them unchanged: {copy} --dangling list
COPY_CONFLICT (REFUSED): a path is a folder on one node, and a file or a link on the other
  -> Look at it on the target: {ssh_base} ls -ld PATH. Move it away, then: {again}
RAIL_DOWN (REFUSED): no rail between the nodes is up
  -> Check the cable, and on both nodes: {ssh_base} ip -br addr. Then: {again}. Without rails: {copy}
     --network management
LINK_THROTTLED (REFUSED): a rail runs at a fraction of its speed: the known power fault of the NIC
  -> On both nodes: sudo apt full-upgrade, shut down, pull the power plug for a minute, start. Then: {again}.
     Or copy at this speed: {copy} --force
COPY_BUSY (LOCKED): another copy into the same folder is running
  -> See its progress: pyinfra {inventory} fact gb10.facts.copy.CopyProgress. When it is done: {again}
COPY_REFUSED (FAILED): the two sides of a copy could not authenticate each other
  -> See who else connects: {ssh_base} sudo journalctl -u 'gb10-copy-*' -n 50. Then: {again}
COPY_FAILED (FAILED): the copy ended too early
  -> What has arrived is kept. Continue: {again}
SOURCE_CHANGED (FAILED): files changed on the source during the copy
  -> Wait until nothing writes there, then: {again}
COPY_UNPROVEN (UNVERIFIED): after the copy, source and target differ
  -> Copy again, comparing the content: {copy} --verify hash
MODEL_MISSING (REFUSED): the source does not have a model that is to be copied
  -> Look there: ls /data/huggingface/hub. Correct the name, or download it there: hf download NAME. Then: {again}
MODEL_BROKEN (REFUSED): a model on the source is incomplete or damaged
  -> Download it again on the source (hf download NAME), then: {again}
HF_CLIENT_MISSING (REFUSED): the Hugging Face client is not installed on {host}
  -> Install it there as your user: {ssh_base} pip install --user --break-system-packages huggingface_hub. Then: {again}
MODEL_DOWNLOAD_FAILED (FAILED): a model could not be downloaded to {host}
  -> What has arrived is kept. If the model requires a login: {ssh_base} hf auth login. Then: {again}

# The state of the cluster
RAIL_FAULT (UNVERIFIED): a rail of {host} is faulty
  -> Check the cable at both ends: {ssh_base} rdma link. Then set up the rails: gb10 provision{options} {host}
RAIL_SLOW (UNVERIFIED): a rail of {host} is slower than it should be
  -> Check its MTU and link, and that nothing else uses it: gb10 status{options}. Then: {again}
RAIL_THROTTLED (UNVERIFIED): a rail of {host} runs at a fraction of its speed: the known power fault of the NIC
  -> On both nodes: sudo apt full-upgrade, shut down, pull the power plug for a minute, start. Then: {again}
GPU_FAULT (UNVERIFIED): the GPU of {host} does not answer
  -> Read the driver's messages: {ssh_base} 'nvidia-smi; sudo dmesg | grep -i nvrm'. A cold boot often helps
GPU_CONTAINER_FAILED (UNVERIFIED): a container on {host} cannot use the GPU
  -> Set up Docker for the GPU: gb10 provision{options} {host}. The image is validate_gpu_image. Then: {again}
RESOURCE_MISSING (UNVERIFIED): {host} does not offer a resource that it should
  -> See what the operator waits for: gb10 status{options}, then: gb10 bootstrap{options}
NCCL_FAILED (UNVERIFIED): NCCL between the nodes fails or is too slow
  -> Check the rails first: gb10 validate{options}. Then check validate_nccl_ in group_data/, and: {again}
VALIDATION_FAILED (UNVERIFIED): a check failed: {reason}
  -> Follow the instructions below the check, then: {again}
VALIDATION_INCOMPLETE (UNVERIFIED): a check could not run: {reason}
  -> See the reason. To leave out a check that does not apply: {again} --skip CHECK
UNHEALTHY (UNVERIFIED): the cluster is not healthy: {reason}
  -> Bring it back to the state in the inventory: gb10 bootstrap{options} --dry-run, then gb10 bootstrap{options}
OPERATION_FAILED (FAILED): an operation failed on {host}: {reason}
  -> Read {log}, then: {again}
NOT_RUN (FAILED): pyinfra left out {host} without reporting an error
  -> Read {log}, then: {again}

# Rebuild
NODE_LOCKED (LOCKED): a rebuild of {owner} is working on {host}
  -> Wait until it is done. If its controller is lost, go on with it here: gb10 rebuild adopt{options}. If the rebuild
     itself is gone for good: gb10 rebuild unlock{options} {host}. Then: {again}
REBUILD_UNFINISHED (REFUSED): an earlier rebuild of these nodes is not finished
  -> Continue it: {resume}{options}. Or give it up: gb10 rebuild abort{options}
WIPE_UNFINISHED (REFUSED): a wipe of all these nodes is not finished
  -> Continue it: gb10 wipe-all{options}. Or, if no node was asked for yet: gb10 wipe-all --abort{options}
REBUILD_NONE (USAGE): there is no unfinished rebuild of these nodes
  -> See earlier ones: gb10 rebuild history{options}. Start one: gb10 rebuild run{options} NODE
REBUILD_IMPOSSIBLE (REFUSED): these nodes cannot be rebuilt in this way
  -> See what a rebuild would do: gb10 rebuild plan{options} {host}
HOST_KEY_UNCONFIRMED (WAITING): nobody has confirmed the new host key of {host}
  -> Compare it with what the node's own screen shows (ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub), then:
     {resume}{options} --accept-host-key KEY
NAMES_NEEDED (WAITING): the names of all nodes to wipe have to be typed, and there is no terminal
  -> Run it in a terminal, or give the names in advance: gb10 wipe-all{options} --names NAME,NAME
GATE_CLOSED (REFUSED): {host} must not be wiped yet
  -> Follow the instruction beside each missing proof, then: {resume}{options}
STEP_UNPROVEN (UNVERIFIED): a step ran without an error, but its effect cannot be seen
  -> Read {log}. Continue with this step: {resume}{options}
REBUILD_K3S_VERSION (REFUSED): {host} would come back with another version of K3s, which cannot restore its state
  -> Set k3s_version in group_data/ to the installed one, or upgrade K3s first: gb10 bootstrap{options}. Then: {again}
NODES_UNWELL (UNVERIFIED): no node is wiped while a node is unhealthy: {reason}
  -> {cure}
NOT_VALIDATED (UNVERIFIED): a node that came back does not pass validation
  -> Fix what is named above (gb10 validate{options}), or leave out the check with rebuild_validate_without in
     group_data/. Then: {resume}{options}
HOOK_FAILED (FAILED): a hook failed
  -> Correct it (rebuild_hooks), then: {resume}{options}
NODE_AWAY (REFUSED): {host} was wiped, or is being wiped: that cannot be undone
  -> Bring it back instead: {resume}{options}
JOURNAL_BROKEN (FAILED): the journal {path} is damaged or too new
  -> Move it away once nothing in it is unfinished, then: {again}
STATE_UNWRITABLE (FAILED): gb10 cannot write its state on this machine
  -> Nothing was done that is not recorded. Check the disk: df -h ~/.local/state/pyinfra-gb10 (or $GB10_STATE).
     Make room, then: {again}

# Backups
BACKUP_FAILED (FAILED): no backup of {host} could be made
  -> No partial backup is kept. Read {log}, then: {again}
BACKUP_NOT_KEPT (FAILED): the backup is missing on a node that should keep it
  -> The other copies are valid: gb10 backup list{options}. Fix the connection to that node, then: {again}
KEEPER_FULL (FAILED): there is no disk space for the backup
  -> See with df -h what fills the disk that is named above. Make room, then: {again}
BACKUP_MISSING (UNVERIFIED): there is no such backup
  -> See all backups: gb10 backup list{options}. Fetch it from a node that keeps it: gb10 backup fetch{options} {host}.
     Only while {host} is intact, not after a wipe, make one: gb10 backup{options} {host}
BACKUP_DAMAGED (UNVERIFIED): the content of the backup has changed since it was made
  -> See whether another copy is proven: gb10 backup list{options}. Fetch that: gb10 backup fetch{options} {host}.
     Only while {host} is intact, not after a wipe, make a new one: gb10 backup{options} {host}
BACKUP_UNSAFE (UNVERIFIED): paths or links in the backup lead out of it: gb10 did not make it
  -> Do not unpack it. Find out who had access to it, and make a new one: gb10 backup{options} {host}
BACKUP_NEWER (REFUSED): the backup was made by a newer gb10
  -> Upgrade this one: pip install --upgrade pyinfra-gb10. Then: {again}
BACKUP_FOREIGN (REFUSED): the backup is of another node or another machine
  -> See whose it is: gb10 backup list{options}. Make one of this node: gb10 backup{options} {host}
BACKUP_STALE (REFUSED): the backup is too old, or of an earlier installation
  -> Make a new one: gb10 backup{options} {host}. Or accept the old one: gb10 backup prove{options} {host} --any-age
BACKUP_INCOMPLETE (UNVERIFIED): the backup lacks something that the node needs to come back
  -> Fix what is named above on {host}, or take it out of backup_paths, then: gb10 backup{options} {host}
BACKUP_DATABASE (UNVERIFIED): the K3s database in the backup cannot restore the cluster
  -> Check it on the head: gb10 status{options}. Once it is intact: gb10 backup{options} {host}
BACKUP_KEY (REFUSED): the backup is encrypted, and its key is not here
  -> Set backup_identity_file to the file with the private key that belongs to backup_recipients, then: {again}

# Restore
RESTORE_OTHER_NODE (REFUSED): the backup is of another node than {host}
  -> Choose one of its own: gb10 backup list{options}. Or, if this machine takes over that node: {again}
     --accept RESTORE_OTHER_NODE
RESTORE_OTHER_MACHINE (REFUSED): the backup is of another machine than {host}
  -> Check that the address leads to the right machine. If the hardware was replaced: {again}
     --accept RESTORE_OTHER_MACHINE
RESTORE_UNPROVEN (REFUSED): no copy of the backup is proven
  -> See which are: gb10 backup list{options}. Fetch one from another node: gb10 backup fetch{options} {host}. Prove
     this one: gb10 backup prove{options} {host} --any-age. Or accept it unproven: {again} --accept RESTORE_UNPROVEN
RESTORE_AFTER_WIPE (REFUSED): the newest backup of {host} was made after a wipe
  -> Name the wanted one, from before the wipe: {again} --from ID. If it is the newest: {again}
     --accept RESTORE_AFTER_WIPE
RESTORE_UNSETTLED (FAILED): {host} is still being installed
  -> See what it does: {ssh_base} systemctl list-jobs, {ssh_base} cloud-init status. When that is over: {again}
RESTORE_K3S_VERSION (REFUSED): the backup is of another version of K3s
  -> Set k3s_version in group_data/ to that of the backup, then: {again}. Or leave out K3s: gb10 restore{options}
     {host} --only users,identity,network,docker,system,extra
RESTORE_NUMBERS (REFUSED): an account cannot get its old number on {host}
  -> Free the number there (usermod --uid, groupmod --gid), or leave out accounts with --only. Then: {again}
RESTORE_NETWORK (FAILED): the network settings in the backup cut the connection to {host}, and were undone
  -> Compare them: {plan}. Restore the rest with --only, and correct /etc/netplan by hand
RESTORE_FAILED (FAILED): the restore of {host} ended too early
  -> Replaced files are kept beside the new ones as *.before-restore-*. Read {log}, then: {again}

# Anything else
INTERRUPTED (INTERRUPTED): interrupted; commands that ran on the nodes were ended
  -> Continue: {again}
INTERNAL (INTERNAL): a bug in gb10: {reason}
  -> Please report it with {log}. It is safe to try again: {again}
"""


@dataclass(frozen=True)
class ErrorEntry:
    """One entry of the catalogue."""

    code: str
    status: ExitStatus
    summary: str
    remedy: str


def _parsed(entries: str) -> Iterator[ErrorEntry]:
    uncommented = re.sub(r"^(#.*)?\n", "", entries, flags=re.MULTILINE)
    for entry in re.split(r"\n(?=\w)", uncommented.strip()):
        title, _, remedy = entry.partition("\n  -> ")
        code, status, summary = re.fullmatch(r"(\w+) \((\w+)\): (.+)", title).groups()  # type: ignore[union-attr]
        yield ErrorEntry(code, ExitStatus[status], summary, " ".join(remedy.split()))


CATALOGUE: Mapping[str, ErrorEntry] = {entry.code: entry for entry in _parsed(_ENTRIES)}


class Gb10Error(Exception):
    """An error of the catalogue.

    + text: what happened, in place of the catalogue's summary
    + details: values of the placeholders
    """

    def __init__(self, code: str, text: str | None = None, **details: Detail) -> None:
        self.entry = CATALOGUE[code]
        self.code = code
        self.text = text
        self.details: dict[str, Detail] = dict(details)
        super().__init__(f"{code}: {self.summary}")

    @classmethod
    def reported(cls, code: str, text: str, **details: Detail) -> Gb10Error:
        """Return the error that a lower layer reported. A code that is not in the catalogue stays in the text."""
        text = text.removeprefix(f"{details.get('host')}: ")
        if code in CATALOGUE:
            return cls(code, text, **details)
        return cls("OPERATION_FAILED", f"{code}: {text}", **details)

    @property
    def status(self) -> ExitStatus:
        return self.entry.status

    @property
    def host(self) -> str | None:
        host = self.details.get("host")
        return str(host) if host else None

    @property
    def summary(self) -> str:
        """What happened, in one line."""
        return self.text or self._filled(self.entry.summary)

    @property
    def remedy(self) -> str:
        """What to do, in one line, with the command to type."""
        return self._filled(self.entry.remedy)

    def with_details(self, **details: Detail) -> Gb10Error:
        """Return the same error with more details. Existing details are kept."""
        return Gb10Error(self.code, self.text, **{**details, **self.details})

    def to_json(self) -> dict[str, Detail | dict[str, Detail]]:
        return {
            "code": self.code,
            "status": int(self.status),
            "summary": self.summary,
            "remedy": self.remedy,
            "details": self.details,
        }

    def _filled(self, template: str) -> str:
        names = [name for _, name, _, _ in Formatter().parse(template) if name]
        values = {name: self.details.get(name, DEFAULT_DETAILS[name]) for name in names}
        return template.format(**{name: ", ".join(v) if isinstance(v, list) else v for name, v in values.items()})


def decisive(errors: tuple[Gb10Error, ...]) -> Gb10Error | None:
    """Return the error that names the cause of a failed run, and so its exit status.

    That is the first error, except that specific codes come before OPERATION_FAILED, and that before NOT_RUN.
    """
    vague = ("OPERATION_FAILED", "NOT_RUN")
    return min(errors, key=lambda error: vague.index(error.code) + 1 if error.code in vague else 0, default=None)


def markdown_table() -> str:
    """Return the catalogue as a table in which each code links to its paragraph."""
    shown = {name: name.upper() for name in ("host", "reason", "wanted", "known", "path", "owner", "since")}
    commands = {"BACKUP": "gb10 backup HOST", "KEEPER": "gb10 backup HOST", "RESTORE": "gb10 restore HOST"}
    lines = ["| code | exit status | what happened | what to do |", "|---|---|---|---|"]
    for code in CATALOGUE:
        again = commands.get(code.partition("_")[0], DEFAULT_DETAILS["again"])
        error = Gb10Error(code, None, **shown, again=again, plan=f"{again} --dry-run --diff")
        cells = (f"[{code}](#{code.lower()})", str(int(error.status)), error.summary, error.remedy)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)


def markdown_statuses() -> str:
    """Return the exit statuses as a table."""
    rows = (f"| {int(status)} | {status.name} | {status.meaning} |" for status in ExitStatus)
    return "\n".join(["| exit status | name | meaning |", "|---|---|---|", *rows])


if __name__ == "__main__":
    print(markdown_statuses(), markdown_table(), sep="\n\n")
