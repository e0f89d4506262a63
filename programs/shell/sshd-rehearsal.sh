# Start a second sshd with another drop-in file before all others, for a minute and on loopback alone, to test a login
# before anything changes. Prints its port and its unit.
# Arguments: the drop-in file's text.
set -u
port=$(shuf -i 20000-29999 -n 1)
dir=$(mktemp -d /run/gb10-rehearsal.XXXXXX) || exit 1
{
    printf '%s\n' "$1"
    cat /etc/ssh/sshd_config
} >"$dir/config" || exit 1
if ! sshd -t -f "$dir/config"; then
    rm -rf "$dir"
    exit 1
fi
# The ports of the configuration itself are taken; sshd goes on with a warning.
systemd-run --quiet --collect --unit="${dir##*/}" -p RuntimeMaxSec=60 -p ExecStopPost="/bin/rm -rf $dir" \
    "$(command -v sshd)" -D -f "$dir/config" -o "ListenAddress=127.0.0.1:$port" -o PidFile=none || exit 1
waited=0
until ss -H -l -t -n "sport = :$port" | grep -q .; do
    [ "$waited" -lt 50 ] || { echo "a second sshd does not start" >&2; exit 1; }
    sleep 0.1
    waited=$((waited + 1))
done
echo "$port ${dir##*/}.service"
