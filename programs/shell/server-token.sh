# Write the server's token file: with the token that it has (its own, or the install script's), or a new one.
# Arguments: the file, the environment file of the unit.
set -u
file=$1 environment=$2
own=/var/lib/rancher/k3s/server/token
mkdir -p "$(dirname "$file")"
umask 077
{
    if [ -s "$own" ]; then
        sed 's/^K10[0-9a-f]*::[^:]*://' "$own"
    elif grep -q '^K3S_TOKEN=' "$environment" 2>/dev/null; then
        sed -n "s/^K3S_TOKEN=//p" "$environment" | tail -n 1 | tr -d "\"'"
    else
        od -A n -N 16 -t x1 /dev/urandom | tr -d ' \n'
        echo
    fi
} >"$file.new" && sync "$file.new" && mv -f "$file.new" "$file"
