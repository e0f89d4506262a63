# Apply netplan's file for the rails, as a trial: see trial.sh. `wanted` is the file's text, `values` has a line
# "interface address mtu" for each rail. Until the trial is confirmed the file is below /run, so that a reboot takes it back, too.
set -u
name=95-gb10-rails.yaml

checked() { # have netplan read all files, with ours, in a folder of their own
    root=$PWD/root
    for place in lib etc run; do
        mkdir -p "$root/$place/netplan"
        cp -p /$place/netplan/*.yaml "$root/$place/netplan/" 2>/dev/null
    done
    cp wanted "$root/etc/netplan/$name" && netplan generate --root-dir "$root"
    broken=$?
    rm -rf "$root" # others keep passwords in their files
    return "$broken"
}

remember() { # no file may describe what the interfaces have now
    while read -r interface _; do
        cat "/sys/class/net/$interface/mtu" >"mtu-$interface"
        ip -o addr show dev "$interface" scope global | awk '{print $4}' >"addresses-$interface"
        ip route show dev "$interface" | sed 's/ linkdown//' >"routes-$interface"
        LC_ALL=C nmcli -g GENERAL.STATE device show "$interface" >"manager-$interface" 2>/dev/null
    done <values
}

by_others() { # NetworkManager was running, and left this interface to others
    grep -q externally "manager-$1"
}

recall() {
    ip link set "$1" mtu "$(cat "mtu-$1")"
    while read -r address; do ip addr replace "$address" dev "$1"; done <"addresses-$1"
    while read -r route; do
        # shellcheck disable=SC2086 # words of ip's own
        ip route replace $route dev "$1"
    done <"routes-$1"
}

recall_for_others() { # NetworkManager leaves an interface alone that has an address when `netplan apply` starts it
    while read -r interface _; do
        by_others "$interface" || continue
        stopped=NetworkManager
        systemctl stop "$stopped"
        ip addr flush dev "$interface"
        recall "$interface"
    done <values
}

in_force() { # an interface without a carrier cannot be checked
    while read -r interface address mtu; do
        [ "$(cat "/sys/class/net/$interface/operstate")" = up ] || continue
        [ "$(cat "/sys/class/net/$interface/mtu")" = "$mtu" ] || { echo "$interface does not take MTU $mtu"; return 1; }
        ip -o addr show dev "$interface" | awk '{print $4}' | grep -qxF "$address" ||
            { echo "$interface does not get $address"; return 1; }
    done <values
}

case $1 in
apply)
    checked || exit 1
    remember
    : >touched
    mkdir -p /run/netplan && cp wanted "/run/netplan/$name" && chmod 600 "/run/netplan/$name" || exit 1
    timeout 60 netplan apply || exit 1
    for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15; do
        if in_force >/dev/null; then exit 0; fi
        sleep 1
    done
    in_force
    exit 1
    ;;
undo)
    [ -e touched ] || exit 0
    rm -f "/run/netplan/$name"
    stopped=
    recall_for_others
    timeout 60 netplan apply
    [ -z "$stopped" ] || systemctl start "$stopped" # netplan may have done anything
    while read -r interface _; do recall "$interface"; done <values
    ;;
keep)
    mkdir -p /etc/netplan
    umask 077
    cat wanted >"/etc/netplan/$name.new" && sync "/etc/netplan/$name.new" || exit 1
    mv -f "/etc/netplan/$name.new" "/etc/netplan/$name" && rm -f "/run/netplan/$name"
    ;;
esac
