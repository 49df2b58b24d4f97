"""A project's own packages as lines for pip: out of requirements.txt, pyproject.toml or
environment.yml.

Pure: text in, lines out. environment.yml is conda's; of YAML it needs lists in lists, which is all
that is read here, and all else is refused. Conda's names are turned into pip's where they differ,
and what only conda has is left out and said. A spec that is not understood is never passed on: run
together, its name would be that of somebody else's package.
"""

from __future__ import annotations

import codecs
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
    "python-graphviz": "graphviz",
    "msgpack-python": "msgpack",
}
CONDA_ONLY = frozenset(
    (
        *("python", "pip", "setuptools", "wheel", "cudatoolkit", "cudatoolkit-dev", "cuda"),
        *("pytorch-cuda", "cudnn", "pytorch-mutex", "nccl", "mkl", "gcc", "gxx"),
        *("compilers", "cmake", "make", "ninja", "git", "nodejs", "ffmpeg"),
        *("openssl", "ca-certificates", "xz", "zlib", "bzip2", "ncurses", "readline"),
        *("sqlite", "tk", "zstd", "lz4-c", "blas", "openblas", "freetype"),
        *("jpeg", "expat", "fontconfig", "glib", "icu", "pcre", "perl"),
        *("pkg-config", "yaml", "gmp", "mpfr", "mpc", "hdf5", "openmpi"),
        *("mpich", "cairo", "pango", "harfbuzz", "pixman", "sox", "rust"),
        *("go", "openjdk", "swig", "x264", "lame", "gnutls", "nettle"),
        *("snappy", "krb5", "c-ares", "tbb", "binutils", "curl", "wget"),
        *("git-lfs", "graphviz", "tmux", "htop", "nano", "vim"),
    )
)
CONDA_PREFIXES = ("lib", "_", "r-", "cuda-", "ld_impl")
ON_PYPI = frozenset({"librosa", "libcst", "libclang", "cuda-python"})
"""Packages for pip whose names begin like those of conda's libraries."""
SPEC = re.compile(r"(?:[\w./-]+::)?(?P<name>[A-Za-z0-9_][\w.-]*)\s*(?P<rest>.*)")
CLAUSE = re.compile(r"(?P<sign>[=!~]=|[<>]=?|=|)\s*(?P<version>[0-9][\w.!+]*?)(?P<star>\.?\*)?")
ITEM = re.compile(r"(?P<indent>\s*)-\s+(?P<text>.+?)\s*(?:\s#.*)?")
FLOW = re.compile(r"\[(?P<inside>[^\[\]{}]*)\]\s*(?:#.*)?")
WORD = re.compile(r"""\s*("[^"]*"|'[^']*'|[^,"']+)\s*(?:,|$)""")
COMMENT = re.compile(r"(?:^|\s+)#.*$")
EDITABLE = re.compile(r"(?:-e|--editable)\s*=?\s*(?=(?:git|hg|svn|bzr)\+(?!file:))")
ELSEWHERE = re.compile(
    r"-[rce]|--(?:requirem|c|ed)\w*\b|(?:-f|--find-links)[\s=]*(?!https?://)"
    r"|[.~/\\]|[A-Za-z]:\\|(?:[a-z]+\+)?file:|[^@\s;:]*[/\\]|[^\s:]+\.(?:whl|zip|tar\.\w+|tgz)\b"
    r"|[\w.\[\],\s-]+@\s*(?:(?:[a-z]+\+)?file:|[.~/])"
)
MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
CODING = re.compile(rb"^[ \t]*#.*?coding[:=][ \t]*([-\w.]+)")


@dataclass(frozen=True, slots=True)
class Requirements:
    """What pip is asked for, and what could not be asked of pip."""

    lines: tuple[str, ...]
    left_out: tuple[str, ...] = ()

    @property
    def text(self) -> bytes:
        return "".join(f"{line}\n" for line in self.lines).encode()


def read(name: str, given: str | bytes) -> Requirements:
    """The requirements of a file called `name`. Raises ConfigError."""
    text = _decoded(name, given) if isinstance(given, bytes) else given.removeprefix("\ufeff")
    if name.endswith(".toml"):
        return _pyproject(name, text)
    if name.endswith((".yml", ".yaml")):
        return _environment(name, text)
    return _plain(name, text)


def _decoded(name: str, data: bytes) -> str:
    """As pip reads it: by its mark, by a comment "coding: …" in the first two lines, as UTF-8."""
    for mark, known in MARKS:
        if data.startswith(mark):
            encoding = known
            data = data[len(mark) :]
            break
    else:
        named = [found[1] for line in data.splitlines()[:2] if (found := CODING.match(line))]
        encoding = named[0].decode("ascii", "replace") if named else "utf-8"
    try:
        return data.decode(encoding)
    except (UnicodeDecodeError, LookupError) as exc:
        raise ConfigError(f"{name} is not {encoding}", hint=f"save {name} as UTF-8") from exc


def _plain(name: str, text: str) -> Requirements:
    joined, lines = "", []
    for raw in text.splitlines():
        if raw.lstrip().startswith("#"):
            continue  # what ends in a backslash goes on behind it
        joined += raw.removesuffix("\\")
        if not raw.endswith("\\"):
            lines.append(joined)
            joined = ""
    lines.append(joined)
    return Requirements(_checked(name, lines))


def _checked(name: str, lines: list[str]) -> tuple[str, ...]:
    """Lines for pip, without comments. Raises ConfigError for those that need further files.

    What is editable in a repository is installed as it is: its checkout would be in the work
    folder, where the project's own files are mounted over it.
    """
    found = []
    for raw in lines:
        line = EDITABLE.sub("", COMMENT.sub("", raw).strip(), count=1)
        if ELSEWHERE.match(line):
            raise ConfigError(
                f"{name}: {line!r} points at further files, which are not on the host when the "
                "image is built",
                hint=f"write what it asks for into {name} itself",
            )
        if line:
            found.append(line)
    return tuple(found)


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
    return Requirements(_checked(name, [str(line) for line in found]))


def _environment(name: str, text: str) -> Requirements:
    conda: list[str] = []
    pip: list[str] = []
    section, pip_indent = "", -1
    for raw in _flow_joined(text):
        if not raw.strip() or raw.lstrip().startswith("#"):
            continue
        if not raw[0].isspace() and not raw.startswith("-"):
            section, pip_indent = raw.partition(":")[0].strip().strip("\"'"), -1
            if section == "dependencies":
                conda += _flow(name, raw.partition(":")[2])
            continue
        item = ITEM.fullmatch(raw)
        if section != "dependencies":
            continue
        if item is None:
            raise _unread(name, raw)
        indent, spec = len(item["indent"]), _unquoted(item["text"])
        if pip_indent >= 0 and indent > pip_indent:
            pip.append(spec)
        elif re.match(r"pip\s*:", spec):
            pip_indent = indent
            pip += _flow(name, spec.partition(":")[2])
        else:
            pip_indent = -1
            conda.append(spec)
    if not conda and not pip:
        raise ConfigError(f"{name} lists no dependencies", hint=f"cat {name}")
    asked = [(spec, _conda(name, spec)) for spec in conda]
    lines = [line for _, line in asked if line]
    left_out = tuple(sorted(spec for spec, line in asked if not line))
    return Requirements((*lines, *_checked(name, pip)), left_out)


def _flow_joined(text: str) -> list[str]:
    """Lines, those of a list in brackets as one."""
    found: list[str] = []
    for raw in text.splitlines():
        last = found[-1] if found else ""
        if re.search(r":\s*\[[^\]]*$", last):
            found[-1] = f"{last} {COMMENT.sub('', raw).strip()}"
        else:
            found.append(COMMENT.sub("", raw) if re.search(r":\s*\[", raw) else raw)
    return found


def _flow(name: str, text: str) -> list[str]:
    """The items of `[a, "b"]`; none for what goes on in the lines below."""
    text = COMMENT.sub("", text).strip()
    if not text:
        return []
    match = FLOW.fullmatch(text)
    if match is None:
        raise _unread(name, text)
    inside = match["inside"].strip().removesuffix(",")
    words = list(WORD.finditer(inside))
    if sum(len(one[0]) for one in words) != len(inside):
        raise _unread(name, text)
    return [_unquoted(one[1].strip()) for one in words if one[1].strip()]


def _unquoted(text: str) -> str:
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'" else text


def _unread(name: str, text: str) -> ConfigError:
    return ConfigError(
        f"{name}: cannot read {text.strip()!r}; expected a list of packages", hint=f"edit {name}"
    )


def _conda(file: str, spec: str) -> str:
    """The line for pip, "" for what only conda has. Raises ConfigError."""
    match = SPEC.fullmatch(spec)
    if match is None:
        raise _unread(file, spec)
    name = match["name"].lower()
    if name in CONDA_ONLY or (name.startswith(CONDA_PREFIXES) and name not in ON_PYPI):
        return ""
    version, build = _halves(match["rest"])
    if build and "*" not in build and "py" not in build:
        return ""  # a build of no Python package: those are named after their Python
    clauses = [] if version in ("", "*") else [_clause(file, spec, c) for c in version.split(",")]
    return RENAMED.get(name, match["name"]) + ",".join(clauses)


def _halves(rest: str) -> tuple[str, str]:
    """Version and build of `=1.2=build`, `==1.2=build` or `1.2 build`."""
    rest = re.sub(r"([<>=!~,])\s+|\s+(?=,)", r"\1", rest.strip())
    match = re.fullmatch(r"([<>=!~]*[^=\s]*)(?:\s+|=)([^\s=<>!~,|]+)", rest)
    version, build = (match[1], match[2]) if match and match[1].strip("=<>!~") else (rest, "")
    return ("*" if version in ("=*", "==*") else version), build


def _clause(file: str, spec: str, text: str) -> str:
    match = CLAUSE.fullmatch(text.strip())
    if match is None:
        raise ConfigError(
            f"{file}: {spec!r} cannot be asked of pip", hint=f"write it under `pip:` in {file}"
        )
    sign, version = match["sign"], match["version"]
    if sign == "=" or (match["star"] and sign in ("", "==", "!=")):
        return f"{'!=' if sign == '!=' else '=='}{version}.*"  # conda's =1.2 is any 1.2
    return f"{sign or '=='}{version}"
