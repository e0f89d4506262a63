# Start a container that serves, in place of an ended one of its name, when memory is free.
# Arguments: its name, how much memory must be available in KiB, how long to wait for it in seconds; the docker command.
set -u
name=$1 wanted=$2 seconds=$3
shift 3

available() { awk '/^MemAvailable:/ {print $2}' /proc/meminfo; }

docker rm --force "$name" >/dev/null 2>&1
# System and GPU share the memory, and a GPU cannot take what the page cache holds: a copy of a model leaves it full.
{ echo 1 >/proc/sys/vm/drop_caches; } 2>/dev/null
# What an engine has had comes back bit by bit: until it does not grow by more than a hundredth any more.
before=$(available) tries=$((5 * seconds))
while [ "$tries" -gt 0 ]; do
    sleep 0.2
    after=$(available)
    if [ "$after" -ge "$wanted" ] && [ $((after - before)) -le $((before / 100)) ]; then break; fi
    before=$after tries=$((tries - 1))
done
if [ "$after" -lt "$wanted" ]; then
    refuse SERVING_MEMORY "$((after / 1048576)) GiB of memory are free, $((wanted / 1048576)) are needed"
fi
if said=$("$@" 2>&1 >/dev/null); then exit 0; fi
refuse SERVING_FAILED "Docker does not start $name: $(printf '%s' "$said" | head -n 1)"
