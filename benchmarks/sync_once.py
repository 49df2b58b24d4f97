"""One sync from a cold start, as a command: login, agent, scan, one cycle, end. For stopwatches."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from remotedl.ssh.connection import Connection


def sync_once(argv: list[str]) -> int:
    address, port, user, key, known_hosts, laptop, state = argv
    from remotedl.config.models import HostConfig, SyncConfig
    from remotedl.sync.engine import Sync

    host = HostConfig(address=address, port=int(port), user=user, identity_file=key)

    def log_in() -> Connection:
        from remotedl.ssh import connect

        opened.append(
            connect(
                host,
                prompt=Nobody(),
                known_hosts=Path(known_hosts),
                ssh_config=Path("/dev/null"),
            )
        )
        return opened[0]

    opened: list[Connection] = []
    sync = Sync(Path(laptop), log_in, "~/project", SyncConfig(), state_dir=Path(state), watch=False)
    sync.open()
    outcome = sync.cycle(scan=False)
    sync.close()
    opened[0].close()
    return 1 if outcome.pending else 0


class Nobody:
    """No one is there to be asked."""

    def secret(self, question: str) -> str | None:
        return None

    def confirm(self, question: str) -> bool:
        return False


if __name__ == "__main__":
    sys.exit(sync_once(sys.argv[1:]))
