"""One `converge` as a process of its own, so that a test can kill it: prints its stages.

`python -m tests.lab_tests.provision.runner ADDRESS USER KEY KNOWN_HOSTS`
"""

from __future__ import annotations

import sys
from pathlib import Path

from remotedl.config.models import HostConfig
from remotedl.provision.apply import converge
from remotedl.provision.steps import Wish
from remotedl.ssh import connect
from remotedl.ssh.prompt import NOBODY
from tests.lab_tests.provision.conftest import Told


class Printing(Told):
    def stage(self, name: str, detail: str = "") -> None:
        print(f"stage {detail}", flush=True)

    def output(self, line: str) -> None:
        print(f"line {line}", flush=True)


def main(address: str, user: str, key: str, known_hosts: str) -> None:
    host = HostConfig(address=address, user=user, identity_file=key)
    remote = connect(
        host, prompt=NOBODY, known_hosts=Path(known_hosts), ssh_config=Path("/dev/null")
    )
    outcome = converge(remote, Wish(gpus=False), report=Printing())
    print(f"done {len(outcome.done)}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
