# Restart one unit within a time limit. If that fails, stop it, quote its journal and name the cause.
# Arguments: unit, seconds.
set -u
unit=$1 seconds=$2
since=$(date +%s)

systemctl daemon-reload
systemctl enable --quiet "$unit" || exit 1
# A restart also starts a stopped unit, and ends a process that remained of a unit whose file was lost.
if timeout "$seconds" systemctl restart "$unit" && [ "$(systemctl is-active "$unit")" = active ]; then
    exit 0
fi
timeout 10 journalctl --sync # the last lines of the unit may not have been read yet
journal=$(journalctl -u "$unit" --since "@$since" --no-pager -o cat | sed 's/K10[0-9a-f]*::[^ "]*/*MASKED*/g')
timeout 30 systemctl stop "$unit"

last=$(printf '%s\n' "$journal" | tail -n 20)
printf '%s\n' "$last" | sed "s/^/$unit: /" >&2
# The fatal error, or one that is repeated to the end. Earlier errors occur, and pass, at any start.
cause=$(printf '%s\n' "$journal" | grep 'level=fatal' | tail -n 1)
[ -n "$cause" ] ||
    cause=$(printf '%s\n' "$last" | grep -i -E 'level=error|rejected|not authorized|unauthorized|does not match' | tail -n 1)
case "$unit:$cause" in
k3s-agent:*"Node password rejected"*) code=NODE_PASSWORD_REJECTED ;;
k3s-agent:*"CA hash does not match"* | k3s-agent:*"not authorized"* | k3s-agent:*[Uu]nauthorized*) code=TOKEN_REJECTED ;;
k3s:*"different token"*) code=TOKEN_CHANGED ;;
*"address already in use"*) code=PORT_TAKEN ;;
k3s-agent:*"connection refused"* | k3s-agent:*"no route to host"* | k3s-agent:*"i/o timeout"*) code=SERVER_UNREACHABLE ;;
*) code=SERVICE_FAILED ;;
esac
refuse "$code" "$unit did not start within $seconds s and is stopped: ${cause:-see journalctl -u $unit}"
