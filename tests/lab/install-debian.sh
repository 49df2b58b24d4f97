#!/bin/sh
# Installs what the lab needs on a bare Debian machine, where we are root; elsewhere it says why not.
# The lab's tests skip with their reason where something is missing (and fail with CI=true).
set -eu
packages="docker.io iptables debootstrap zstd openssh-server openssh-client sudo rsync unison lsyncd \
    fish tcsh zsh chromium docker-registry iproute2 procps psmisc git dpkg-dev apt-utils gnupg"
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "lab: not root on Debian, so nothing is installed; lab tests skip what is missing" >&2
    exit 0
fi
missing=""
for package in $packages; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing="$missing $package"
done
[ -n "$missing" ] || exit 0
echo "lab: installing$missing" >&2
export DEBIAN_FRONTEND=noninteractive
# No service is to start by itself here: the lab starts what it needs and stops it again.
policy=/usr/sbin/policy-rc.d
made_policy=no
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
    made_policy=yes
fi
trap '[ "$made_policy" = no ] || rm -f "$policy"' EXIT
apt-get update -q
# shellcheck disable=SC2086 # a list of words
apt-get install -q -y --no-install-recommends -o DPkg::Lock::Timeout=300 $missing
