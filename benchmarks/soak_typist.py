"""Somebody who types in a document that is open in Jupyter on the host, and what rewrites it.

Jupyter's server is the real one, with what an image puts into it; the browser is a client of its
documents, since a real one (tests/lab_tests/session/test_typing.py) would take the machine that the
soak is to load. The laptop's file is rewritten by an editor that knows nothing of all this.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import requests
from websockets.sync.client import connect

from tests.lab.laptop import CHECKOUT
from tests.lab_tests.session.trip import free_port

FOLDER = "typed"
"""No other user touches it."""
NAME = f"{FOLDER}/notes.py"
HEAD = "# typed here: "
"""What the file begins with, and the typist types behind."""
TOKEN = "soak"
EXTENSIONS = ("jupyter_server_fileid", "jupyter_server_documents", "remotedl_jupyter")
KEY_S = 1 / 8
REWRITE_S = 1.0
START_S = 60.0


class Jupyter:
    """The server on the host's folder."""

    def __init__(self, root: Path, base: Path) -> None:
        port = free_port()
        self.base = f"127.0.0.1:{port}"
        own = {
            name: str(base / name.lower()) for name in ("JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR")
        }
        for folder in own.values():
            os.makedirs(folder)
        env = {
            **os.environ,
            **own,
            "JUPYTER_TOKEN": TOKEN,
            "JUPYTER_NO_CONFIG": "1",
            "PYTHONPATH": str(CHECKOUT / "dockerfiles" / "base" / "jupyter"),
        }
        enabled = repr(dict.fromkeys(EXTENSIONS, True))
        argv = [
            sys.executable, "-m", "jupyter_server", "--no-browser", "--allow-root",
            "--ServerApp.ip=127.0.0.1", f"--ServerApp.port={port}", "--ServerApp.port_retries=0",
            f"--ServerApp.root_dir={root}", f"--ServerApp.jpserver_extensions={enabled}",
        ]  # fmt: skip
        self._log = (base / "jupyter.log").open("w")
        self._process = subprocess.Popen(argv, env=env, stderr=self._log, stdout=self._log)
        deadline = time.monotonic() + START_S
        while not self._answers():
            assert time.monotonic() < deadline and self._process.poll() is None, "no Jupyter"
            time.sleep(0.2)

    def room(self, path: str) -> str:
        """The address of an open document."""
        answer = requests.post(
            f"http://{self.base}/api/fileid/index",
            params={"path": path, "token": TOKEN},
            timeout=START_S,
        )
        answer.raise_for_status()
        name = f"text:file:{answer.json()['id']}"
        return f"ws://{self.base}/api/collaboration/room/{name}?token={TOKEN}"

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(30)
        self._log.close()

    def _answers(self) -> bool:
        try:
            return requests.get(f"http://{self.base}/api?token={TOKEN}", timeout=5).ok
        except requests.RequestException:
            return False


class Typist:
    """Types word after word behind the first line, in a thread, until `end`."""

    def __init__(self, url: str, tag: str) -> None:
        from pycrdt import Doc, Text

        self.tag = tag
        self.words: list[str] = []
        self.error = ""
        self._url = url
        self._doc: Any = Doc()
        self._text: Any = self._doc.get("source", type=Text)
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def end(self) -> None:
        self._end.set()
        self._thread.join(30)

    def _run(self) -> None:
        try:
            self._type()
        except Exception as exc:  # what ended it is a finding
            self.error = f"the typist was stopped: {exc!r}"

    def _type(self) -> None:
        from pycrdt import create_sync_message, create_update_message

        with connect(self._url, max_size=None) as socket:
            socket.send(create_sync_message(self._doc))
            # What is made here goes there; what came from there does not go back.
            self._doc.observe(
                lambda event: (
                    None if self._takes else socket.send(create_update_message(event.update))
                )
            )
            while not str(self._text):
                self._take_in(socket, KEY_S)
            while not self._end.is_set() or not self._is_word_done:
                self._press()
                self._take_in(socket, KEY_S)
            self._take_in(socket, 2.0)

    _takes = False
    _is_word_done = True
    _typed = ""

    def _press(self) -> None:
        if self._is_word_done:
            self.words.append(f"{self.tag}{len(self.words):04d} ")
        word = self.words[-1]
        before = "".join(self.words[:-1])
        key = word[len(self._typed) - len(before)]
        text = str(self._text)
        at = text.index(HEAD) + len(HEAD) + len(self._typed)
        self._text.insert(len(text[:at].encode()), key)
        self._typed += key
        self._is_word_done = len(self._typed) == len(before) + len(word)

    def _take_in(self, socket: Any, limit_s: float) -> None:
        """What comes within `limit_s`."""
        from pycrdt import YMessageType, handle_sync_message

        deadline = time.monotonic() + limit_s
        while (left := deadline - time.monotonic()) > 0:
            try:
                message = socket.recv(left)
            except TimeoutError:
                return
            if message[0] != YMessageType.SYNC:
                continue
            self._takes = True
            try:
                reply = handle_sync_message(message[1:], self._doc)
            finally:
                self._takes = False
            if reply is not None:
                socket.send(reply)


class Editor:
    """Rewrites the laptop's file: reads it, adds a line, replaces it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines: list[str] = []
        self._due = 0.0

    def maybe_save(self) -> None:
        if time.monotonic() < self._due or not self.path.exists():
            return
        self._due = time.monotonic() + REWRITE_S
        line = f"# laptop {len(self.lines):04d}"
        text = self.path.read_text(encoding="utf-8")
        new = self.path.with_name(f".~{self.path.name}")
        new.write_text(f"{text.rstrip(chr(10))}\n{line}\n", encoding="utf-8")
        os.replace(new, self.path)
        self.lines.append(line)


def not_kept(paths: tuple[Path, Path], typist: Typist, editor: Editor) -> list[str]:
    """What of both is in neither the file nor a copy that was kept beside it."""
    found = [typist.error] if typist.error else []
    texts = [path.read_text(encoding="utf-8") for path in paths]
    kept = [one.read_text(encoding="utf-8") for one in paths[0].parent.glob("*.conflict-*")]
    for path, text in zip(paths, texts, strict=True):
        if "".join(typist.words) not in text:
            found.append(f"{path}: what was typed is not there, in one piece")
        missing = [line for line in editor.lines if line not in text]
        found += [f"{path}: {one}" for one in missing if not any(one in copy for copy in kept)]
        numbers = re.findall(r"# laptop (\d+)", text)
        if numbers != sorted(numbers):
            found.append(f"{path}: the laptop's lines are out of order")
    return found
