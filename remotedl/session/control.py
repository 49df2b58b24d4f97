"""How one remotedl talks to another on the same laptop: a local socket, JSON both ways.

`multiprocessing.connection` gives a unix socket or, on Windows, a named pipe, and an HMAC
handshake with the record's key. Only bytes are exchanged (no pickles). A request is one object
{"do": NAME, …}, the reply {"ok": …} or {"error": message, "hint": …, "code": …}.

Neither side may hang on the other: a session that is stopped (SIGSTOP, a debugger) is told as one
that does not answer, and a client that says nothing holds up no other client.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import tempfile
import threading
from collections.abc import Callable, Mapping
from multiprocessing import AuthenticationError
from multiprocessing.connection import (
    Client,
    Connection,
    Listener,
    answer_challenge,
    deliver_challenge,
)
from pathlib import Path
from typing import Any

from remotedl.errors import RemotedlError, SessionError

Handler = Callable[[Mapping[str, Any]], Any]
HELLO_S = 2.0
"""Within which a session that runs has taken a request; what it is asked for may take longer."""
_BACKLOG = 16
_UNIX_PATH_LIMIT = 100
_LARGEST = 16 * 1024 * 1024
_LARGEST_REPLY = 512 * 1024 * 1024
"""Bytes; the history of a big delete is long."""


class ControlServer:
    """Answers requests in threads of its own until closed."""

    def __init__(self, folder: Path, handlers: Mapping[str, Handler]) -> None:
        self.key = secrets.token_bytes(32)
        self._handlers = handlers
        self._scratch: Path | None = None
        self.address = self._choose_address(folder)
        # Without the key here: who stalls in the handshake must not keep the next one waiting.
        self._listener = Listener(self.address, backlog=_BACKLOG)
        self._closing = False
        self._thread = threading.Thread(target=self._accept, name="control", daemon=True)
        self._thread.start()

    def close(self) -> None:
        if self._closing:
            return
        self._closing = True
        # accept() has no time-out: a last connection of our own wakes it.
        with contextlib.suppress(OSError, EOFError, AuthenticationError):
            Client(self.address).close()
        self._thread.join(5)
        self._listener.close()
        if self._scratch is not None:
            with contextlib.suppress(OSError):
                self._scratch.rmdir()

    def _choose_address(self, folder: Path) -> str:
        if os.name == "nt":
            return rf"\\.\pipe\remotedl-{secrets.token_hex(8)}"
        path = folder / "control.sock"
        if len(os.fsencode(path)) > _UNIX_PATH_LIMIT:
            # sun_path holds 108 bytes, 104 on macOS; mkdtemp makes the folder 0700.
            self._scratch = Path(tempfile.mkdtemp(prefix="remotedl-"))
            path = self._scratch / "control.sock"
        path.unlink(missing_ok=True)
        return str(path)

    def _accept(self) -> None:
        while True:
            try:
                client = self._listener.accept()
            except OSError:
                client = None
            if self._closing:
                if client is not None:
                    client.close()
                return
            if client is not None:
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: Connection[Any, Any]) -> None:
        with client, contextlib.suppress(OSError, EOFError, AuthenticationError):
            deliver_challenge(client, self.key)
            answer_challenge(client, self.key)
            while True:
                request = json.loads(client.recv_bytes(_LARGEST))
                client.send_bytes(json.dumps(self._answer(request)).encode())

    def _answer(self, request: Mapping[str, Any]) -> dict[str, Any]:
        handler = self._handlers.get(str(request.get("do")))
        if handler is None:
            return {"error": f"this session knows no request {request.get('do')!r}", "code": 80}
        try:
            return {"ok": handler(request)}
        except RemotedlError as exc:
            return {"error": exc.message, "hint": exc.hint, "code": exc.exit_code}
        except Exception as exc:  # noqa: BLE001 - one bad request must not end the session
            return {"error": f"{type(exc).__name__}: {exc}", "code": 1}


def ask(
    address: str,
    key: bytes,
    do: str,
    *,
    timeout_s: float = 30,
    hello_s: float = HELLO_S,
    **fields: Any,
) -> Any:
    """One request to a running session. Raises SessionError, or the error that it answers.

    `hello_s`: until it has taken the request; `timeout_s`: from then until it has answered.
    """
    talk = _Talk(address, key, json.dumps({"do": do, **fields}).encode())
    # In a thread, because neither connect nor the handshake knows a time-out on every system. One
    # that hangs is left behind: it ends with its other side, or with us.
    threading.Thread(target=talk.run, name="ask", daemon=True).start()
    if not talk.taken.wait(hello_s):
        raise SessionError(f"it does not answer within {hello_s:g} s", hint="remotedl status")
    if not talk.over.wait(timeout_s):
        raise SessionError(f"it has not answered within {timeout_s:g} s", hint="remotedl status")
    if talk.trouble is not None:
        said = str(talk.trouble) or type(talk.trouble).__name__
        raise SessionError(f"it does not answer: {said}", hint="remotedl status")
    reply = json.loads(talk.reply)
    if "error" in reply:
        error = RemotedlError(reply["error"], hint=reply.get("hint", ""))
        error.exit_code = int(reply.get("code", 1))
        raise error
    return reply["ok"]


class _Talk:
    """One request and its reply, from a thread that somebody waits for, or not."""

    def __init__(self, address: str, key: bytes, request: bytes) -> None:
        self._address, self._key, self._request = address, key, request
        self.taken, self.over = threading.Event(), threading.Event()
        self.reply = b""
        self.trouble: Exception | None = None

    def run(self) -> None:
        try:
            with Client(self._address, authkey=self._key) as client:
                client.send_bytes(self._request)
                self.taken.set()
                self.reply = client.recv_bytes(_LARGEST_REPLY)
        except (OSError, EOFError, AuthenticationError) as exc:
            self.trouble = exc
        self.taken.set()
        self.over.set()
