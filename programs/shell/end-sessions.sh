# End the processes of the other sessions of this SSH connection. A shell of the login user reads this on its standard input.
# Argument: seconds between SIGTERM and SIGKILL.
own=$(($(ps -o sid= -p $$)))
server=$(($(ps -o ppid= -p "$own")))
case $(ps -o comm= -p "$server") in sshd*) ;; *) exit 0 ;; esac
others=
for leader in $(ps -o pid= --ppid "$server"); do
    [ "$leader" = "$own" ] || others="$others${others:+,}$leader"
done
[ -n "$others" ] || exit 0

end() {
    sudo -n pkill "-$1" -s "$others" 2>/dev/null || pkill "-$1" -s "$others"
}

end TERM
tenths=$((${1:-3} * 10))
while [ "$tenths" -gt 0 ] && pgrep -s "$others" >/dev/null; do
    sleep 0.1
    tenths=$((tenths - 1))
done
end KILL
