# Write a file's new text to FILE.new, a name that sudo and netplan ignore, and have the tool that reads it check it.
# Arguments: the file, its mode, the error code of a failed check, "replace" or "keep"; the command of the tool.
# Variable: content. A text that does not pass is removed.
set -u
path=$1 mode=$2 code=$3 then=$4 new=$1.new
shift 4
umask 022
mkdir -p "${path%/*}" && umask 077 && printf %s "$content" >"$new" && chown root:root "$new" && chmod "$mode" "$new" || exit 1
if ! output=$("$@" "$new" 2>&1); then
    rm -f "$new"
    # shellcheck disable=SC2086 # one line of it
    refuse "$code" "$(echo $output | tail -c 300): $path stays as it was"
fi
sync "$new"
[ "$then" = keep ] || mv -f "$new" "$path"
