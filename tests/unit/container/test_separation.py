"""The network that a user's containers are on, where packets are smaller than Docker sends."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from remotedl.container.separation import leave_network, own_network
from remotedl.container.spec import User
from remotedl.engine.engine import Engine
from remotedl.engine.types import Network
from remotedl.report import SILENT

ADA = User("ada", 1000, 1000, "ada", "/home/ada")


class Networks:
    def __init__(self, mtu: int | None, in_use: bool = False) -> None:
        self.in_use, self.removed, self.made = in_use, False, list[int]()
        self.own = None if mtu is None else Network("1", "remotedl-1000", {}, mtu, True)

    def get(self, name: str) -> Network | None:
        return Network("0", "bridge", {}, 1500, False) if name == "bridge" else self.own

    def find(self, labels: Any) -> list[Any]:
        return []

    def remove(self, name: str) -> bool:
        self.removed = not self.in_use
        return self.removed

    def create(self, name: str, *, mtu: int, **more: Any) -> None:
        self.made.append(mtu)


class Told:
    stage, progress, note, output = SILENT.stage, SILENT.progress, SILENT.note, SILENT.output

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, text: str, hint: str = "") -> None:
        self.warnings.append(text)


class OneEngine:
    class _Report:
        podman = False

    def __init__(self, networks: Networks) -> None:
        self.networks = self.containers = networks

    def report(self) -> _Report:
        return self._Report()


@pytest.mark.parametrize(("there", "wanted", "made"), [
    (None, 0, [1500]), (None, 1400, [1400]), (1500, 0, []), (1400, 1400, []), (0, 1400, [1400]),
    (1500, 1400, [1400]), (1280, 1400, []),
])  # fmt: skip
def test_its_packets_fit_through_the_hosts_way_out(
    there: int | None, wanted: int, made: list[int]
) -> None:
    networks = Networks(there)

    name = own_network(cast(Engine, OneEngine(networks)), ADA, SILENT, mtu=wanted)

    assert (name, networks.made) == ("remotedl-1000", made)
    assert networks.removed == (there is not None and bool(made))


def test_one_that_other_containers_are_on_stays_and_it_is_told() -> None:
    networks, told = Networks(1500, in_use=True), Told()

    assert own_network(cast(Engine, OneEngine(networks)), ADA, told, mtu=1400) == "remotedl-1000"
    assert networks.made == [] and "1400" in told.warnings[0]


@pytest.mark.parametrize("others", [0, 1], ids=["the last one", "another that is stopped"])
def test_a_network_goes_with_the_last_container_that_was_made_on_it(
    monkeypatch: pytest.MonkeyPatch, others: int
) -> None:
    networks = Networks(1500)
    ours = cast(Any, SimpleNamespace(network="remotedl-1000", labels={"remotedl.owner": "ada"}))
    monkeypatch.setattr(networks, "find", lambda labels: [ours] * others)
    leave_network(cast(Engine, OneEngine(networks)), ours)
    assert networks.removed is (others == 0)
