"""The catalogue of errors: a stable code, an exit status, what happened, and what to type next.

Lower layers report a code and what happened, and know nothing of this file; the runner makes a Gb10Error of it.
`python -m gb10.controller.errors` prints the catalogue as a Markdown table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from string import Formatter


class ExitStatus(IntEnum):
    """How a gb10 command ends. Scripts may rely on these numbers."""

    OK = 0  # done, or nothing to do
    FAILED = 1  # an operation failed on a node
    USAGE = 2  # command line, inventory or settings are wrong; no node was touched
    CHANGED = 3  # only with --detailed-exitcode: done, and something changed (or would, in a dry run)
    UNREACHABLE = 4  # a node cannot be reached, or does not let us in
    UNVERIFIED = 5  # a check failed: a checksum, a node that is not ready, an unhealthy cluster
    REFUSED = 6  # a gate said no; nothing was changed
    WAITING = 7  # a person has to answer first
    LOCKED = 8  # another gb10 works on the same nodes
    INTERNAL = 70  # a bug in gb10
    INTERRUPTED = 130  # Ctrl-C, SIGTERM or SIGHUP


MEANING = {
    ExitStatus.OK: "done, or nothing to do",
    ExitStatus.FAILED: "an operation failed on a node",
    ExitStatus.USAGE: "command line, inventory or settings are wrong; no node was touched",
    ExitStatus.CHANGED: "only with `--detailed-exitcode`: done, and something changed (in a dry run: would change)",
    ExitStatus.UNREACHABLE: "a node cannot be reached, or does not let us in",
    ExitStatus.UNVERIFIED: "a check failed: a checksum, a node that is not ready, an unhealthy cluster",
    ExitStatus.REFUSED: "a gate said no; nothing was changed",
    ExitStatus.WAITING: "a person has to answer first",
    ExitStatus.LOCKED: "another gb10 works on the same nodes",
    ExitStatus.INTERNAL: "a bug in gb10",
    ExitStatus.INTERRUPTED: "Ctrl-C, SIGTERM or SIGHUP",
}

Detail = str | int | list[str]

# What a template says where nobody knows better, so that every text can always be printed.
UNKNOWN: Mapping[str, str] = {
    "again": "gb10 bootstrap",
    "copy": "gb10 sync models SRC DST",  # a copy alone, to which options can be added
    "cure": "See what to do: gb10 status",
    "host": "the node",
    "inventory": "inventory.py",
    "known": "the hosts of the inventory",
    "log": "the log",
    "owner": "another gb10",
    "options": "",  # where the inventory is, to go with other commands than this one
    "path": "the file",
    "plan": "gb10 bootstrap --dry-run --diff",  # the command itself if it has no dry run
    "reason": "no reason given",
    "resume": "gb10 rebuild resume",  # the command that goes on with what was interrupted
    "since": "a while ago",
    "ssh": "ssh NODE true",
    "ssh_base": "ssh NODE",
    "ssh_forget": "ssh-keygen -R NODE",
    "wanted": "?",
}


@dataclass(frozen=True)
class Trouble:
    """One entry of the catalogue. Templates may name the keys of UNKNOWN."""

    code: str
    status: ExitStatus
    summary: str
    remedy: str


_S = ExitStatus
_CATALOGUE = (
    # What a person typed
    Trouble("USAGE", _S.USAGE, "{reason}", "gb10 --help"),
    Trouble(
        "INVENTORY_MISSING",
        _S.USAGE,
        "there is no inventory {inventory}",
        "Name yours: gb10 status -i PATH/TO/inventory.py",
    ),
    Trouble(
        "INVENTORY_BROKEN",
        _S.USAGE,
        "the inventory {inventory} cannot be loaded: {reason}",
        "Correct it, then look at what it says: pyinfra {inventory} debug-inventory",
    ),
    Trouble(
        "HOST_UNKNOWN",
        _S.USAGE,
        "{wanted} matches no host of {inventory}",
        "Choose from: {known}",
    ),
    Trouble(
        "SETTINGS_INVALID",
        _S.USAGE,
        "a setting does not make sense",
        "Correct it in the inventory or in group_data/, then: {plan}",
    ),
    # The way to a node
    Trouble(
        "NODE_UNREACHABLE",
        _S.UNREACHABLE,
        "{host} does not answer: {reason}",
        "Check power and network until this works: {ssh}. Then: {again}",
    ),
    Trouble(
        "SSH_AUTH",
        _S.UNREACHABLE,
        "{host} does not let us in: {reason}",
        "Check ssh_user and ssh_key in the inventory until this works: {ssh}. Then: {again}",
    ),
    Trouble(
        "SSH_HOST_KEY",
        _S.UNREACHABLE,
        "{host} shows an unexpected SSH host key: {reason}",
        "Only if the node was reinstalled, or is new: {ssh_forget} && {ssh}. Then: {again}",
    ),
    Trouble(
        "SUDO_PASSWORD",
        _S.UNREACHABLE,
        "sudo on {host} asks for a password",
        'On {host}, allow sudo without one: echo "$USER ALL=(ALL) NOPASSWD: ALL" | '
        "sudo tee /etc/sudoers.d/90-gb10. Then: {again}",
    ),
    # Gates
    Trouble(
        "ARCH_UNSUPPORTED",
        _S.REFUSED,
        "K3s has no release for the architecture of {host}",
        "Only arm64 and amd64 are supported; go on without it: {again} --limit OTHER-NODE",
    ),
    Trouble(
        "CLOCK_SKEW",
        _S.REFUSED,
        "the clock of {host} is more than 5 minutes off",
        "On {host}: sudo timedatectl set-ntp true, and wait until `timedatectl` says synchronized. Then: {again}",
    ),
    Trouble(
        "DUPLICATE_HOSTNAME",
        _S.REFUSED,
        "two nodes have one hostname",
        "On one of them: sudo hostnamectl set-hostname NEW-NAME. Then: {again}",
    ),
    Trouble(
        "PORT_TAKEN",
        _S.REFUSED,
        "a port that K3s needs is taken on {host}",
        "See who listens there: {ssh_base} sudo ss -ltnp. Stop it, then: {again}",
    ),
    Trouble(
        "DOCKER_ABSENT",
        _S.REFUSED,
        "no Docker engine answers on {host}",
        "Start it: {ssh_base} sudo systemctl start docker. Or set k3s_runtime = 'containerd'. Then: {again}",
    ),
    Trouble(
        "ROLE_CONFLICT",
        _S.REFUSED,
        "{host} has K3s in another role than the inventory gives it",
        "Correct its group in the inventory, or take K3s off: gb10 teardown{options} --limit {host}. Then: {again}",
    ),
    Trouble(
        "FACT_UNREADABLE",
        _S.FAILED,
        "the state of {host} could not be read, so nothing was done there",
        "Read {log}, then: {again}",
    ),
    Trouble(
        "NODE_ANSWER",
        _S.FAILED,
        "{host} sent what cannot be an answer, or far too much",
        "Look at what runs on {host} in place of its own programs, then: {again}",
    ),
    Trouble(
        "PROGRAM_FAILED",
        _S.FAILED,
        "a program of gb10 ended on {host} without an answer",
        "Read {log}, then: {again}",
    ),
    Trouble(
        "AIRGAP_MISSING",
        _S.USAGE,
        "a file for the air-gapped installation is not on the controller",
        "Put it into the folder that k3s_airgap names, then: {again}",
    ),
    Trouble(
        "VERSION_SKIP",
        _S.REFUSED,
        "Kubernetes must not be upgraded by more than one minor version at a time",
        "Set k3s_version in group_data/ to the next minor version, then: {again}. Repeat until you are there",
    ),
    Trouble(
        "VERSION_DOWNGRADE",
        _S.REFUSED,
        "Kubernetes cannot be downgraded in place",
        "Set k3s_version in group_data/ to the installed version or a newer one, then: {again}",
    ),
    Trouble(
        "ADOPT_FLAGS",
        _S.REFUSED,
        "the K3s on {host} was set up otherwise than gb10 would have it",
        "Set what is named above in the inventory or in group_data/, then: {plan}",
    ),
    Trouble(
        "KUBECONFIG_CONFLICT",
        _S.REFUSED,
        "{path} already has another cluster under the name {wanted}",
        "Choose another name: gb10 kubeconfig{options} --context NEW-NAME",
    ),
    Trouble(
        "DECLINED",
        _S.REFUSED,
        "the answer was no; nothing was changed",
        "When you are sure: {again}",
    ),
    Trouble(
        "CONFIRM_NEEDED",
        _S.WAITING,
        "this asks a question, and there is no terminal to answer it",
        "Run it in a terminal, or answer beforehand: {again} --yes",
    ),
    Trouble(
        "LOCKED",
        _S.LOCKED,
        "{owner} has been working on the same nodes since {since}",
        "Wait until it is done, then: {again}",
    ),
    # Work on a node
    Trouble(
        "VERSION_UNKNOWN",
        _S.FAILED,
        "the mirror does not have that version",
        "Correct the version or the mirror (k3s_ or helm_) in group_data/, then: {again}",
    ),
    Trouble(
        "DOWNLOAD_FAILED",
        _S.FAILED,
        "a download to {host} failed",
        "Nothing was replaced; what arrived is kept. Check the mirror (k3s_ or helm_) and http_proxy, then: {again}",
    ),
    Trouble(
        "CHECKSUM_MISMATCH",
        _S.UNVERIFIED,
        "a download to {host} is not what it should be",
        "It was thrown away and nothing was replaced. Check checksum and mirror (k3s_ or helm_), then: {again}",
    ),
    Trouble(
        "DISK_FULL",
        _S.FAILED,
        "there is no room left on {host}",
        "See what fills it: {ssh_base} df -h. Make room, then: {again}",
    ),
    Trouble(
        "TOKEN_REJECTED",
        _S.FAILED,
        "the head refuses the token of {host}",
        "Take {host} out and let it join anew: gb10 teardown{options} --limit {host}, then: {again}",
    ),
    Trouble(
        "TOKEN_CHANGED",
        _S.FAILED,
        "the cluster on {host} was made with another token than its token file holds",
        "Take it away: {ssh_base} sudo rm /etc/rancher/k3s/token. It is made anew from the one that K3s keeps: {again}",
    ),
    Trouble(
        "NODE_PASSWORD_REJECTED",
        _S.FAILED,
        "the head knows another node under the name of {host}",
        "Unless that node is there: gb10 teardown{options} --limit {host}, which lets it be forgotten. Then: {again}",
    ),
    Trouble(
        "SERVER_UNREACHABLE",
        _S.FAILED,
        "{host} cannot reach the head's API server",
        "Check the head with gb10 status{options}, and port 6443 between the nodes. Then: {again}",
    ),
    Trouble(
        "SERVICE_FAILED",
        _S.FAILED,
        "K3s does not start on {host}",
        "Read why: {ssh_base} sudo journalctl -u 'k3s*' -n 50. Then: {again}",
    ),
    Trouble(
        "DRAIN_FAILED",
        _S.FAILED,
        "{host} could not be drained",
        "See what stays: kubectl get pods -A --field-selector spec.nodeName={host}. Then: {again}",
    ),
    Trouble(
        "UPGRADE_HELD",
        _S.FAILED,
        "{host} was not upgraded, since the upgrade of another node failed",
        "Mend that node first, as its own error says, then: {again}",
    ),
    Trouble(
        "NODE_NOT_READY",
        _S.UNVERIFIED,
        "{host} did not become Ready in time",
        "See why: kubectl describe node {host}. Then: {again}",
    ),
    Trouble(
        "TEARDOWN_LEFTOVER",
        _S.UNVERIFIED,
        "something of K3s is left on {host}",
        "Remove what is named above, then: {again}",
    ),
    Trouble(
        "K3S_ABSENT",
        _S.FAILED,
        "there is no K3s on {host}",
        "Install it first: gb10 bootstrap{options}",
    ),
    # Provisioning
    Trouble(
        "DATA_BLOCKED",
        _S.REFUSED,
        "what should be a folder for data on {host} is something else",
        "Look at it: {ssh_base} ls -ld PATH. Move it away, then: {again}",
    ),
    Trouble(
        "DATA_NOT_MOUNTED",
        _S.REFUSED,
        "the file system for data is not mounted on {host}",
        "Mount it: {ssh_base} sudo mount -a. Then: {again}",
    ),
    Trouble(
        "DOCKER_CONFIG_REJECTED",
        _S.FAILED,
        "Docker on {host} does not accept its configuration",
        "It is as it was. Look at it: {ssh_base} cat /etc/docker/daemon.json. Then: {again}",
    ),
    Trouble(
        "SERVING_RUNS",
        _S.REFUSED,
        "a container that may be serving runs on {host}",
        "See what runs: {ssh_base} docker ps. Stop serving, then: {again}",
    ),
    Trouble(
        "SSHD_REJECTED",
        _S.FAILED,
        "sshd on {host} does not accept its configuration",
        "It is as it was. See why: {ssh_base} sudo sshd -T. Then: {again}",
    ),
    Trouble(
        "SUDOERS_REJECTED",
        _S.FAILED,
        "sudo on {host} does not accept the rule for the user",
        "It is as it was. See what sudo reads: {ssh_base} sudo visudo -c. Then: {again}",
    ),
    Trouble(
        "RAILS_REJECTED",
        _S.FAILED,
        "the network settings of the rails cut the way to {host}, or netplan refused them, and were taken back",
        "Correct rails in the inventory, then look at what would be written: {plan}",
    ),
    Trouble(
        "FIREWALL_REJECTED",
        _S.FAILED,
        "the firewall on {host} would have cut the way to it, or refused its rules, and was taken back",
        "See its rules: {ssh_base} sudo ufw show added. Then: {again}",
    ),
    Trouble(
        "KEY_LOGIN_FAILED",
        _S.REFUSED,
        "{host} has not let anybody in by key yet, so passwords stay allowed",
        "Make a key login work: {ssh}. Then: {again}",
    ),
    Trouble(
        "RAIL_UNKNOWN",
        _S.REFUSED,
        "{host} has no such network interface for a rail",
        "Correct rails in the inventory; the interfaces are: {ssh_base} ip -br link. Then: {again}",
    ),
    Trouble(
        "RDMA_DOWN",
        _S.REFUSED,
        "no half of a ConnectX-7 is up",
        "Check the cable between the nodes: {ssh_base} rdma link. Then: {again}",
    ),
    Trouble(
        "NETPLAN_ABSENT",
        _S.REFUSED,
        "{host} has no netplan",
        "Install it: {ssh_base} sudo apt-get install netplan.io. Then: {again}",
    ),
    Trouble(
        "NETPLAN_BROKEN",
        _S.REFUSED,
        "netplan on {host} cannot read its own files",
        "See why: {ssh_base} sudo netplan get. Then: {again}",
    ),
    Trouble(
        "NETPLAN_CONFLICT",
        _S.REFUSED,
        "another netplan file on {host} sets up a rail otherwise",
        "Find it: {ssh_base} sudo grep -rn addresses /etc/netplan. Take it out, then: {again}",
    ),
    Trouble(
        "TRIAL_RUNS",
        _S.FAILED,
        "a change of the network on {host} is still on trial",
        "It ends by itself within minutes, and is taken back if the connection was lost. Then: {again}",
    ),
    # Images
    Trouble(
        "DOCKER_STOPPED",
        _S.FAILED,
        "no Docker engine answers on {host}",
        "Start it: {ssh_base} sudo systemctl start docker. Then: {again}",
    ),
    Trouble(
        "IMAGE_MISSING",
        _S.REFUSED,
        "an image is on none of the nodes that were asked",
        "See what a node has: {ssh_base} sudo docker image ls. Pull it on one, or correct its tag, then: {again}",
    ),
    Trouble(
        "IMAGE_SAVE_FAILED",
        _S.FAILED,
        "Docker does not give an image out as it should",
        "The store is as it was. See what Docker says: {ssh_base} sudo journalctl -u docker -n 50. Then: {again}",
    ),
    Trouble(
        "IMAGE_LOAD_FAILED",
        _S.FAILED,
        "Docker on {host} does not take an image",
        "See why: {ssh_base} sudo journalctl -u docker -n 50. Then: {again}",
    ),
    Trouble(
        "IMAGE_BLOB_DAMAGED",
        _S.UNVERIFIED,
        "a part of an image on {host} is not what its digest says, and no node has it whole",
        "Nothing of it was loaded. Pull the image anew on one node, then: {again}",
    ),
    Trouble(
        "IMAGE_INCOMPLETE",
        _S.UNVERIFIED,
        "a saved image on {host} lacks parts",
        "Get it from a node that has it: gb10 sync images OTHER-NODE {host} TAG",
    ),
    Trouble(
        "STORE_BROKEN",
        _S.UNVERIFIED,
        "the store of images on {host} holds a record that is none",
        "Remove what is named above from /data/docker-images/images, then: {again}",
    ),
    # Serving
    Trouble(
        "SERVING_UNDESCRIBED",
        _S.USAGE,
        "the inventory does not describe how to serve",
        "Describe serving_modes in the inventory or in group_data/ (docs/serving.md has examples), then: {again}",
    ),
    Trouble(
        "SERVING_UNDECIDED",
        _S.REFUSED,
        "nobody can tell in which mode {host} serves",
        "Look: {ssh_base} sudo docker ps. Stop it by hand, or let serving_modes recognise it. Then: {again}",
    ),
    Trouble(
        "SERVING_FOREIGN",
        _S.REFUSED,
        "something serves on {host} that gb10 did not start",
        "Stop it by hand, or give its mode start and stop commands in serving_modes. Then: {again}",
    ),
    Trouble(
        "SERVING_NOT_READY",
        _S.REFUSED,
        "{host} lacks what it is to serve; what serves goes on",
        "Bring it there: gb10 sync models OTHER-NODE {host}, gb10 sync images OTHER-NODE {host}. Then: {again}",
    ),
    Trouble(
        "SERVING_STUCK",
        _S.FAILED,
        "what serves on {host} does not end",
        "Look: {ssh_base} sudo docker ps. End it, then: {again}",
    ),
    Trouble(
        "SERVING_MEMORY",
        _S.FAILED,
        "{host} has too little free memory for the model",
        "See who has it: {ssh_base} 'ps -eo rss,args --sort=-rss | head'. Then: {again}",
    ),
    Trouble(
        "SERVING_FAILED",
        _S.UNVERIFIED,
        "the model is not served",
        "See what it says: {ssh_base} 'sudo docker logs --tail 100 $(sudo docker ps -aqf label=gb10.serving)'. "
        "Then: {again}",
    ),
    # Charts
    Trouble(
        "CHART_UNKNOWN",
        _S.FAILED,
        "the chart repository does not have that chart or version",
        "Correct the version or the repository in group_data/, then: {again}",
    ),
    Trouble(
        "CHART_UNREACHABLE",
        _S.FAILED,
        "the chart repository does not answer {host}",
        "Check chart_repository and http_proxy in group_data/, then: {again}",
    ),
    Trouble(
        "CHART_BROKEN",
        _S.UNVERIFIED,
        "the chart repository delivers an archive that is none",
        "Nothing was installed. Check chart_repository in group_data/, then: {again}",
    ),
    Trouble(
        "CHART_WRONG",
        _S.UNVERIFIED,
        "what is deployed is not the chart that was wanted",
        "Check the repository and the checksum in group_data/, then: {again}",
    ),
    Trouble(
        "VALUES_REJECTED",
        _S.FAILED,
        "the chart rejects its values",
        "Correct the values in group_data/, then: {plan}",
    ),
    Trouble(
        "HELM_PENDING",
        _S.REFUSED,
        "a helm release was left in the middle of an operation",
        "If no helm is at work on it ({ssh_base} pgrep -a helm): gb10 bootstrap{options} --repair",
    ),
    Trouble(
        "HELM_FAILED",
        _S.FAILED,
        "helm failed on {host}",
        "Read {log}, then: {again}",
    ),
    Trouble(
        "OPERATOR_NOT_READY",
        _S.UNVERIFIED,
        "an operator did not become ready in time",
        "See what it waits for: kubectl get pods -A | grep -v Running. Then: {again}",
    ),
    Trouble(
        "DOCKER_RUNTIME",
        _S.REFUSED,
        "Docker does not run containers with NVIDIA's runtime",
        "Set Docker up for pods: gb10 provision{options} head workers. Or set k3s_runtime = 'containerd'. "
        "Then: {again}",
    ),
    Trouble(
        "OPERATOR_LEFTOVER",
        _S.UNVERIFIED,
        "something of an operator is left in the cluster",
        "Remove what is named above, then: {again}",
    ),
    # Copies between nodes
    Trouble(
        "COPY_PATH",
        _S.USAGE,
        "that folder or node cannot take part in a copy",
        "Name a node of the inventory and an absolute path, then: {again}",
    ),
    Trouble(
        "COPY_SAME_NODE",
        _S.USAGE,
        "source and target of the copy are one node",
        "Name two nodes, then: {again}",
    ),
    Trouble(
        "COPY_SOURCE_MISSING",
        _S.REFUSED,
        "what is to be copied is not on the source",
        "Correct the path, or choose another source, then: {again}",
    ),
    Trouble(
        "COPY_DANGLING",
        _S.REFUSED,
        "the source has links that lead nowhere, or out of what is copied",
        "Mend or remove them on the source, then: {again}. Or copy them as they are: {copy} --dangling list",
    ),
    Trouble(
        "COPY_CONFLICT",
        _S.REFUSED,
        "the target has a folder where the source has a file or a link, or the other way round",
        "Look at it on the target: {ssh_base} ls -ld PATH. Move it away, then: {again}",
    ),
    Trouble(
        "RAIL_DOWN",
        _S.REFUSED,
        "no rail between the nodes carries anything",
        "Check the cable, and on both nodes: {ssh_base} ip -br addr. Then: {again}. Without rails: {copy} "
        "--network management",
    ),
    Trouble(
        "LINK_THROTTLED",
        _S.REFUSED,
        "a rail carries a fraction of what it should: the known power fault of the NIC",
        "On both nodes: sudo apt full-upgrade, shut down, pull the power plug for a minute, start. Then: {again}. Or "
        "put up with it: {copy} --force",
    ),
    Trouble(
        "COPY_BUSY",
        _S.LOCKED,
        "another copy into the same folder is running",
        "See how far it is: pyinfra {inventory} fact gb10.facts.copy.CopyProgress. When it is done: {again}",
    ),
    Trouble(
        "COPY_REFUSED",
        _S.FAILED,
        "the two sides of a copy do not know each other",
        "Look at who else connects: {ssh_base} sudo journalctl -u 'gb10-copy-*' -n 50. Then: {again}",
    ),
    Trouble(
        "COPY_FAILED",
        _S.FAILED,
        "the copy ended too early",
        "What has arrived is kept, and goes on: {again}",
    ),
    Trouble(
        "SOURCE_CHANGED",
        _S.FAILED,
        "files changed on the source while they were copied",
        "Wait until nothing writes there any more, then: {again}",
    ),
    Trouble(
        "COPY_UNPROVEN",
        _S.UNVERIFIED,
        "after the copy the target is not what the source is",
        "Copy again, comparing the content: {copy} --verify hash",
    ),
    Trouble(
        "MODEL_MISSING",
        _S.REFUSED,
        "the source does not have a model that is to be copied",
        "Look there: ls /data/huggingface/hub. Correct the name, or get it there: hf download NAME. Then: {again}",
    ),
    Trouble(
        "MODEL_BROKEN",
        _S.REFUSED,
        "a model on the source is not whole",
        "Download it again on the source (hf download NAME), then: {again}",
    ),
    Trouble(
        "HF_CLIENT_MISSING",
        _S.REFUSED,
        "{host} has no client of the Hugging Face Hub",
        "Install it there as your user: {ssh_base} pip install --user --break-system-packages huggingface_hub. "
        "Then: {again}",
    ),
    Trouble(
        "MODEL_DOWNLOAD_FAILED",
        _S.FAILED,
        "a model could not be downloaded to {host}",
        "What has arrived is kept. If the model asks for a login: {ssh_base} hf auth login. Then: {again}",
    ),
    # The state of the cluster
    Trouble(
        "RAIL_FAULT",
        _S.UNVERIFIED,
        "a rail of {host} is not as it should be",
        "Check the cable at both ends: {ssh_base} rdma link. Then set the rails up: gb10 provision{options} {host}",
    ),
    Trouble(
        "RAIL_SLOW",
        _S.UNVERIFIED,
        "a rail of {host} carries less than it should",
        "Check that nothing else uses it, and its MTU and link: gb10 status{options}. Then: {again}",
    ),
    Trouble(
        "RAIL_THROTTLED",
        _S.UNVERIFIED,
        "a rail of {host} carries a fraction of what it should: the known power fault of the NIC",
        "On both nodes: sudo apt full-upgrade, shut down, pull the power plug for a minute, start. Then: {again}",
    ),
    Trouble(
        "GPU_FAULT",
        _S.UNVERIFIED,
        "the GPU of {host} does not answer",
        "See what the driver says: {ssh_base} 'nvidia-smi; sudo dmesg | grep -i nvrm'. A cold boot often helps",
    ),
    Trouble(
        "GPU_CONTAINER_FAILED",
        _S.UNVERIFIED,
        "a container on {host} cannot use the GPU",
        "Set Docker up for the GPU: gb10 provision{options} {host}. The image is validate_gpu_image. Then: {again}",
    ),
    Trouble(
        "RESOURCE_MISSING",
        _S.UNVERIFIED,
        "{host} does not offer a resource that it should",
        "See what the operator waits for: gb10 status{options}, then: gb10 bootstrap{options}",
    ),
    Trouble(
        "NCCL_FAILED",
        _S.UNVERIFIED,
        "NCCL does not work as it should between the nodes",
        "Check the rails first: gb10 validate{options}. Then look at validate_nccl_ in group_data/, and: {again}",
    ),
    Trouble(
        "VALIDATION_FAILED",
        _S.UNVERIFIED,
        "a check failed: {reason}",
        "Do what stands below the check, then: {again}",
    ),
    Trouble(
        "VALIDATION_INCOMPLETE",
        _S.UNVERIFIED,
        "a check could not be made: {reason}",
        "See the reason; where a check makes no sense, leave it out: {again} --skip CHECK",
    ),
    Trouble(
        "UNHEALTHY",
        _S.UNVERIFIED,
        "the cluster is not healthy: {reason}",
        "Bring it back to what the inventory says: gb10 bootstrap{options} --dry-run, then gb10 bootstrap{options}",
    ),
    Trouble(
        "OPERATION_FAILED",
        _S.FAILED,
        "an operation failed on {host}: {reason}",
        "Read {log}, then: {again}",
    ),
    Trouble(
        "NOT_RUN",
        _S.FAILED,
        "{host} was left out, although pyinfra reported no error",
        "Read {log}, then: {again}",
    ),
    # Rebuild
    Trouble(
        "NODE_LOCKED",
        _S.LOCKED,
        "{host} is being worked on by a rebuild of {owner}",
        "Wait until that is done. If it is gone for good: gb10 rebuild unlock{options} {host}. Then: {again}",
    ),
    Trouble(
        "REBUILD_UNFINISHED",
        _S.REFUSED,
        "an earlier rebuild of these nodes is not finished",
        "Go on with it: {resume}{options}. Or give it up: gb10 rebuild abort{options}",
    ),
    Trouble(
        "WIPE_UNFINISHED",
        _S.REFUSED,
        "a wipe of all these nodes is not finished",
        "Go on with it: gb10 wipe-all{options}. Or, while nobody was asked to wipe: gb10 wipe-all --abort{options}",
    ),
    Trouble(
        "REBUILD_NONE",
        _S.USAGE,
        "there is no unfinished rebuild of these nodes",
        "See what was done: gb10 rebuild history{options}. Begin one: gb10 rebuild run{options} NODE",
    ),
    Trouble(
        "REBUILD_IMPOSSIBLE",
        _S.REFUSED,
        "a rebuild makes no sense here",
        "See what it would do: gb10 rebuild plan{options} {host}",
    ),
    Trouble(
        "HOST_KEY_UNCONFIRMED",
        _S.WAITING,
        "nobody has confirmed the new host key of {host}",
        "Compare it with what the node's own screen shows (ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub), then: "
        "{resume}{options} --accept-host-key KEY",
    ),
    Trouble(
        "NAMES_NEEDED",
        _S.WAITING,
        "the names of all nodes that are to be wiped have to be typed, and there is no terminal for it",
        "Run it in a terminal, or type them beforehand: gb10 wipe-all{options} --names NAME,NAME",
    ),
    Trouble(
        "GATE_CLOSED",
        _S.REFUSED,
        "{host} must not be wiped yet",
        "Do what stands beside each proof that is missing, then: {resume}{options}",
    ),
    Trouble(
        "STEP_UNPROVEN",
        _S.UNVERIFIED,
        "a step ran, and what it is for did not come true",
        "Read {log}. Go on with this step: {resume}{options}",
    ),
    Trouble(
        "REBUILD_K3S_VERSION",
        _S.REFUSED,
        "{host} has another version of K3s than it would come back with, so its state could not be restored",
        "Set k3s_version in group_data/ to the installed one, or bring K3s up to date first: gb10 bootstrap{options}. "
        "Then: {again}",
    ),
    Trouble(
        "NODES_UNWELL",
        _S.UNVERIFIED,
        "no node is wiped while one is not well: {reason}",
        "{cure}",
    ),
    Trouble(
        "NOT_VALIDATED",
        _S.UNVERIFIED,
        "a node that came back does not do all that it is for",
        "Mend what is named above (gb10 validate{options}), or leave the check out with rebuild_validate_without in "
        "group_data/. Then: {resume}{options}",
    ),
    Trouble(
        "HOOK_FAILED",
        _S.FAILED,
        "a hook failed",
        "Correct it (rebuild_hooks), then: {resume}{options}",
    ),
    Trouble(
        "NODE_AWAY",
        _S.REFUSED,
        "{host} was wiped, or is being wiped: that cannot be taken back",
        "Bring it back instead: {resume}{options}",
    ),
    Trouble(
        "JOURNAL_BROKEN",
        _S.FAILED,
        "the journal {path} cannot be trusted",
        "Move it away when nothing of it is under way any more, then: {again}",
    ),
    Trouble(
        "STATE_UNWRITABLE",
        _S.FAILED,
        "this machine cannot write down what gb10 has to remember",
        "Nothing was done that is not written down. Look there: df -h ~/.local/state/pyinfra-gb10 (or $GB10_STATE). "
        "Make room, then: {again}",
    ),
    # Backups
    Trouble(
        "BACKUP_FAILED",
        _S.FAILED,
        "no backup of {host} could be made",
        "Nothing half made is kept. Read {log}, then: {again}",
    ),
    Trouble(
        "BACKUP_NOT_KEPT",
        _S.FAILED,
        "the backup is not on every node that should keep it",
        "It counts where it is: gb10 backup list{options}. Mend the way to the other node, then: {again}",
    ),
    Trouble(
        "KEEPER_FULL",
        _S.FAILED,
        "there is no room for the backup where it is to be kept",
        "See what fills the place that is named above, with df -h there. Make room, then: {again}",
    ),
    Trouble(
        "BACKUP_MISSING",
        _S.UNVERIFIED,
        "there is no such backup",
        "See what there is: gb10 backup list{options}. Take it from a node that keeps it: gb10 backup fetch{options} "
        "{host}. Make one only while {host} is as it should be, not after a wipe: gb10 backup{options} {host}",
    ),
    Trouble(
        "BACKUP_DAMAGED",
        _S.UNVERIFIED,
        "the backup is not what was put in",
        "See whether another copy is proven: gb10 backup list{options}. Take that: gb10 backup fetch{options} {host}. "
        "Make a new one only while {host} is as it should be, not after a wipe: gb10 backup{options} {host}",
    ),
    Trouble(
        "BACKUP_UNSAFE",
        _S.UNVERIFIED,
        "the backup holds paths or links that lead out of it: nobody's gb10 made it",
        "Do not unpack it. Find out who had access to it, and make a new one: gb10 backup{options} {host}",
    ),
    Trouble(
        "BACKUP_NEWER",
        _S.REFUSED,
        "the backup was made by a newer gb10",
        "Upgrade this one: pip install --upgrade pyinfra-gb10. Then: {again}",
    ),
    Trouble(
        "BACKUP_FOREIGN",
        _S.REFUSED,
        "the backup is of another node, or of another machine",
        "See whose it is: gb10 backup list{options}. Make one of this node: gb10 backup{options} {host}",
    ),
    Trouble(
        "BACKUP_STALE",
        _S.REFUSED,
        "the backup is of a time that is over",
        "Make a new one: gb10 backup{options} {host}. Or rely on the old one: "
        "gb10 backup prove{options} {host} --any-age",
    ),
    Trouble(
        "BACKUP_INCOMPLETE",
        _S.UNVERIFIED,
        "the backup lacks what the node needs to come back",
        "Mend what is named above on {host}, or take it out of backup_paths, then: gb10 backup{options} {host}",
    ),
    Trouble(
        "BACKUP_DATABASE",
        _S.UNVERIFIED,
        "the K3s database in the backup would not bring the cluster back",
        "Look at it on the head: gb10 status{options}. Once it is sound: gb10 backup{options} {host}",
    ),
    Trouble(
        "BACKUP_KEY",
        _S.REFUSED,
        "the backup is encrypted, and cannot be opened here",
        "Set backup_identity_file to the file with the private key that belongs to backup_recipients, then: {again}",
    ),
    # Restore
    Trouble(
        "RESTORE_OTHER_NODE",
        _S.REFUSED,
        "the backup is of another node than {host}",
        "Choose one of its own: gb10 backup list{options}. Or, if this machine is to become that node: {again} "
        "--accept RESTORE_OTHER_NODE",
    ),
    Trouble(
        "RESTORE_OTHER_MACHINE",
        _S.REFUSED,
        "the backup is of another machine than {host}",
        "Check that the address leads to the right one. If the hardware was replaced: {again} --accept "
        "RESTORE_OTHER_MACHINE",
    ),
    Trouble(
        "RESTORE_UNPROVEN",
        _S.REFUSED,
        "no copy of the backup is proven",
        "See which are: gb10 backup list{options}. Take one from another node: gb10 backup fetch{options} {host}. Try "
        "this one: gb10 backup prove{options} {host} --any-age. Or rely on it: {again} --accept RESTORE_UNPROVEN",
    ),
    Trouble(
        "RESTORE_AFTER_WIPE",
        _S.REFUSED,
        "the newest backup of {host} was made after a wipe",
        "Name the one that you want, of before the wipe: {again} --from ID. Or if it is the newest: {again} --accept "
        "RESTORE_AFTER_WIPE",
    ),
    Trouble(
        "RESTORE_UNSETTLED",
        _S.FAILED,
        "{host} is still being installed",
        "See what it does: {ssh_base} systemctl list-jobs, {ssh_base} cloud-init status. When that is over: {again}",
    ),
    Trouble(
        "RESTORE_K3S_VERSION",
        _S.REFUSED,
        "the backup is of another version of K3s",
        "Set k3s_version in group_data/ to that of the backup, then: {again}. Or leave K3s out: gb10 "
        "restore{options} {host} --only users,identity,network,docker,system,extra",
    ),
    Trouble(
        "RESTORE_NUMBERS",
        _S.REFUSED,
        "an account cannot have the number on {host} that it had",
        "Give the number back there (usermod --uid, groupmod --gid), or leave accounts out with --only. Then: {again}",
    ),
    Trouble(
        "RESTORE_NETWORK",
        _S.FAILED,
        "the backup's network settings cut the way to {host}, and were taken back",
        "Compare them: {plan}. Restore the rest with --only, and mend /etc/netplan by hand",
    ),
    Trouble(
        "RESTORE_FAILED",
        _S.FAILED,
        "the restore of {host} ended too early",
        "What was replaced is beside it as *.before-restore-*. Read {log}, then: {again}",
    ),
    # Around it
    Trouble(
        "INTERRUPTED",
        _S.INTERRUPTED,
        "interrupted; what ran on the nodes was ended",
        "Go on where it stopped: {again}",
    ),
    Trouble(
        "INTERNAL",
        _S.INTERNAL,
        "a bug in gb10: {reason}",
        "Please report it with {log}. Nothing is lost by trying again: {again}",
    ),
)
CATALOGUE: Mapping[str, Trouble] = {trouble.code: trouble for trouble in _CATALOGUE}


class Gb10Error(Exception):
    """An error of the catalogue with its details.

    `text` says what happened better than the catalogue's summary can; `details` fill the templates.
    """

    def __init__(self, code: str, text: str | None = None, **details: Detail) -> None:
        self.trouble = CATALOGUE[code]
        self.code = code
        self.text = text
        self.details: dict[str, Detail] = dict(details)
        super().__init__(f"{code}: {self.summary}")

    @classmethod
    def reported(cls, code: str, text: str, **details: Detail) -> Gb10Error:
        """Given what a lower layer printed, return its error. A code that we do not know stays in the text."""
        text = text.removeprefix(f"{details.get('host')}: ")
        if code in CATALOGUE:
            return cls(code, text, **details)
        return cls("OPERATION_FAILED", f"{code}: {text}", **details)

    @property
    def status(self) -> ExitStatus:
        return self.trouble.status

    @property
    def host(self) -> str | None:
        host = self.details.get("host")
        return str(host) if host else None

    @property
    def summary(self) -> str:
        """What happened, in one line."""
        return self.text or self._filled(self.trouble.summary)

    @property
    def remedy(self) -> str:
        """What to do, in one line, with the command to type."""
        return self._filled(self.trouble.remedy)

    def with_details(self, **details: Detail) -> Gb10Error:
        """Return the same error knowing more; what it knew already stays."""
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
        values = {name: self.details.get(name, UNKNOWN[name]) for name in names}
        return template.format(**{name: ", ".join(v) if isinstance(v, list) else v for name, v in values.items()})


def decisive(errors: tuple[Gb10Error, ...]) -> Gb10Error | None:
    """Given the errors of a run in order, return the one that names the cause and so picks the exit status.

    That is the first, but a cause with a name of its own goes before an operation that just failed, and that
    before a host that was left out in consequence.
    """
    vague = ("OPERATION_FAILED", "NOT_RUN")
    return min(errors, key=lambda error: vague.index(error.code) + 1 if error.code in vague else 0, default=None)


def markdown_table() -> str:
    """The catalogue for the documentation, each code linked to its paragraph."""
    shown = {name: name.upper() for name in ("host", "reason", "wanted", "known", "path", "owner", "since")}
    lines = ["| code | exit status | what happened | what to do |", "|---|---|---|---|"]
    for code in CATALOGUE:
        error = Gb10Error(code, None, **shown, **_commands(code))
        cells = (f"[{code}](#{code.lower()})", str(int(error.status)), error.summary, error.remedy)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)


def _commands(code: str) -> dict[str, Detail]:
    """The command that ends with a code, for the documentation: without a name here it is gb10 bootstrap."""
    commands = {"BACKUP": "gb10 backup HOST", "KEEPER": "gb10 backup HOST", "RESTORE": "gb10 restore HOST"}
    again = commands.get(code.partition("_")[0])
    return {"again": again, "plan": f"{again} --dry-run --diff"} if again else {}


def markdown_statuses() -> str:
    """The exit statuses for the documentation."""
    return "\n".join(
        ["| exit status | name | meaning |", "|---|---|---|"]
        + [f"| {int(status)} | {status.name} | {MEANING[status]} |" for status in ExitStatus]
    )


if __name__ == "__main__":
    print(markdown_statuses(), markdown_table(), sep="\n\n")
