"""NVIDIA's kernel driver: what is there, what is missing, who can bring it. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from remotedl.provision.facts import HostFacts
from remotedl.provision.managers import Manager
from remotedl.provision.steps import Kept, Notice, Stage, Step, Wish


@dataclass(slots=True)
class DriverPlan:
    """`usable`: the driver answers now, so that the toolkit may be set up."""

    usable: bool
    steps: list[Step] = field(default_factory=list)
    notices: list[Notice] = field(default_factory=list)
    kept: list[Kept] = field(default_factory=list)


def driver_steps(facts: HostFacts, wish: Wish, manager: Manager) -> DriverPlan:
    """Nothing where the driver answers."""
    driver = facts.driver
    if driver.smi_works or (driver.loaded and not driver.smi):
        version = driver.loaded or driver.library
        return DriverPlan(True, kept=[Kept(Stage.DRIVER, f"NVIDIA's driver {version} answers")])
    return DriverPlan(False)
