"""Runs on the host for `remotedl put`, `get` and `get --url`. Standard library, Python 3.8.

    porter.py put ROOT DEST          stdin: files; stdout: where to go on
    porter.py get ROOT SOURCE        stdin: where to go on; stdout: files
    porter.py fetch ROOT DEST URL    stdout: progress
    porter.py unpack ROOT DEST URL   the same, and a zip or tar is unpacked beside itself

A message is one line of JSON. A file is written to NAME.remotedl-part beside its place, continued
there when a transfer broke off, and renamed when its sha256 is right. Nothing is ever deleted.
DEST and SOURCE are below ROOT, and no link below it is followed: a container may have put one
there. A FIFO or a device is not waited for.
"""

from __future__ import annotations

import errno
import hashlib
import json
import lzma
import os
import re
import shutil
import stat
import sys
import tarfile
import time
import urllib.error
import urllib.request
import zipfile
import zlib
from typing import Any, Callable, Dict, Iterator, List, Tuple

CHUNK = 1 << 20
PART = ".remotedl-part"
EVERY_S = 0.25
SPARE = 1 << 30
"""Bytes that unpacking leaves free on the disk."""
MOST_ENTRIES = 20_000_000
ENDING = re.compile(r"\.(zip|tar|tgz|tbz2|txz|tar\.(gz|bz2|xz))$", re.IGNORECASE)
BROKEN = (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, RuntimeError)
"""What the libraries say of an archive that is damaged, or has a password."""
TRIES = 8
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
FILE = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def main(argv: List[str]) -> int:
    verb = argv[0]
    verbs: Dict[str, Callable[..., None]] = {"put": put, "get": get, "fetch": fetch}
    verbs["unpack"] = unpack
    try:
        verbs[verb](*argv[1:])
    except (OSError, ValueError, EOFError, *BROKEN) as exc:
        say({"error": str(exc), "absent": isinstance(exc, FileNotFoundError)})
        return 1
    return 0


def say(message: Dict[str, Any]) -> None:
    sys.stdout.buffer.write(json.dumps(message).encode() + b"\n")
    sys.stdout.buffer.flush()


def hear() -> Any:
    line = sys.stdin.buffer.readline()
    if not line:
        raise EOFError("the other side is gone")
    return json.loads(line)


class Below:
    """The files below a folder, reached through no link. A ROOT that ends in "/" is a folder, and
    may have to be made."""

    def __init__(self, root: str, path: str) -> None:
        self.base = [part for part in path.split("/") if part]
        if not (self.base or root.endswith("/") or os.path.isdir(root)):
            root, name = os.path.split(root)
            self.base = [name]
        self.root = root

    def parts(self, relative: str) -> List[str]:
        """The names from the root on; `relative` must not lead out of it."""
        parts = self.base + (relative.split("/") if relative else [])
        if any(part in ("", ".", "..") or "\0" in part for part in parts):
            raise ValueError("not a path below the destination: " + relative)
        return parts

    def folder(self, parts: List[str], make: bool = False) -> int:
        """A descriptor of the directory; the caller closes it."""
        at = os.open(self.root, FOLDER & ~os.O_NOFOLLOW)
        try:
            for part in parts:
                if make:
                    try:
                        os.mkdir(part, dir_fd=at)
                    except FileExistsError:
                        pass
                below = explained(self.root, part, FOLDER, at)
                os.close(at)
                at = below
        except BaseException:
            os.close(at)
            raise
        return at


def explained(where: str, name: str, flags: int, at: int) -> int:
    """Open; what an open that follows no link says of one, in words."""
    try:
        return os.open(name, flags, 0o666, dir_fd=at)
    except OSError as exc:
        if exc.errno in (errno.ELOOP, errno.ENOTDIR, errno.ENXIO):
            what = where + ": " + name + " is a link, or no file: nothing is read or written there"
            raise ValueError(what) from None
        raise


def open_file(name: str, flags: int, at: int) -> Any:
    """A regular file. Raises ValueError for anything else."""
    fd = explained("", name, flags | FILE, at)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise ValueError(name + " is no regular file: nothing is read or written there")
    return os.fdopen(fd, "rb" if flags == os.O_RDONLY else "r+b")


def digest_of(file: Any) -> str:
    found = hashlib.sha256()
    file.seek(0)
    while True:
        data = file.read(CHUNK)
        if not data:
            return found.hexdigest()
        found.update(data)


def put(root: str, dest: str) -> None:
    """Receive files until {"end": true}."""
    below = Below(root, dest)
    while True:
        wanted = hear()
        if wanted.get("end"):
            return
        parts = below.parts(wanted["path"])
        if not parts:
            raise ValueError(root + " is a folder; to put something into it: " + root + "/")
        os.makedirs(below.root, exist_ok=True)
        at = below.folder(parts[:-1], make=True)
        try:
            receive(at, parts[-1], wanted["size"], wanted["sha256"], wanted["executable"])
        finally:
            os.close(at)


def receive(at: int, name: str, size: int, sha256: str, executable: bool) -> None:
    if is_there(at, name, size, sha256):
        say({"have": True})
        return
    with open_file(name + PART, os.O_RDWR | os.O_CREAT, at) as file:
        done = os.fstat(file.fileno()).st_size
        done = done if done <= size else 0
        say({"offset": done})
        file.seek(done)
        file.truncate()
        left = size - done
        while left:
            data = sys.stdin.buffer.read(min(CHUNK, left))
            if not data:
                raise EOFError("the other side is gone")
            file.write(data)
            left -= len(data)
        file.flush()
        os.fsync(file.fileno())
        if digest_of(file) != sha256:
            os.unlink(name + PART, dir_fd=at)
            say({"again": True})
            return
        if executable:
            os.fchmod(file.fileno(), os.fstat(file.fileno()).st_mode | 0o100)
    os.replace(name + PART, name, src_dir_fd=at, dst_dir_fd=at)
    say({"ok": True})


def is_there(at: int, name: str, size: int, sha256: str) -> bool:
    """Raises ValueError where something else than a regular file stands."""
    try:
        with open_file(name, os.O_RDONLY, at) as file:
            return os.fstat(file.fileno()).st_size == size and digest_of(file) == sha256
    except FileNotFoundError:
        return False


def get(root: str, source: str) -> None:
    """List what there is, then send each file that is asked for."""
    below = Below(root, source)
    say({"files": listing(below)})
    while True:
        wanted = hear()
        if wanted.get("end"):
            return
        parts = below.parts(wanted["path"])
        at = below.folder(parts[:-1])
        try:
            send(at, parts[-1], wanted["offset"])
        finally:
            os.close(at)


def listing(below: Below) -> List[Dict[str, Any]]:
    """Regular files with their sizes; links are not followed."""
    parts = below.parts("")
    try:
        at = below.folder(parts[:-1])
        try:
            about = os.stat((parts or ["."])[-1], dir_fd=at, follow_symlinks=False)
        finally:
            os.close(at)
    except FileNotFoundError:
        where = os.path.join(below.root, *parts)
        raise FileNotFoundError(where + ": no such file or folder on the host") from None
    if stat.S_ISREG(about.st_mode):
        return [row("", about)]
    found: List[Dict[str, Any]] = []
    for folder, folders, names, at in os.fwalk(".", dir_fd=below.folder(parts)):
        folders.sort()
        for name in sorted(names):
            about = os.stat(name, dir_fd=at, follow_symlinks=False)
            if stat.S_ISREG(about.st_mode) and not name.endswith(PART):
                found.append(row(os.path.normpath(os.path.join(folder, name)), about))
    return found


def row(relative: str, about: os.stat_result) -> Dict[str, Any]:
    return {
        "path": relative,
        "size": about.st_size,
        "mtime_ns": about.st_mtime_ns,
        "executable": bool(about.st_mode & 0o100),
    }


def send(at: int, name: str, offset: int) -> None:
    """The length, the bytes from `offset` on, then the sha256 of the whole file."""
    whole = hashlib.sha256()
    with open_file(name, os.O_RDONLY, at) as file:
        size = os.fstat(file.fileno()).st_size
        offset = offset if offset <= size else 0
        left = offset
        while left:
            data = file.read(min(CHUNK, left))
            if not data:
                raise ValueError(name + ": became shorter while it was read")
            whole.update(data)
            left -= len(data)
        say({"offset": offset, "size": size})
        left = size - offset
        while left:
            data = file.read(min(CHUNK, left))
            if not data:
                # The length is promised: fill up, the digest then says that it is not right.
                data = b"\0" * min(CHUNK, left)
            whole.update(data)
            sys.stdout.buffer.write(data)
            left -= len(data)
    say({"sha256": whole.hexdigest()})


def fetch(root: str, dest: str, url: str) -> None:
    """Download `url` to `dest`, going on where an earlier try stopped."""
    say(dict(fetched(root, dest, url), last=True))


def fetched(root: str, dest: str, url: str) -> Dict[str, Any]:
    """What came of it: path and size, and "have" where it was there already."""
    if url.split(":", 1)[0].lower() not in ("http", "https", "ftp"):
        raise ValueError("not a web address: " + url)
    below = Below(root, dest)
    parts = below.parts("")
    if not parts or dest.endswith("/") or is_folder(below, parts):
        name = url.split("?", 1)[0].rstrip("/").rsplit("/", 1)[-1]
        parts = below.parts(name or "download")
    os.makedirs(below.root, exist_ok=True)
    at = below.folder(parts[:-1], make=True)
    name, path = parts[-1], os.path.join(below.root, *parts)
    try:
        with open_file(name, os.O_RDONLY, at) as file:
            return {"have": True, "path": path, "size": os.fstat(file.fileno()).st_size}
    except FileNotFoundError:
        pass
    for left in range(TRIES - 1, -1, -1):
        try:
            download(url, name + PART, at)
            break
        except (OSError, EOFError) as exc:
            status = getattr(exc, "code", 500)
            if left == 0 or 400 <= status < 500:
                raise
            say({"retry": str(exc)})
            time.sleep(min(2.0 ** (TRIES - left), 30))
    os.replace(name + PART, name, src_dir_fd=at, dst_dir_fd=at)
    return {"ok": True, "path": path, "size": os.stat(name, dir_fd=at).st_size}


def unpack(root: str, dest: str, url: str) -> None:
    """Fetch, and unpack into a folder of the archive's name beside it: all of it, or nothing.

    An archive is a stranger's: no entry leads out of that folder, links and devices are left out
    and counted, and what it expands to is bounded by the disk.
    """
    got = fetched(root, dest, url)
    folder, name = os.path.split(got["path"])
    stem = ENDING.sub("", name)
    if stem == name:
        raise ValueError(name + " is no .zip, .tar, .tar.gz, .tar.bz2 or .tar.xz")
    into = os.path.join(folder, stem)
    if os.path.isdir(into):
        say(dict(got, last=True, path=into, entries=0, left_out=0))
        return
    part = into + PART
    shutil.rmtree(part, ignore_errors=True)
    os.mkdir(part)
    at = os.open(folder or ".", FOLDER)
    try:
        with open_file(name, os.O_RDONLY, at) as file:
            entries, left_out = unpack_into(part, file, shutil.disk_usage(folder).free - SPARE)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    finally:
        os.close(at)
    # Most data sets hold one folder of their own name.
    alone = os.listdir(part) == [stem] and os.path.isdir(os.path.join(part, stem))
    os.rename(os.path.join(part, stem) if alone else part, into)
    if alone:
        os.rmdir(part)
    say(dict(got, last=True, path=into, entries=entries, left_out=left_out))


def unpack_into(part: str, file: Any, room: int) -> Tuple[int, int]:
    """How many files were written below `part`, and how many entries were left out."""
    below, entries, left_out, told = Below(part + "/", ""), 0, 0, 0.0
    for path, content in members(file):
        if content is None:
            left_out += 1
            continue
        parts = below.parts(os.path.normpath(path).replace(os.sep, "/"))
        if path.startswith("/") or not parts:
            raise ValueError("the archive has an entry that leads out of it: " + path)
        at = below.folder(parts[:-1], make=True)
        try:
            with open_file(parts[-1], os.O_RDWR | os.O_CREAT | os.O_EXCL, at) as target, content:
                while True:
                    data = content.read(CHUNK)
                    if not data:
                        break
                    room -= len(data)
                    if room < 0:
                        raise ValueError("what it expands to does not fit on the disk")
                    target.write(data)
        finally:
            os.close(at)
        entries += 1
        if entries > MOST_ENTRIES:
            raise ValueError("the archive has more than %d files" % MOST_ENTRIES)  # noqa: UP031
        if time.monotonic() - told > EVERY_S:
            told = time.monotonic()
            say({"unpacked": entries})
    return entries, left_out


def members(file: Any) -> Iterator[Tuple[str, Any]]:
    """Path and content of each file; None as content for a link or a device."""
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as packed:
            for info in packed.infolist():
                if not info.is_dir():
                    link = stat.S_ISLNK(info.external_attr >> 16)
                    yield info.filename, None if link else packed.open(info)
        return
    file.seek(0)
    with tarfile.open(fileobj=file, mode="r:*") as archive:
        for entry in archive:
            if not entry.isdir():
                yield entry.name, archive.extractfile(entry) if entry.isreg() else None


def is_folder(below: Below, parts: List[str]) -> bool:
    try:
        os.close(below.folder(parts))
    except FileNotFoundError:
        return False
    except ValueError:
        at = below.folder(parts[:-1])
        try:
            if not stat.S_ISREG(os.stat(parts[-1], dir_fd=at, follow_symlinks=False).st_mode):
                raise
        finally:
            os.close(at)
        return False
    return True


def download(url: str, part: str, at: int) -> None:
    with open_file(part, os.O_RDWR | os.O_CREAT, at) as file:
        done = os.fstat(file.fileno()).st_size
        request = urllib.request.Request(url, headers={"User-Agent": "remotedl"})  # noqa: S310 - checked
        if done:
            request.add_header("Range", f"bytes={done}-")
        try:
            reply = urllib.request.urlopen(request, timeout=60)  # noqa: S310 - checked
        except urllib.error.HTTPError as exc:
            if exc.code == 416:  # all of it is there already, or it has changed: start over
                os.unlink(part, dir_fd=at)
                raise EOFError("the file on the server is another one now") from None
            raise
        with reply:
            pour(reply, file, done if reply.status == 206 else 0)


def pour(reply: Any, file: Any, done: int) -> None:
    length = reply.headers.get("Content-Length")
    total = done + int(length) if length else None
    told = 0.0
    file.seek(done)
    file.truncate()
    while True:
        data = reply.read(CHUNK)
        if not data:
            break
        file.write(data)
        done += len(data)
        if time.monotonic() - told > EVERY_S:
            told = time.monotonic()
            say({"done": done, "total": total})
    file.flush()
    os.fsync(file.fileno())
    if total is not None and done < total:
        raise EOFError("the server ended the transfer early")
    say({"done": done, "total": done})


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
