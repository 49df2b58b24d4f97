"""The stages of `up`, one function each. They converge: what is there already is left alone."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from remotedl import ssh
from remotedl.config.models import HostConfig, LocalImage, ProjectConfig, RuntimeKind
from remotedl.container.gpus import NO_GPUS, GpuRequest, GpuWay, choose_request
from remotedl.container.runtime import (
    Answer,
    Change,
    Consent,
    Plan,
    Running,
    State,
    Wanted,
    unless_jobs_run,
)
from remotedl.container.services import Tools, container_ports
from remotedl.container.spec import LABEL_FOLDER, LABEL_LAPTOP, LABEL_TOOLS, Image
from remotedl.engine import Engine
from remotedl.errors import ConfigError, ContainerError, EngineError
from remotedl.images import catalogue
from remotedl.images.credentials import registry_of
from remotedl.images.ensure import ensure as ensure_image
from remotedl.images.ensure import refuse_slip
from remotedl.images.requirements import read as read_requirements
from remotedl.images.wish import HostCapabilities, ImageRef
from remotedl.images.wish import wish_of as image_wish
from remotedl.provision.apply import converge
from remotedl.provision.apply import preview as preview_host
from remotedl.provision.facts import HostFacts
from remotedl.provision.plan_settings import needs_mtu
from remotedl.provision.steps import wish_of
from remotedl.provision.via_laptop import Door
from remotedl.report import SILENT, Report
from remotedl.session.envfile import read_env_file
from remotedl.session.gpu_claims import take_gpus
from remotedl.session.options import UpOptions
from remotedl.session.project import Project
from remotedl.session.prompting import RememberingPrompt, attended
from remotedl.session.way_out import WayOut, ports_for, way_out
from remotedl.session.workplace import (
    EngineAccess,
    Workplace,
    engine_access,
    open_workplace,
    remembered_access,
)
from remotedl.ssh.prompt import Prompt
from remotedl.ssh.remote import Remote

QUIET = SILENT
IMAGE_TOOLS = "/opt/remotedl/bin"


class Link:
    """A second connection, for the tunnels, that is opened while the stages go on."""

    def __init__(self, open_one: Callable[[], Remote]) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="tunnel-link")
        self._future = self._pool.submit(open_one)

    def wait(self) -> Remote:
        """The connection. Raises what opening it raised."""
        return self._future.result()

    def close(self) -> None:
        self._pool.shutdown(wait=True)
        if not self._future.cancelled() and self._future.exception() is None:
            self._future.result().close()


@dataclass(frozen=True, slots=True)
class Links:
    """Two connections, so that a saturated tunnel does not slow the sync."""

    work: Door
    tunnels: Link

    def close(self) -> None:
        self.work.close()
        self.tunnels.close()


@dataclass(frozen=True, slots=True)
class Ready:
    """What the first stages found, for the ones that follow."""

    facts: HostFacts | None
    access: EngineAccess | None
    image: Image | None
    image_name: str
    gpus: GpuRequest = NO_GPUS
    forward_ports: tuple[int, ...] = ()
    """What a devcontainer.json adds to the project's ports."""
    post_create: str = ""
    """What a devcontainer.json wants done in a new container."""


LEAST_SESSIONS = 2
"""A sync, an engine or a job runs on, and a command beside it."""


def connect(
    host: HostConfig,
    prompt: RememberingPrompt,
    report: Report,
    *,
    name: str,
    options: UpOptions,
) -> Links:
    """Log in; the second connection uses what the first one learned."""
    report.stage("connect", name)
    prompt.begin()
    work = ssh.connect(host, prompt=prompt, accept_new=options.accept_new, report=report)
    report.stage("connect", f"{work.user}@{host.address}")
    try:
        work.check_sessions(LEAST_SESSIONS)
    except BaseException:
        work.close()
        raise

    def second() -> Remote:
        prompt.begin()
        return ssh.connect(host, prompt=prompt)

    return Links(work, Link(second))


def check_project(project: Project) -> None:
    """Files that hosts.toml names are looked for before anything takes time. Raises ConfigError."""
    config = project.config.project
    read_env_file(project.places, config.env_file)
    named = {"requirements": config.requirements}
    if isinstance(config.image, LocalImage):
        named["image.dockerfile"] = config.image.dockerfile
        project.places.find("project.image.context", config.image.context)
    else:
        refuse_slip(config.image)
    for key, name in named.items():
        if name is not None and not project.places.find(f"project.{key}", name).is_file():
            raise ConfigError(
                f"project.{key} = {name!r}: there is no such file in {project.root}",
                hint=f"ls '{project.root}'",
            )


def prepare(
    remote: Door,
    project: Project,
    host: HostConfig,
    options: UpOptions,
    prompt: Prompt,
    report: Report,
) -> tuple[Workplace, Ready]:
    """Provision the host and bring the image there (docker), or neither (native)."""
    if host.runtime is RuntimeKind.NATIVE:
        gpus = native_gpus(remote, project, host, report)
        return open_workplace(remote, project, host, None), Ready(None, None, None, "", gpus)
    confirm = _confirm_of(options, prompt)
    report.stage("provision", "looking at the host")
    with _through(remote if options.via_laptop else None, project, host, confirm, report) as way:
        wish = wish_of(host) if way is None else way.wish
        asks = None if options.yes or not attended(prompt) else prompt.confirm
        outcome = converge(remote, wish, report=report, confirm=confirm, consent=asks)
        report.stage("provision", _engine_line(outcome.facts))
        access = engine_access(outcome.facts)
        place = open_workplace(remote, project, host, access)
        image, ref = image_on_host(
            place,
            project,
            host if way is None else way.host,
            outcome.facts,
            options,
            report,
            _nothing if way is None else way.for_engine(outcome.facts, _engine_of(place)),
        )
    if ref.post_create and options.via_laptop:
        report.warn(
            "postCreateCommand runs in the container, which has no way through this laptop",
            hint="put what it installs into the Dockerfile",
        )
    gpus = gpu_request(place, host, outcome.facts, report)
    more = ref.forward_ports, ref.post_create
    return place, Ready(outcome.facts, access, image, ref.reference, gpus, *more)


@contextmanager
def _through(
    door: Door | None,
    project: Project,
    host: HostConfig,
    confirm: Callable[[str], bool],
    report: Report,
) -> Iterator[WayOut | None]:
    """A way out through the laptop by `door`; None where there is none to be."""
    if door is None:
        yield None
        return
    ports = ports_for(project.config.project)
    with way_out(door, host, confirm, report, ports=ports) as way:
        yield way


def _nothing() -> None: ...


def rejoin(
    remote: Remote, project: Project, host: HostConfig, folder: Path
) -> tuple[Workplace, Running | None]:
    """After a lost link: what runs is taken as it is; nothing is provisioned, built or asked.

    None: somebody removed it meanwhile, and it is not for us to make it anew unasked.
    """
    place = open_workplace(remote, project, host, remembered_access(folder))
    if place.runtime.status().state is State.ABSENT:
        return place, None
    return place, place.runtime.resume(host)


def image_on_host(
    place: Workplace,
    project: Project,
    host: HostConfig,
    facts: HostFacts,
    options: UpOptions,
    report: Report,
    before_fetching: Callable[[], None] = _nothing,
) -> tuple[Image, ImageRef]:
    """The project's image, built or pulled unless it is there."""
    engine = _engine_of(place)
    report.stage("image", _wanted_name(project))
    capabilities = HostCapabilities(
        architecture=engine.report().architecture,
        driver=facts.driver.loaded,
        gpus=len(facts.gpus),
        docker_sudo=facts.engine.access == "sudo",
        docker_host=facts.engine.host,
        small_packets=needs_mtu(facts),
    )
    wish = image_wish(project.config.project, host, project.places)
    ref = ensure_image(
        engine,
        place.remote,
        wish,
        capabilities,
        report=report,
        rebuild=options.rebuild,
        before_fetching=before_fetching,
    )
    report.stage("image", ref.reference + (" (built)" if ref.fresh else " (there already)"))
    there = engine.images.get(ref.reference)
    labels = there.labels if there is not None else {}
    tools = Tools(labels.get(LABEL_TOOLS, IMAGE_TOOLS))
    volumes = there.volumes if there is not None else ()
    return Image(ref.reference, ref.id, tools, volumes), ref


def _engine_of(place: Workplace) -> Engine:
    if place.engine is None:
        raise EngineError("the native runtime has no images")
    return place.engine


def start_runtime(
    place: Workplace,
    host: HostConfig,
    ready: Ready,
    report: Report,
    consent: Consent,
    door: Door | None = None,
) -> Running:
    """The container, or the native services, running and answering.

    `door`: the native runtime gets its packages through the laptop by it.
    """
    report.stage("container" if place.engine is not None else "native")
    config = with_ports(place.project.config.project, ready.forward_ports)
    wanted = Wanted(
        host=host,
        config=config,
        image=ready.image,
        gpus=ready.gpus,
        secrets={**reach(host), **read_env_file(place.project.places, config.env_file)},
        packages=_packages(place) if place.engine is None else (),
        labels={LABEL_LAPTOP: platform.node(), LABEL_FOLDER: str(place.project.root)},
    )
    native = place.engine is None
    with _through(door if native else None, place.project, host, lambda _: False, report) as way:
        # What the services get to know (`reach`) is hosts.toml's proxy: the way ends here.
        asked = wanted if way is None else replace(wanted, host=way.host)
        running = place.runtime.ensure(asked, report=report, consent=consent)
    if ready.post_create and running.change in (Change.CREATE, Change.RECREATE):
        _after_create(place, ready.post_create, report)
    done = {
        Change.KEEP: "kept",
        Change.START: "started",
        Change.CREATE: "made",
        Change.RECREATE: "made anew",
    }[running.change]
    stage = "container" if place.engine is not None else "native"
    report.stage(stage, f"{running.name} ({done})")
    return running


def reach(host: HostConfig) -> dict[str, str]:
    """How programs where the work runs get at packages and the web; may hold passwords. Pure."""
    found = {}
    if host.mirrors.pip is not None:
        found["PIP_INDEX_URL"] = host.mirrors.pip
    if host.proxy is not None and _reachable(host, host.proxy):
        names = ("HTTP_PROXY", "HTTPS_PROXY")
        found |= dict.fromkeys((*names, *(name.lower() for name in names)), host.proxy)
        # Jupyter and its kernels talk over loopback.
        found |= dict.fromkeys(("NO_PROXY", "no_proxy"), "localhost,127.0.0.1,::1")
    return found


def _reachable(host: HostConfig, proxy: str) -> bool:
    """A container's loopback is not the host's."""
    name = urlsplit(proxy).hostname or ""
    on_loopback = name in ("localhost", "::1") or name.startswith("127.")
    return host.runtime is RuntimeKind.NATIVE or not on_loopback


def with_ports(config: ProjectConfig, more: tuple[int, ...]) -> ProjectConfig:
    """The configuration with further container ports, each once. Pure."""
    known = container_ports(config)
    added = tuple(str(port) for port in more if port not in known)
    return config.model_copy(update={"ports": (*config.ports, *added)})


def _packages(place: Workplace) -> tuple[str, ...]:
    """The project's own requirements, for the native runtime's venv. Raises ConfigError."""
    name = place.project.config.project.requirements
    if name is None:
        return ()
    path = place.project.places.find("project.requirements", name)
    try:
        return read_requirements(
            name, place.project.places.read("project.requirements", name)
        ).lines
    except OSError as exc:
        raise ConfigError(f"requirements {path} cannot be read: {exc}") from exc


def _after_create(place: Workplace, command: str, report: Report) -> None:
    report.note(f"postCreateCommand: {command}")
    result = place.runtime.run(["sh", "-c", command])
    for line in (result.text + result.error_text).splitlines()[-20:]:
        report.output(line)
    if not result.ok:
        report.warn(f"postCreateCommand ended with {result.code}", hint="remotedl shell")


def preview(
    remote: Remote, project: Project, host: HostConfig, *, through_laptop: bool = False
) -> list[str]:
    """What the stages would do, in words, for --dry-run. Changes nothing."""
    lines = ["what the host fetches comes through this laptop"] if through_laptop else []
    return lines + _preview(remote, project, host)


def _preview(remote: Remote, project: Project, host: HostConfig) -> list[str]:
    if host.runtime is RuntimeKind.NATIVE:
        return ["native: a venv in ~/.remotedl/native on the host, if it is not there yet"]
    plan = preview_host(remote, wish_of(host))
    if plan.refusal is not None:
        return [f"provision: refused: {plan.refusal.reason}"]
    lines = [f"provision: {step.what} ({step.why})" for step in plan.steps]
    lines += [f"provision: {kept.stage.value}: nothing to do: {kept.why}" for kept in plan.kept]
    lines += [f"provision: {notice.text}" for notice in plan.notices]
    lines.append(f"image: {_wanted_name(project)}, {_image_source(project)} unless it is there")
    lines.append(f"container: remotedl-{project.label}, made or kept")
    return lines


def consent_of(options: UpOptions, prompt: Prompt, report: Report) -> Consent:
    """Asks before a container is made anew at a price; refuses to end jobs unasked."""

    def consent(plan: Plan) -> Answer:
        if plan.change is not Change.RECREATE or options.yes:
            return Answer.GO
        if not plan.jobs and not plan.lost:
            return Answer.GO
        price = [f"job {job} ends" for job in plan.jobs]
        price += [f"{path} is lost" for path in plan.lost[:10]]
        report.warn(f"the container must be made anew: {'; '.join(plan.why)}")
        for line in price:
            report.note(line)
        if prompt.confirm("Make it anew?"):
            keep = plan.lost and prompt.confirm("Keep its own files as an image first?")
            return Answer.COMMIT if keep else Answer.GO
        if plan.jobs:
            return unless_jobs_run(plan)
        raise ContainerError(
            f"the container was left as it is ({'; '.join(plan.why)})",
            hint="remotedl image snapshot my-work keeps its changes; "
            "remotedl up --yes makes it anew",
        )

    return consent


def gpu_request(
    place: Workplace, host: HostConfig, facts: HostFacts, report: Report = SILENT
) -> GpuRequest:
    """How the container asks for its GPUs. Raises ContainerError where there are too few."""
    if host.gpus == "none" or place.engine is None:
        return NO_GPUS
    project = place.project
    devices = take_gpus(place.remote, host.gpus, project.id, facts, report, name=project.label)
    if not devices:
        return NO_GPUS
    return choose_request(devices, place.engine.report(), facts.toolkit.devices)


def native_gpus(
    remote: Remote, project: Project, host: HostConfig, report: Report = SILENT
) -> GpuRequest:
    """Which GPUs the native services are shown: a choice only where one was asked for."""
    if host.gpus in ("all", "none"):
        return NO_GPUS
    devices = take_gpus(remote, host.gpus, project.id, None, report, name=project.label)
    return GpuRequest(GpuWay.NONE, devices, "as asked for")


def _image_source(project: Project) -> str:
    """Where an image that is not there comes from."""
    image = project.config.project.image
    if isinstance(image, LocalImage):
        return "built on the host from your folder"
    if catalogue.find(image) is not None:
        return "built on the host from remotedl's recipe"
    return f"pulled by the host from {registry_of(image)}"


def _wanted_name(project: Project) -> str:
    image = project.config.project.image
    return image.dockerfile if isinstance(image, LocalImage) else image


def _engine_line(facts: HostFacts) -> str:
    access = " through sudo" if facts.engine.access == "sudo" else ""
    gpus = f", {len(facts.gpus)} GPU" if facts.gpus else ", no GPU"
    return f"{facts.distro.name}: Docker {facts.engine.version}{access}{gpus}"


def _confirm_of(options: UpOptions, prompt: Prompt) -> Callable[[str], bool]:
    return lambda question: options.yes or prompt.confirm(question)
