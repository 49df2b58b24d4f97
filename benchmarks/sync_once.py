"""One sync from a cold start, as a command: login, agent, scan, one cycle, end. For stopwatches."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from remotedl.ssh.connection import Connection
    from tests.lab.login import Login


def sync_once(argv: list[str]) -> int:
    address, port, user, key, known_hosts, laptop, state = argv
    from tests.lab.login import Login

    login = Login(address, int(port), user, Path(key), Path(known_hosts))
    import remotedl.ssh.connection  # noqa: F401  first, for the login waits for nothing else

    with ThreadPoolExecutor(1) as pool:
        connecting = pool.submit(log_in, login)
        from remotedl.config.models import SyncConfig
        from remotedl.sync.engine import Sync

        config = SyncConfig()
        sync = Sync(
            Path(laptop), connecting.result, "~/project", config, state_dir=Path(state), watch=False
        )
        sync.open()
    outcome = sync.cycle(scan=False)
    sync.close()
    connecting.result().close()
    return 1 if outcome.pending else 0


def log_in(login: Login) -> Connection:
    """A connection with the lab's key, and nothing of this machine's user."""
    from remotedl.ssh import connect

    return connect(
        login.host_config(),
        prompt=Nobody(),
        known_hosts=login.known_hosts,
        ssh_config=Path("/dev/null"),
    )


class Nobody:
    """No one is there to be asked."""

    def secret(self, question: str) -> str | None:
        return None

    def confirm(self, question: str) -> bool:
        return False


if __name__ == "__main__":
    sys.exit(sync_once(sys.argv[1:]))
