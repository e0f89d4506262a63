# Fetch one chart and verify it: helm compares neither digest nor name with the repository's index, and takes the nearest
# version if the exact one is missing.
# Arguments: helm, repository, chart, version, sha256 (or ""), destination. Variables: helm's folders, a proxy, and
# locked (the name in gb10.lock if the sha256 is from there, or "").
set -u
locked=${locked:-}
export HELM_CACHE_HOME HELM_CONFIG_HOME HELM_DATA_HOME HTTP_PROXY HTTPS_PROXY NO_PROXY
helm=$1 repository=$2 chart=$3 version=$4 sha256=$5 dest=$6
attempts=4

fail() {
    rm -rf "$dest.new"
    refuse "$1" "$2"
}

verify() { # archive: prints its fault, or nothing if it is the wanted chart
    if ! shown=$("$helm" show chart "$1" 2>&1); then
        echo "CHART_BROKEN $chart $version from $repository cannot be read: $(printf '%s\n' "$shown" | tail -n 1)"
        return
    fi
    # The chart's name and version are at the start of a line; those of its dependencies are indented.
    found=$(printf '%s\n' "$shown" | awk '/^name:/ {n = $2} /^version:/ {v = $2} END {gsub(/"/, "", v); print n, v}')
    [ "${found% *} ${found##* }" = "$chart ${version#v}" ] || [ "$found" = "$chart v${version#v}" ] ||
        echo "CHART_WRONG $repository serves $found as $chart $version"
    if [ -n "$sha256" ]; then
        actual=$(sha256sum "$1" | cut -d ' ' -f 1)
        if [ "$actual" != "$sha256" ] && [ -n "$locked" ]; then
            echo "PIN_DIFFERS $locked: $chart $version of $repository has sha256 $actual, gb10.lock has $sha256"
        elif [ "$actual" != "$sha256" ]; then
            echo "CHART_WRONG $chart $version has sha256 $actual, wanted $sha256"
        fi
    fi
}

# A chart that is there and passes is not fetched again.
[ -f "$dest" ] && [ -z "$(verify "$dest")" ] && exit 0

attempt=1 delay=1
while :; do
    rm -rf "$dest.new" && mkdir -p "$dest.new" || fail DISK_FULL "$dest.new cannot be made"
    if said=$(timeout 300 "$helm" pull "$chart" --repo "$repository" --version "$version" --destination "$dest.new" 2>&1); then
        archive=$(find "$dest.new" -name '*.tgz' | head -n 1)
        wrong=$(verify "$archive" | head -n 1)
        if [ -z "$wrong" ]; then
            sync "$archive" && mv -f "$archive" "$dest" && rm -rf "$dest.new" && exit 0
            fail DISK_FULL "$dest cannot be put in place"
        fi
        case "$wrong" in CHART_WRONG* | PIN_DIFFERS*) fail "${wrong%% *}" "${wrong#* }; nothing was installed" ;; esac
    else
        wrong="CHART_UNREACHABLE $(printf '%s\n' "$said" | sed -n 's/^Error: //p' | tail -n 1)"
        case "$said" in
        *"not found in"*) fail CHART_UNKNOWN "$repository has no chart $chart of version $version" ;;
        *"no space left"*) fail DISK_FULL "$chart $version cannot be written: $(df -P "$(dirname "$dest")" | awk 'NR == 2 {print int($4 / 1024) " MiB free on " $6}')" ;;
        esac
    fi
    [ "$attempt" -lt "$attempts" ] || fail "${wrong%% *}" "${wrong#* } (tried $attempts times)"
    echo "${wrong#* }; try $((attempt + 1)) of $attempts in $delay s" >&2
    sleep "$delay"
    attempt=$((attempt + 1)) delay=$((delay * 2))
done
