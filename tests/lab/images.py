"""The lab's images: made once, tagged by a hash of all that went in, reused by every run.

rootfs (debootstrap, a cached tarball) -> base -> host (systemd, sshd, the cast) -> engine
(Docker of that Debian release). `standin` is what product builds may start FROM: the base with
this machine's certificates and wheels, under a public image's name, in lab engines only.
"""

from __future__ import annotations

import io
import subprocess
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from tests.lab import machine, users
from tests.lab.cache import cache_folder, content_hash, locked
from tests.lab.engine import docker, docker_ok, ensure_dockerd, piped

Release = Literal["bookworm", "trixie"]
RELEASES: tuple[Release, ...] = ("bookworm", "trixie")

REPOSITORY = "remotedl-lab"
CA_PATH = "usr/local/share/remotedl-lab/ca-certificates.crt"
WHEELS_ADDRESS = "10.213.255.1"
WHEELS_PORT = 7999

ENGINE_PACKAGES: dict[Release, str] = {
    "bookworm": "docker.io",
    "trixie": "docker.io docker-cli docker-buildx",
}

# Bare: what a cloud image has, and not what provisioning must bring (curl, gnupg, venv, Docker).
HOST_PACKAGES = (
    "systemd systemd-sysv dbus openssh-server sudo python3 procps iproute2 iputils-ping kmod "
    "ca-certificates fish tcsh less"
)

APT_LEAN = 'Acquire::Languages "none";\nDPkg::Options {"--force-unsafe-io";};\n'

# As in the public slim images: no package lists, no archives.
ROOTFS_RECIPE = """\
set -eu -o pipefail
debootstrap --variant=minbase "$1" "$2" $3
rm -rf "$2"/var/cache/apt/archives/*.deb "$2"/var/lib/apt/lists/* "$2"/var/log/*.log
tar -C "$2" -c . | zstd -q -3 -f -o "$4"
"""

BASE_DOCKERFILE = """\
FROM {rootfs}
COPY files/ /
"""

# Masked: what has no hardware here, or waits for it.
HOST_DOCKERFILE = """\
FROM {base}
COPY files/ /
RUN export DEBIAN_FRONTEND=noninteractive; apt-get update -q \\
 && apt-get install -qy --no-install-recommends {packages} \\
 && update-ca-certificates \\
 && systemctl mask getty.target console-getty.service systemd-logind.service \\
      systemd-udevd.service systemd-udevd-kernel.socket systemd-udevd-control.socket \\
      systemd-udev-trigger.service systemd-remount-fs.service \\
      systemd-networkd-wait-online.service dev-hugepages.mount \\
      sys-kernel-config.mount sys-kernel-debug.mount sys-kernel-tracing.mount \\
      sys-fs-fuse-connections.mount systemd-modules-load.service systemd-sysctl.service \\
      modprobe@.service apt-daily.timer apt-daily-upgrade.timer \\
 && systemctl enable lab-wheels.service \\
 && rm -f /etc/ssh/ssh_host_* \\
 && sh /usr/local/share/remotedl-lab/users.sh \\
 && apt-get clean && rm -rf /var/lib/apt/lists/*
STOPSIGNAL SIGRTMIN+3
CMD ["/sbin/init"]
"""

ENGINE_DOCKERFILE = """\
FROM {host}
RUN export DEBIAN_FRONTEND=noninteractive; apt-get update -q \\
 && apt-get install -qy --no-install-recommends {packages} \\
 && apt-get clean && rm -rf /var/lib/apt/lists/*
"""

STANDIN_DOCKERFILE = """\
FROM {base}
ENV PIP_CERT=/{ca} SSL_CERT_FILE=/{ca} REQUESTS_CA_BUNDLE=/{ca} \\
    PIP_FIND_LINKS=http://{wheels}/ PIP_TRUSTED_HOST={wheels_host}
CMD ["bash"]
"""

# One address inside every lab host, so that the stand-in image is the same in all of them (and
# build caches hold). The loopback of the host is what its containers reach through their gateway.
WHEELS_UNIT = f"""\
[Unit]
Description=Wheels of the lab's machine, for builds on this host
[Service]
ExecStartPre=-/usr/sbin/ip address add {WHEELS_ADDRESS}/32 dev lo
ExecStart=/usr/bin/python3 -m http.server --bind {WHEELS_ADDRESS} \
--directory /srv/wheels {WHEELS_PORT}
DynamicUser=no
User=nobody
PermissionsStartOnly=true
[Install]
WantedBy=multi-user.target
"""


def base_image(release: Release) -> str:
    """Debian `release`, with this machine's certificates and package sources."""
    files = _base_files(release)
    return _built("base", release, BASE_DOCKERFILE, files, rootfs=_rootfs_image(release))


def host_image(release: Release) -> str:
    """A bare host: systemd, sshd, sudo, the cast of users."""
    files = {
        "etc/ssh/sshd_config.d/lab.conf": users.sshd_config(release),
        "etc/ssh/lab_banner": "Authorized users only. All activity is logged.\n",
        "etc/systemd/system/lab-wheels.service": WHEELS_UNIT,
        "usr/local/share/remotedl-lab/users.sh": users.setup_script(),
        "srv/wheels/README": "wheels of the lab's machine are mounted here\n",
        "etc/sudoers.d/lab": "Defaults lecture=never\n",
    }
    fields = {"base": base_image(release), "packages": HOST_PACKAGES}
    return _built("host", release, HOST_DOCKERFILE, files, **fields)


def engine_image(release: Release) -> str:
    """A host with that Debian release's own Docker on it."""
    fields = {"host": host_image(release), "packages": ENGINE_PACKAGES[release]}
    return _built("engine", release, ENGINE_DOCKERFILE, {}, **fields)


def standin_image(release: Release) -> str:
    """What builds start FROM on lab hosts, in place of the public image of that name."""
    wheels = f"{WHEELS_ADDRESS}:{WHEELS_PORT}"
    return _built(
        "standin", release, STANDIN_DOCKERFILE, {},
        base=base_image(release), ca=CA_PATH, wheels=wheels, wheels_host=WHEELS_ADDRESS,
    )  # fmt: skip


def _rootfs_image(release: Release) -> str:
    key = content_hash(ROOTFS_RECIPE)
    tag = f"{REPOSITORY}:rootfs-{release}-{key}"
    if docker_ok("image", "inspect", tag):
        return tag
    ensure_dockerd()
    with locked(f"rootfs-{release}"):
        if not docker_ok("image", "inspect", tag):
            tarball = _rootfs(release, cache_folder() / f"rootfs-{release}-{key}.tar.zst")
            piped(["zstd", "-dcq", str(tarball)], ["docker", "import", "-", tag])
    return tag


def _rootfs(release: Release, tarball: Path) -> Path:
    """The cached tarball of a minimal Debian; made in about 30 s."""
    if tarball.exists():
        return tarball
    partial = tarball.with_suffix(".partial")
    with tempfile.TemporaryDirectory(dir=cache_folder(), prefix="debootstrap-") as name:
        words = ["sh", release, f"{name}/root", machine.debian_mirror(), str(partial)]
        done = subprocess.run(["bash", "-c", ROOTFS_RECIPE, *words], capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"debootstrap {release} failed: {done.stdout[-2000:]}{done.stderr}")
    partial.replace(tarball)
    return tarball


def _base_files(release: Release) -> dict[str, str]:
    files = {
        "etc/apt/apt.conf.d/99lab": machine.apt_settings() + APT_LEAN,
        "etc/ssl/certs/ca-certificates.crt": machine.ca_bundle(),
        CA_PATH: machine.ca_bundle(),
        "etc/pip.conf": f"[global]\ncert = /{CA_PATH}\ndisable-pip-version-check = true\n",
    }
    if sources := machine.apt_sources(release):
        files["etc/apt/sources.list"] = sources
    for number, pem in enumerate(machine.own_cas()):
        files[f"usr/local/share/ca-certificates/lab-{number}.crt"] = pem + "\n"
    return files


def _built(
    kind: str, release: Release, dockerfile: str, files: Mapping[str, str], **fields: str
) -> str:
    """Build unless an image of exactly this content is there; returns its tag."""
    text = dockerfile.format(**fields)
    listing = "".join(f"{path}\0{content}\0" for path, content in sorted(files.items()))
    tag = f"{REPOSITORY}:{kind}-{release}-{content_hash(text, listing)}"
    if docker_ok("image", "inspect", tag):
        return tag
    ensure_dockerd()
    with locked(f"{kind}-{release}"):
        if not docker_ok("image", "inspect", tag):
            docker("build", "-t", tag, "-", stdin=_context(text, files), timeout_s=900)
    return tag


def _context(dockerfile: str, files: Mapping[str, str]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for path, content in {"Dockerfile": dockerfile, **_below("files", files)}.items():
            data = content.encode()
            info = tarfile.TarInfo(path)
            info.size = len(data)
            info.mode = 0o440 if "sudoers.d" in path else 0o644
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def _below(folder: str, files: Mapping[str, str]) -> dict[str, str]:
    return {f"{folder}/{path}": content for path, content in files.items()}
