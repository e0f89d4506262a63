# Verify an uploaded file and rename it into place. Arguments: its place, sha256, what to call it.
set -u
part=$1.part
if ! printf '%s  %s\n' "$2" "$part" | sha256sum -c --status; then
    rm -f "$part"
    refuse CHECKSUM_MISMATCH "$3 is not what was wanted"
fi
chmod 755 "$part" && sync "$part" && mv -f "$part" "$1"
