"""A project's own packages as lines for pip: out of requirements.txt, pyproject.toml or
environment.yml.

Pure: text in, lines out. environment.yml is conda's; of YAML it needs lists in lists, which is all
that is read here. Conda's names are turned into pip's where they differ, and what only conda has
is left out and said.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass

from remotedl.errors import ConfigError

RENAMED = {
    "pytorch": "torch",
    "pytorch-cpu": "torch",
    "pytorch-gpu": "torch",
    "opencv": "opencv-python-headless",
    "py-opencv": "opencv-python-headless",
    "tensorflow-gpu": "tensorflow",
    "matplotlib-base": "matplotlib",
    "py-xgboost": "xgboost",
    "pytables": "tables",
    "msgpack-python": "msgpack",
}
CONDA_ONLY = (
    *("python", "pip", "setuptools", "wheel", "cudatoolkit", "cuda", "pytorch-cuda", "cudnn"),
    *("pytorch-mutex", "nccl", "mkl", "gcc", "gxx", "compilers", "cmake", "make", "ninja", "git"),
    *("nodejs", "ffmpeg", "openssl"),
)
SPEC = re.compile(r"(?:(?P<channel>[\w.-]+)::)?(?P<name>[\w.-]+)\s*(?P<rest>.*)")
ITEM = re.compile(r"(?P<indent>\s*)-\s+(?P<text>.+?)\s*(?:\s#.*)?")


@dataclass(frozen=True, slots=True)
class Requirements:
    """What pip is asked for, and what could not be asked of pip."""

    lines: tuple[str, ...]
    left_out: tuple[str, ...] = ()

    @property
    def text(self) -> bytes:
        return "".join(f"{line}\n" for line in self.lines).encode()


def read(name: str, text: str) -> Requirements:
    """The requirements of a file called `name`. Raises ConfigError."""
    if name.endswith(".toml"):
        return _pyproject(name, text)
    if name.endswith((".yml", ".yaml")):
        return _environment(name, text)
    return _plain(name, text)


def _plain(name: str, text: str) -> Requirements:
    lines = tuple(line.strip() for line in text.replace("\\\n", " ").splitlines())
    lines = tuple(line for line in lines if line and not line.startswith("#"))
    for line in lines:
        if line.startswith(("-r", "--requirement", "-c", "--constraint", "-e", "--editable", ".")):
            raise ConfigError(
                f"{name}: {line!r} points at further files, which are not on the host when the "
                "image is built",
                hint=f"write what it asks for into {name} itself",
            )
    return Requirements(lines)


def _pyproject(name: str, text: str) -> Requirements:
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as exc:
        raise ConfigError(f"{name} is not valid TOML: {exc}") from exc
    project = table.get("project") or {}
    found = project.get("dependencies")
    if found is None:
        raise ConfigError(
            f"{name} has no project.dependencies (those of Poetry's own table are not read)",
            hint="write project.dependencies, or name a requirements.txt",
        )
    return Requirements(tuple(str(line) for line in found))


def _environment(name: str, text: str) -> Requirements:
    lines: list[str] = []
    left_out: list[str] = []
    section, pip_indent = "", -1
    for raw in text.splitlines():
        if not raw.strip() or raw.lstrip().startswith("#"):
            continue
        if not raw[0].isspace() and not raw.startswith("-"):
            section, pip_indent = raw.partition(":")[0].strip(), -1
            continue
        item = ITEM.fullmatch(raw)
        if section != "dependencies":
            continue
        if item is None:
            raise ConfigError(f"{name}: cannot read {raw.strip()!r}; expected a list of packages")
        indent, spec = len(item["indent"]), item["text"].strip("\"'")
        if pip_indent >= 0 and indent > pip_indent:
            lines.append(spec)
        elif spec == "pip:":
            pip_indent = indent
        else:
            pip_indent = -1
            _conda(spec, lines, left_out)
    return Requirements(tuple(lines), tuple(sorted(left_out)))


def _conda(spec: str, lines: list[str], left_out: list[str]) -> None:
    match = SPEC.fullmatch(spec)
    if match is None or match["name"] in CONDA_ONLY or match["name"].startswith(("lib", "_")):
        left_out.append(spec)
        return
    name = RENAMED.get(match["name"], match["name"])
    rest = match["rest"].replace(" ", "")
    if re.match(r"=[^=]", rest):
        # conda's name=1.2=build asks for any 1.2; pip says so with a star.
        version = rest[1:].partition("=")[0].rstrip(".*")
        rest = f"=={version}.*"
    lines.append(name + rest)
