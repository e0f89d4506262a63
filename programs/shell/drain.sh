# Evict the pods of a node, except those of DaemonSets. Arguments: the node, seconds, k3s; the command of kubectl that
# uncordons the node after a failure, or "".
set -u
node=$1 seconds=$2 k3s=$3 undo=$4
# kubectl overshoots its own timeout by some seconds.
timeout $((seconds + 15)) "$k3s" kubectl drain "$node" --ignore-daemonsets --delete-emptydir-data \
    --timeout="${seconds}s" && exit 0
[ -z "$undo" ] || eval "$undo" uncordon '"$node"' >&2
refuse DRAIN_FAILED "$node is not drained within $seconds s"
