# Try a change that may cut off this node: it is taken back unless a new login confirms it.
# Arguments: name, seconds. Variables: action, a script; wanted and values, which it finds as files beside it. It is called as
#   action apply   make the change, or print the reason of a failure on stderr
#   action undo    take back whatever was changed
#   action keep    make the confirmed change permanent
# /run/gb10-trial/NAME/state is then applied, failed, kept or undone. A unit of systemd does all that, so that it goes on
# when the connection is lost. Nothing of it outlives a reboot.
set -u
name=$1 seconds=$2
dir=/run/gb10-trial/$name unit=gb10-trial-$name.service

# The trial of a killed controller is taken back first.
waited=0
while systemctl is-active --quiet "$unit"; do
    [ "$waited" -lt $((seconds + 90)) ] || refuse TRIAL_RUNS "$unit does not end"
    sleep 1
    waited=$((waited + 1))
done
umask 077
rm -rf "$dir" && mkdir -p "$dir" && cd "$dir" && printf %s "$action" >action && printf %s "$wanted" >wanted &&
    printf %s "$values" >values || exit 1
cat >"$dir/run" <<'END'
set -u
seconds=$1
sleep 0.3 # lets the answer to the controller leave first
record() { echo "$1" >state.new && mv state.new state; }
if ! timeout 90 sh ./action apply >output 2>&1; then
    timeout 90 sh ./action undo >>undo 2>&1
    record failed
    exit 0
fi
record applied
waited=0
until [ -e confirmed ]; do
    if [ "$waited" -ge "$seconds" ]; then
        timeout 90 sh ./action undo >>undo 2>&1
        record undone
        exit 0
    fi
    sleep 1
    waited=$((waited + 1))
done
if timeout 90 sh ./action keep >output 2>&1; then record kept; else timeout 90 sh ./action undo >>undo 2>&1; record failed; fi
END
systemd-run --quiet --collect --unit="$unit" --working-directory="$dir" \
    --setenv=PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin sh ./run "$seconds"
