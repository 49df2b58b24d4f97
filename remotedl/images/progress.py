"""Many layers that move at once, as a few lines of progress.

The engine tells of each layer by itself; what a person wants is how much of the whole is there,
and how fast. Totals are summed only once every layer has told its own, so that a percentage
never runs backwards.
"""

from __future__ import annotations

from remotedl.engine.types import LayerProgress
from remotedl.report import Report

WAITING = frozenset({"Pulling fs layer", "Waiting", "Preparing"})
MOVING = frozenset({"Downloading", "Pushing", "Loading layer"})
FETCHED = frozenset({"Verifying Checksum", "Download complete", "Extracting", "Pull complete"})
DONE = frozenset({"Pull complete", "Already exists", "Pushed", "Layer already exists"})
UNPACKING = frozenset({"Extracting"})


class LayerBoard:
    """Feeds `report` from the LayerProgress of one image."""

    def __init__(self, what: str, report: Report) -> None:
        self._what = what
        self._report = report
        self._fetched: dict[str, float] = {}
        self._sizes: dict[str, float] = {}
        self._layers: set[str] = set()
        self._had: set[str] = set()
        self._done: set[str] = set()

    def __call__(self, event: LayerProgress) -> None:
        if not event.layer or event.status not in WAITING | MOVING | FETCHED | DONE:
            if event.status.startswith("Status: "):
                self._report.note(event.status.removeprefix("Status: "))
            return
        self._layers.add(event.layer)
        if event.status == "Already exists":
            self._had.add(event.layer)
        if event.status in DONE:
            self._done.add(event.layer)
        if event.status in MOVING:
            self._moved(event)
        elif event.status in FETCHED and event.layer in self._sizes:
            self._fetched[event.layer] = self._sizes[event.layer]
        self._show(event)

    def _moved(self, event: LayerProgress) -> None:
        # The containerd store counts some things in seconds: they are no bytes.
        if event.unit != "B" or event.current is None:
            return
        self._fetched[event.layer] = event.current
        if event.total:
            self._sizes[event.layer] = event.total

    def _show(self, event: LayerProgress) -> None:
        to_fetch = self._layers - self._had
        if event.status in MOVING or event.status == "Download complete":
            known = to_fetch <= self._sizes.keys()
            total = sum(self._sizes.values()) if known else None
            self._report.progress(self._what, sum(self._fetched.values()), total)
        elif event.status in UNPACKING | DONE:
            done = len(self._done)
            self._report.progress(f"{self._what}: unpacking", done, len(self._layers), "layers")
