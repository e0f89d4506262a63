# Stop containers and remove them.
# Arguments: seconds in which they may end by themselves; their names.
set -u
seconds=$1
shift

timeout $((seconds + 30)) docker stop --time "$seconds" "$@" >/dev/null || true
docker rm --force "$@" >/dev/null
