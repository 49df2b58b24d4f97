"""Fixtures for whole sessions; what they are is in trip.py."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.lab.badlink import MakeBadLink
from tests.lab.laptop import Laptop
from tests.lab.sshd import MakeSshd, Sshd
from tests.lab_tests.session.trip import Trip, double_venv, end_services, new_trip

MakeTrip = Callable[..., Trip]


@pytest.fixture
def make_trip(make_sshd: MakeSshd, bad_link: MakeBadLink, tmp_path: Path) -> Iterator[MakeTrip]:
    """`make_trip(laptop=…, sshd=…, name="h1", jupyter={…})`: project settings as keywords."""
    made: list[Trip] = []

    def make(
        laptop: Laptop | None = None, sshd: Sshd | None = None, name: str = "h1", **settings: object
    ) -> Trip:
        if sshd is None:
            sshd = make_sshd()
            double_venv(sshd)
        laptop = laptop or Laptop(tmp_path / f"laptop{len(made)}")
        trip = new_trip(sshd, bad_link(sshd), laptop, name, **settings)
        made.append(trip)
        return trip

    yield make
    for trip in made:
        trip.close()
        trip.laptop.close()
        end_services(trip.sshd)


@pytest.fixture
def trip(make_trip: MakeTrip) -> Trip:
    """One laptop and one host."""
    return make_trip()
