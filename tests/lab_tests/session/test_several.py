"""Several at once: two projects on one host, one project on two hosts."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.lab.sessions import eventually
from tests.lab_tests.session.conftest import MakeTrip

pytestmark = pytest.mark.timeout(120)


def test_two_projects_on_one_host_at_once(make_trip: MakeTrip) -> None:
    one = make_trip()
    two = make_trip(sshd=one.sshd)
    for trip in (one, two):
        trip.up_in_background()
    first, second = one.look(), two.look()
    assert first.workdir != second.workdir
    ports = [tunnel.port for now in (first, second) for tunnel in now.tunnels]
    assert len(set(ports)) == 4
    (one.laptop.folder / "one.txt").write_text("of the first\n")
    (Path(second.workdir) / "two.txt").write_text("of the second\n")
    eventually((Path(first.workdir) / "one.txt").exists)
    eventually((two.laptop.folder / "two.txt").exists)
    assert not (Path(second.workdir) / "one.txt").exists()
    two.laptop.run("down")
    assert one.page("Jupyter").get("/api").text == "{}"
    assert one.laptop.run("run", "--", "cat", "one.txt").stdout == "of the first\n"


def test_one_project_on_two_hosts_at_once(make_trip: MakeTrip) -> None:
    one = make_trip()
    two = make_trip(laptop=one.laptop, name="h2")
    for trip in (one, two):
        trip.up_in_background()
    assert {row["host"] for row in one.statuses()} == {"h1", "h2"}
    ports = [tunnel.port for trip in (one, two) for tunnel in trip.look().tunnels]
    assert len(set(ports)) == 4
    (one.laptop.folder / "both.txt").write_text("for both\n")
    for trip in (one, two):
        eventually((Path(trip.look().workdir) / "both.txt").exists)
    (Path(one.look().workdir) / "made-on-h1.txt").write_text("by h1\n")
    eventually((Path(two.look().workdir) / "made-on-h1.txt").exists)
    assert one.laptop.run("run", "h2", "--", "cat", "made-on-h1.txt").stdout == "by h1\n"
    one.laptop.run("down", "h1")
    assert [row["host"] for row in one.statuses()] == ["h2"]
    assert two.page("Jupyter").get("/api").text == "{}"
