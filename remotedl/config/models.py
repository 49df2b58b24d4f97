"""The shape of hosts.toml: frozen pydantic models that refuse unknown keys. No I/O here."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from remotedl.config import values

AUTO_GPUS = re.compile(r"auto:([1-9][0-9]*)")
GPUS_EXPECTED = '"all", "none", a number, a list of numbers or "auto:N"'
PORT_PAIR = re.compile(r"(?P<laptop>[0-9]{1,5})(?::(?P<remote>[0-9]{1,5}))?(?P<raw>/tcp)?")

SIZE = re.compile(r"[0-9]+(?:\.[0-9]+)?\s*[bkmgtBKMGT]?i?[bB]?")
MOUNT = re.compile(r"[^:]+:/[^:]*(?::(?:ro|rw))?")
_WORD = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
IMAGE_NAME = re.compile(
    rf"(?:(?:[A-Za-z0-9.-]+|\[[0-9a-fA-F:]+\])(?::[0-9]+)?/)?{_WORD}(?:/{_WORD})*"
    r"(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(?:@[a-z0-9]+:[0-9a-f]{32,})?"
)
"""[registry[:port]/]name[:tag][@digest], as Docker's own grammar has it."""
IMAGE_EXPECTED = (
    'a name of `remotedl image list`, "org/name:tag" in small letters, "devcontainer", or '
    '{ dockerfile = "Dockerfile" }'
)
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

Port = Annotated[int, Field(ge=1, le=65535)]
HostName = Annotated[str, AfterValidator(values.host_name)]
UserName = Annotated[str, AfterValidator(values.user_name)]
Argument = Annotated[str, AfterValidator(values.argument)]
Repository = Annotated[str, AfterValidator(values.repository)]

WITH_LINES = ("env", "build_args")
"""Tables whose values may have several lines: they travel as values all the way."""


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    @field_validator("*", mode="before")
    @classmethod
    def _seen_by_people(cls, value: Any, info: ValidationInfo) -> Any:
        """Nothing in a value is hidden from whoever reads the file."""
        if isinstance(value, dict) and info.field_name in WITH_LINES:
            values.all_seen_in_lines(value)
        else:  # tables in tables see to themselves, and name the key
            values.all_seen(list(value) if isinstance(value, dict) else value)
        return value


class RuntimeKind(StrEnum):
    """Where the work runs."""

    DOCKER = "docker"
    """A container of the host's Docker Engine."""
    NATIVE = "native"
    """A venv in the user's home; needs no sudo."""


class SudoMode(StrEnum):
    """How root is reached on the host."""

    AUTO = "auto"
    """Without a password where sudo lets us, else the password is asked for."""
    PASSWORD = "password"  # noqa: S105 - a mode, not a secret
    """The password is asked for at once."""
    NONE = "none"
    """sudo is never called."""


class SyncMode(StrEnum):
    """Which side wins when both changed a path."""

    TWO_WAY_SAFE = "two-way-safe"
    """Neither: the path is listed as a conflict and both versions stay."""
    LAPTOP_WINS = "laptop-wins"
    """The laptop; the host's version goes to the trash there."""
    UPLOAD_ONLY = "upload-only"
    """Nothing comes back from the host."""


class Mirrors(Strict):
    """Where the host fetches from instead of the official places (for closed networks)."""

    docker: Repository | None = None
    """An apt/dnf repository laid out like Docker's: base URL up to the distribution's name."""
    nvidia: Repository | None = None
    """A repository laid out like NVIDIA's container toolkit repository: base URL."""
    pip: Repository | None = None
    """A Python package index: the URL that pip's --index-url takes."""


class HostConfig(Strict):
    """One `[hosts.NAME]` table."""

    address: HostName
    """A name, an IP address, or an alias of ~/.ssh/config."""
    user: UserName | None = None
    port: Port | None = None
    identity_file: Argument | None = None
    known_hosts: Argument | None = None
    """A file of host keys instead of the user's and the system's known_hosts."""
    jump: Annotated[str, AfterValidator(values.jump_hosts)] | None = None
    """[user@]host[:port], or several with commas, as ProxyJump takes them."""
    runtime: RuntimeKind = RuntimeKind.DOCKER
    gpus: Literal["all", "none"] | int | tuple[int, ...] | str = "all"
    """"all", "none", a count, a list of indexes, or "auto:N" (the idlest N)."""
    sudo: SudoMode = SudoMode.AUTO
    workdir: Argument | None = None
    """The project's folder on the host; default ~/remotedl/<project>-<id>."""
    data: Argument = "~/remotedl/data"
    """The folder on the host that is mounted at /data; never synced."""
    mirrors: Mirrors = Mirrors()
    proxy: Annotated[str, AfterValidator(values.web_address)] | None = None
    """An HTTP proxy that the host uses for package downloads."""
    autostop_poweroff: bool = False
    """Shut the host down once autostop has stopped the container, if nobody else is on it."""
    ports: tuple[str, ...] = ()
    """Further tunnels of this host, LAPTOP:HOST or one number for both; /tcp as below."""

    @field_validator("gpus", mode="before")
    @classmethod
    def _known_gpus(cls, value: object) -> object:
        if isinstance(value, list):
            value = tuple(value)
        if isinstance(value, bool) or not isinstance(value, (int, str, tuple)):
            raise ValueError(GPUS_EXPECTED)
        if isinstance(value, int) and value < 1:
            raise ValueError('a number of GPUs from 1 on; for no GPU write "none"')
        if isinstance(value, tuple) and not (
            value and all(type(i) is int and i >= 0 for i in value)
        ):
            raise ValueError("a list of GPU indexes from 0 on, at least one")
        named = isinstance(value, str) and value not in ("all", "none")
        if named and AUTO_GPUS.fullmatch(str(value)) is None:
            raise ValueError(GPUS_EXPECTED)
        return value

    @field_validator("ports")
    @classmethod
    def _known_ports(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return _check_ports(value)


class LocalImage(Strict):
    """A Dockerfile of the project's own."""

    dockerfile: Argument = "Dockerfile"
    context: Argument = "."


ASK_BEFORE = (
    *(".vscode/", "*.code-workspace", ".idea/", ".devcontainer/", "devcontainer.json"),
    *(".devcontainer.json", ".dir-locals.el", ".exrc", ".nvimrc", ".nvim.lua", ".editorconfig"),
    *(".vimrc", ".lvimrc", ".vim/", ".nvim/", ".zed/", ".helix/", ".cursor/", ".claude/"),
    *(".mcp.json", ".envrc", ".env.*", "mise*.toml", ".mise*", ".tool-versions"),
    *(".python-version", ".pre-commit-config.yaml", "lefthook.y*ml", ".lefthook.y*ml"),
    *("conftest.py", "sitecustomize*", "usercustomize*", "pyvenv.cfg"),
    *(".pylintrc", "pylintrc", "jupyter_*config.*", "ipython_config.py", ".pdbrc", ".gdbinit"),
    *(".npmrc", ".yarnrc*", ".Rprofile", ".Renviron", ".RData", "desktop.ini", ".directory"),
    *("*.lnk", "*.url", "*.desktop"),
)
"""What editors, shells and tools read unasked, as soon as a folder is opened or entered."""


class SyncConfig(Strict):
    """`[project.sync]`."""

    mode: SyncMode = SyncMode.TWO_WAY_SAFE
    ignore: tuple[str, ...] = ()
    """gitignore lines on top of .remotedlignore and the defaults."""
    use_gitignore: bool = False
    ask_before: tuple[str, ...] = ASK_BEFORE
    """gitignore lines; a change of these on the host is taken only after a look at it."""
    outputs: tuple[str, ...] = ()
    """Patterns of results: come down append-only, never deleted on the laptop."""
    max_file_size_down: int = 100_000_000
    """Bytes; bigger files stay on the host and are listed."""
    trash_days: int = 30
    trash_size: int = 5_000_000_000
    """Bytes; the oldest displaced versions go first."""


class JupyterConfig(Strict):
    """`[project.jupyter]`."""

    enabled: bool = True
    port: Port = 8888
    """The port on the laptop; the next free one is taken, and said, when it is in use."""


class TensorBoardConfig(Strict):
    """`[project.tensorboard]`."""

    enabled: bool = True
    port: Port = 6006
    logdir: Argument = "runs"
    """Relative to the project's folder."""


class ProjectConfig(Strict):
    """The `[project]` table."""

    image: str | LocalImage = "base"
    """A catalogue name, an image reference, or {dockerfile, context}."""
    build_args: dict[str, str] = {}
    requirements: Argument | None = None
    """requirements.txt, pyproject.toml or environment.yml, installed as a cached layer."""
    mounts: tuple[str, ...] = ()
    """HOST_PATH:CONTAINER_PATH[:ro]."""
    env: dict[str, str] = {}
    env_file: Argument | None = None
    shm_size: str = "8g"
    cpus: float | None = None
    memory: str | None = None
    ports: tuple[str, ...] = ()
    """Further container ports that are tunnelled, LAPTOP:CONTAINER or one number for both.

    A browser is let in by its link; with /tcp behind it, what it carries need not be HTTP.
    """
    sync: SyncConfig = SyncConfig()
    jupyter: JupyterConfig = JupyterConfig()
    tensorboard: TensorBoardConfig = TensorBoardConfig()
    autostop: str | None = None
    """How long idle until the container is stopped: "90m", "2h"; never during a job."""
    job_output_limit: Annotated[int, Field(ge=1_000_000)] = 1_000_000_000
    """Bytes of a job's output that are kept on the host: the first half and the newest."""

    @field_validator("ports")
    @classmethod
    def _known_ports(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return _check_ports(value)

    @field_validator("image", mode="before")
    @classmethod
    def _named_image(cls, value: object) -> object:
        if not isinstance(value, str | dict | LocalImage):
            raise ValueError(IMAGE_EXPECTED)
        if isinstance(value, str) and not is_image_name(value):
            raise ValueError(IMAGE_EXPECTED)
        return value

    @field_validator("shm_size", "memory")
    @classmethod
    def _known_size(cls, value: str | None) -> str | None:
        if value is not None and value != "host" and SIZE.fullmatch(value.strip()) is None:
            raise ValueError('a size like "8g" or "512m"')
        return value

    @field_validator("mounts")
    @classmethod
    def _known_mounts(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            if MOUNT.fullmatch(text) is None:
                raise ValueError(f'HOST_PATH:CONTAINER_PATH[:ro], not "{text}"')
        return value

    @field_validator("env", "build_args")
    @classmethod
    def _known_names(cls, value: dict[str, str]) -> dict[str, str]:
        for name in value:
            if VARIABLE.fullmatch(name) is None:
                raise values.AtKey(name, "a name of letters, digits and _")
        return value

    @model_validator(mode="after")
    def _two_ports(self) -> Self:
        both = self.jupyter.enabled and self.tensorboard.enabled
        if both and self.jupyter.port == self.tensorboard.port:
            raise ValueError("jupyter.port and tensorboard.port that differ")
        return self


class Config(Strict):
    """A whole hosts.toml."""

    default_host: str | None = None
    allow_files: tuple[Argument, ...] = ()
    """Files and folders outside of the project that its hosts.toml may name; counts in the
    user's own hosts.toml alone."""
    allow_lan: tuple[Argument, ...] = ()
    """Names, addresses and networks that are not public and that hosts may reach through this
    laptop (`--via-laptop`); counts in the user's own hosts.toml alone."""
    hosts: dict[Argument, HostConfig] = {}
    project: ProjectConfig = ProjectConfig()


def is_image_name(text: str) -> bool:
    """Whether `image = "…"` can be an image at all, or a devcontainer.json."""
    return text.endswith("devcontainer.json") or IMAGE_NAME.fullmatch(text) is not None


@dataclass(frozen=True, slots=True)
class PortPair:
    """One entry of `ports`, taken apart."""

    laptop: int
    remote: int
    raw: bool
    """Carried as it is, and asked for nothing: a database, a debugger."""


def port_pair(text: str) -> PortPair:
    """Raises ValueError."""
    match = PORT_PAIR.fullmatch(text)
    if match is not None:
        laptop = int(match["laptop"])
        pair = PortPair(laptop, int(match["remote"] or laptop), bool(match["raw"]))
        if 1 <= pair.laptop <= 65535 and 1 <= pair.remote <= 65535:
            return pair
    raise ValueError(
        f'LAPTOP:REMOTE or one number, 1 to 65535, with /tcp where it is no HTTP, not "{text}"'
    )


def _check_ports(value: tuple[str, ...]) -> tuple[str, ...]:
    for text in value:
        port_pair(text)
    return value
