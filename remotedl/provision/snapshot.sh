# What could a change change? Package list, groups, users, enabled services, and whether the
# paths given as arguments exist. Same frame as probe.sh; read by `provision/snapshot.py`.
# Two of these, before and after a step, are what the journal keeps of the step.

show() { # NAME, then its lines on stdin
    echo "@$1 0"
    sed 's/^/|/'
}

main() {
    LC_ALL=C
    PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
    export LC_ALL PATH
    echo "@@remotedl 1"
    if command -v dpkg-query >/dev/null; then
        dpkg-query -W -f '${db:Status-Abbrev} ${Package}:${Architecture} ${Version}\n' |
            grep -v '^.[nc]' | cut -c5- | show packages
        apt-mark showauto | show automatic
    elif command -v rpm >/dev/null; then
        rpm -qa --qf '%{NAME}.%{ARCH} %{EVR}\n' | show packages
    elif command -v pacman >/dev/null; then
        pacman -Q | show packages
    fi
    cut -d: -f1,4 /etc/group | show groups
    cut -d: -f1 /etc/passwd | show users
    if [ -d /run/systemd/system ]; then
        systemctl list-unit-files --state=enabled --no-legend --plain | cut -d' ' -f1 | show units
    fi
    for path in "$@"; do
        if [ -e "$path" ] || [ -L "$path" ]; then echo "there $path"; else echo "absent $path"; fi
    done | show paths
    date -u +%s | show now
    echo "@@end"
}

main "$@" </dev/null
