"""A live session until it is ended, for `sync_idle` to look at."""

from __future__ import annotations

import signal
import sys
import threading
from pathlib import Path

from benchmarks.sync_once import log_in
from remotedl.config.models import SyncConfig
from remotedl.sync.engine import Sync
from tests.lab.login import Login


def stay(argv: list[str]) -> int:
    address, port, user, key, known_hosts, laptop, state = argv
    connection = log_in(Login(address, int(port), user, Path(key), Path(known_hosts)))
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    sync = Sync(Path(laptop), connection, "~/project", SyncConfig(), state_dir=Path(state))
    sync.open()
    sync.cycle(scan=False)
    print("live", flush=True)
    sync.run(stop)
    sync.close()
    connection.close()
    return 0


if __name__ == "__main__":
    sys.exit(stay(sys.argv[1:]))
