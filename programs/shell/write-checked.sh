# Write a file's next text beside it, at a name that sudo and netplan ignore, and have the tool that reads it check it.
# Arguments: the file, its mode, the code of the error if the check fails, "replace" or "keep"; the tool's words.
# Variable: content. Nothing is left of a text that does not pass.
set -u
path=$1 mode=$2 code=$3 then=$4 new=$1.new
shift 4
umask 022
mkdir -p "${path%/*}" && umask 077 && printf %s "$content" >"$new" && chown root:root "$new" && chmod "$mode" "$new" || exit 1
if ! said=$("$@" "$new" 2>&1); then
    rm -f "$new"
    # shellcheck disable=SC2086 # one line of it
    refuse "$code" "$(echo $said | tail -c 300): $path stays as it was"
fi
sync "$new"
[ "$then" = keep ] || mv -f "$new" "$path"
