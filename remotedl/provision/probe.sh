# What is this host? One POSIX script (dash, busybox sh, bash), sent on stdin of `sh -s`, that
# only reads. Arguments: PART ROOT [URL...]
#   PART  user: all that the login user may see, and as root where `sudo -n` lets us
#         root: only what needs root (run through sudo when that asks for a password)
#         net:  only the URLs, each asked for its headers
#         gpus: only the GPUs, who uses them and who claims them
#         guard: what may break under a running container, whose name stands in place of URLs
#         smi:  only where nvidia-smi lies
#         waits: only what one may have to wait for: cloud-init and the package manager
#   ROOT  put before /sys and /proc/driver; empty on a real host, a tree of doubles in the lab
# Answer: "@@remotedl 1", then per probe "@NAME STATUS" and its output, each line after a "|",
# then "@@end". What a login shell prints around that is not ours. `provision/facts.py` reads it.
# Nothing here decides, and nothing here may hang: whatever talks to a daemon, a driver, a
# directory service, a file system that may be remote or the network runs under `limit`.

probe() { # NAME ARGUMENT...: run ask_NAME, frame what it says
    asked=$1
    shift
    said=$("ask_$asked" "$@" 2>&1)
    echo "@$asked $?"
    [ -z "$said" ] || printf '%s\n' "$said" | head -c 4000000 | sed 's/^/|/'
}

as_root() {
    if [ "$uid" = 0 ]; then limit "$@"
    elif [ "$free_sudo" = yes ]; then limit sudo -n "$@"
    else return 126
    fi
}

show_file() { # WORD PATH: a line "WORD PATH CHANGED SIZE CONTENT", whatever the file holds
    # Its first 1 MiB in base64, since programs leave out the last newline, and some put in a NUL.
    body=$({ limit head -c 1048576 "$2" 2>/dev/null || as_root head -c 1048576 "$2"; } | base64 | tr -d '\n')
    echo "$1 $2 $(stat -L -c '%Y %s' "$2") $body"
}

first_of() { # the first of these files that exists
    for file in "$@"; do [ -e "$file" ] && echo "$file" && return; done
    return 1
}

# ---- the system

ask_os() { cat "$(first_of /etc/os-release /usr/lib/os-release)"; }

ask_machine() {
    echo "kernel $(uname -r)"
    echo "machine $(uname -m)"
    echo "bits $(getconf LONG_BIT 2>/dev/null)"
    echo "dpkg $(dpkg --print-architecture 2>/dev/null)"
    grep -qi microsoft /proc/version && echo "wsl yes"
    [ -e /etc/nv_tegra_release ] && echo "tegra yes"
    [ -e "/lib/modules/$(uname -r)/build/Makefile" ] && echo "headers yes"
    [ -d "/lib/modules/$(uname -r)" ] || echo "modules no"
    { [ -e /etc/dlami-release ] || [ -d /opt/aws/dlami ]; } && echo "prepared AWS Deep Learning AMI"
    [ -d /opt/deeplearning ] && echo "prepared Google Deep Learning VM"
    [ -e /etc/apt/sources.list.d/lambda-repository.list ] && echo "prepared Lambda Stack"
    true
}

ask_init() {
    echo "pid1 $(cat /proc/1/comm)"
    if [ -d /run/systemd/system ]; then echo "systemd $(limit systemctl is-system-running)"; fi
    inside=$(limit systemd-detect-virt -c 2>/dev/null)
    [ -z "$inside" ] && [ -e /.dockerenv ] && inside=docker
    [ -z "$inside" ] && [ -e /run/.containerenv ] && inside=podman
    [ -z "$inside" ] && [ -n "$KUBERNETES_SERVICE_HOST" ] && inside=kubernetes
    echo "container ${inside:-none}"
}

ask_person() {
    limit id
    echo "uid $uid"
    echo "name $(limit id -un)"
    echo "groups $(limit id -Gn)"
    echo "home $HOME"
    shell=$(limit getent passwd "$uid" | cut -d: -f7)
    echo "shell ${shell:-$SHELL}"
    echo "runtime $runtime"
    if [ -w "$HOME" ]; then echo "home_writable yes"; fi
}

ask_sudo_mode() {
    if [ "$uid" = 0 ]; then echo root
    elif ! command -v sudo >/dev/null; then echo missing
    elif [ "$free_sudo" = yes ]; then echo free
    elif some=$(limit sudo -n -l 2>/dev/null | sed -n 's/^ *(.*) *//p') && [ -n "$some" ] &&
        ! printf '%s\n' "$some" | grep -qE '^([A-Z_]+: *)*ALL$'; then
        echo "limited $(echo "$some" | tr '\n' ' ')"
    else limit sudo -n true
    fi
}

ask_tools() {
    for tool in service rc-service apt-get dnf5 dnf yum zypper pacman apk transactional-update rpm-ostree dpkg rpm \
        curl wget gpg python3 flock timeout modinfo mokutil systemctl docker dockerd podman snap \
        nvidia-smi nvidia-ctk nvidia-container-cli nvidia-container-runtime \
        nvidia-container-runtime-hook nvidia-cdi-hook ubuntu-drivers amazon-linux-extras \
        update-initramfs dracut mkinitcpio; do
        path=$(command -v "$tool") && echo "$tool $path"
    done
    true
}

ask_python() { # its version; nothing where there is none
    command -v python3 >/dev/null || return 0
    limit python3 -I -S -c 'import sys; print("%d.%d" % sys.version_info[:2])'
}

ask_memory() {
    grep -E '^(MemTotal|MemAvailable|SwapTotal):' /proc/meminfo
    echo "cpus $(grep -c '^processor' /proc/cpuinfo)"
}

ask_disk() { # asked path, then df's line: device, total, used, free, percent, mount
    images=$(printf '%s\n' "$docker_said" | sed -n 's/.*"DockerRootDir":"\(\/[^"]*\)".*/\1/p')
    for dir in ${images:+"$images"} / /boot /tmp /var /var/lib/docker /var/lib/containerd "$HOME"; do
        line=$(limit df -Pk "$dir" 2>/dev/null | tail -n 1) && [ -n "$line" ] && echo "space $dir $line"
        line=$(limit df -Pi "$dir" 2>/dev/null | tail -n 1) && [ -n "$line" ] && echo "inodes $dir $line"
    done
    true
}

ask_cgroup() { if [ -e /sys/fs/cgroup/cgroup.controllers ]; then echo 2; else echo 1; fi; }

ask_security() {
    echo "selinux $(limit getenforce 2>/dev/null)"
    echo "apparmor $(cat /sys/module/apparmor/parameters/enabled 2>/dev/null)"
    for variable in "$root"/sys/firmware/efi/efivars/SecureBoot-*; do
        # four bytes of attributes, then 1 or 0
        [ -r "$variable" ] && echo "secureboot $(od -An -t u1 -j 4 -N 1 "$variable" | tr -d ' ')"
    done
    true
}

ask_clock() {
    echo "now $(date -u +%s)"
    echo "uptime $(cut -d. -f1 /proc/uptime)"
    # another boot has another id; a container that is the host has at least another process 1
    echo "boot $(cat /proc/sys/kernel/random/boot_id)-$(sed 's/.*) //' /proc/1/stat | cut -d' ' -f20)"
}

ask_limits() {
    for key in fs/inotify/max_user_watches fs/inotify/max_user_instances; do
        echo "$key $(cat /proc/sys/$key)"
    done
}

ask_cloud_init() {
    if [ ! -d /run/cloud-init ]; then echo absent
    elif [ -e /run/cloud-init/disabled ]; then echo disabled
    elif [ -e /run/cloud-init/result.json ]; then echo "done"; cat /run/cloud-init/result.json
    else echo running
    fi
}

ask_reboot_wanted() {
    if [ -e /run/reboot-required ]; then echo yes; cat /run/reboot-required.pkgs; fi
}

ask_uplink() { # the cards of the default routes, and the packets that card and route carry
    while read -r card to _ _ _ _ _ mask mtu _; do
        [ "$to$mask" = 0000000000000000 ] && echo "$card $(cat "/sys/class/net/$card/mtu") $mtu"
    done </proc/net/route
    true
}

# ---- packages

ask_locks() { # who holds the package manager; /proc/locks names pid and inode to any user
    for file in /var/lib/dpkg/lock-frontend /var/lib/dpkg/lock /var/lib/apt/lists/lock \
        /var/cache/apt/archives/lock /var/lib/rpm/.rpm.lock /usr/lib/sysimage/rpm/.rpm.lock; do
        inode=$(stat -c %i "$file" 2>/dev/null) || continue
        pid=$(sed -n "s/.* WRITE *\([0-9-]*\) [0-9a-f]*:[0-9a-f]*:$inode .*/\1/p" /proc/locks | head -n 1)
        [ -n "$pid" ] && echo "$file $pid $(cat "/proc/$pid/comm" 2>/dev/null)"
    done
    for file in /var/run/dnf.pid /var/run/yum.pid /var/cache/dnf/metadata_lock.pid /run/zypp.pid; do
        pid=$(cat "$file" 2>/dev/null) && [ -d "/proc/$pid" ] &&
            echo "$file $pid $(cat "/proc/$pid/comm")"
    done
    if [ -e /var/lib/pacman/db.lck ]; then echo "/var/lib/pacman/db.lck 0 pacman"; fi
}

ask_packages() { # name, version, state (ii: installed)
    if command -v dpkg-query >/dev/null; then
        limit dpkg-query -W -f '${Package}\t${Version}\t${db:Status-Abbrev}\n'
    elif command -v rpm >/dev/null; then
        limit rpm -qa --qf '%{NAME}\t%{EVR}\tii\n'
    elif command -v pacman >/dev/null; then
        limit pacman -Q | sed 's/ /\t/;s/$/\tii/'
    fi | grep -E "^($1)" | sort
}

ask_unfinished() { # what a killed package manager left behind
    command -v dpkg-query >/dev/null || return 0
    for file in /var/lib/dpkg/updates/[0-9]*; do [ -e "$file" ] && echo "update ${file##*/}"; done
    limit dpkg-query -W -f '${db:Status-Abbrev}\t${Package}\n' | grep -E '^(.[HUFWt]|..[R])' |
        sed 's/^...//'
}

ask_lists() {
    count=0
    if command -v apt-get >/dev/null; then
        for file in /var/lib/apt/lists/*_Packages*; do [ -e "$file" ] && count=$((count + 1)); done
        newest=$(first_of /var/lib/apt/periodic/update-success-stamp /var/lib/apt/lists)
    elif command -v pacman >/dev/null; then
        # a folder, which a rename into it dates: the files carry the mirror's dates
        for file in /var/lib/pacman/sync/*.db; do [ -e "$file" ] && count=$((count + 1)); done
        newest=$(first_of /var/lib/pacman/sync)
        echo "upgradable $(limit pacman -Qu | grep -vc '\[ignored\]')"
    else
        return 0
    fi
    echo "count $count"
    echo "age $(($(date +%s) - $(stat -c %Y "${newest:-/}")))"
}

ask_candidates() {
    command -v apt-cache >/dev/null || return 0
    limit apt-cache policy docker.io docker-cli docker-buildx docker-ce ubuntu-drivers-common \
        nvidia-kernel-dkms nvidia-open-kernel-dkms nvidia-smi nvidia-container-toolkit |
        grep -E '^[^ ]|^  Candidate:'
}

ask_sources() {
    for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list \
        /etc/apt/sources.list.d/*.sources /etc/yum.repos.d/*.repo /etc/zypp/repos.d/*.repo; do
        [ -r "$file" ] || continue
        echo "file $file"
        tr -d '\r\357\273\277' <"$file" |
            grep -E '^ *(deb|Types|URIs|Suites|Components|Signed-By|Enabled|baseurl|enabled)'
    done
    true
}

ask_snap_docker() { [ -d /var/snap/docker ] && limit snap list docker | tail -n 1; }

# ---- the engine

find_docker() { # sets docker_way (direct, sudo, none), docker_at and docker_said
    docker_way=none
    docker_at=${DOCKER_HOST:-}
    docker_said=
    as_sudo=
    command -v docker >/dev/null || return
    own=$runtime/docker.sock
    if [ -z "$docker_at" ] && [ -S "$own" ] && [ -w "$own" ] && [ ! -w /var/run/docker.sock ]; then
        docker_at=unix://$own # rootless, and nobody told the client
        export DOCKER_HOST="$docker_at"
    fi
    docker_said=$(limit docker info --format '{{json .}}' 2>&1)
    if served "$docker_said"; then docker_way=direct && return; fi
    [ "$uid" != 0 ] && as_sudo=$(as_root docker info --format '{{json .}}' 2>&1)
    if served "$as_sudo"; then docker_way=sudo docker_at='' docker_said=$as_sudo; fi
}

served() { # docker info ends with 0 and half an answer when the daemon refuses it
    case $1 in
    *'"ServerErrors":['*) return 1 ;;
    *'"ServerVersion":"'[0-9]* | *'"host":{'*) return 0 ;;
    *) return 1 ;;
    esac
}

dock() {
    case $docker_way in
    direct) limit docker "$@" ;;
    sudo) as_root docker "$@" ;;
    *) return 125 ;;
    esac
}

ask_docker() {
    echo "way $docker_way"
    echo "at $docker_at"
    echo "$docker_said"
}

ask_docker_bridge() { # what its bridge is made of, and what dockerd was told on its command line
    pid=$(cat /run/docker.pid 2>/dev/null) &&
        tr '\0' '\n' <"/proc/$pid/cmdline" | sed -n 's/^--*\([a-z][a-z-]*\).*/flag \1/p'
    dock network inspect bridge --format '{{json .Options}}'
}

ask_docker_containers() {
    case $docker_said in *'"Containers":0,'*) return ;; esac
    dock ps -a --no-trunc --format \
        '{{.ID}}\t{{.Names}}\t{{.State}}\t{{.Image}}\t{{.Label "remotedl.owner"}}\t{{.Label "remotedl.project"}}\t{{.Label "remotedl.gpus"}}\t{{.Ports}}' |
        sed 's/\\t/\t/g'
}

ask_docker_files() { # settings, and what tells whether dockerd has read them
    for file in /etc/docker/daemon.json /var/snap/docker/current/config/daemon.json; do
        [ -e "$file" ] || continue
        show_file file "$file"
    done
    for file in /etc/systemd/system/docker.service.d/*.conf /run/systemd/system/docker.service.d/*.conf; do
        [ -e "$file" ] && echo "dropin $file"
    done
    for unit in docker.service docker.socket containerd.service nvidia-cdi-refresh.path; do
        [ -d /run/systemd/system ] || continue
        enabled=$(limit systemctl is-enabled $unit 2>/dev/null)
        echo "unit $unit ${enabled:--} $(limit systemctl is-active $unit)"
    done
    [ -S /var/run/docker.sock ] && echo "socket $(stat -c '%U %G %a' /var/run/docker.sock)"
    getent group docker
    true
}

ask_docker_home() { # what of the engine lies in the login user's home
    file=$HOME/.config/docker/daemon.json
    [ -e "$file" ] && show_file file "$file"
    [ -e "/var/lib/systemd/linger/$(limit id -un)" ] && echo "linger yes"
    [ -O "$HOME/.docker" ] || [ ! -e "$HOME/.docker" ] || echo "stolen $HOME/.docker"
    [ -d /run/systemd/system ] && echo "unit user:docker.service - $(limit systemctl --user is-active docker.service 2>/dev/null)"
    true
}

ask_podman() {
    command -v podman >/dev/null || return 0
    echo "version $(limit podman --version)"
    for file in "$runtime/podman/podman.sock" /run/podman/podman.sock; do
        [ -S "$file" ] && [ -w "$file" ] && echo "socket $file"
    done
    true
}

# ---- GPUs

ask_pci() { # address, vendor, device, class, driver of every display controller and NVIDIA device
    for dir in "$root"/sys/bus/pci/devices/*; do
        read -r vendor <"$dir/vendor" || continue
        read -r class <"$dir/class"
        case $vendor$class in
        0x10de* | *0x03*)
            read -r device <"$dir/device"
            driver=$(readlink "$dir/driver")
            echo "${dir##*/} $vendor $device $class ${driver##*/}"
            ;;
        esac
    done 2>/dev/null
    true
}

has_nvidia() { grep -qs 0x10de "$root"/sys/bus/pci/devices/*/vendor; }

ask_driver() {
    sed 's/^/loaded /' "$root/proc/driver/nvidia/version" 2>/dev/null
    echo "module $(cat "$root/sys/module/nvidia/version" 2>/dev/null)"
    [ -n "$root" ] || echo "ondisk $(limit modinfo -F version nvidia 2>/dev/null)"
    [ -d "$root/sys/module/nouveau" ] && echo "nouveau yes"
    [ -e "$root/dev/nvidiactl" ] && echo "device yes"
    true
}

where_smi() {
    smi=$(command -v nvidia-smi) || smi=$(first_of /usr/local/nvidia/bin/nvidia-smi \
        /usr/lib/wsl/lib/nvidia-smi /opt/nvidia/bin/nvidia-smi /run/nvidia/driver/usr/bin/nvidia-smi)
}

ask_where_smi() {
    where_smi
    echo "at $smi"
}

find_smi() {
    where_smi
    [ -z "$smi" ] || smi_said=$(limit "$smi" -q -x 2>&1)
    smi_code=$?
    # the clocks that a GPU could run at are most of the answer, and nobody asks for them
    smi_said=$(printf '%s\n' "$smi_said" | sed '/<supported_clocks>/,/<\/supported_clocks>/d')
}

ask_smi() {
    [ -n "$smi" ] || return 127
    echo "at $smi"
    echo "$smi_said"
    return $smi_code
}

ask_gpu_processes() { # pid, user, start, container id, name
    for pid in $(printf '%s\n' "$smi_said" | sed -n 's/.*<pid>\([0-9]*\)<.*/\1/p' | sort -u); do
        owner=$(limit stat -c '%U' "/proc/$pid" 2>/dev/null) || owner=-
        ticks=$(sed 's/.*) //' "/proc/$pid/stat" 2>/dev/null | cut -d' ' -f20)
        born=$(($(date +%s) - $(cut -d. -f1 /proc/uptime) + ${ticks:-0} / 100))
        id=$(sed -n 's/.*docker[-/]\([0-9a-f]\{64\}\).*/\1/p' "/proc/$pid/cgroup" 2>/dev/null | head -n 1)
        echo "$pid $owner $born ${id:--} $(tr -d '[:cntrl:]' <"/proc/$pid/comm" 2>/dev/null)"
    done
}

ask_gpu_claims() { # expiring files that polite remotedl users leave
    # Anybody can put a pipe, a link or a thousand of them there. The user is the file's owner, as
    # the open file says it; a pipe that takes a file's place meanwhile is left within the limit.
    count=0
    for file in /tmp/.remotedl-claim-*.json; do
        [ -f "$file" ] && [ ! -L "$file" ] && [ -r "$file" ] || continue
        [ $((count += 1)) -le 200 ] || break
        limit sh -c 'exec <"$1" && stat -L -c "%F:%U" /proc/self/fd/0 && head -c 2000' sh "$file" |
            tr '\r\n' '  ' | sed -n 's/^regular file:\([^ ]*\) /\1 /p'
        echo
    done
    true
}

ask_toolkit() {
    nvidia-ctk --version 2>/dev/null | head -n 1
    grep -qs '^ *no-cgroups *= *true' /etc/nvidia-container-runtime/config.toml && echo "no_cgroups yes"
    { # where every engine looks, and where this one was told to
        printf '/etc/cdi\n/var/run/cdi\n'
        printf '%s\n' "$docker_said" | sed -n 's/.*"CDISpecDirs":\[\([^]]*\)\].*/\1/p' | tr -d '"' | tr , '\n'
    } | sort -u | while read -r dir; do
        for file in "$dir"/*.json "$dir"/*.yaml "$dir"/*.yml; do
            [ -e "$file" ] && show_file spec "$file"
        done
    done
    true
}

ask_ubuntu_drivers() { command -v ubuntu-drivers >/dev/null && limit ubuntu-drivers list --gpgpu; }

ask_kernel_says() { as_root dmesg | grep -E 'NVRM|Xid|nouveau|Out of memory|oom-kill' | tail -n 40; }

# ---- the network

# Whether it answers, and no more: where no authority is known yet, none can be asked.
ask_url='
import os, ssl, sys, urllib.error, urllib.request as web
bundles = ("ssl/certs/ca-certificates.crt", "pki/tls/certs/ca-bundle.crt", "ssl/ca-bundle.pem")
known = ssl.create_default_context()
if not any(os.path.exists("/etc/" + bundle) for bundle in bundles):
    known = ssl._create_unverified_context()
try:
    print(web.urlopen(web.Request(sys.argv[1], method="HEAD"), timeout=6, context=known).status)
except urllib.error.HTTPError as exc:
    print(exc.code)
'

reach() { # URL: one line, its status; short enough that lines of many never mix
    if command -v curl >/dev/null; then
        code=$(limit curl -sSIL -o /dev/null -m 6 -w '%{http_code}' "$1" 2>/dev/null)
        echo "$1 curl $? ${code:-000}"
    elif command -v python3 >/dev/null; then
        code=$(limit python3 -c "$ask_url" "$1" 2>/dev/null)
        echo "$1 python3 $? ${code:-000}"
    elif command -v wget >/dev/null; then
        limit wget -q --spider -T 6 -t 1 "$1"
        echo "$1 wget $? 000"
    else
        echo "$1 missing 0 000"
    fi
}

ask_net() {
    for url in "$@"; do reach "$url" & done
    wait
}

ask_proxies() { # those that the host's own settings name, without passwords
    {
        { env; grep -h '' /etc/environment; } | tr -d "\"'\r\357\273\277" |
            sed -n 's/^\(export \)*\(https*_proxy\|HTTPS*_PROXY\)=\([^ ]*\).*/\3/p'
        grep -h '' /etc/apt/apt.conf /etc/apt/apt.conf.d/* | tr -d '\r\357\273\277' |
            sed -n 's/^ *[Aa]cquire::[Hh][Tt][Tt][Pp][Ss]*::[Pp]roxy  *"\([^"]*\)".*/\1/p'
        sed -n 's/^ *proxy *= *\([^ ]*\).*/\1/p' /etc/dnf/dnf.conf /etc/yum.conf | tr -d '\r'
    } 2>/dev/null | grep : | sed 's|//[^/@]*@|//|' | sort -u
}

# ---- the parts

part_user() {
    for name in os machine init person sudo_mode tools memory cgroup security clock limits \
        python uplink cloud_init reboot_wanted locks; do
        probe $name
    done
    probe packages 'docker|containerd|container-selinux|runc|moby|podman|buildx|nvidia|libnvidia|kmod-nvidia|libcuda|cuda-drivers|linux-modules-nvidia|linux-headers|linux-image|kernel|ubuntu-drivers|apparmor|ca-certificates|curl|gnupg|unattended-upgrades|dkms|dnf-plugins|epel-release'
    probe unfinished
    probe lists
    probe sources
    probe proxies
    probe snap_docker
    find_docker
    probe disk
    probe docker
    probe docker_bridge
    probe docker_containers
    probe docker_files
    probe docker_home
    probe podman
    part_gpus
    probe toolkit
    if has_nvidia && [ ! -d "$root/sys/module/nvidia" ]; then probe ubuntu_drivers; fi
    if [ "$docker_way" = none ] || has_nvidia; then probe candidates; fi
    if [ -n "$smi" ]; then probe kernel_says; fi
}

part_gpus() {
    probe pci
    probe driver
    find_smi
    probe smi
    probe gpu_processes
    probe gpu_claims
}

ask_host_gpus() {
    [ -n "$smi" ] || return 127
    limit "$smi" -L
}

ask_container_gpus() { dock exec "$1" nvidia-smi -L; }

part_guard() { # CONTAINER
    find_docker
    where_smi
    probe clock
    probe disk
    probe host_gpus
    if [ -n "$smi" ] && [ -n "$1" ]; then probe container_gpus "$1"; fi
    if [ -n "$smi" ]; then probe kernel_says; fi
}

part_root() {
    find_docker
    if [ "$docker_way" = direct ]; then docker_way=sudo; fi
    probe docker
    probe docker_bridge
    probe docker_containers
    probe docker_files
    probe kernel_says
}

main() {
    part=${1:-user}
    root=${2:-}
    if [ $# -ge 2 ]; then shift 2; else shift $#; fi
    LC_ALL=C
    PATH=$PATH:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/snap/bin
    export LC_ALL PATH
    unset LANGUAGE
    if timeout 5 true 2>/dev/null; then limit() { timeout "${REMOTEDL_LIMIT_S:-8}" "$@"; }; else limit() { "$@"; }; fi
    uid=$(id -u)
    runtime=${XDG_RUNTIME_DIR:-/run/user/$uid}
    free_sudo=no
    if [ "$uid" != 0 ] && [ "$part" != net ] && limit sudo -n true >/dev/null 2>&1; then free_sudo=yes; fi
    echo "@@remotedl 1"
    case $part in
    user) part_user ;;
    root) part_root ;;
    gpus)
        find_docker
        probe docker_containers
        part_gpus
        probe clock
        ;;
    guard)
        part_guard "$1"
        shift $#
        ;;
    smi) probe where_smi ;;
    waits) for name in clock cloud_init locks; do probe "$name"; done ;;
    esac
    if [ $# -gt 0 ]; then probe net "$@"; fi
    echo "@@end"
}

main "$@" </dev/null

