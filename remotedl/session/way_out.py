"""`--via-laptop` for all that `up` and `image` fetch: a way out that is there for one command.

What needs no engine (packages, pip) goes through a port of the host's loopback and is configured
nowhere. Docker itself must be restarted to get the way, and once more to lose it: that is done only
when something is really about to be pulled or built.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager

from remotedl.config.models import HostConfig, LocalImage, ProjectConfig
from remotedl.config.places import allowed_lan
from remotedl.engine import Engine
from remotedl.errors import UsageError
from remotedl.images.credentials import registry_of
from remotedl.provision.facts import HostFacts
from remotedl.provision.plan_engine import restart_question
from remotedl.provision.steps import Wish, wish_of
from remotedl.provision.via_laptop import Door, Way, engine_through, via_laptop
from remotedl.report import Report


class WayOut:
    """The way, while it is open."""

    def __init__(
        self,
        remote: Door,
        host: HostConfig,
        way: Way,
        stack: ExitStack,
        confirm: Callable[[str], bool],
    ) -> None:
        self._remote, self._way, self._stack, self._confirm = remote, way, stack, confirm
        self._open = False
        self.host = host.model_copy(update={"proxy": way.url})
        """As hosts.toml has it, with the way in place of its proxy: never to be written down."""

    @property
    def wish(self) -> Wish:
        """What `converge` takes."""
        return self._way.wish

    def for_engine(self, facts: HostFacts, engine: Engine) -> Callable[[], None]:
        """What to call before the engine fetches anything; does it once. Raises UsageError."""

        def open_it() -> None:
            if self._open:
                return
            self._refuse_another_engine(facts)
            question = restart_question(facts)
            if question and not self._confirm(question):
                raise UsageError(
                    "Docker was not restarted, and pulls do not go through the laptop",
                    hint="the same command with --yes",
                )
            engine.close()  # its connections end with the restart; it dials anew
            self._stack.callback(engine.close)
            self._stack.enter_context(engine_through(self._remote, self._way))
            self._open = True

        return open_it

    def _refuse_another_engine(self, facts: HostFacts) -> None:
        if facts.engine.kind != "docker":
            raise UsageError(
                f"{self._remote.name} has {facts.engine.kind} in place of a Docker of the "
                "system's, whose way out is not changed here",
                hint="remotedl image load sends an image of the laptop's Docker",
            )


@contextmanager
def way_out(
    remote: Door,
    host: HostConfig,
    confirm: Callable[[str], bool],
    report: Report,
    *,
    ports: Collection[int] = (),
) -> Iterator[WayOut]:
    """Open for the length of the block; nothing of it is left behind. Raises TunnelError."""
    with (
        via_laptop(remote, wish_of(host), ports=ports, lan=allowed_lan(), report=report) as way,
        ExitStack() as stack,
    ):
        yield WayOut(remote, host, way, stack, confirm)


def ports_of(reference: str) -> tuple[int, ...]:
    """The port of an image's registry, where it names one: the way must lead there too. Pure."""
    port = registry_of(reference).rpartition(":")[2]
    return (int(port),) if port.isdigit() else ()


def ports_for(project: ProjectConfig) -> tuple[int, ...]:
    """Of the project's image. Pure."""
    return () if isinstance(project.image, LocalImage) else ports_of(project.image)
