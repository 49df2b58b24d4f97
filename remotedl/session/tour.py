"""What `remotedl demo --once` shows to work: Jupyter, the sync both ways, a job, TensorBoard."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from remotedl.errors import SessionError
from remotedl.report import Report
from remotedl.session.demo import Demo
from remotedl.session.errands import JobWish, follow_job, start_job

WITHIN_S = 60.0


def tour(demo: Demo, report: Report) -> None:
    """Each thing is tried for real. Raises SessionError naming the first that does not work."""
    report.stage("tour", "Jupyter answers")
    _until("Jupyter", lambda: "started" in _get(_api(demo, "/api/status")))
    report.stage("sync up", "laptop to host")
    root = demo.errand.project.root
    (root / "hello.txt").write_text(f"from the laptop at {time.time()}\n")
    text = (root / "hello.txt").read_text()
    _until("the edit on the host", lambda: _content(demo, "hello.txt") == text)
    report.stage("sync down", "notebook server to laptop")
    _put(_api(demo, "/api/contents/from_jupyter.txt"), f"saved at {time.time()}\n")
    saved = root / "from_jupyter.txt"
    wanted = _content(demo, "from_jupyter.txt")
    _until("the saved file on the laptop", lambda: saved.is_file() and saved.read_text() == wanted)
    report.stage("job", "python train.py")
    lines: list[bytes] = []
    job_id = start_job(demo.errand, ["python", "train.py"], wish=JobWish(), cwd=root)
    job = follow_job(demo.errand, job_id, lines.append, lines.append)
    if job.code != 0:
        raise SessionError(f"train.py ended with {job.code}: {b''.join(lines)[-400:].decode()}")
    report.stage("scalars", "TensorBoard has what the job wrote")
    _until("scalars in TensorBoard", lambda: _scalars(demo) > 0)


def _scalars(demo: Demo) -> int:
    url = next(t.url for t in demo.session.snapshot().tunnels if t.name == "TensorBoard")
    base, _, secret = (url or "").partition("?")
    return sum(len(tags) for tags in _get(f"{base}data/plugin/scalars/tags?{secret}").values())


def _api(demo: Demo, path: str) -> str:
    parts = urlsplit(demo.session.jupyter_url or "")
    return f"{parts.scheme}://{parts.netloc}{path}?{parts.query}"


def _content(demo: Demo, name: str) -> str | None:
    """The file as the notebook server sees it on the host."""
    try:
        return str(_get(_api(demo, f"/api/contents/{name}"))["content"])
    except urllib.error.HTTPError:
        return None


def _get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=WITHIN_S) as reply:  # noqa: S310 - our own loopback address
        return json.load(reply)


def _put(url: str, text: str) -> None:
    body = json.dumps({"type": "file", "format": "text", "content": text}).encode()
    request = urllib.request.Request(url, data=body, method="PUT")  # noqa: S310
    urllib.request.urlopen(request, timeout=WITHIN_S).close()  # noqa: S310


def _holds(seen: Callable[[], bool]) -> bool:
    """A service that is still starting or slow is no failure yet."""
    try:
        return seen()
    except OSError:
        return False


def _until(what: str, seen: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WITHIN_S
    while not _holds(seen):
        if time.monotonic() > deadline:
            raise SessionError(f"{what}: not within {WITHIN_S:.0f} s", hint="remotedl doctor")
        time.sleep(0.02)
