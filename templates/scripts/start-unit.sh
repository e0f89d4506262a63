# Start one unit anew, bounded; on failure stop it, quote its journal, and say what it means.
# Arguments: unit, seconds.
set -u
unit=$1 seconds=$2
since=$(date +%s)

systemctl daemon-reload
systemctl enable --quiet "$unit" || exit 1
# A restart also starts what is stopped, and ends a process that is left of a unit whose file was lost.
if timeout "$seconds" systemctl restart "$unit" && [ "$(systemctl is-active "$unit")" = active ]; then
    exit 0
fi
timeout 30 systemctl stop "$unit"

journal=$(journalctl -u "$unit" --since "@$since" --no-pager -o cat | sed 's/K10[0-9a-f]*::[^ "]*/*MASKED*/g')
printf '%s\n' "$journal" | tail -n 20 | sed "s/^/$unit: /" >&2
cause=$(printf '%s\n' "$journal" | grep -i -E 'level=(fatal|error)|rejected|not authorized|unauthorized|does not match|refused|in use' | tail -n 1)
case "$cause$journal" in
*"Node password rejected"*) code=NODE_PASSWORD_REJECTED ;;
*"CA hash does not match"* | *"not authorized"* | *[Uu]nauthorized* | *"different token"*) code=TOKEN_REJECTED ;;
*"address already in use"*) code=PORT_TAKEN ;;
*"connection refused"* | *"no route to host"* | *"i/o timeout"*) code=SERVER_UNREACHABLE ;;
*) code=SERVICE_FAILED ;;
esac
echo "gb10: $code: $unit did not start within $seconds s and is stopped: ${cause:-see journalctl -u $unit}" >&2
exit 1
