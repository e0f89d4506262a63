# Apply netplan files of a backup, as a trial: see trial.sh. `wanted` has their folder and the time of the restore, `values`
# their names. Until the trial is confirmed they are below /run, so that a reboot takes them back, too.
set -u
folder=$(sed -n 1p wanted) stamp=$(sed -n 2p wanted)

checked() { # have netplan read all files, with these, in a folder of their own
    root=$PWD/root
    for place in lib etc run; do
        mkdir -p "$root/$place/netplan"
        cp -p /$place/netplan/*.yaml "$root/$place/netplan/" 2>/dev/null
    done
    while read -r name; do cp "$folder/$name" "$root/etc/netplan/$name" || exit 1; done <values
    netplan generate --root-dir "$root" >output 2>&1
    broken=$?
    rm -rf "$root" # some keep passwords in their files
    grep -m 1 -i error output | sed "s|$root||" >&2
    return "$broken"
}

case $1 in
apply)
    checked || exit 1
    : >touched
    mkdir -p /run/netplan || exit 1
    while read -r name; do
        (umask 077 && cat "$folder/$name" >"/run/netplan/$name") || exit 1
    done <values
    timeout 60 netplan apply
    ;;
undo)
    [ -e touched ] || exit 0
    while read -r name; do rm -f "/run/netplan/$name"; done <values
    timeout 60 netplan apply
    ;;
keep)
    while read -r name; do
        file=/etc/netplan/$name
        (umask 077 && cat "$folder/$name" >"$file.new") && sync "$file.new" || exit 1
        if [ -e "$file" ]; then ln -f "$file" "$file.before-restore-$stamp" || exit 1; fi
        mv -f "$file.new" "$file" && rm -f "/run/netplan/$name"
    done <values
    ;;
esac
