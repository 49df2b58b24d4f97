"""`remotedl image …`: what is on the host, made, fetched, sent, kept and cleared away."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from remotedl.config.models import HostConfig, RuntimeKind
from remotedl.container.runtime import State
from remotedl.engine import Container, Engine
from remotedl.errors import ContainerError, EngineError, UsageError
from remotedl.images.credentials import auth_for
from remotedl.images.keeping import Made, Snapshot, made_here, plan_prune, prune, snapshot
from remotedl.images.newer import Newer, newer_bases, newer_packages
from remotedl.images.pull import pull, refuse_no_name, refuse_what_cannot_be_pulled
from remotedl.images.transfer import Loaded, brought, load, note_brought
from remotedl.provision.facts import HostFacts
from remotedl.provision.probe import gather
from remotedl.session.arrivals import ask_about_recipe
from remotedl.session.errands import Errand, connected
from remotedl.session.options import UpOptions
from remotedl.session.stages import check_project, image_on_host
from remotedl.session.way_out import ports_for, ports_of, way_out
from remotedl.session.workplace import Workplace


@contextmanager
def engine_place(errand: Errand) -> Iterator[tuple[Workplace, Engine]]:
    """The host's engine, where it has one. Raises UsageError, EngineError, LinkLost."""
    if errand.host.runtime is RuntimeKind.NATIVE:
        raise UsageError(
            f"{errand.host_name} has the native runtime, which knows no images",
            hint='runtime = "docker" in hosts.toml',
        )
    with connected(errand) as place:
        if place.engine is None:
            raise EngineError("no engine", hint="remotedl provision")
        yield place, place.engine


def images_of(errand: Errand) -> tuple[Made, ...]:
    with engine_place(errand) as (_, engine):
        return made_here(engine)


@dataclass(frozen=True, slots=True)
class Fetching:
    """How the host gets at what it needs."""

    through_laptop: bool = False
    yes: bool = False
    """Docker may be restarted under running containers for it."""


AS_IT_IS = Fetching()


def build_image(errand: Errand, *, rebuild: bool, fetching: Fetching = AS_IT_IS) -> str:
    """The project's image on the host, without starting anything; its reference."""
    check_project(errand.project)
    ask_about_recipe(errand.project, errand.host.runtime, errand.prompt, errand.report)
    with engine_place(errand) as (place, engine):
        facts = gather(place.remote)
        options = UpOptions(rebuild=rebuild)
        ports = ports_for(errand.project.config.project)
        with _way_out(errand, engine, facts, fetching, ports) as (host, before):
            image, ref = image_on_host(
                place, errand.project, host, facts, options, errand.report, before
            )
        errand.report.stage("image", f"{ref.reference} {image.id[7:19]}")
        return ref.reference


def newer_versions(errand: Errand) -> list[Newer]:
    """What `up --rebuild` would bring. Nothing is changed. Raises EngineError, LinkLost."""
    check_project(errand.project)
    with engine_place(errand) as (place, engine):
        status = place.runtime.status()
        image = engine.images.get(status.image) if status.image else None
        if image is None or status.state is not State.RUNNING:
            raise ContainerError(
                "only of a running container can be told what is newer than what it has",
                hint="remotedl up -d",
            )
        errand.report.stage("image", f"what is newer than {status.image}")
        bases = newer_bases(engine, image, errand.report)
        return bases + newer_packages(place.runtime.run, errand.report)


def pull_image(errand: Errand, reference: str, fetching: Fetching = AS_IT_IS) -> str:
    """Fetch `reference` with the laptop's credentials; its id."""
    refuse_what_cannot_be_pulled(reference)
    with engine_place(errand) as (place, engine):
        errand.report.stage("pull", reference)
        architecture = engine.report().architecture
        auth = auth_for(reference)
        facts = gather(place.remote) if fetching.through_laptop else HostFacts()
        with _way_out(errand, engine, facts, fetching, ports_of(reference)) as (_, before):
            before()
            return pull(
                engine, reference, architecture=architecture, report=errand.report, auth=auth
            ).id


@contextmanager
def _way_out(
    errand: Errand, engine: Engine, facts: HostFacts, fetching: Fetching, ports: tuple[int, ...]
) -> Iterator[tuple[HostConfig, Callable[[], None]]]:
    """The host as hosts.toml has it, or with a way through this laptop; what to call first."""
    if not fetching.through_laptop:
        yield errand.host, lambda: None
        return
    remote = errand.connect()
    try:

        def confirm(question: str) -> bool:
            return fetching.yes or errand.prompt.confirm(question)

        with way_out(remote, errand.host, confirm, errand.report, ports=ports) as way:
            yield way.host, way.for_engine(facts, engine)
    finally:
        remote.close()


def load_image(errand: Errand, reference: str) -> Loaded:
    """Send an image of the laptop's engine to the host: the layers that it has not."""
    refuse_no_name(reference)
    laptop = Engine(_dial_laptop)
    try:
        with engine_place(errand) as (place, engine):
            errand.report.stage("load", reference)
            loaded = load(
                laptop,
                engine,
                reference,
                architecture=engine.report().architecture,
                report=errand.report,
                remote=place.remote,
            )
            note_brought(place.remote, loaded.id)
            return loaded
    finally:
        laptop.close()


def snapshot_image(errand: Errand, name: str) -> Snapshot:
    """Keep the project's container as an image."""
    with engine_place(errand) as (place, engine):
        return snapshot(engine, _own_container(place, engine), name, errand.report)


def prune_images(errand: Errand, *, snapshots: bool, yes: bool, dry_run: bool) -> int:
    """Bytes that removing our unused images gave back. Raises UsageError where the user says no."""
    report = errand.report
    with engine_place(errand) as (place, engine):
        pruning = plan_prune(engine, keep=brought(place.remote), snapshots=snapshots)
        for made, why in pruning.stays:
            report.note(f"keep {made.reference}: {why}")
        for made in pruning.goes:
            report.note(f"remove {made.reference} ({made.size / 1e9:.1f} GB, layers shared)")
        if dry_run or not pruning.goes:
            return 0
        if not yes and not errand.prompt.confirm(f"Remove {len(pruning.goes)} image(s)?"):
            raise UsageError("nothing was removed", hint="remotedl image prune --yes")
        return prune(engine, report, pruning)


def _own_container(place: Workplace, engine: Engine) -> Container:
    status = place.runtime.status()
    container = engine.containers.get(status.id) if status.id else None
    if container is None:
        raise ContainerError("the project has no container on this host", hint="remotedl up")
    return container


class _LaptopDial:
    """`docker system dial-stdio` of the laptop's own engine, as a stream."""

    def __init__(self) -> None:
        try:
            self._process = subprocess.Popen(
                ["docker", "system", "dial-stdio"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
            )
        except FileNotFoundError as exc:
            raise EngineError(
                "there is no docker on this laptop to take an image from",
                hint="remotedl image pull lets the host fetch it",
            ) from exc

    def recv(self, size: int) -> bytes:
        assert self._process.stdout is not None
        return self._process.stdout.read(size) or b""

    def recv_stderr(self, size: int) -> bytes:
        assert self._process.stderr is not None
        return self._process.stderr.read(size) or b""

    def sendall(self, data: bytes | bytearray | memoryview) -> None:
        assert self._process.stdin is not None
        view = memoryview(data)
        while view:
            view = view[self._process.stdin.write(view) :]

    def shutdown_write(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()

    def close(self) -> None:
        self._process.kill()
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe is not None:
                pipe.close()
        self._process.wait()


def _dial_laptop() -> _LaptopDial:
    return _LaptopDial()
