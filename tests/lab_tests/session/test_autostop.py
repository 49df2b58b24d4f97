"""autostop by the command line: seen in `status`, postponed, cancelled, and it stops."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from remotedl.container.payload import idle
from tests.lab.sessions import eventually
from tests.lab_tests.session.conftest import MakeTrip

pytestmark = pytest.mark.timeout(120)


def test_it_is_seen_postponed_cancelled_and_stops(make_trip: MakeTrip) -> None:
    trip = make_trip(autostop="20s")
    up = trip.up()
    seen = eventually(lambda: trip.look().autostop)
    assert isinstance(seen, dict)
    assert (seen["watching"], seen["limit_s"], seen["ended"]) == (True, 20, None)
    assert "autostop" in trip.laptop.run("status").stdout
    assert "within the next 2h" in trip.laptop.run("autostop", "--postpone", "2h").text
    state = next(trip.sshd.home.glob(".remotedl/run/*/idle.json"))
    eventually(lambda: told(state.read_text())["busy"] == ["postponed"])
    assert told(trip.laptop.run("autostop", "--json").stdout)["busy"] == ["postponed"]
    assert trip.laptop.run("autostop", "--postpone", "soon", check=False).code == 2
    trip.laptop.run("autostop", "--cancel")
    assert "is not on" in trip.laptop.run("autostop", check=False).text
    up.interrupt()
    up.wait()
    settings = trip.laptop.folder / "hosts.toml"
    settings.write_text(settings.read_text().replace('"20s"', '"1s"'))
    up = trip.up()
    eventually(lambda: (trip.look().autostop or {}).get("ended"))
    assert "stopped for idleness" in trip.laptop.run("status").stdout


def told(text: str) -> dict[str, object]:
    return dict(json.loads(text))


@pytest.fixture
def powers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """sudo and docker that write down what they are asked for, and nothing else: no power-off."""
    log = tmp_path / "asked"
    for name, says in (("sudo", ""), ("docker", f"cat {tmp_path}/containers 2>/dev/null")):
        program = tmp_path / name
        program.write_text(f'#!/bin/sh\necho {name} "$@" >>{log}\n{says}\nexit 0\n')
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(idle, "RUN", str(tmp_path))
    return log


def test_the_host_is_shut_down_where_that_was_asked_for_and_nobody_else_is_on_it(
    powers: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = {"limit_s": 1, "container": "ours", "poweroff": True}
    monkeypatch.setattr(idle, "PEOPLE", range(0))
    idle.end({**asked, "poweroff": False})
    assert "poweroff" not in powers.read_text()
    (powers.parent / "containers").write_text("c0ffee\n")
    idle.end(asked)
    assert "poweroff" not in powers.read_text()
    assert idle.read("idle.json")["kept_on"] == "1 other containers run"
    (powers.parent / "containers").unlink()
    idle.end(asked)
    assert "sudo -n systemctl poweroff" in powers.read_text()
    assert idle.read("idle.json")["kept_on"] == ""
