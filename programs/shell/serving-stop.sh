# Stop containers and remove them.
# Arguments: how long they may take to end by themselves, in seconds; their names.
set -u
seconds=$1
shift

timeout $((seconds + 30)) docker stop --time "$seconds" "$@" >/dev/null || true
docker rm --force "$@" >/dev/null
