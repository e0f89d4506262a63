# Download one file: resume, retry with back-off, verify it before it gets its final name.
# Arguments: URL, destination, mode, sha256 (or ""), URL of a sha256sum list (or ""), the file's name in that list.
# Variables, set before this text: proxy (its URL may hold a password, or ""), direct (hosts to reach without it),
# locked (the name in gb10.lock if the sha256 is from there, or "").
set -u
proxy=${proxy:-} direct=${direct:-} locked=${locked:-}
url=$1 dest=$2 mode=$3 sha256=$4 sums=$5 name=$6
attempts=6

# curl's exit code and the HTTP status decide whether to try again.
fetch() { # URL, file: resume into the file
    attempt=1 delay=1
    while :; do
        # The proxy comes on standard input: everybody on the node can read arguments.
        status=$(printf 'proxy = "%s"\n' "$proxy" | curl -K - --noproxy "$direct" -fsSL -C - -o "$2" -w '%{http_code}' \
            --connect-timeout 10 --speed-limit 1000 --speed-time 30 "$1" 2>"$2.error")
        code=$?
        case "$code:$status" in
        0:*) rm -f "$2.error"; return 0 ;;
        *:404 | *:410) rm -f "$2" "$2.error"; refuse VERSION_UNKNOWN "$1 does not exist" ;;
        *:401 | *:403) rm -f "$2" "$2.error"; refuse DOWNLOAD_FAILED "$1 is refused with status $status" ;;
        *:416) # nothing is left to fetch, or the file has changed: the checksum decides
            rm -f "$2.error"; return 0 ;;
        23:*)
            room=$(df -P "$(dirname "$2")" | awk 'NR == 2 {print int($4 / 1024) " MiB free on " $6}')
            rm -f "$2" "$2.error"; refuse DISK_FULL "$1 cannot be written: $room" ;;
        33:*) rm -f "$2" ;; # a server without ranges: from the start
        esac
        [ "$attempt" -lt "$attempts" ] || refuse DOWNLOAD_FAILED "$1: $(head -n 1 "$2.error") (tried $attempts times)"
        echo "$(head -n 1 "$2.error"); try $((attempt + 1)) of $attempts in $delay s" >&2
        sleep "$delay"
        attempt=$((attempt + 1)) delay=$((delay * 2))
    done
}

umask 077
mkdir -p "$(dirname "$dest")" || refuse DISK_FULL "$(dirname "$dest") cannot be made"
# The download of a killed run may still be going on: two must not write to one part.
exec 9<"$(dirname "$dest")"
flock 9
if [ -z "$sha256" ]; then
    rm -f "$dest.sums"
    fetch "$sums" "$dest.sums"
    sha256=$(awk -v name="$name" '$2 == name || $2 == "*" name {print $1}' "$dest.sums")
    rm -f "$dest.sums"
    [ -n "$sha256" ] || refuse VERSION_UNKNOWN "$sums does not list $name"
fi

if [ -f "$dest" ] && [ "$(sha256sum "$dest" | cut -d ' ' -f 1)" = "$sha256" ]; then
    chmod "$mode" "$dest"
    exit
fi

# The part is named after the wanted content, so that a part of another version is never continued.
part="$dest.$(printf '%.16s' "$sha256").part"
for round in 1 2; do
    fetch "$url" "$part"
    actual=$(sha256sum "$part" | cut -d ' ' -f 1)
    if [ "$actual" = "$sha256" ]; then
        chmod "$mode" "$part" && sync "$part" && mv -f "$part" "$dest" && exit 0
        refuse DISK_FULL "$dest cannot be put in place"
    fi
    rm -f "$part" # a wrong part must not be continued
done
[ -z "$locked" ] || refuse PIN_DIFFERS "$locked: $url has sha256 $actual, gb10.lock has $sha256; nothing was replaced"
refuse CHECKSUM_MISMATCH "$url has sha256 $actual, wanted $sha256; nothing was replaced"
