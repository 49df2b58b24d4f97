"""A run that is killed at any step comes to the same end, and two runs do not get in each
other's way."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading

import pytest

from remotedl.provision.apply import Outcome, converge, preview
from remotedl.provision.journal import read_journal
from remotedl.provision.steps import Wish
from remotedl.provision.undo import undo
from remotedl.provision.undo_plan import APT_LISTS
from tests.lab.fixtures import MakeHost
from tests.lab.host import Host
from tests.lab_tests.provision.conftest import LogIn, Told
from tests.lab_tests.provision.test_undo import assert_same, picture

pytestmark = [pytest.mark.lab, pytest.mark.timeout(600)]
NO_GPU = Wish(gpus=False)


def run_until(host: Host, wanted: str) -> bool:
    """Start `converge` in a process and kill it (-9) at the first line that has `wanted`."""
    login = host.login
    argv = [
        *(sys.executable, "-m", "tests.lab_tests.provision.runner"),
        *(login.address, login.user, str(login.key), str(login.known_hosts)),
    ]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if wanted in line:
            process.send_signal(signal.SIGKILL)
            process.wait()
            return True
    assert process.wait() == 0
    return False


def test_killed_at_each_step_then_two_at_once_then_undone(
    make_host: MakeHost, log_in: LogIn
) -> None:
    host = make_host(release="bookworm")
    before = picture(host)
    # Docker's own repository is out of reach here: known at once, so that no step brings curl.
    for line in ("stage fetch the package lists", "line Unpacking docker.io"):
        assert run_until(host, line), f"never came to: {line}"

    told = [Told(), Told()]
    outcomes: list[Outcome] = []
    remotes = [log_in(host), log_in(host)]

    def one(number: int) -> None:
        outcomes.append(converge(remotes[number], NO_GPU, report=told[number]))

    threads = [threading.Thread(target=one, args=(number,)) for number in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(outcomes) == 2 and all(outcome.facts.engine.works for outcome in outcomes)
    done = [step.name for outcome in outcomes for step in outcome.done]
    assert len(done) == len(set(done)), "no step is done twice"
    assert host.sh("dpkg --audit") == ""
    assert all(entry.state == "done" for entry in read_journal(remotes[0]))
    assert preview(remotes[0], NO_GPU).steps == ()

    left = undo(remotes[0], confirm=lambda question: True).left

    assert set(left) <= {APT_LISTS}
    assert_same(before, picture(host))
