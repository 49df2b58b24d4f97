"""What is typed in JupyterLab while the laptop rewrites the same file: real browser, real tunnel.

With REMOTEDL_REAL_TIME=1 each goes on for a minute.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.lab.badlink import BadLink
from tests.lab.cache import cache_folder, content_hash
from tests.lab.laptop import Laptop
from tests.lab.sessions import eventually
from tests.lab.sshd import Sshd
from tests.lab.typist import (
    Rewriter,
    Typist,
    chromium,
    missing,
    notebook,
    sources_of,
    type_for,
)
from tests.lab_tests.session.trip import REAL_TIME, Trip, end_services, new_trip

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

SECONDS = 60.0 if REAL_TIME else 6.0
OFTEN = 60 if REAL_TIME else 10
SELDOM = 10 if REAL_TIME else 4
CUT_S = 10.0 if REAL_TIME else 4.0
SETTLED_S = 40.0
PRINTS = """\
import time
for i in range({count}):
    print("tick", i, flush=True)
    time.sleep(0.25)
"""


@pytest.fixture(scope="module")
def trip(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trip]:
    """A session with the real Jupyter, in the venv that the container tests use."""
    folder = tmp_path_factory.mktemp("typing")
    sshd = Sshd(folder / "sshd")
    (sshd.home / ".remotedl").mkdir(mode=0o700)
    venvs = cache_folder() / f"native-{content_hash(os.path.realpath('/usr/bin/python3'))}"
    venvs.mkdir(exist_ok=True)
    (sshd.home / ".remotedl" / "native").symlink_to(venvs)
    sshd.start()
    link = BadLink((sshd.address, sshd.port))
    made = new_trip(sshd, link, Laptop(folder / "laptop"))
    try:
        made.laptop.start("up", "h1", "--no-open").wait_for(r"token=", 500)
        yield made
    finally:
        made.close()
        made.laptop.close()
        end_services(sshd)
        link.close()
        sshd.kill()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if shutil.which("chromium") is None:
        pytest.skip("Debian's chromium is not installed")
    with chromium() as found:
        yield found


def url(trip: Trip) -> str:
    return next(tunnel.url for tunnel in trip.look().tunnels if tunnel.name == "Jupyter")


def both(trip: Trip, name: str) -> tuple[Path, Path]:
    """The file on the laptop and on the host."""
    return trip.laptop.folder / name, trip.workdir / name


def make(trip: Trip, name: str, *sources: str) -> tuple[Path, Path]:
    laptop, host = both(trip, name)
    if laptop.suffix == ".ipynb":
        notebook(laptop, sources)
    else:
        laptop.write_text("\n\n".join(sources) + "\n")
    eventually(lambda: host.exists() and host.read_bytes() == laptop.read_bytes(), SETTLED_S)
    return laptop, host


def settled(laptop: Path, host: Path, typists: list[Typist], lines: list[str]) -> None:
    """Both sides come to hold the same, with all of it."""

    def equal() -> bool:
        if not (laptop.exists() and host.exists()):
            return False
        same = laptop.read_bytes() == host.read_bytes()
        return same and not missing(laptop, typists, lines)

    deadline = time.monotonic() + SETTLED_S
    while not equal():
        if time.monotonic() > deadline:
            found = missing(laptop, typists, lines), missing(host, typists, lines)
            texts = sources_of(laptop), sources_of(host), [one.box.inner_text() for one in typists]
            raise AssertionError(f"missing on the laptop, on the host: {found}\n{texts}")
        time.sleep(0.2)


def test_two_type_and_a_cell_prints_while_the_laptop_rewrites_another(
    trip: Trip, browser: Any
) -> None:
    count = int(SECONDS * 4)
    prints = PRINTS.format(count=count)
    laptop, host = make(trip, "two.ipynb", "# one", "# laptop's", "# three", prints)
    ada = Typist(browser, url(trip), "two.ipynb", "ada")
    ada.page.locator(".jp-Cell").nth(3).locator(".cm-content").click()
    ada.page.keyboard.press("Control+Enter")
    ada.page.locator(".jp-OutputArea-output", has_text="tick 1").first.wait_for()
    ada.box.click()
    ada.page.keyboard.press("Control+End")
    bob = Typist(browser, url(trip), "two.ipynb", "bob", cell=2)
    with Rewriter(laptop, 1, OFTEN, SECONDS) as editor:
        type_for(SECONDS, ada, bob, meanwhile=None)
    settled(laptop, host, [ada, bob], editor.lines)
    assert len(editor.lines) == OFTEN
    for person in (ada, bob):
        assert person.text in person.box.inner_text()

    def printed() -> str:
        import nbformat

        cell = nbformat.reads(host.read_text(), as_version=4).cells[3]
        return "".join(output.text for output in cell.outputs)

    wanted = "".join(f"tick {i}\n" for i in range(count))
    eventually(lambda: printed() == wanted, SETTLED_S)


@pytest.mark.parametrize("name", ["same.ipynb", "same.py", "same.md"])
def test_the_laptop_rewrites_the_very_cell(trip: Trip, browser: Any, name: str) -> None:
    laptop, host = make(trip, name, "# ä😀 one", "# other")
    ada = Typist(browser, url(trip), name, "ada")
    with Rewriter(laptop, 0, SELDOM, SECONDS) as editor:
        type_for(SECONDS, ada, meanwhile=None)
    settled(laptop, host, [ada], editor.lines)
    assert len(editor.lines) == SELDOM
    assert list(laptop.parent.glob(f"{laptop.stem}.conflict-*")) == []


def test_the_link_is_cut_in_the_middle(trip: Trip, browser: Any) -> None:
    laptop, host = make(trip, "cut.ipynb", "# one", "# laptop's")
    ada = Typist(browser, url(trip), "cut.ipynb", "ada")
    cut: list[float] = []

    def meanwhile(part: float) -> None:
        if part > 0.3 and not cut:
            trip.link.cut()
            cut.append(time.monotonic())
        if len(cut) == 1 and time.monotonic() - cut[0] > CUT_S:
            trip.link.resume()
            cut.append(time.monotonic())

    seconds = SECONDS + CUT_S
    with Rewriter(laptop, 1, OFTEN, seconds) as editor:
        type_for(seconds, ada, meanwhile=meanwhile)
    trip.link.resume()
    settled(laptop, host, [ada], editor.lines)


def test_a_notebook_is_renamed_while_it_is_typed_in(trip: Trip, browser: Any) -> None:
    laptop, _ = make(trip, "old.ipynb", "# one", "# laptop's")
    ada = Typist(browser, url(trip), "old.ipynb", "ada")
    renamed: list[bool] = []

    def meanwhile(part: float) -> None:
        if part > 0.4 and not renamed:
            renamed.append(True)
            ada.page.evaluate(
                """() => fetch('/api/contents/old.ipynb', {method: 'PATCH', headers: {
                    'Content-Type': 'application/json',
                    'X-XSRFToken': document.cookie.match(/_xsrf=([^;]*)/)[1]},
                    body: JSON.stringify({path: 'new name.ipynb'})}).then(r => r.status)"""
            )

    with Rewriter(laptop, 1, OFTEN, SECONDS) as editor:
        type_for(SECONDS, ada, meanwhile=meanwhile)
    new = both(trip, "new name.ipynb")
    settled(*new, [ada], [])
    texts = [text for path in (laptop, *new) if path.exists() for text in sources_of(path)]
    assert [line for line in editor.lines if not any(line in text for text in texts)] == []


def test_what_can_not_be_merged_is_told_and_listed(trip: Trip, browser: Any) -> None:
    laptop, host = make(trip, "apart.py", "lr = 1")
    ada = Typist(browser, url(trip), "apart.py", "ada")
    ada.page.keyboard.press("Control+a")
    ada.page.keyboard.type("lr = 22")
    host.write_text("lr = 333\n")  # a program on the host, before the room has saved
    notice = ada.page.locator(".Toastify__toast", has_text="the other version is")
    notice.wait_for()
    (copy,) = host.parent.glob("apart.conflict-disk-*.py")
    assert copy.read_text() == "lr = 333\n"
    eventually(lambda: laptop.read_text() == "lr = 22" == host.read_text(), SETTLED_S)
    assert copy.name in trip.laptop.run("sync", "conflicts").stdout
    (laptop.parent / copy.name).unlink()
    eventually(lambda: not copy.exists(), SETTLED_S)
    assert copy.name not in trip.laptop.run("sync", "conflicts").stdout
