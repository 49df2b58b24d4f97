"""What a real Jupyter kernel knows is still known after the link was gone."""

from __future__ import annotations

import json
import os
import time
from urllib.parse import parse_qs, urlsplit

import pytest
from websockets.sync.client import connect

from remotedl.session.status import Phase
from tests.lab.cache import cache_folder, content_hash
from tests.lab.sessions import SOON_S, Page
from tests.lab.sshd import MakeSshd
from tests.lab_tests.e2e.test_up import execute_request
from tests.lab_tests.session.conftest import MakeTrip
from tests.lab_tests.session.trip import FROZEN_S, Trip

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600 + FROZEN_S)]


@pytest.fixture
def real(make_trip: MakeTrip, make_sshd: MakeSshd) -> Trip:
    """With the venv that the container tests use: the real Jupyter, made once."""
    sshd = make_sshd()
    (sshd.home / ".remotedl").mkdir(mode=0o700)
    venvs = cache_folder() / f"native-{content_hash(os.path.realpath('/usr/bin/python3'))}"
    venvs.mkdir(exist_ok=True)
    (sshd.home / ".remotedl" / "native").symlink_to(venvs)
    return make_trip(sshd=sshd)


def test_kernel_state_is_alive_after_the_link_was_gone(real: Trip) -> None:
    command = real.laptop.start("up", "h1", "--no-open")
    command.wait_for(r"token=", 400)
    parts = urlsplit(next(t.url for t in real.look().tunnels if t.name == "Jupyter"))
    page = Page(f"http://{parts.netloc!s}", parse_qs(str(parts.query))["token"][0])
    kernel = page.send("POST", "/api/kernels", {}).json()["id"]
    assert executed(page, kernel, "x = 41; print('kept')") == "kept"
    real.link.freeze()
    real.await_phase(Phase.RECONNECTING)
    time.sleep(FROZEN_S)
    real.link.resume()
    real.await_phase(Phase.LIVE)
    assert executed(page, kernel, "print(x + 1)") == "42"


def executed(page: Page, kernel: str, code: str) -> str:
    """What it prints."""
    url = f"{page.base.replace('http', 'ws')}/api/kernels/{kernel}/channels?token={page.token}"
    with connect(url, open_timeout=SOON_S) as socket:
        socket.send(json.dumps(execute_request(code)))
        while True:
            message = json.loads(socket.recv(SOON_S))
            if message["msg_type"] == "stream":
                return str(message["content"]["text"]).strip()
