# Start a serving container once memory is free, in place of an ended one of its name.
# Arguments: its name, the memory that must be available in KiB, seconds to wait for it, a file with the API key or "";
# the docker command, which then reads a variable from its standard input: no argument or file has it.
set -u
name=$1 wanted=$2 seconds=$3 key_file=$4
shift 4

available() { awk '/^MemAvailable:/ {print $2}' /proc/meminfo; }

docker rm --force "$name" >/dev/null 2>&1
# System and GPU share the memory. A GPU cannot take pages of the page cache, which a copy of a model fills.
{ echo 1 >/proc/sys/vm/drop_caches; } 2>/dev/null
# An engine's memory comes back bit by bit: wait until it grows by no more than a hundredth.
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
key() { [ -z "$key_file" ] || sed -n '1s/^/VLLM_API_KEY=/p' "$key_file"; }
if output=$(key | "$@" 2>&1 >/dev/null); then exit 0; fi
refuse SERVING_FAILED "Docker does not start $name: $(printf '%s' "$output" | head -n 1)"
