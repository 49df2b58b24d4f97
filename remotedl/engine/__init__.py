"""The Docker Engine on the host, over channels of our own connection.

    engine = Engine(dial)        # dial: opens one `docker system dial-stdio` on the host
    engine.report()              # what it is, and what it can do
    engine.images.pull("debian:12")
    engine.containers.create(NewContainer(image="debian:12", command=("sleep", "60")))
    engine.execs.run(container_id, ("id", "-u"))
    engine.events(labels={"remotedl.project": id})

Frozen values go in and come out (engine/types.py). Errors are the EngineError family; LinkLost
passes through. `Engine` is loaded when it is first named, for docker-py takes a while to import.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from remotedl.engine.stream import Complaining, Dial, Stream
from remotedl.engine.types import (
    BuildEvent,
    BuildOutput,
    BuildStep,
    Built,
    Change,
    ChangeKind,
    Container,
    DeviceRequest,
    EngineReport,
    Event,
    ExecResult,
    ExecState,
    Health,
    Healthcheck,
    HistoryLine,
    Image,
    LayerProgress,
    Mount,
    NewContainer,
    Output,
    PortRequest,
    PublishedPort,
    RegistryAuth,
    Ulimit,
)

if TYPE_CHECKING:
    from remotedl.engine.engine import Engine
    from remotedl.engine.execs import ExecStream

__all__ = [
    "BuildEvent",
    "BuildOutput",
    "BuildStep",
    "Built",
    "Change",
    "ChangeKind",
    "Complaining",
    "Container",
    "DeviceRequest",
    "Dial",
    "Engine",
    "EngineReport",
    "Event",
    "ExecResult",
    "ExecState",
    "ExecStream",
    "Health",
    "Healthcheck",
    "HistoryLine",
    "Image",
    "LayerProgress",
    "Mount",
    "NewContainer",
    "Output",
    "PortRequest",
    "PublishedPort",
    "RegistryAuth",
    "Stream",
    "Ulimit",
]


def __getattr__(name: str) -> Any:
    if name == "Engine":
        from remotedl.engine.engine import Engine

        return Engine
    if name == "ExecStream":
        from remotedl.engine.execs import ExecStream

        return ExecStream
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
