"""Which paths below the laptop's folder somebody changed. The only file that imports watchdog.

Decision: on Linux the agent's own inotify module, elsewhere watchdog. Alternative: watchdog
everywhere. Reason: on Linux watchdog's recursive watch walks into ignored folders (a `.venv` of
100,000 files costs as many lookups and a watch a folder), keeps quiet about watches that the
kernel refused, and holds moves back for half a second. FSEvents and ReadDirectoryChangesW, which
it serves elsewhere, watch whole trees at no such cost.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any, Protocol

from remotedl.sync.agent.hints import ROOT, Hint

Tell = Callable[[str, Hint], None]


class Watch(Protocol):
    """What `Follower` needs of a watcher."""

    limited: Any
    """None, or an error whose `sysctl` names the limit that was met."""

    def watch(self, path: str) -> None:
        """Watch a directory from now on, if that is not done already."""
        ...

    def close(self) -> None: ...


def open_watch(root: str, tell: Tell) -> Watch:
    """Watch the laptop's folder. Raises OSError where that cannot be."""
    if sys.platform.startswith("linux"):
        from remotedl.sync.agent.inotify import Watcher

        return Watcher(root, tell)
    return TreeWatch(root, tell)  # type: ignore[unreachable,unused-ignore]


class TreeWatch:
    """watchdog's native recursive watch (FSEvents, ReadDirectoryChangesW)."""

    limited = None

    def __init__(self, root: str, tell: Tell) -> None:
        from watchdog.events import FileSystemEvent, FileSystemEventHandler
        from watchdog.observers import Observer

        own = self

        class Handler(FileSystemEventHandler):
            def on_any_event(self, event: FileSystemEvent) -> None:
                own._take(event)

        self._root = os.path.realpath(root)
        self._tell = tell
        self._observer = Observer()
        self._observer.schedule(Handler(), self._root, recursive=True)
        self._observer.start()

    def watch(self, path: str) -> None:
        """Everything below the root is watched already."""

    def close(self) -> None:
        self._observer.stop()
        self._observer.join(5)

    def _take(self, event: Any) -> None:
        if event.event_type in ("opened", "closed_no_write"):
            return
        gone = event.event_type in ("deleted", "moved")
        self._hint(event.src_path, Hint.GONE if gone else Hint.CHANGED)
        if event.event_type == "moved":
            self._hint(event.dest_path, Hint.CHANGED)

    def _hint(self, raw: bytes | str, hint: Hint) -> None:
        path = os.path.relpath(os.fsdecode(raw), self._root).replace(os.sep, "/")
        if path == "." or path.startswith("../"):
            # Something about the root itself, or an event with no path that we know.
            self._tell(ROOT, Hint.CHANGED)
            return
        self._tell(path, hint)
