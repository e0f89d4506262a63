# Write a lock that nobody holds. Arguments: its file, its text, the node's name.
set -u
lock=$1 new=$1.$$
umask 022
mkdir -p "${lock%/*}" && printf %s "$2" >"$new" && sync "$new" || exit 1
# Making a hard link is atomic, and never shows half a file.
if ln "$new" "$lock"; then taken=1; else taken=; fi
rm -f "$new"
[ "$taken" ] || refuse NODE_LOCKED "$3 was locked by somebody else just now"
