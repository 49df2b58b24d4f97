"""What this machine lends to its test hosts: certificates, package sources, name servers, wheels.

Read at run time and copied into lab images only; nothing of it may reach the repository or the
product's own Dockerfiles.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import pwd
import re
import socket
import struct
import subprocess
from pathlib import Path

CA_BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")
PUBLIC_CAS = Path("/usr/share/ca-certificates")
RESOLV_CONFS = (Path("/run/systemd/resolve/resolv.conf"), Path("/etc/resolv.conf"))
APT_SOURCES = Path("/etc/apt")
CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)
SIOCETHTOOL = 0x8946
ETHTOOL_STSO = 0x1F
"""Whether a card takes segments larger than its packets from TCP (linux/ethtool.h)."""
ETHTOOL_SGSO = 0x24
"""The same, done in the kernel just before the card."""
APT_SETTINGS = (
    "Acquire::Check-Valid-Until",
    "Acquire::Check-Date",
    "Acquire::http::Proxy",
    "Acquire::https::Proxy",
    "Acquire::https::CaInfo",
)


def ca_bundle() -> str:
    """Every certificate authority that this machine trusts, PEM; "" without a bundle."""
    return CA_BUNDLE.read_text(encoding="utf-8") if CA_BUNDLE.exists() else ""


def own_cas() -> list[str]:
    """The authorities that this machine trusts beyond the public ones, PEM each.

    A host that installs ca-certificates anew keeps them, if they are put where
    update-ca-certificates looks.
    """
    public = {
        _body(pem) for path in PUBLIC_CAS.rglob("*.crt") for pem in _certificates(path.read_text())
    }
    return [pem for pem in _certificates(ca_bundle()) if _body(pem) not in public]


def apt_sources(release: str) -> str:
    """A sources.list for `release` from this machine's own mirrors; "" if it is no Debian."""
    main, security = _mirrors()
    if not main:
        return ""
    lines = [f"deb {main} {release} main", f"deb {main} {release}-updates main"]
    if security:
        lines.append(f"deb {security} {release}-security main")
    return "\n".join(lines) + "\n"


def debian_mirror() -> str:
    """The machine's mirror of Debian itself; "" for debootstrap's own choice."""
    return _mirrors()[0]


def apt_settings() -> str:
    """The apt configuration that a host needs here, as an apt.conf.d file."""
    done = subprocess.run(
        ["apt-config", "dump", "--format", '%f "%v";%n', *APT_SETTINGS],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    return done.stdout


def name_servers() -> list[str]:
    """Name servers that are reached from a container: none on loopback."""
    for path in RESOLV_CONFS:
        if path.exists():
            found = re.findall(r"^nameserver\s+(\S+)", path.read_text(), re.MULTILINE)
            if usable := [server for server in found if not server.startswith(("127.", "::1"))]:
                return usable
    return []


def wheel_folder() -> Path | None:
    """The folder of wheels that this machine's pip is configured to look into, if any.

    Asked as the account itself: a HOME that a test, a runner or a newcomer has set names other
    settings, and a build that misses them brings gigabytes.
    """
    home = pwd.getpwuid(os.getuid()).pw_dir
    world = {key: value for key, value in os.environ.items() if key != "XDG_CONFIG_HOME"}
    done = subprocess.run(
        ["pip", "config", "get", "global.find-links"], capture_output=True,
        env={**world, "HOME": home},
    )  # fmt: skip
    named = f"{os.environ.get('PIP_FIND_LINKS', '')} {done.stdout.decode()}"
    for word in named.split():
        if (folder := Path(word.removeprefix("file://"))).is_dir():
            return folder
    return None


def shrink_card(pid: int, mtu: int) -> None:
    """eth0 of the network namespace of `pid` takes packets of `mtu` bytes at most.

    Its other end on this machine must cut what it sends into packets as a real network does:
    as it is, it hands over whole segments of 64 KB, whose size nobody looks at.
    """
    namespace = ["nsenter", "-t", str(pid), "-n"]
    subprocess.run([*namespace, "ip", "link", "set", "eth0", "mtu", str(mtu)], check=True)
    link = ["cat", "/sys/class/net/eth0/iflink"]
    # /sys shows the namespace that mounted it
    done = subprocess.run([*namespace, "-m", *link], check=True, capture_output=True, text=True)
    other = socket.if_indextoname(int(done.stdout))
    for command in (ETHTOOL_STSO, ETHTOOL_SGSO):
        _ethtool(other, command, 0)


def _ethtool(interface: str, command: int, value: int) -> None:
    request = ctypes.create_string_buffer(struct.pack("II", command, value))
    name = interface.encode()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        argument = struct.pack("16sP8x", name, ctypes.addressof(request))
        fcntl.ioctl(any_socket, SIOCETHTOOL, argument)


def _mirrors() -> tuple[str, str]:
    """(Debian, Debian security) base URLs out of the apt sources; "" for none."""
    text = "\n".join(
        path.read_text()
        for pattern in ("sources.list", "sources.list.d/*.list", "sources.list.d/*.sources")
        for path in sorted(APT_SOURCES.glob(pattern))
    )
    urls = re.findall(r"^(?:deb\s+(?:\[[^]]*\]\s+)?|URIs:\s*)(\S+)", text, re.MULTILINE)
    main = next((url for url in urls if url.rstrip("/").endswith("/debian")), "")
    security = next((url for url in urls if url.rstrip("/").endswith("/debian-security")), "")
    return main, security


def _certificates(text: str) -> list[str]:
    return CERTIFICATE.findall(text)


def _body(pem: str) -> str:
    return "".join(pem.split())
