# Write a file's new text to FILE.new, a name that sudo and netplan ignore, and have the tool that reads it check it.
# Arguments: the file, its mode, the error code of a failed check, "replace" or "wait"; "keep", if a file that is there gives
# the new one its owner and mode, or "set"; the command of the tool.
# Variable: content. A text that does not pass is removed.
set -u
path=$1 mode=$2 code=$3 then=$4 rights=$5 new=$1.new
shift 5
umask 022
mkdir -p "${path%/*}" && umask 077 && rm -f "$new" && printf %s "$content" >"$new" || exit 1
if [ "$rights" = keep ] && [ -e "$path" ]; then
    chown --reference="$path" "$new" && chmod --reference="$path" "$new" || exit 1
else
    chown root:root "$new" && chmod "$mode" "$new" || exit 1
fi
if ! output=$("$@" "$new" 2>&1); then
    rm -f "$new"
    # shellcheck disable=SC2086 # one line of it
    refuse "$code" "$(echo $output | sed 's#://[^ ]*@#://*MASKED*@#g' | tail -c 300): $path stays as it was"
fi
sync "$new"
[ "$then" = wait ] || mv -f "$new" "$path"
