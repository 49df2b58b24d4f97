"""What commands say at the door of a host: an unknown key, a changed one, one session."""

from __future__ import annotations

import time

from tests.lab.laptop import Laptop
from tests.lab.sshd import MakeSshd


def test_sync_takes_an_unknown_key_when_it_is_told_to_and_no_changed_one(
    make_sshd: MakeSshd, laptop: Laptop
) -> None:
    server = make_sshd()
    laptop.know("h1", server.login, runtime="native")
    known = laptop.home / ".ssh" / "known_hosts"
    known.write_text("")
    (laptop.folder / "a.txt").write_text("a")

    refused = laptop.run("sync", "h1", "--once", check=False)
    assert refused.code == 22 and "remotedl doctor h1 --accept-new" in refused.text, refused.text
    taken = laptop.run("sync", "h1", "--once", "--accept-new")
    assert server.fingerprint in taken.text
    laptop.run("sync", "h1", "--once")

    server.new_host_key()
    changed = laptop.run("sync", "h1", "--once", "--accept-new", check=False)
    assert changed.code == 21 and "ssh-keygen" in changed.text, changed.text
    laptop.run("doctor", "h1", "--accept-new", check=False)
    assert server.fingerprint not in known.read_text()


def test_up_on_a_host_that_runs_one_command_at_a_time_is_refused_at_once(
    make_sshd: MakeSshd, laptop: Laptop
) -> None:
    server = make_sshd(config=["MaxSessions 1"])
    laptop.know("h1", server.login, runtime="native")
    began = time.monotonic()
    refused = laptop.run("up", "h1", "--no-open", "--yes", check=False, timeout_s=60)
    assert refused.code == 20 and "MaxSessions" in refused.text, refused.text
    assert time.monotonic() - began < 20
