"""The laptop of the soak: keeps a session alive over a link that does not want it to."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from pathlib import Path

from benchmarks.sync_once import log_in
from remotedl.config.models import SyncConfig
from remotedl.errors import RemotedlError
from remotedl.sync import peer
from remotedl.sync.engine import Sync
from remotedl.sync.safety import HaltKind
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
        over = threading.Event()
        try:
            sync.open()
            threading.Thread(target=let_deletes_pass, args=(sync, over), daemon=True).start()
            sync.allow({HaltKind.MASS_DELETE})
            sync.cycle(scan=False)
            sync.run(stop)
        except RemotedlError as exc:
            print(f"{type(exc).__name__}: {exc}", file=sys.stderr, flush=True)
            stop.wait(0.05)
        finally:
            over.set()
            sync.close()
            connection.close()
    return 0


def let_deletes_pass(sync: Sync, over: threading.Event) -> None:
    """The users of the soak delete without end, and mean it."""
    while not over.wait(0.2):
        halt = sync.status().halt
        if halt is not None and halt.kind is HaltKind.MASS_DELETE:
            with contextlib.suppress(RemotedlError):
                sync.allow({HaltKind.MASS_DELETE})


if __name__ == "__main__":
    sys.exit(live(sys.argv[1:]))
