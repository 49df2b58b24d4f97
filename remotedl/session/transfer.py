"""`put`, `get` and `get --url`: big results and data, outside the sync; resumed where they stopped.

A path on the host is one as the container sees it (`/data/…`, `/workspace/…`), one of the host
(`~/…`, absolute), or relative to the data folder. payload/porter.py does the host's half.

Links are followed on neither side, but on the way to a place outside of what is synced, which is
the user's own word: what the host put into the project, or a container into its folders, leads
nowhere else. What tells a program of the laptop what to do comes only if it is named itself.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from remotedl.config.below import Below
from remotedl.config.models import ASK_BEFORE
from remotedl.container.ground import survey
from remotedl.container.spec import DATA, WORKSPACE, Folders
from remotedl.errors import FolderUnusable, LinkLost, SyncError, UsageError
from remotedl.report import Report
from remotedl.session.backoff import delays
from remotedl.session.errands import BACK_WITHIN_S, Errand
from remotedl.ssh.remote import Process, Remote
from remotedl.sync.agent.ignore import ALWAYS
from remotedl.sync.agent.names import Names
from remotedl.sync.agent.tree import BadPath, Kind, Traits, check_path, nameable
from remotedl.sync.instructions import Instructions
from remotedl.sync.remedies import printable, typed

CHUNK = 1 << 20
PART = ".remotedl-part"
LINE_LIMIT = 1 << 26
AGAIN = 3
NEVER = Names(ALWAYS)
ON_WINDOWS = os.name == "nt"
HELD = Instructions(ASK_BEFORE)


@dataclass(frozen=True, slots=True)
class Moved:
    """What came of a transfer: files and bytes that went over, files that were there already."""

    files: int
    size: int
    had: int
    path: str
    """Where on the host."""


def put(errand: Errand, source: Path, dest: str | None) -> Moved:
    """Copy a file or a folder of the laptop to the host. Raises FolderUnusable, SyncError."""
    root = errand.project.root
    return _until_done(errand, lambda r, f: put_over(r, f, source, dest, errand.report, root))


def get(errand: Errand, source: str, dest: Path) -> Moved:
    """Copy a file or a folder of the host to the laptop. Raises SyncError."""
    root, sync = errand.project.root, errand.project.config.project.sync
    held = Instructions(sync.ask_before)
    return _until_done(errand, lambda r, f: get_over(r, f, source, dest, errand.report, root, held))


def fetch(errand: Errand, url: str, dest: str | None, *, unpack: bool = False) -> Moved:
    """Let the host download `url`; by default into the data folder.

    `unpack`: a zip or tar is unpacked there as well, into a folder of its name.
    """
    return _until_done(
        errand, lambda r, f: fetch_over(r, f, url, dest, errand.report, unpack=unpack)
    )


def put_over(
    remote: Remote,
    folders: Folders,
    source: Path,
    dest: str | None,
    report: Report,
    project: Path | None = None,
) -> Moved:
    """`put` over one link. Without `dest`, or with one that ends in "/", the name is kept."""
    below, top = _placed(source, project)
    files = _laptop_files(below, top, source)
    path = host_path(dest or "", folders)
    if dest is None or dest.endswith("/"):
        path = f"{path.rstrip('/')}/{source.absolute().name or source.resolve().name}"
    with _porter(remote, "put", *trusted(path, folders)) as talk:
        return _send_all(talk, files, path, report)


def get_over(
    remote: Remote,
    folders: Folders,
    source: str,
    dest: Path,
    report: Report,
    project: Path | None = None,
    held: Instructions = HELD,
) -> Moved:
    """`get` over one link. Into `dest` where that is a folder, else as `dest`."""
    path = host_path(source, folders)
    below, top = _placed(dest, project)
    if below.is_folder(top):
        top = top / _checked(PurePosixPath(path).name)
    with _porter(remote, "get", *trusted(path, folders)) as talk:
        return _receive_all(talk, _Landing(below, top, held), path, report)


def fetch_over(
    remote: Remote,
    folders: Folders,
    url: str,
    dest: str | None,
    report: Report,
    *,
    unpack: bool = False,
) -> Moved:
    """`fetch` over one link; the host retries by itself."""
    path = host_path(dest or "", folders) + ("/" if not dest or dest.endswith("/") else "")
    words = trusted(path, folders)
    name = url.split("?", 1)[0].rstrip("/").rsplit("/", 1)[-1]
    with _porter(remote, "unpack" if unpack else "fetch", *words, url) as talk:
        while True:
            said = talk.hear()
            if "done" in said:
                report.progress(name, said["done"], said["total"])
            elif "retry" in said:
                report.warn(f"{name}: {said['retry']}; trying again")
            elif "unpacked" in said:
                report.progress(f"unpacking {name}", said["unpacked"], None, "files")
            elif "last" in said:
                if said.get("left_out"):
                    report.warn(f"{said['left_out']} links and devices of {name} were left out")
                had = bool(said.get("have"))
                return Moved(int(not had), int(said["size"]), int(had), str(said["path"]))


def host_path(text: str, folders: Folders) -> str:
    """Where `text` lies on the host. Pure."""
    for seen, real in ((DATA, folders.data), (WORKSPACE, folders.workdir)):
        if text == seen or text.startswith(seen + "/"):
            return real + text[len(seen) :].rstrip("/")
    if text == "~" or text.startswith("~/"):
        # The home folder is the parent of our own: ~/.remotedl/run/ID.
        return folders.run.rsplit("/.remotedl/", 1)[0] + text[1:].rstrip("/")
    if text.startswith("/"):
        return text.rstrip("/") or "/"
    return f"{folders.data}/{text}".rstrip("/")


def trusted(path: str, folders: Folders) -> tuple[str, str]:
    """A path of the host as what may be reached by links, and what may not. Pure.

    A container writes into its own folders: a link in there leads nowhere else.
    """
    for base in (folders.data, folders.workdir):
        if (path == base or path.startswith(base + "/")) and ".." not in path.split("/"):
            return base + "/", path[len(base) + 1 :]
    return path, ""


def _placed(path: Path, project: Path | None) -> tuple[Below, Path]:
    """The same for a path of the laptop: in the project no link is followed."""
    full = Path(os.path.abspath(path))
    for above in (full, *full.parents) if project is not None else ():
        if project is not None and above.exists() and above.samefile(project):
            return Below(project), full.relative_to(above)
    real = full.resolve()
    there = next(above for above in (real, *real.parents) if above.is_dir())
    return Below(there), real.relative_to(there)


class _Talk:
    """JSON lines and raw bytes over one process's stdin and stdout."""

    def __init__(self, process: Process, host: str) -> None:
        self._process, self._host, self._buffer = process, host, b""

    def say(self, **message: object) -> None:
        self._process.sendall(json.dumps(message).encode() + b"\n")

    def send(self, data: bytes) -> None:
        self._process.sendall(data)

    def hear(self) -> Mapping[str, Any]:
        """The next message. Raises SyncError for one that tells of a failure."""
        while b"\n" not in self._buffer:
            data = self._process.recv(CHUNK)
            if not data or len(self._buffer) > LINE_LIMIT:
                raise SyncError(f"{self._host}: the transfer ended early: {self._complaint()}")
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        said: Mapping[str, Any] = json.loads(line)
        if "error" in said:
            hint = (
                "remotedl run -- ls /data" if said.get("absent") else "run the same command again"
            )
            raise SyncError(f"{self._host}: {said['error']}", hint=hint)
        return said

    def take(self, size: int) -> Iterator[bytes]:
        """Exactly `size` raw bytes."""
        while size:
            data = self._buffer or self._process.recv(CHUNK)
            if not data:
                raise LinkLost(f"{self._host}: the transfer broke off")
            self._buffer = data[size:]
            yield data[:size]
            size -= min(size, len(data))

    def _complaint(self) -> str:
        return self._process.recv_stderr(4096).decode("utf-8", "replace").strip() or "no reason"


@contextmanager
def _porter(remote: Remote, *words: str) -> Iterator[_Talk]:
    code = (resources.files("remotedl.session") / "payload" / "porter.py").read_text()
    process = remote.start(["python3", "-I", "-c", code, *words])
    try:
        yield _Talk(process, remote.name)
    finally:
        process.close()


def _until_done(errand: Errand, once: Callable[[Remote, Folders], Moved]) -> Moved:
    """`once` over as many links as it takes; what is there already is not sent twice."""
    waited = 0.0
    for delay in delays(lambda: 0.5):
        if waited > BACK_WITHIN_S:
            break
        try:
            remote = errand.connect()
            try:
                return once(remote, survey(remote, errand.name, errand.host).folders)
            finally:
                remote.close()
        except LinkLost as exc:
            errand.report.warn(f"{exc.message}; going on where it stopped")
            waited += delay + 1
    raise LinkLost("the link does not come back", hint="run the same command again: it goes on")


@dataclass(frozen=True, slots=True)
class _File:
    below: Below
    path: Path
    """Below that."""
    relative: str
    """To what was named; "" where it is the file itself."""


def _laptop_files(below: Below, top: Path, source: Path) -> list[_File]:
    if below.stat(top) is None:
        raise FolderUnusable(
            f"{source}: there is no such file or folder", hint=f"ls {source.parent}"
        )
    if not below.is_folder(top):
        return [_File(below, top, "")]
    found = []
    for name in below.files(top):
        if not name.endswith(PART):
            relative = PurePosixPath(name).relative_to(top.as_posix()).as_posix()
            found.append(_File(below, Path(name), relative))
    if not found:
        raise UsageError(f"{source}: there is no file in it")
    return found


def _send_all(talk: _Talk, files: list[_File], path: str, report: Report) -> Moved:
    sent = had = size = 0
    for file in files:
        moved = _send(talk, file, report)
        sent, had = sent + (moved is not None), had + (moved is None)
        size += moved or 0
    talk.say(end=True)
    return Moved(sent, size, had, path)


def _send(talk: _Talk, file: _File, report: Report) -> int | None:
    """Bytes that went over; None where the host had the file."""
    for _ in range(AGAIN):
        with file.below.read(file.path) as content:
            about = os.fstat(content.fileno())
            digest = hashlib.file_digest(content, "sha256").hexdigest()
            executable = bool(about.st_mode & 0o100)
            talk.say(path=file.relative, size=about.st_size, sha256=digest, executable=executable)
            answer = talk.hear()
            if answer.get("have"):
                return None
            start = int(answer["offset"])
            _pour(talk, content, start, about.st_size, file.path.name, report)
        if talk.hear().get("ok"):
            return about.st_size - start
    raise SyncError(f"{file.path} changes while it is sent", hint="run the command when it rests")


def _pour(talk: _Talk, content: Any, start: int, size: int, name: str, report: Report) -> None:
    content.seek(start)
    done = start
    while done < size:
        data = content.read(min(CHUNK, size - done))
        if not data:
            data = b"\0" * min(CHUNK, size - done)  # it shrank: the digest will tell
        talk.send(data)
        done += len(data)
        report.progress(name, done, size)


class _Landing(NamedTuple):
    """Where on the laptop things go."""

    below: Below
    top: Path
    """What the user named, below that."""
    held: Instructions

    def refuses(self, relative: str) -> bool:
        """Whether it tells a program of the laptop what to do, and was not named itself."""
        names = relative.split("/")
        return self.held.holds(relative, Kind.FILE) or any(map(NEVER.match, names))


def _receive_all(talk: _Talk, landing: _Landing, path: str, report: Report) -> Moved:
    got = had = size = 0
    for row in talk.hear()["files"]:
        relative = str(row["path"])
        target = landing.top / _checked(relative) if relative else landing.top
        if relative and landing.refuses(relative):
            what = f"left on the host: {printable(relative)}: it tells a program of this laptop"
            report.warn(f"{what} what to do", f"remotedl get {typed(f'{path}/{relative}')}")
        elif _is_there(landing.below, target, row):
            had += 1
        else:
            size += _receive(talk, row, landing.below, target, report)
            got += 1
    talk.say(end=True)
    return Moved(got, size, had, path)


def _checked(relative: str) -> Path:
    """The host is not trusted with where things go on the laptop."""
    try:
        path = check_path(relative)
    except BadPath as exc:
        raise SyncError(f"the host names a file outside the destination: {relative!r}") from exc
    if not nameable(path, Traits(windows_names=ON_WINDOWS)):
        raise SyncError(f"the host names a file that this laptop cannot hold: {relative!r}")
    return Path(*path.split("/"))


def _is_there(below: Below, target: Path, row: Mapping[str, Any]) -> bool:
    """Same size and time: a finished `get` of this version."""
    about = below.stat(target)
    if about is None or not stat.S_ISREG(about.st_mode):
        return False
    return (about.st_size, about.st_mtime_ns) == (row["size"], row["mtime_ns"])


def _receive(
    talk: _Talk, row: Mapping[str, Any], below: Below, target: Path, report: Report
) -> int:
    part = target.with_name(target.name + PART)
    below.make_folders(target.parent)
    below.refuse_link(target)
    for _ in range(AGAIN):
        with below.write(part) as file:
            have = os.fstat(file.fileno()).st_size
            talk.say(path=row["path"], offset=have)
            said = talk.hear()
            start, size = int(said["offset"]), int(said["size"])
            if not 0 <= start <= min(have, size):
                raise SyncError(f"the host speaks nonsense: {start} of {size} bytes")
            file.seek(start)
            file.truncate()
            done = start
            for data in talk.take(size - start):
                file.write(data)
                done += len(data)
                report.progress(target.name, done, size)
            file.flush()
            os.fsync(file.fileno())
            file.seek(0)
            right = hashlib.file_digest(file, "sha256").hexdigest() == talk.hear()["sha256"]
        if right:
            below.replace(part, target, int(row["mtime_ns"]))
            return size - start
        below.remove(part)
    raise SyncError(f"{row['path']} changes while it is read", hint="run the command when it rests")
