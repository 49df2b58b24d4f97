"""What a kernel prints while nobody watches is there when the browser comes back."""

from __future__ import annotations

import json
import shutil
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import requests
from websockets.sync.client import connect

from remotedl.engine import Engine, NewContainer, PortRequest
from remotedl.images import ImageRef
from tests.lab.typist import Typist, chromium, type_for
from tests.lab_tests.images.conftest import Place

pytestmark = [pytest.mark.lab, pytest.mark.slow, pytest.mark.timeout(600)]

LIMIT_S = 120
CELL = """\
import pathlib, time
print("begun", flush=True)
while not pathlib.Path("/tmp/gone").exists():
    time.sleep(0.1)
for i in range(3):
    print("unwatched", i, flush=True)
print("done")
"""


@dataclass
class Server:
    """A JupyterLab of the base image, as an ordinary user."""

    engine: Engine
    container: str
    url: str
    token: str

    def ask(self, method: str, path: str, **more: Any) -> Any:
        headers = {"Authorization": f"token {self.token}"}
        answer = requests.request(method, self.url + path, headers=headers, timeout=20, **more)
        answer.raise_for_status()
        return answer.json()

    def outputs(self, name: str) -> str:
        """All that the first cell has printed, as the notebook on the disk has it."""
        cell = self.ask("GET", f"/api/contents/{name}")["content"]["cells"][0]
        return "".join("".join(one.get("text", "")) for one in cell["outputs"])

    def touch(self, path: str) -> None:
        assert self.engine.execs.run(self.container, ["touch", path]).ok


@pytest.fixture
def server(local: Place, base: ImageRef) -> Iterator[Server]:
    token = uuid.uuid4().hex
    command = ("jupyter-lab", "--no-browser", "--ServerApp.ip=0.0.0.0", "--ServerApp.port=8888")
    made = local.engine.containers.create(
        NewContainer(
            image=base.reference,
            command=command,
            user="4242:4242",
            env={"JUPYTER_TOKEN": token},
            ports=(PortRequest(8888),),
        )
    )
    local.engine.containers.start(made.id)
    running = local.engine.containers.get(made.id)
    assert running is not None
    url = f"http://127.0.0.1:{running.ports[0].host_port}"
    found = Server(local.engine, made.id, url, token)
    try:
        until(lambda: _answers(found), "Jupyter answers")
        yield found
    finally:
        local.engine.containers.remove(made.id, force=True)


def _answers(server: Server) -> bool:
    try:
        server.ask("GET", "/api/status")
    except requests.RequestException:
        return False
    return True


def until(true: Any, what: str) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not true():
        assert time.monotonic() < deadline, f"not within {LIMIT_S} s: {what}"
        time.sleep(0.2)


def write_notebook(server: Server, name: str, source: str) -> None:
    cell = {"cell_type": "code", "id": "one", "metadata": {}, "outputs": [], "source": source}
    notebook = {
        "cells": [cell | {"execution_count": None}],
        "metadata": {"kernelspec": {"name": "python3", "display_name": "Python 3"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    content = {"type": "notebook", "format": "json", "content": notebook}
    server.ask("PUT", f"/api/contents/{name}", json=content)


def test_output_of_a_closed_browser_is_in_the_notebook(server: Server) -> None:
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("Debian's chromium is not installed")
    from playwright.sync_api import sync_playwright

    write_notebook(server, "long.ipynb", CELL)
    page_url = f"{server.url}/doc/tree/long.ipynb?token={server.token}"
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page()
        page.set_default_timeout(LIMIT_S * 1000)
        page.goto(page_url)
        page.locator(".jp-CodeCell .cm-content").first.click()
        # The kernel is there once its name is no longer being looked up.
        page.locator(".jp-Notebook-ExecutionIndicator[data-status=idle]").wait_for()
        page.keyboard.press("Shift+Enter")
        page.locator(".jp-OutputArea-output", has_text="begun").first.wait_for()
        page.close()
        server.touch("/tmp/gone")
        until(lambda: "done" in server.outputs("long.ipynb"), "the output is on the disk")
        assert "unwatched 2" in server.outputs("long.ipynb")
        page = browser.new_page()
        page.set_default_timeout(LIMIT_S * 1000)
        page.goto(page_url)
        page.locator(".jp-OutputArea-output", has_text="done").first.wait_for()
        browser.close()


def test_the_older_websocket_protocol_is_still_spoken(server: Server) -> None:
    """By editors and scripts; jupyter_server_documents alone would leave them without an answer."""
    kernel = server.ask("POST", "/api/kernels", json={"name": "python3"})["id"]
    url = f"{server.url.replace('http', 'ws')}/api/kernels/{kernel}/channels?token={server.token}"
    asked = uuid.uuid4().hex
    header = {"msg_id": asked, "msg_type": "execute_request", "version": "5.3"}
    request = {
        "header": header | {"username": "", "session": "s", "date": ""},
        "parent_header": {},
        "metadata": {},
        "channel": "shell",
        "content": {"code": "print(6 * 7)", "silent": False},
    }
    with connect(url) as socket:
        socket.send(json.dumps(request))
        while True:
            answer = json.loads(socket.recv(timeout=LIMIT_S))
            mine = answer["parent_header"].get("msg_id") == asked
            if mine and answer["msg_type"] == "stream":
                assert answer["content"]["text"] == "42\n"
                return


OUTSIDE = """\
import json, os, sys
book = json.load(open("open.ipynb"))
book["cells"][0]["source"] = "".join(book["cells"][0]["source"]) + "\\n# outside " + sys.argv[1]
json.dump(book, open("new", "w"))
os.replace("new", "open.ipynb")
"""


def test_an_edit_from_outside_is_merged_into_what_is_typed(server: Server) -> None:
    """What the sync does when the laptop's copy of an open notebook was changed."""
    if shutil.which("chromium") is None:
        pytest.skip("Debian's chromium is not installed")
    write_notebook(server, "open.ipynb", "# first")
    edits: list[str] = []

    def meanwhile(part: float) -> None:
        if part * 5 > len(edits) + 1:
            edits.append(str(len(edits)))
            argv = ["python", "-c", OUTSIDE, edits[-1]]
            assert server.engine.execs.run(server.container, argv).ok

    with chromium() as browser:
        ada = Typist(browser, f"{server.url}/?token={server.token}", "open.ipynb", "ada")
        type_for(6.0, ada, meanwhile=meanwhile)
        wanted = "\n".join([f"# first {ada.text}", *(f"# outside {one}" for one in edits)])
        until(lambda: source(server, "open.ipynb") == wanted, "all of it is in the file")
    assert len(edits) == 4


def source(server: Server, name: str) -> str:
    """The first cell, as the notebook on the disk has it."""
    found: str = server.ask("GET", f"/api/contents/{name}")["content"]["cells"][0]["source"]
    return found
