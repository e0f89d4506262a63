# Apply a drop-in file of sshd, as a trial: see trial.sh. `wanted` is the file's text.
set -u
file=/etc/ssh/sshd_config.d/00-gb10.conf
candidate=$PWD/candidate
alias='s/prohibit-password/without-password/' # two names of one thing

load() { # sessions that are open stay open
    for unit in ssh.service sshd.service; do
        systemctl is-active --quiet "$unit" && systemctl reload "$unit"
    done
    return 0
}

put() { # file, the text's place
    umask 022
    mkdir -p "${1%/*}" && cat "$2" >"$1.new" && chmod 644 "$1.new" && sync "$1.new" && mv -f "$1.new" "$1"
}

case $1 in
apply)
    if [ -e "$file" ]; then cp -p "$file" before; else : >absent; fi
    # Check the text that sshd would read, in its order, before any of it is in place.
    cat wanted /etc/ssh/sshd_config >"$candidate"
    sshd -t -f "$candidate"
    broken=$?
    rm -f "$candidate"
    [ "$broken" = 0 ] || exit 1
    put "$file" wanted || exit 1
    sshd -t || exit 1
    # The file's lines must be effective: they are not if sshd_config does not include its folder.
    grep -v '^#' wanted | tr '[:upper:]' '[:lower:]' | sed "$alias" | sort >lines
    sshd -T | sed "$alias" | sort >effective
    lost=$(comm -23 lines effective | head -n 1)
    if [ -n "$lost" ]; then
        echo "'$lost' has no effect: /etc/ssh/sshd_config sets it first, or does not include sshd_config.d" >&2
        exit 1
    fi
    load
    ;;
undo)
    if [ -e before ]; then put "$file" before; elif [ -e absent ]; then rm -f "$file"; fi
    load
    ;;
keep) ;;
esac
