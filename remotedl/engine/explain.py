"""What the engine's own words mean: the error that they stand for, with the next command. Pure.

The engine tells most things in prose only; each pattern here was seen or read in its source, and
has a row in tests/unit/engine/test_explain.py.
"""

from __future__ import annotations

import re

from remotedl.errors import EngineError, ImageNotFound

NO_IMAGE = re.compile(
    r"no such image|manifest unknown|manifest for .* not found|repository does not exist"
    r"|not found: does not exist or no pull access|failed to resolve reference .*: not found"
    r"|name unknown",
    re.IGNORECASE,
)
DENIED = re.compile(
    r"pull access denied|unauthorized|authentication required|no basic auth credentials"
    r"|access to the resource is denied|insufficient_scope",
    re.IGNORECASE,
)
NO_SPACE = re.compile(r"no space left on device|disk quota exceeded", re.IGNORECASE)
NO_PERMISSION = re.compile(r"permission denied.*(docker|socket|\.sock)", re.IGNORECASE | re.DOTALL)
NO_COMMAND = re.compile(r"command not found|no such file|not found|unknown command", re.IGNORECASE)
NOT_RUNNING = re.compile(
    r"cannot connect to the docker daemon|connection refused|is the docker daemon running"
    r"|failed to connect to the docker api|dial unix .*: connect: no such file",
    re.IGNORECASE,
)
NO_GPU_DRIVER = re.compile(r"could not select device driver", re.IGNORECASE)
CDI_FAILED = re.compile(r"CDI device injection failed", re.IGNORECASE)
OTHER_PLATFORM = re.compile(
    r"no matching manifest for|does not match the (specified|detected) .*platform", re.IGNORECASE
)
NO_REGISTRY = re.compile(
    r"dial tcp|no such host|i/o timeout|TLS handshake timeout|Client\.Timeout exceeded"
    r"|request canceled while waiting|network is unreachable"
    r"|no route to host|proxyconnect tcp|failed to do request",
    re.IGNORECASE,
)
OUT_OF_REACH = " (the host does not reach that registry)"
NO_MOUNT = re.compile(r"bind source path does not exist: (.*)", re.IGNORECASE)


def engine_error(what: str, message: str, *, status: int | None = None) -> EngineError:
    """The error that the engine's own words stand for, with the next command."""
    text = f"{what}: {message.strip()}"
    if DENIED.search(message):
        return ImageNotFound(
            text, hint="check the image's name; for a private one: docker login REGISTRY"
        )
    if NO_IMAGE.search(message):
        return ImageNotFound(text, hint="check the name and the tag of `image` in hosts.toml")
    if NO_SPACE.search(message):
        return EngineError(text, hint="remotedl image prune")
    if NO_GPU_DRIVER.search(message) or CDI_FAILED.search(message):
        return EngineError(text, hint="remotedl doctor --fix")
    if OTHER_PLATFORM.search(message):
        return EngineError(text, hint="choose an image that is built for the host's architecture")
    if NO_REGISTRY.search(message):
        return EngineError(
            text + OUT_OF_REACH,
            hint="remotedl image pull IMAGE --via-laptop; or set proxy of this host in hosts.toml; "
            "or, with Docker on this laptop: remotedl image load IMAGE",
        )
    if match := NO_MOUNT.search(message):
        return EngineError(
            f"{what}: the host has no {match[1]}",
            hint="make it on the host, or take it out of `mounts` in hosts.toml",
        )
    return EngineError(text, hint="" if status and status < 500 else "remotedl doctor")


def no_engine(what: str, complaint: str) -> EngineError:
    """Why `docker system dial-stdio` ended without an answer, from its stderr."""
    if NO_PERMISSION.search(complaint):
        return EngineError(
            f"{what}: this user may not use the Docker Engine ({complaint})",
            hint="remotedl provision",
        )
    if NOT_RUNNING.search(complaint):
        return EngineError(
            f"{what}: the Docker Engine does not run ({complaint})", hint="remotedl doctor --fix"
        )
    if NO_COMMAND.search(complaint):
        return EngineError(
            f"{what}: the host has no Docker ({complaint})", hint="remotedl provision"
        )
    return EngineError(
        f"{what}: the Docker Engine hung up ({complaint or 'it said nothing'})",
        hint="remotedl doctor",
    )
