"""Runs on the host for `remotedl put`, `get` and `get --url`. Standard library, Python 3.8.

    porter.py put DEST          stdin: files; stdout: where to go on
    porter.py get SOURCE        stdin: where to go on; stdout: files
    porter.py fetch URL DEST    stdout: progress

A message is one line of JSON. A file is written to NAME.remotedl-part beside its place, continued
there when a transfer broke off, and renamed when its sha256 is right. Nothing is ever deleted.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
import urllib.error
import urllib.request
from typing import Any, Callable, Dict, List

CHUNK = 1 << 20
PART = ".remotedl-part"
EVERY_S = 0.25
TRIES = 8


def main(argv: List[str]) -> int:
    verb = argv[0]
    verbs: Dict[str, Callable[..., None]] = {"put": put, "get": get, "fetch": fetch}
    try:
        verbs[verb](*argv[1:])
    except (OSError, ValueError, EOFError) as exc:
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


def digest_of(path: str) -> str:
    found = hashlib.sha256()
    with open(path, "rb") as file:
        while True:
            data = file.read(CHUNK)
            if not data:
                return found.hexdigest()
            found.update(data)


def inside(base: str, relative: str) -> str:
    """Where `relative` goes below `base`; it must not lead out of it."""
    parts = relative.split("/") if relative else []
    if any(part in ("", ".", "..") for part in parts):
        raise ValueError("not a path below the destination: " + relative)
    return os.path.join(base, *parts) if parts else base


def put(dest: str) -> None:
    """Receive files until {"end": true}."""
    while True:
        wanted = hear()
        if wanted.get("end"):
            return
        path = inside(dest, wanted["path"])
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        receive(path, wanted["size"], wanted["sha256"], wanted["executable"])


def receive(path: str, size: int, sha256: str, executable: bool) -> None:
    if os.path.isfile(path) and os.path.getsize(path) == size and digest_of(path) == sha256:
        say({"have": True})
        return
    part = path + PART
    done = os.path.getsize(part) if os.path.exists(part) else 0
    done = done if done <= size else 0
    say({"offset": done})
    with open(part, "r+b" if done else "wb") as file:
        file.seek(done)
        left = size - done
        while left:
            data = sys.stdin.buffer.read(min(CHUNK, left))
            if not data:
                raise EOFError("the other side is gone")
            file.write(data)
            left -= len(data)
        file.flush()
        os.fsync(file.fileno())
    if digest_of(part) != sha256:
        os.unlink(part)
        say({"again": True})
        return
    if executable:
        os.chmod(part, os.stat(part).st_mode | 0o100)
    os.replace(part, path)
    say({"ok": True})


def get(source: str) -> None:
    """List what there is, then send each file that is asked for."""
    say({"files": listing(source)})
    while True:
        wanted = hear()
        if wanted.get("end"):
            return
        send(inside(source, wanted["path"]), wanted["offset"])


def listing(source: str) -> List[Dict[str, Any]]:
    """Regular files below `source` with their sizes; links are not followed."""
    if os.path.isfile(source):
        return [row("", source)]
    if not os.path.isdir(source):
        raise FileNotFoundError(source + ": no such file or folder on the host")
    found = []
    for folder, folders, names in os.walk(source):
        folders.sort()
        for name in sorted(names):
            path = os.path.join(folder, name)
            if os.path.isfile(path) and not os.path.islink(path) and not name.endswith(PART):
                found.append(row(os.path.relpath(path, source), path))
    return found


def row(relative: str, path: str) -> Dict[str, Any]:
    about = os.stat(path)
    return {
        "path": relative,
        "size": about.st_size,
        "mtime_ns": about.st_mtime_ns,
        "executable": bool(about.st_mode & 0o100),
    }


def send(path: str, offset: int) -> None:
    """The length, the bytes from `offset` on, then the sha256 of the whole file."""
    whole = hashlib.sha256()
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        offset = offset if offset <= size else 0
        left = offset
        while left:
            data = file.read(min(CHUNK, left))
            if not data:
                raise ValueError(path + ": became shorter while it was read")
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


def fetch(url: str, dest: str) -> None:
    """Download `url` to `dest`, going on where an earlier try stopped."""
    if url.split(":", 1)[0].lower() not in ("http", "https", "ftp"):
        raise ValueError("not a web address: " + url)
    if dest.endswith("/") or os.path.isdir(dest):
        name = url.split("?", 1)[0].rstrip("/").rsplit("/", 1)[-1]
        dest = os.path.join(dest, name or "download")
    if os.path.exists(dest):
        say({"have": True, "path": dest, "size": os.path.getsize(dest)})
        return
    os.makedirs(os.path.dirname(dest) or ".", exist_ok=True)
    for left in range(TRIES - 1, -1, -1):
        try:
            download(url, dest + PART)
            break
        except (OSError, EOFError) as exc:
            status = getattr(exc, "code", 500)
            if left == 0 or 400 <= status < 500:
                raise
            say({"retry": str(exc)})
            time.sleep(min(2.0 ** (TRIES - left), 30))
    os.replace(dest + PART, dest)
    say({"ok": True, "path": dest, "size": os.path.getsize(dest)})


def download(url: str, part: str) -> None:
    done = os.path.getsize(part) if os.path.exists(part) else 0
    request = urllib.request.Request(url, headers={"User-Agent": "remotedl"})  # noqa: S310 - checked
    if done:
        request.add_header("Range", f"bytes={done}-")
    try:
        reply = urllib.request.urlopen(request, timeout=60)  # noqa: S310 - checked
    except urllib.error.HTTPError as exc:
        if exc.code == 416:  # all of it is there already, or it has changed: start over
            os.unlink(part)
            raise EOFError("the file on the server is another one now") from None
        raise
    with reply:
        if reply.status != 206:
            done = 0
        length = reply.headers.get("Content-Length")
        total = done + int(length) if length else None
        told = 0.0
        with open(part, "r+b" if done else "wb") as file:
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
