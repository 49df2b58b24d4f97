#!/bin/sh
# Doubles of Docker's own packages: Debian's files under Docker's package names, so that a host
# gets a real engine from a repository laid out like Docker's. Run in a container of the release.
#   repack.sh CODENAME NUMBER OUT [FOLDER WITH BUILDX]
set -eu
codename=$1 number=$2 out=$3 extra=${4:-}
cd "$(mktemp -d)"
apt-get update -q
apt-get download -q docker.io containerd runc
apt-get download -q docker-cli docker-buildx 2>/dev/null || true
[ -z "$extra" ] || cp "$extra"/docker-buildx_*.deb .
upstream() { dpkg-deb -f "$1"_*.deb Version | sed 's/^[0-9]*://; s/[+~-].*//'; }

repack() { # NEW, VERSION, DEPENDS, CONFLICTS, SCRIPTS (yes or no), PACKAGES…; reads paths to drop
    new=$1 version=$2 depends=$3 conflicts=$4 scripts=$5
    shift 5
    tree=$new.tree
    mkdir -p "$tree/DEBIAN"
    for package in "$@"; do dpkg-deb -x "$package"_*.deb "$tree"; done
    if [ "$scripts" = yes ]; then
        dpkg-deb -e "$1"_*.deb "$tree/DEBIAN"
        rm -f "$tree/DEBIAN/md5sums" "$tree/DEBIAN/triggers"
    fi
    while read -r path; do rm -rf "${tree:?}/$path"; done
    rm -rf "$tree/usr/share/doc" "$tree/usr/share/man" "$tree/usr/share/lintian"
    cat >"$tree/DEBIAN/control" <<CONTROL
Package: $new
Version: $version
Architecture: $(dpkg --print-architecture)
Maintainer: the remotedl lab <lab@example.invalid>
Depends: $depends
Conflicts: $conflicts
Section: admin
Priority: optional
Description: double of Docker's package $new, made by the remotedl lab
 The files are those of Debian's $*. Not from Docker, Inc.
CONTROL
    dpkg-deb --root-owner-group -Znone -b "$tree" "$out/${new}_$(echo "$version" | tr : _)_$codename.deb"
}

depends_of() { # what the package needs, less what Docker's own packages are to bring
    dpkg-deb -f "$1"_*.deb Depends | tr ',' '\n' | sed 's/^ *//' |
        grep -vE '^(containerd|runc|docker-cli|docker.io)( |$)' | paste -sd, | sed 's/,/, /g'
}

engine=$(upstream docker.io)
suffix="1~debian.$number~$codename"
client=docker.io
if ls docker-cli_*.deb >/dev/null 2>&1; then client=docker-cli; fi

repack containerd.io "$(upstream containerd)-$suffix" "$(depends_of containerd), libseccomp2" \
    "containerd, runc" yes containerd runc </dev/null

repack docker-ce "5:$engine-$suffix" "docker-ce-cli, containerd.io, $(depends_of docker.io)" \
    "docker.io" yes docker.io <<DROP
usr/bin/docker
usr/share/bash-completion
usr/share/zsh
usr/share/fish
DROP

repack docker-ce-cli "5:$engine-$suffix" "libc6" "docker-cli" no $client <<DROP
etc
lib
usr/lib
usr/sbin
usr/bin/dnet
usr/bin/docker-init
usr/share/docker.io
DROP

repack docker-buildx-plugin "$(upstream docker-buildx)-$suffix" "libc6" "docker-buildx" no \
    docker-buildx </dev/null
cp docker-buildx_*.deb "$out/"
