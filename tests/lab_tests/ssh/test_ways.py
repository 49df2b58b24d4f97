"""Ways to a host: aliases, jump hosts, proxy commands; and when there is none."""

from __future__ import annotations

import functools
import socket
import sys
from pathlib import Path

import pytest

from remotedl.config.models import HostConfig
from remotedl.errors import ConfigError, HostUnreachable, LinkLost
from remotedl.ssh.sockets import ProxiedSocket
from tests.lab.badlink import MakeBadLink
from tests.lab.sshd import MakeSshd, Sshd
from tests.lab_tests.ssh.door import open_door

FORWARD = """\
import os, socket, sys, threading
end = socket.create_connection((sys.argv[1], int(sys.argv[2])))
def up():
    while data := os.read(0, 65536): end.sendall(data)
    end.shutdown(socket.SHUT_WR)
threading.Thread(target=up, daemon=True).start()
out = os.fdopen(1, "wb", buffering=0)
while data := end.recv(65536):
    while data: data = data[out.write(data):]
"""


def test_an_alias_of_ssh_config_is_enough(sshd: Sshd, tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text(sshd.login.ssh_config("box"))
    remote = open_door(HostConfig(address="box"), ssh_config=config)
    assert remote.name == "box"
    assert remote.run(["pwd"]).text.strip() == str(sshd.home)
    remote.close()


def test_included_files_count(sshd: Sshd, tmp_path: Path) -> None:
    """Also after a Host block, also by a pattern; the block that includes goes on afterwards."""
    parts = tmp_path / "conf.d"
    parts.mkdir()
    (parts / "1.conf").write_text("Host other\n  User wrong\n")
    (parts / "2.conf").write_text(f"Host box\n  HostName {sshd.address}\n  User {sshd.user}\n")
    config = tmp_path / "config"
    config.write_text(
        f"Include {parts}/*.conf\nIdentityFile {sshd.key}\n"
        f"Host box\n  Include {tmp_path}/none-here\n  Port {sshd.port}\n"
        f"  UserKnownHostsFile {sshd.known_hosts}\n"
    )
    open_door(HostConfig(address="box"), ssh_config=config).close()


def test_a_chain_of_jump_hosts(make_sshd: MakeSshd, tmp_path: Path) -> None:
    one, two, box = make_sshd(), make_sshd(), make_sshd()
    config = tmp_path / "config"
    config.write_text("".join(s.login.ssh_config(n) for n, s in (("one", one), ("two", two))))
    known = tmp_path / "known_hosts"
    known.write_text("".join(server.known_hosts.read_text() for server in (one, two, box)))
    host = box.login.host_config(jump="one,two")
    remote = open_door(host, known_hosts=known, ssh_config=config)
    assert remote.run(["cat"], stdin=bytes(5_000_000)).stdout == bytes(5_000_000)
    assert remote.ping(5) < 5
    two.kill_connections()
    with pytest.raises(LinkLost):
        remote.run(["true"])
    remote.close()


def test_a_jump_host_that_cannot_reach_the_host_is_named(
    make_sshd: MakeSshd, sshd: Sshd, tmp_path: Path
) -> None:
    gate = make_sshd()
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    config = tmp_path / "config"
    config.write_text(gate.login.ssh_config("gate"))
    host = sshd.login.host_config(jump="gate", port=port)
    with pytest.raises(HostUnreachable, match=f":{gate.port} cannot reach 127.0.0.1, port {port}"):
        open_door(host, known_hosts=gate.known_hosts, ssh_config=config)


@pytest.mark.parametrize("piped", [False, True], ids=["on a socket", "on pipes"])
def test_a_proxy_command_leads_to_the_host(
    sshd: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, piped: bool
) -> None:
    """On pipes: as on Windows."""
    monkeypatch.setattr(
        "remotedl.ssh.opener.ProxiedSocket", functools.partial(ProxiedSocket, piped=piped)
    )
    forward = tmp_path / "forward.py"
    forward.write_text(FORWARD)
    config = tmp_path / "config"
    config.write_text(f"ProxyCommand {sys.executable} {forward} %h %p\n")
    remote = open_door(sshd.login.host_config(), known_hosts=sshd.known_hosts, ssh_config=config)
    assert remote.run(["cat"], stdin=bytes(5_000_000)).stdout == bytes(5_000_000)
    remote.close()


def test_a_proxy_command_that_fails_is_an_error(sshd: Sshd, tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text("ProxyCommand false\n")
    with pytest.raises(HostUnreachable):
        open_door(sshd.login.host_config(), known_hosts=sshd.known_hosts, ssh_config=config)


def test_a_name_that_does_not_exist(tmp_path: Path) -> None:
    host = HostConfig(address="no-such-host.invalid")
    with pytest.raises(HostUnreachable, match=r'no host named "no-such-host\.invalid"'):
        open_door(host, known_hosts=tmp_path / "k")


def test_a_port_that_is_closed(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    host = HostConfig(address="127.0.0.1", port=port)
    with pytest.raises(HostUnreachable, match=f"nothing listens on 127.0.0.1, port {port}"):
        open_door(host, known_hosts=tmp_path / "k")


def test_a_host_that_does_not_answer(
    sshd: Sshd, bad_link: MakeBadLink, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection is taken and then there is silence, as behind many firewalls."""
    monkeypatch.setattr("remotedl.ssh.opener.HANDSHAKE_TIMEOUT_S", 0.5)
    link = bad_link(sshd)
    link.freeze()
    host = HostConfig(address=link.address, port=link.port)
    with pytest.raises(HostUnreachable):
        open_door(host, known_hosts=tmp_path / "k")


def test_a_configuration_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text("Host box\n  @@@\n")
    with pytest.raises(ConfigError, match="@@@") as caught:
        open_door(HostConfig(address="box"), ssh_config=config, known_hosts=tmp_path / "k")
    assert caught.value.hint == f"edit {config}, line 2"
