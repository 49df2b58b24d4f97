"""Open documents and files that change under them: what comes from outside is merged.

jupyter_server_documents keeps an open document on the server (a room), saves it as it is typed,
and, when the file changes, loads the file over it: what was typed since the last save is gone,
the caret is thrown to the start. This takes the place of its file access (a setting of its own,
`YRoom.file_api_class`): the live document and the file's new version are merged, with the version
as base that the other side started from, and only what changed is edited. A save replaces
nothing that the room has not seen. What can't be merged is written beside the file, and told.

Reviewed against jupyter_server_documents 0.3.3; `_check_file`, `_load_content`, `save` and
`_reloading_content` are its insides, so that its version is capped.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
import random
import time
from collections import deque
from difflib import SequenceMatcher
from typing import Any, NamedTuple

import nbformat
from jupyter_server_documents.rooms.yroom_file_api import YRoomFileAPI
from jupyter_ydoc import YNotebook, YUnicode
from pycrdt import Doc, Map
from remotedl_merge import (
    Cell,
    Lines,
    Merged,
    edits,
    lines_of,
    merge_notebook,
    merge_text,
    nearest,
    plain,
)
from remotedl_replace import (
    EXPECTED,
    CarefulContentsManager,
    Expected,
    Found,
    is_being_written,
    keep_beside,
    look,
    mark_of,
)

SCHEMA = "https://remotedl.invalid/events/conflict/v1"
VERSIONS = 128
"""Of a document, among which the one is searched that another program started from."""
VERSIONS_BYTES = 32_000_000
GONE_LOOKS = 4
"""A file that is replaced in two steps is not there for a moment."""
UNREADABLE_S = 10.0
"""So long a file may be half written."""
TRIES = 20
MERGED_BELOW = 8 << 20
"""Bytes; from here on the sync names versions otherwise, and merging would hold up the server."""


class _Version(NamedTuple):
    content: Any
    lines: Lines
    size: int


class MergingFileAPI(YRoomFileAPI):
    """The file of one open document."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._merges = False
        self._seen: Found | None = None
        """What the room has last read or written; None: nothing, or no file."""
        self._past: deque[_Version] = deque(maxlen=VERSIONS)
        self._looks_without = 0
        self._unreadable: tuple[bytes, float] = (b"", 0.0)
        self._held_since: float | None = None
        self._sign = _Sign()
        # Where text of a browser and of a merge meet at one place, the greater id goes behind:
        # what is on its way from a keyboard stays joined to what was typed before it.
        self._client = (1 << 52) + random.SystemRandom().getrandbits(51)

    async def _load_content(self, jupyter_ydoc: Any) -> None:
        path = self._os_path()
        known = isinstance(jupyter_ydoc, (YNotebook, YUnicode))
        self._merges = known and (self.file_type != "notebook" or path.endswith(".ipynb"))
        if not self._merges:
            await super()._load_content(jupyter_ydoc)
            return
        before = await asyncio.to_thread(look, path)
        await super()._load_content(jupyter_ydoc)
        # Without a pause from here: nothing has been typed yet.
        if look(path).digest != before.digest:  # it was either; the next look takes in what it is
            before = before._replace(digest=b"", mark=(0, 0, 0))
        self._remember(before, live(jupyter_ydoc))
        self._sign.put(self.contents_manager.root_dir, path)

    def stop(self) -> None:
        self._sign.take_down()
        if self._merges and not self.is_as_seen():  # the save that follows takes it in
            self._save_scheduled = True
        super().stop()

    def is_as_seen(self) -> bool:
        """Whether the file is the one that was last read or written; true where it is gone."""
        try:
            stat = os.stat(self._os_path())
        except OSError:
            return True
        return self._seen is not None and mark_of(stat) == self._seen.mark

    async def _check_file(self, jupyter_ydoc: Any) -> None:
        if not self._merges:
            await super()._check_file(jupyter_ydoc)
            return
        path = self.get_path()
        if path is None:
            self.parent.handle_inband_deletion()
            return
        if path != self._last_path:
            self._last_path = path
            self._sign.put(self.contents_manager.root_dir, self._os_path())
        await self._take_in(jupyter_ydoc)

    async def _reload_content_inplace(self, jupyter_ydoc: Any) -> None:
        if self._merges:
            await self._take_in(jupyter_ydoc)
        else:
            await super()._reload_content_inplace(jupyter_ydoc)

    async def save(self, jupyter_ydoc: Any) -> None:
        if not self._merges:
            await super().save(jupyter_ydoc)
            return
        for _ in range(TRIES):
            if not await self._take_in(jupyter_ydoc):
                self._save_scheduled = True
                return
            if await self._save_once(jupyter_ydoc):
                return

    async def _save_once(self, jupyter_ydoc: Any) -> bool:
        """False if the file changed at that very moment."""
        content = live(jupyter_ydoc)
        expected = Expected(self._os_path(), self._seen.digest if self._seen else None)
        expected.in_place = self._held_since is not None
        token = EXPECTED.set(expected)
        try:
            await super().save(_Snapshot(jupyter_ydoc))
        finally:
            EXPECTED.reset(token)
        written = expected.written
        if written is None and not isinstance(self.contents_manager, CarefulContentsManager):
            written = look(expected.path)  # the user's own manager, which cannot be so careful
        if written is not None:
            self._remember(written, content)
        return not expected.missed

    async def _take_in(self, jupyter_ydoc: Any) -> bool:
        """Merge what the file has become. Whether the room knows now what is in it."""
        path = self._os_path()
        try:
            stat = os.stat(path)
            known = self._seen is not None and mark_of(stat) == self._seen.mark
            if (not known or self._save_scheduled) and self._is_held(path):
                return False
            if known:
                self._looks_without = 0
                return True
            found = await asyncio.to_thread(look, path)
        except FileNotFoundError:
            return self._without_file()
        self._looks_without = 0
        if self._seen is not None and found.digest == self._seen.digest:
            self._seen = found._replace(data=b"")
            return True
        try:
            theirs = _parse(found.data, self._past[-1].content)
        except Exception as exc:  # noqa: BLE001 - nbformat raises many kinds
            return self._cannot_read(path, found, exc)
        self._merge(jupyter_ydoc, path, found, theirs)
        return True

    def _merge(self, jupyter_ydoc: Any, path: str, found: Found, theirs: Any) -> None:
        """Without a pause: nothing can be typed in between."""
        ours = live(jupyter_ydoc)
        base = self._past[nearest([one.lines for one in self._past], lines_of(theirs))].content
        try:
            if isinstance(theirs, str):
                merged = merge_text(base, ours, theirs)
            else:
                merged = merge_notebook(base, ours, theirs, running(jupyter_ydoc))
        except Exception:  # a fault of ours must not cost a version
            self.log.exception(f"'{path}' could not be merged.")
            merged = Merged(ours, False)
        if not merged.whole:
            self._keep(path, found.data)
        self._reloading_content = True
        try:
            put(jupyter_ydoc, merged.content, self._client)
        finally:
            self._reloading_content = False
        self._remember(found, theirs)
        self.log.info(f"Merged what changed in '{path}'.")
        if merged.content != theirs:
            self.schedule_save()
        elif not self._save_scheduled:
            jupyter_ydoc.dirty = False

    def _keep(self, path: str, data: bytes) -> None:
        copy = keep_beside(path, data)
        self.log.warning(f"'{path}' could not be merged; the other version is '{copy}'.")
        root = self.contents_manager.root_dir
        told = {"path": os.path.relpath(path, root), "copy": os.path.relpath(copy, root)}
        self.parent.event_logger.emit(schema_id=SCHEMA, data=told)

    def _is_held(self, path: str) -> bool:
        """Whether to wait for a program that writes it; one that never ends is not waited for."""
        now = time.monotonic()
        if not is_being_written(path):
            self._held_since = None
        elif self._held_since is None:
            self._held_since = now
        since = self._held_since
        return since is not None and now - since < UNREADABLE_S and not self.stopped

    def _without_file(self) -> bool:
        """An edit outlives a delete."""
        self._looks_without += 1
        if self._looks_without < GONE_LOOKS and not self.stopped:
            return False
        if self.has_unsaved_changes or self.stopped:
            self._seen = None
            return True
        self.parent.handle_outofband_move()
        return False

    def _cannot_read(self, path: str, found: Found, exc: Exception) -> bool:
        """Half written, or broken: it is kept before a save takes its place."""
        now = time.monotonic()
        if self._unreadable[0] != found.digest:
            self._unreadable = (found.digest, now)
            self.log.warning(f"'{path}' cannot be read now: {exc}")
        waited = now - self._unreadable[1] >= UNREADABLE_S
        if not (self.stopped or (waited and self.has_unsaved_changes)):
            return False
        if found.data:
            self._keep(path, found.data)
        self._seen = found._replace(data=b"")
        return True

    def _remember(self, found: Found, content: Any) -> None:
        self._seen = found._replace(data=b"")
        self._past.append(_Version(content, lines_of(content), len(found.data)))
        while len(self._past) > 1 and sum(one.size for one in self._past) > VERSIONS_BYTES:
            self._past.popleft()

    def _os_path(self) -> str:
        path = self.get_path() or self._last_path
        assert path is not None
        return str(self.contents_manager._get_os_path(path))


class _Snapshot:
    """A document as it was when its save began."""

    def __init__(self, document: Any) -> None:
        self._document = document
        self.source = document.source

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "dirty":
            self._document.dirty = value
        else:
            super().__setattr__(name, value)


class _Sign:
    """Says to the sync that a file is open here, and so is merged: a locked file in .remotedl/.

    The lock goes with the process, however that ends.
    """

    def __init__(self) -> None:
        self._file: Any = None

    def put(self, root: str, path: str) -> None:
        self.take_down()
        own = os.path.join(root, ".remotedl")
        key = os.path.relpath(path, root)
        if not os.path.isdir(own) or key.startswith("..") or not _is_small(path):
            return
        folder = os.path.join(own, "open")
        os.makedirs(folder, mode=0o700, exist_ok=True)
        name = hashlib.sha256(os.fsencode(key)).hexdigest()[:32]
        for _ in range(3):  # who finds it without a lock removes it
            self._file = open(os.path.join(folder, name), "wb")  # noqa: SIM115
            fcntl.flock(self._file, fcntl.LOCK_SH)
            if os.fstat(self._file.fileno()).st_nlink:
                break
            self._file.close()
        self._file.write(os.fsencode(key))
        self._file.flush()

    def take_down(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def _is_small(path: str) -> bool:
    try:
        return os.path.getsize(path) < MERGED_BELOW
    except OSError:
        return False


# --- the live document


def live(document: Any) -> Any:
    """Its content, to compare and to merge."""
    content = document.get()
    if isinstance(content, str):
        return content
    ids = [cell.get("id") for cell in document.ycells]
    if len(ids) == len(content["cells"]):  # notebooks of older formats are given without
        for cell, key in zip(content["cells"], ids, strict=True):
            cell["id"] = key
    return plain(content)


def running(document: Any) -> set[str]:
    """Ids of the cells that a kernel works at."""
    return {c["id"] for c in document.ycells if c.get("execution_state") == "running"}


def put(document: Any, content: Any, client: int) -> None:
    """Edit a live document so that it becomes `content`, touching only what differs.

    The edits are made in a copy, under an id of their own, and taken over as one update.
    """
    room = document.ydoc
    copy: Any = Doc(client_id=client)
    copy.apply_update(room.get_update())
    twin = type(document)(copy)
    with copy.transaction():
        if isinstance(content, str):
            _edit_text(copy["source"], content)
        else:
            _edit_notebook(twin, content)
    room.apply_update(copy.get_update(room.get_state()))


def _edit_text(text: Any, after: str) -> None:
    before = str(text)
    for start, end, new in edits(before, after):
        at = len(before[:start].encode())  # pycrdt counts bytes
        if end > start:
            del text[at : at + len(before[start:end].encode())]
        if new:
            text.insert(at, new)


def _edit_notebook(twin: Any, after: dict[str, Any]) -> None:
    before = live(twin)
    meta = twin.ydoc.get("meta", type=Map)
    for key in ("nbformat", "nbformat_minor"):
        if before[key] != after[key]:
            meta[key] = after[key]
    if before["metadata"] != after["metadata"]:
        meta["metadata"] = Map(after["metadata"])
    old = {cell["id"]: cell for cell in before["cells"]}
    new = {cell["id"]: cell for cell in after["cells"]}
    cells = twin.ycells
    stays = _stay([cell["id"] for cell in cells], list(new), old, new)
    for at in reversed(range(len(cells))):
        if cells[at]["id"] not in stays:
            del cells[at]
    for at, (key, cell) in enumerate(new.items()):
        if key in stays:
            _edit_cell(cells[at], old[key], cell)
        else:
            cells.insert(at, twin.create_ycell(cell))


def _stay(
    now: list[str], wanted: list[str], old: dict[str, Cell], new: dict[str, Cell]
) -> set[str]:
    """Ids of the cells that keep their place among each other; the others are made anew."""
    blocks = SequenceMatcher(None, now, wanted, autojunk=False).get_matching_blocks()
    kept = {key for block in blocks for key in now[block.a : block.a + block.size]}
    return {key for key in kept if old[key]["cell_type"] == new[key]["cell_type"]}


def _edit_cell(ycell: Any, before: Cell, after: Cell) -> None:
    if before["source"] != after["source"]:
        _edit_text(ycell["source"], after["source"])
    if before.get("outputs") != after.get("outputs"):
        del ycell["outputs"][:]
        ycell["outputs"].extend(after["outputs"])
    _edit_map(ycell["metadata"], before["metadata"], after["metadata"])
    _edit_map(ycell, _simple(before), _simple(after))


def _simple(cell: Cell) -> Cell:
    """What of a cell is a plain value."""
    return {k: v for k, v in cell.items() if k not in ("id", "source", "outputs", "metadata")}


def _edit_map(ymap: Any, before: Cell, after: Cell) -> None:
    for key in before.keys() - after.keys():
        del ymap[key]
    for key, value in after.items():
        if before.get(key) != value:
            ymap[key] = value


# --- the file


def _parse(data: bytes, like: Any) -> Any:
    """As the server would load it. Raises many kinds of exceptions."""
    text = data.decode("utf-8").replace("\r\n", "\n")
    if isinstance(like, str):
        return text
    return plain(nbformat.reads(text, as_version=4), like)
