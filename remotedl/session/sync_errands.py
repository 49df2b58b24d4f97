"""The sync's own commands: asked of the live session where there is one, done here where not."""

from __future__ import annotations

import os
import threading
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from remotedl.container.ground import survey
from remotedl.errors import SessionError
from remotedl.session.alone import SyncAlone, in_use
from remotedl.session.errands import FLUSH_S, Errand, ask_session
from remotedl.session.registry import SessionLock
from remotedl.session.status import Snapshot
from remotedl.session.syncing import SessionSync, halts_named
from remotedl.sync.safety import HaltKind

LOOK_S = 60.0


@contextmanager
def own_sync(errand: Errand, allowed: frozenset[HaltKind] = frozenset()) -> Iterator[SessionSync]:
    """A sync of our own for as long as the block runs; no session may have one meanwhile.

    Both sides are compared, and nothing is moved.
    """
    lock = SessionLock(errand.folder)
    if not lock.acquire():
        raise in_use(errand)
    remote = errand.connect()
    sync = SessionSync(
        errand.project,
        errand.folder,
        errand.report,
        errand.report.note,
        errand.prompt.confirm,
        errand.container,
    )
    try:
        workdir = survey(remote, errand.name, errand.host).folders.workdir
        sync.open(remote, workdir, allowed)
        yield sync
    finally:
        sync.close()
        remote.close()
        lock.release()


def request(errand: Errand, do: str, *, timeout_s: float = LOOK_S, **fields: Any) -> Any:
    """One request of the sync, by whoever has it open."""
    if errand.session() is not None:
        return ask_session(errand, do, timeout_s=timeout_s, **fields)
    with own_sync(errand) as sync:
        sync.look()
        return sync.requests()[do](fields)


def key_meant(path: str, root: Path, cwd: Path) -> str:
    """A path as users type it, from where they stand, as the sync names it."""
    full = os.path.normpath(cwd.resolve() / path)
    try:
        return unicodedata.normalize("NFC", Path(full).relative_to(root.resolve()).as_posix())
    except ValueError:
        return path


def conflicts_of(
    errand: Errand, *, diffs: bool
) -> tuple[list[dict[str, Any]], dict[str, dict[str, Any]]]:
    """The conflicts and, where asked for, what differs in each, by path."""

    with asking(errand) as ask:
        rows = ask("sync-conflicts")
        wanted = [row["path"] for row in rows] if diffs else []
        return rows, {path: ask("sync-diff", path=path) for path in wanted}


def resolve(
    errand: Errand, path: str, choice: str, agree: Callable[[str, dict[str, Any]], None]
) -> dict[str, Any]:
    """Settle one conflict. `path`: as typed, from where the user stands.

    `agree` is shown what differs where the host's version is held back, and raises if the user
    does not take it.
    """
    meant = key_meant(path, errand.project.root, Path.cwd())
    typed = unicodedata.normalize("NFC", os.path.normpath(path))
    with asking(errand) as ask:
        seen = ""
        rows = {row["path"]: row for row in ask("sync-conflicts")}
        row = rows.get(meant) or rows.get(typed)
        if row is not None and row.get("held") and choice != "laptop":
            diff = ask("sync-diff", path=row["path"])
            agree(row["path"], diff)
            seen = diff["version"]
        found: dict[str, Any] = ask(
            "sync-resolve", path=meant, typed=typed, choice=choice, seen=seen
        )
        return found


@contextmanager
def asking(errand: Errand) -> Iterator[Callable[..., Any]]:
    """Several requests of one sync: the live session's, or one of our own for the while."""
    if errand.session() is not None:
        yield lambda do, **fields: ask_session(errand, do, timeout_s=LOOK_S, **fields)
        return
    with own_sync(errand) as sync:
        sync.look()
        yield lambda do, **fields: sync.requests()[do](fields)


def sync_once(
    errand: Errand, allow: Iterable[str], announce: Callable[[dict[str, Any]], None]
) -> dict[str, Any]:
    """Both sides in step, once. What could not be brought over is named.

    `announce` is handed the plan before the first byte is moved.
    """
    kinds = halts_named(allow)
    if errand.session() is not None:
        if kinds:
            ask_session(errand, "sync-allow", kinds=sorted(kinds), timeout_s=FLUSH_S)
        announce(ask_session(errand, "sync-plan", timeout_s=LOOK_S))
        found: dict[str, Any] = ask_session(errand, "sync-flush", timeout_s=FLUSH_S)
        return found
    with own_sync(errand, kinds) as sync:
        announce(sync.requests()["sync-plan"]({}))
        sync.cycle()
        return sync.flush(FLUSH_S)


def sync_live(errand: Errand, stop: threading.Event, show: Callable[[Snapshot], None]) -> None:
    """Keep both sides in step until `stop`: the sync alone, without container or tunnels.

    `show` is told every second how it stands.
    """
    alone = SyncAlone(errand, stop)
    try:
        alone.bring_up()
        alone.hold(show)
    finally:
        alone.close()


def require_session(errand: Errand, what: str) -> None:
    if errand.session() is None:
        raise SessionError(
            f"no sync runs that one could {what}",
            hint=f"remotedl sync, or with container and tunnels: remotedl up {errand.host_name}",
        )
