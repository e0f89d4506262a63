# Unpack helm from its release archive, and replace it only if the new one runs.
# Arguments: the archive, the architecture, the destination.
set -u
archive=$1 architecture=$2 dest=$3
if tar -xzOf "$archive" "linux-$architecture/helm" >"$dest.new" && chmod 755 "$dest.new" && "$dest.new" version >/dev/null; then
    sync "$dest.new" && mv -f "$dest.new" "$dest" && rm -f "$archive" && exit 0
fi
rm -f "$dest.new" "$archive"
refuse DOWNLOAD_FAILED "$archive holds no helm that runs on linux-$architecture"
