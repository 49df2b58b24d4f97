"""`up -d`: a session in a process of its own that outlives the terminal.

The parent stays until the session is live: it shows the child's progress and answers its questions
over two pipes, JSON lines both ways, so that a password is never in an environment or an argv. Then
the child lets go of the pipes and goes on alone, its events in `session.log` of its state folder.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from remotedl.errors import RemotedlError, SessionError
from remotedl.report import Report
from remotedl.session.prompting import attended
from remotedl.session.session import Session
from remotedl.ssh.prompt import Prompt

LOG_NAME = "session.log"
LIVE = "live"
REPORTED = frozenset(("stage", "progress", "note", "warn", "output"))


def launch(arguments: Sequence[str], folder: Path, report: Report, prompt: Prompt) -> list[str]:
    """Start `remotedl ARGUMENTS` detached and see it through to live; its addresses.

    `folder` is where its log goes. Raises the error that the child ended with.
    """
    log = folder / LOG_NAME
    with log.open("ab") as errors:
        child = subprocess.Popen(
            [sys.executable, "-m", "remotedl", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            **_detached(),
        )
    assert child.stdin is not None and child.stdout is not None
    try:
        for line in child.stdout:
            said = json.loads(line)
            if said["say"] == LIVE:
                return [str(address) for address in said["addresses"]]
            _hear(said, report, prompt, child.stdin)
    except KeyboardInterrupt:
        child.terminate()
        child.wait()
        raise
    child.wait()
    raise SessionError(
        f"the background session ended with status {child.returncode} before it was up",
        hint=f"see {log}",
    )


def _hear(said: Mapping[str, Any], report: Report, prompt: Prompt, answers: IO[bytes]) -> None:
    what, args = said["say"], said.get("args", [])
    if what in REPORTED:
        getattr(report, what)(*args)
    elif what in ("secret", "confirm", "attended"):
        answer = attended(prompt) if what == "attended" else getattr(prompt, what)(*args)
        answers.write(json.dumps(answer).encode() + b"\n")
        answers.flush()
    elif what == "error":
        error = RemotedlError(said["message"], hint=said["hint"])
        error.exit_code = int(said["code"])
        raise error


class Upward:
    """The child's report and prompt in one: all of it goes to the parent, while it listens."""

    def __init__(self, out: IO[bytes], answers: IO[bytes]) -> None:
        self._out: IO[bytes] | None = out
        self._answers = answers
        self._lock = threading.Lock()

    def stage(self, name: str, detail: str = "") -> None:
        self._say("stage", name, detail)

    def progress(self, what: str, done: float, total: float | None, unit: str = "B") -> None:
        self._say("progress", what, done, total, unit)

    def note(self, text: str) -> None:
        self._say("note", text)

    def warn(self, text: str, hint: str = "") -> None:
        self._say("warn", text, hint)

    def output(self, line: str) -> None:
        self._say("output", line)

    def secret(self, question: str) -> str | None:
        answer = self._ask("secret", question)
        return answer if isinstance(answer, str) else None

    def confirm(self, question: str) -> bool:
        return self._ask("confirm", question) is True

    @property
    def attended(self) -> bool:
        return self._ask("attended", "") is True

    def error(self, error: RemotedlError) -> None:
        """The last word of a child that did not come up."""
        fields = {"message": error.message, "hint": error.hint, "code": error.exit_code}
        self._write({"say": "error", **fields})

    def live(self, addresses: Sequence[str]) -> None:
        """Tell the parent to go; from now on there is nobody to talk to."""
        self._write({"say": LIVE, "addresses": list(addresses)})
        with self._lock:
            self._out = None

    def _say(self, what: str, *args: object) -> None:
        self._write({"say": what, "args": list(args)})

    def _ask(self, what: str, question: str) -> object:
        with self._lock:
            if self._out is None:
                return None
            self._send({"say": what, "args": [question]})
            line = self._answers.readline()
        return json.loads(line) if line else None

    def _write(self, said: Mapping[str, object]) -> None:
        with self._lock:
            if self._out is not None:
                self._send(said)

    def _send(self, said: Mapping[str, object]) -> None:
        assert self._out is not None
        try:
            self._out.write(json.dumps(said).encode() + b"\n")
            self._out.flush()
        except OSError:
            self._out = None  # the parent is gone; the session goes on


def serve(session: Session, upward: Upward, stop: threading.Event) -> None:
    """The child's whole life: up, live, until `stop` is set or it fails."""
    try:
        session.bring_up()
    except RemotedlError as exc:
        upward.error(exc)
        raise
    except Exception as exc:
        upward.error(RemotedlError(f"internal error: {type(exc).__name__}: {exc}"))
        raise
    finally:
        if not session.up:
            session.close()
    upward.live(session.addresses())
    _let_go()
    try:
        session.hold(stop)
    finally:
        session.close()
    if session.failure is not None:
        raise session.failure


def _let_go() -> None:
    """The terminal's pipes are closed for good: nothing may write to them by accident."""
    with open(os.devnull, "r+b") as null:
        os.dup2(null.fileno(), 0)
        os.dup2(null.fileno(), 1)


def _detached() -> dict[str, Any]:
    if os.name == "nt":
        flags = getattr(subprocess, "DETACHED_PROCESS", 0)
        return {"creationflags": flags | getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)}
    return {"start_new_session": True}
