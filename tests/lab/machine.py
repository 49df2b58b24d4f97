"""What this machine lends to its test hosts: certificates, package sources, name servers, wheels.

Read at run time and copied into lab images only; nothing of it may reach the repository or the
product's own Dockerfiles.
"""

from __future__ import annotations

import os
import pwd
import re
import subprocess
from pathlib import Path

CA_BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")
PUBLIC_CAS = Path("/usr/share/ca-certificates")
RESOLV_CONFS = (Path("/run/systemd/resolve/resolv.conf"), Path("/etc/resolv.conf"))
APT_SOURCES = Path("/etc/apt")
CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)
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
