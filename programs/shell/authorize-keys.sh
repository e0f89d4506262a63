# Write the file of public keys that may log in to an account. Arguments: the account, its group, its folder .ssh.
# `keys` is the file's text.
file=$3/authorized_keys
[ ! -L "$file" ] || refuse PATH_LINKED "$file is a link to $(readlink "$file")"
install -d -m 700 -o "$1" -g "$2" "$3" && umask 077 && printf %s "$keys" >"$file.new" || exit 1
chown "$1:$2" "$file.new" && chmod 600 "$file.new" && sync "$file.new" && mv -f "$file.new" "$file"
