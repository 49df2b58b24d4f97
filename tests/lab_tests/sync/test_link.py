"""The sync over real OpenSSH: start of the agent, noise, cuts, silence, rekeys."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator

import psutil
import pytest

from remotedl.errors import LinkLost, ProtocolError, RootInUse
from remotedl.sync import peer as peer_module
from remotedl.sync.bundle import agent_bundle
from tests.lab.badlink import MakeBadLink
from tests.lab.sshd import MakeSshd, Sshd
from tests.lab_tests.ssh.door import open_door
from tests.lab_tests.sync.conftest import MakeFolders
from tests.lab_tests.sync.folders import Folders, eventually, settled

MB = 1 << 20


@pytest.fixture
def over(make_folders: MakeFolders) -> Iterator[Over]:
    """Folders whose host is reached through a real sshd."""
    made = Over(make_folders)
    yield made
    made.close()


class Over:
    def __init__(self, make_folders: MakeFolders) -> None:
        self._make = make_folders
        self._doors: list[object] = []

    def __call__(self, sshd: Sshd, **options: object) -> Folders:
        """A pair of folders; the host's lies in the home of sshd's login."""
        door = open_door(sshd.login)
        self._doors.append(door)
        folders = self._make(remote=door)
        folders.host = sshd.home / "project"
        folders.remote_root = "~/project"
        return folders

    def again(self, folders: Folders, login: object) -> None:
        """A new connection for the next session."""
        door = open_door(login)  # type: ignore[arg-type]
        self._doors.append(door)
        folders.remote = door

    def close(self) -> None:
        for door in self._doors:
            door.close()  # type: ignore[attr-defined]


@pytest.fixture
def host(sshd: Sshd) -> Iterator[Sshd]:
    """The shared sshd with nothing of an earlier test in its home."""
    yield sshd
    shutil.rmtree(sshd.home / "project", ignore_errors=True)


def test_two_folders_live_both_ways(over: Over, host: Sshd) -> None:
    folders = over(host)
    (folders.laptop / "train.py").write_text("one")
    sync = folders.live()
    assert (folders.host / "train.py").read_text() == "one"
    (folders.laptop / "train.py").write_text("two")
    eventually(lambda: (folders.host / "train.py").read_text() == "two")
    (folders.host / "runs" / "a").mkdir(parents=True)
    (folders.host / "runs" / "a" / "plot.png").write_bytes(os.urandom(300_000))
    eventually(lambda: (folders.laptop / "runs" / "a" / "plot.png").exists())
    (folders.laptop / "train.py").unlink()
    eventually(lambda: not (folders.host / "train.py").exists())
    (folders.laptop / "x").write_text("laptop's")
    (folders.host / "x").write_text("host's")
    assert [conflict.key for conflict in settled(sync).conflicts] == ["x"]
    assert (folders.laptop / "x").read_text() == "laptop's"
    assert (folders.host / "x").read_text() == "host's"


def test_flush_proves_that_everything_is_there(over: Over, host: Sshd) -> None:
    folders = over(host)
    sync = folders.live()
    for number in range(50):
        (folders.laptop / f"from-laptop-{number}").write_text(str(number))
        (folders.host / f"from-host-{number}").write_text(str(number))
    assert sync.flush(10).clean
    folders.assert_equal()


def test_agent_is_uploaded_once(over: Over, make_sshd: MakeSshd) -> None:
    server = make_sshd()
    folders = over(server)
    folders.once()
    agent = server.home / ".remotedl" / "agent" / agent_bundle().name
    before = agent.stat()
    assert before.st_mode & 0o777 == 0o600
    folders.once()
    assert agent.stat().st_mtime_ns == before.st_mtime_ns
    assert agent.stat().st_ino == before.st_ino


def test_agent_of_another_version_is_left_alone_and_ours_is_uploaded(
    over: Over, make_sshd: MakeSshd
) -> None:
    server = make_sshd()
    other = server.home / ".remotedl" / "agent" / "agent-0000.pyz"
    other.parent.mkdir(parents=True)
    other.write_text("raise SystemExit(1)")
    folders = over(server)
    (folders.laptop / "a").write_text("one")
    folders.once()
    assert (folders.host / "a").read_text() == "one"
    assert other.exists()


def test_an_agent_that_speaks_another_version_is_refused(over: Over, make_sshd: MakeSshd) -> None:
    server = make_sshd()
    folders = over(server)
    agent = server.home / ".remotedl" / "agent" / agent_bundle().name
    agent.parent.mkdir(parents=True)
    lines = [
        "import sys, struct",
        "body = b'{\"version\":99}'",
        "magic = b'\\x00remotedl-agent\\x01\\xf0\\x9f\\x94\\x81\\n'",
        "head = struct.pack('>IBI', len(body), 1, 0)",
        "sys.stdout.buffer.write(magic + head + body)",
        "sys.stdout.flush()",
        "sys.stdin.read()",
    ]
    agent.write_text("\n".join(lines))
    with pytest.raises(ProtocolError, match="version 99"):
        folders.once()


def test_banner_noise(over: Over, make_sshd: MakeSshd) -> None:
    noise = "Welcome!\n\x1b[31mred\x1b[0m \x00\x01\x02 remotedl-agent\n" * 200
    folders = over(make_sshd(noise=noise))
    (folders.laptop / "a").write_text("one")
    folders.once()
    assert (folders.host / "a").read_text() == "one"


@pytest.mark.lab
def test_noexec_home(over: Over, make_sshd: MakeSshd) -> None:
    server = make_sshd()
    mount = ["mount", "-t", "tmpfs", "-o", "noexec,nosuid", "tmpfs", str(server.home)]
    subprocess.run(mount, check=True)
    try:
        folders = over(server)
        (folders.laptop / "a").write_text("one")
        folders.once()
        assert (folders.host / "a").read_text() == "one"
        over.close()
    finally:
        server.kill()
        subprocess.run(["umount", "-l", str(server.home)], check=True)


@pytest.mark.parametrize("way", ["up", "down"])
def test_link_cut_in_mid_file_resumes(
    over: Over, host: Sshd, bad_link: MakeBadLink, way: str
) -> None:
    folders = over(host)
    folders.once()
    here, there = folders.laptop, folders.host
    if way == "down":
        here, there = there, here
    content = os.urandom(24 * MB)
    (here / "big").write_bytes(content)
    link = bad_link(host, bandwidth=40 * MB)
    login = host.login.at(link.address, link.port)
    over.again(folders, login)
    sync = folders.open()
    failed: list[BaseException] = []

    def passed() -> int:
        return link.bytes_up if way == "up" else link.bytes_down

    def work() -> None:
        try:
            sync.cycle(scan=False)
        except LinkLost as exc:
            failed.append(exc)

    thread = threading.Thread(target=work)
    thread.start()
    eventually(lambda: passed() > 14 * MB)
    link.reset()
    thread.join(20)
    assert failed
    assert not (there / "big").exists()
    folders.close()

    sent = passed()
    over.again(folders, login)
    folders.once()
    assert (there / "big").read_bytes() == content
    assert passed() - sent < 18 * MB, "what had arrived was not sent again"


def test_half_open_link(
    over: Over, host: Sshd, bad_link: MakeBadLink, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody is told that the link is gone: our ping is, and the agent left behind gives way."""
    monkeypatch.setattr(peer_module, "PING_S", 0.1)
    monkeypatch.setattr(peer_module, "SILENCE_S", 0.5)
    link = bad_link(host)
    folders = over(host)
    over.again(folders, host.login.at(link.address, link.port))
    folders.live()
    link.freeze()
    (folders.laptop / "during").write_text("laptop")
    eventually(lambda: folders.run_errors)
    assert isinstance(folders.run_errors[0], LinkLost)
    folders.close()

    over.again(folders, host.login)  # the old agent still runs and holds the folder
    folders.once()
    assert (folders.host / "during").read_text() == "laptop"


def test_an_hour_asleep_with_edits_on_both_sides(over: Over, host: Sshd) -> None:
    folders = over(host)
    for name in ("laptop", "host", "both", "gone"):
        (folders.laptop / name).write_text("before")
    folders.live()
    host.kill_connections()
    eventually(lambda: folders.run_errors)
    assert isinstance(folders.run_errors[0], LinkLost)
    (folders.laptop / "laptop").write_text("edited")
    (folders.host / "host").write_text("edited")
    (folders.laptop / "both").write_text("laptop's")
    (folders.host / "both").write_text("host's")
    (folders.host / "gone").unlink()
    folders.close()

    over.again(folders, host.login)
    outcome = folders.once()
    assert [conflict.key for conflict in outcome.conflicts] == ["both"]
    assert (folders.host / "laptop").read_text() == "edited"
    assert (folders.laptop / "host").read_text() == "edited"
    assert not (folders.laptop / "gone").exists()


def test_killed_agent_is_a_lost_link(over: Over, host: Sshd) -> None:
    folders = over(host)
    folders.live()
    agents = [
        process
        for process in host.processes()
        if any("agent-" in part for part in _cmdline(process))
    ]
    assert agents
    for process in agents:
        process.send_signal(signal.SIGKILL)
    eventually(lambda: folders.run_errors)
    assert isinstance(folders.run_errors[0], LinkLost)


def test_agent_ends_when_the_link_is_cut(over: Over, host: Sshd) -> None:
    folders = over(host)
    folders.live()
    folders.remote.close()
    eventually(lambda: not any("agent-" in " ".join(_cmdline(p)) for p in host.processes()))


def test_two_laptops_on_one_root(over: Over, host: Sshd) -> None:
    first, second = over(host), over(host)
    first.open()
    with pytest.raises(RootInUse, match=r"is being synced by .+@"):
        second.open()


def test_rekey_in_mid_transfer(over: Over, make_sshd: MakeSshd) -> None:
    folders = over(make_sshd(config=["RekeyLimit 4M"]))
    up, down = os.urandom(40 * MB), os.urandom(40 * MB)
    (folders.laptop / "up").write_bytes(up)
    folders.host.mkdir()
    (folders.host / "down").write_bytes(down)
    folders.once()
    assert (folders.host / "up").read_bytes() == up
    assert (folders.laptop / "down").read_bytes() == down


def test_host_without_python(over: Over, make_sshd: MakeSshd) -> None:
    from remotedl.errors import FolderUnusable

    folders = over(make_sshd(config=["SetEnv PATH=/nowhere"]))
    with pytest.raises(FolderUnusable, match="no python3"):
        folders.once()


def _cmdline(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def test_a_far_and_slow_link_carries_deflated_contents(
    over: Over, host: Sshd, bad_link: MakeBadLink
) -> None:
    folders = over(host)
    text = b"".join(b"loss %d = %f\n" % (number, number / 7) for number in range(400_000))
    (folders.laptop / "up.log").write_bytes(text)
    folders.host.mkdir(exist_ok=True)
    (folders.host / "down.log").write_bytes(text[::-1])
    link = bad_link(host, delay_s=0.01, bandwidth=8 * MB)
    over.again(folders, host.login.at(link.address, link.port))
    folders.once()
    folders.assert_equal()
    assert link.bytes_down < len(text) / 2
    assert link.bytes_up < len(text) * 0.8, "the rate is known after the first MiB or two"
