# Replace the configuration of the Docker engine and make the engine load it; if it does not, put the old one back.
# Arguments: the file (FILE.new is its checked new text), reload|restart, the default runtime to expect (or ""), seconds.
set -u
file=$1 verb=$2 runtime=$3 seconds=$4

taken_over() {
    timeout "$seconds" systemctl "$1" docker.service || return 1
    waited=0
    until found=$(timeout 20 docker info --format '{{.DefaultRuntime}}' 2>/dev/null) && [ "$found" = "${2:-$found}" ]; do
        [ "$waited" -lt "$seconds" ] || return 1
        sleep 1
        waited=$((waited + 1))
    done
}

rm -f "$file.before"
if [ -e "$file" ]; then cp -p "$file" "$file.before" || exit 1; fi
mv -f "$file.new" "$file" || exit 1
if taken_over "$verb" "$runtime"; then
    rm -f "$file.before"
    exit 0
fi
timeout 10 journalctl --sync # the last lines of Docker may not have been read yet
why=$(journalctl -u docker.service -n 30 --no-pager -o cat | grep -i -E 'unable|error|fail|invalid' | tail -n 1 | sed 's#://[^ ]*@#://*MASKED*@#g')
if [ -e "$file.before" ]; then mv -f "$file.before" "$file"; else rm -f "$file"; fi
systemctl reset-failed docker.service
taken_over "$verb" ""
refuse DOCKER_CONFIG_REJECTED "Docker does not $verb with the new $file, which is as it was: ${why:-see journalctl -u docker}"
