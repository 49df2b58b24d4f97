"""Builds by the engine's own, older builder: for hosts without buildx."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from remotedl.engine import BuildEvent, BuildOutput, BuildStep, Built, Engine, LayerProgress
from remotedl.engine.explain import OUT_OF_REACH
from remotedl.errors import BuildFailed, EngineError
from remotedl.images.order import (
    BAD_LINE,
    Order,
    Sources,
    failure,
    instruction_lines,
    no_base,
    unbuilt,
)
from remotedl.images.progress import LayerBoard
from remotedl.images.recipe import context_tar, without_mounts
from remotedl.report import Report

COLOUR = re.compile(r"\x1b\[[0-9;]*m")
"""The builder paints stderr red."""
NOISE = re.compile(r"(\x1b\[0m)?( ---> |Removing intermediate container )")
"""What the builder says of its own housekeeping."""


def build_classic(
    engine: Engine, order: Order, sources: Sources, report: Report, *, no_cache: bool = False
) -> None:
    """Build `order` under its tag. Raises BuildFailed, ImageNotFound, EngineError."""
    text = order.dockerfile_text()
    watch = _Watch(order, text.decode("utf-8", "replace"), report)
    events = engine.images.build(
        context_tar(order.context, {**order.replaced, order.dockerfile: without_mounts(text)}),
        tag=order.tag,
        dockerfile=order.dockerfile,
        target=order.target,
        no_cache=no_cache,
        network="host" if sources.host_network else "",
        labels=order.all_labels,
        build_args={**order.build_args, **sources.proxy_args, **_index_argument(sources)},
    )
    try:
        for event in events:
            watch(event)
    except BuildFailed as exc:
        raise watch.failed(exc) from exc
    except EngineError as exc:
        raise watch.refused(exc) from exc
    if not watch.built:
        raise BuildFailed(f"building {order.title} ended without an image")


class _Watch:
    """Reports a build as it goes, and remembers enough to explain its failure."""

    def __init__(self, order: Order, dockerfile: str, report: Report) -> None:
        self._order = order
        self._lines = instruction_lines(dockerfile)
        self._report = report
        self._layers = LayerBoard(f"building {order.title}: base image", report)
        self._step: BuildStep | None = None
        self._said: list[str] = []
        self.built = False

    def __call__(self, event: BuildEvent) -> None:
        if isinstance(event, BuildStep):
            self._step = event
            self._said.clear()
            what = f"building {self._order.title}"
            self._report.progress(what, event.index - 1, event.total, "steps")
            self._report.output(f"[{event.index}/{event.total}] {event.text}")
        elif isinstance(event, BuildOutput) and not NOISE.match(event.line):
            line = COLOUR.sub("", event.line)
            self._said.append(line)
            self._report.output(line)
        elif isinstance(event, LayerProgress):
            self._layers(event)
        elif isinstance(event, Built):
            self.built = True

    def failed(self, exc: BuildFailed) -> BuildFailed:
        step = self._step
        if step is None:
            return unbuilt(self._order, exc.message)
        # The labels of an order are instructions too: they come last, and have no line.
        line = self._lines[step.index - 1] if step.index <= len(self._lines) else 0
        return failure(self._order, step.text, line, exc.message, self._said)

    def refused(self, exc: EngineError) -> EngineError:
        """What the engine itself would not do; it knows the image by our tag alone."""
        reason = exc.message.removeprefix(f"building {self._order.tag}: ")
        if reason == exc.message:
            return exc
        reason = reason.removesuffix(OUT_OF_REACH)
        if self._step is not None and self._step.text.upper().startswith("FROM "):
            return no_base(self._order, self._step.text, reason)
        if BAD_LINE.search(reason):
            return unbuilt(self._order, reason)
        return type(exc)(f"building {self._order.title}: {reason}", hint=exc.hint)


def _index_argument(sources: Sources) -> dict[str, str]:
    """The classic builder writes arguments into the image's history, so none may be a secret."""
    if not sources.pip_index:
        return {}
    if urlsplit(sources.pip_index).password:
        raise EngineError(
            "the pip mirror's URL holds a password, and the host's classic builder would write it "
            "into the image's history",
            hint="remotedl provision (brings docker buildx, which keeps it out)",
        )
    return {"PIP_INDEX_URL": sources.pip_index}
