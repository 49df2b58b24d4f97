"""`--via-laptop`: a host without internet fetches its packages through this laptop.

A port on the host's loopback leads back over our connection to a proxy in this process. It needs
a credential that is made for this run, which apt, dnf and curl get through their environment
(sent over stdin, so that no process list shows it). When the connection ends, sshd closes the
port: nothing was configured, so nothing stays.

The engine is another matter: dockerd reads its proxy when it starts. `engine_through` gives it a
drop-in under /run, held there by a process on the host that takes it away as soon as our channel
to it ends, whether we close it or are killed.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Protocol
from urllib.parse import urlsplit

from remotedl.errors import ProvisionError
from remotedl.provision.laptop_proxy import WEB_PORTS, LaptopProxy
from remotedl.provision.laptop_reach import Reach
from remotedl.provision.probe import proxy_variables
from remotedl.provision.steps import Wish
from remotedl.report import SILENT, Report
from remotedl.ssh.remote import Remote, Stream, read_line

USER = "remotedl"
DROP_IN = "/run/systemd/system/docker.service.d/50-remotedl-via-laptop.conf"
ENVIRONMENT = "/run/remotedl-via-laptop.env"
HOLD = f"""\
trap '' HUP PIPE
restart() {{ systemctl daemon-reload; systemctl restart docker.service; }}
let_go() {{
    rm -f {DROP_IN} {ENVIRONMENT}
    rmdir {DROP_IN.rpartition("/")[0]} 2>/dev/null
    systemctl daemon-reload
    # a restart would end containers that somebody started meanwhile
    if [ -z "$(docker ps -q)" ]; then systemctl restart docker.service; fi
}}
umask 077
lines=; while IFS= read -r line && [ -n "$line" ]; do lines="$lines$line
"; done
printf '%s' "$lines" >{ENVIRONMENT}
(umask 022; mkdir -p {DROP_IN.rpartition("/")[0]}
 printf '[Service]\\nEnvironmentFile={ENVIRONMENT}\\n' >{DROP_IN})
if restart; then echo ready; else echo failed; fi
cat >/dev/null
let_go
echo gone
"""


class Listener(Protocol):
    @property
    def port(self) -> int: ...

    def close(self) -> None: ...


class Door(Remote, Protocol):
    """A Remote that can also let the host connect to us."""

    def listen_remote(
        self, address: str, port: int, handler: Callable[[Stream], None]
    ) -> Listener: ...


@dataclass(frozen=True, slots=True)
class Way:
    """A way out for the host, as long as it is open."""

    wish: Wish
    """The wish with the way in it: what `converge` takes."""
    url: str
    """The proxy's URL as the host sees it; it holds the credential: never into argv or a log."""
    proxy: LaptopProxy


@contextmanager
def via_laptop(
    remote: Door,
    wish: Wish,
    *,
    ports: Collection[int] = (),
    lan: Collection[str] = (),
    report: Report = SILENT,
) -> Iterator[Way]:
    """Open the way for the length of the block; `ports`: further ones that it may lead to, `lan`:
    what it may reach besides public addresses.

    Raises TunnelError where sshd forbids it.
    """
    secret = secrets.token_urlsafe(24)
    proxy = LaptopProxy(f"{USER}:{secret}", allowed_ports(wish) | set(ports), Reach(lan).dial)
    listener = remote.listen_remote("127.0.0.1", 0, proxy.serve)
    url = f"http://{USER}:{secret}@127.0.0.1:{listener.port}"
    report.note(f"{remote.name} reaches the internet through this laptop while this runs")
    try:
        yield Way(replace(wish, proxy=url, lasting_proxy=False), url, proxy)
    finally:
        listener.close()
        report.note(f"{proxy.carried / 1e6:.1f} MB came through this laptop")


def allowed_ports(wish: Wish) -> frozenset[int]:
    """Those of the web, and of the mirrors that hosts.toml names."""
    named = set[int]()
    for url in (wish.docker_mirror, wish.nvidia_mirror, wish.pip_mirror):
        port = urlsplit(url).port if url else None
        if port is not None:
            named.add(port)
    return WEB_PORTS | named


@contextmanager
def engine_through(remote: Remote, way: Way) -> Iterator[None]:
    """Docker on the host pulls through the way, while the block runs.

    It is restarted before and after: to be asked about where containers run.
    Raises ProvisionError where Docker does not come back.
    """
    process = remote.start(["sh", "-c", HOLD], sudo=True)
    try:
        variables = proxy_variables(way.url)
        process.sendall("".join(f"{k}={v}\n" for k, v in variables.items()).encode() + b"\n")
        if read_line(process) != b"ready\n":
            raise ProvisionError(
                f"{remote.name}: Docker did not start again with the laptop as its way out",
                hint=f"ssh {remote.name} sudo journalctl -u docker -n 30",
            )
        yield
    finally:
        process.shutdown_write()
        read_line(process)
        process.close()
