# Try a change that may cut the way to this node: it is taken back unless somebody comes in anew and confirms it.
# Arguments: name, seconds. Variables: action, a script; wanted and values, which it finds as files beside it. It is called as
#   action apply   make the change; says why on stderr when it cannot
#   action undo    take it back, whatever of it was made
#   action keep    make it last, when it was confirmed
# /run/gb10-trial/NAME/state then tells: applied, failed, kept or undone. A unit of systemd does all that, so that it
# goes on when the connection is lost. Nothing of it outlives a reboot.
set -u
name=$1 seconds=$2
dir=/run/gb10-trial/$name unit=gb10-trial-$name.service

# A trial that was begun before this controller was killed is taken back first.
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
sleep 0.3 # lets the answer to whoever started this leave first
tell() { echo "$1" >state.new && mv state.new state; }
if ! timeout 90 sh ./action apply >output 2>&1; then
    timeout 90 sh ./action undo >>undo 2>&1
    tell failed
    exit 0
fi
tell applied
waited=0
until [ -e confirmed ]; do
    if [ "$waited" -ge "$seconds" ]; then
        timeout 90 sh ./action undo >>undo 2>&1
        tell undone
        exit 0
    fi
    sleep 1
    waited=$((waited + 1))
done
if timeout 90 sh ./action keep >output 2>&1; then tell kept; else timeout 90 sh ./action undo >>undo 2>&1; tell failed; fi
END
systemd-run --quiet --collect --unit="$unit" --working-directory="$dir" \
    --setenv=PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin sh ./run "$seconds"
