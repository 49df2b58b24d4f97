"""The event stream: `up --json`, `attach --json`."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.lab.laptop import Command
from tests.lab_tests.session.trip import Trip

pytestmark = pytest.mark.timeout(120)


def lines(command: Command) -> list[dict[str, Any]]:
    return [json.loads(line) for line in command.stdout.splitlines()]


def test_up_and_attach_tell_one_event_a_line(trip: Trip) -> None:
    up = trip.laptop.start("up", "h1", "--json")
    up.wait_for('"event": "state".*"phase": "live"')
    attached = trip.laptop.start("attach", "--json")
    attached.wait_for('"phase": "live"')
    trip.link.cut()
    attached.wait_for('"event": "told".*"text": "link lost')
    trip.link.resume()
    attached.wait_for('"text": "back after')
    up.interrupt()
    assert up.wait(30) == 130
    assert attached.wait(30) == 0
    events = lines(up)
    stages = [event["name"] for event in events if event["event"] == "stage"]
    assert list(dict.fromkeys(stages)) == ["connect", "native", "sync", "tunnel"]
    phases = [event["phase"] for event in events if event["event"] == "state"]
    assert "reconnecting" in phases
    assert events[-1]["event"] == "end"
    assert all(event["at"] > 0 for event in events)
    assert lines(attached)[-1]["event"] == "end"


def test_up_in_the_background_ends_its_stream_with_the_state(trip: Trip) -> None:
    up = trip.laptop.run("up", "h1", "-d", "--json")
    state = lines(up)[-1]
    assert (state["event"], state["phase"], state["host"]) == ("state", "live", "h1")
    assert state["tunnels"][0]["url"].startswith("http://127.0.0.1:")
    trip.laptop.run("down")
