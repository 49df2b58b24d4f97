"""The laptop of the soak: keeps a session alive over a link that does not want it to."""

from __future__ import annotations

import signal
import sys
import threading
from pathlib import Path

from benchmarks.sync_once import log_in
from remotedl.config.models import SyncConfig
from remotedl.errors import RemotedlError
from remotedl.sync import peer
from remotedl.sync.engine import Sync
from tests.lab.login import Login

peer.PING_S, peer.SILENCE_S = 0.1, 0.6  # the soak's seconds are short


def live(argv: list[str]) -> int:
    address, port, user, key, known_hosts, laptop, state = argv
    login = Login(address, int(port), user, Path(key), Path(known_hosts))
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    while not stop.is_set():
        try:
            connection = log_in(login)
        except RemotedlError as exc:
            print(f"{type(exc).__name__}: {exc}", file=sys.stderr, flush=True)
            stop.wait(0.1)
            continue
        sync = Sync(Path(laptop), connection, "~/project", SyncConfig(), state_dir=Path(state))
        try:
            sync.open()
            sync.cycle(scan=False)
            sync.run(stop)
        except RemotedlError as exc:
            print(f"{type(exc).__name__}: {exc}", file=sys.stderr, flush=True)
            stop.wait(0.05)
        finally:
            sync.close()
            connection.close()
    return 0


if __name__ == "__main__":
    sys.exit(live(sys.argv[1:]))
