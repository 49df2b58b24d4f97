"""Images on the host's engine: find, pull, build, load, tag, remove.

Long calls are iterators of what happens, and raise at the end when it did not work: the engine
answers 200 before it knows. What to build and which to take is decided in the room images/.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import docker.auth
import docker.errors

from remotedl.engine.client import DialledClient, LineError, quoted, translated
from remotedl.engine.explain import engine_error
from remotedl.engine.types import (
    NOTHING,
    BuildEvent,
    BuildOutput,
    BuildStep,
    Built,
    HistoryLine,
    Image,
    LayerProgress,
    RegistryAuth,
)
from remotedl.errors import BuildFailed, EngineError

STEP = re.compile(r"Step (\d+)/(\d+) : (.*)")
NO_AUTH = RegistryAuth()
STANDSTILL_S = 600.0
"""A pull that shows nothing new for so long has lost its registry."""
MOST_LAYERS = 2000


class Images:
    """`engine.images`."""

    def __init__(self, connected: Callable[[], DialledClient]) -> None:
        self._connected = connected

    def find(self, labels: Mapping[str, str] = NOTHING) -> tuple[Image, ...]:
        """Images that carry all these labels (a value of "" asks for the label alone)."""
        wanted = [f"{name}={value}" if value else name for name, value in labels.items()]
        with translated("listing the images"):
            client = self._connected()
            found = client.images(filters={"label": wanted} if wanted else None)
            images = [_inspect(client, str(row["Id"])) for row in found]
        return tuple(sorted((image for image in images if image), key=lambda image: image.tags))

    def get(self, reference: str) -> Image | None:
        """The image of that name, tag or id; None when the engine has none."""
        with translated(f"looking at image {reference}"):
            return _inspect(self._connected(), reference)

    def registry_digest(self, reference: str, *, auth: RegistryAuth = NO_AUTH) -> str:
        """sha256:… of what the registry has under that name now. Raises EngineError."""
        with translated(f"asking the registry for {reference}"):
            path = f"/distribution/{quoted(reference)}/json"
            found = self._connected().call("GET", path, headers=_auth_header(auth)).json()
        return str((found.get("Descriptor") or {}).get("digest", ""))

    def history(self, reference: str) -> tuple[HistoryLine, ...]:
        """The steps that it was made of, newest first, with the bytes that each added."""
        with translated(f"reading the history of {reference}"):
            rows = self._connected().call("GET", f"/images/{quoted(reference)}/history").json()
        return tuple(
            HistoryLine(created_by=str(row.get("CreatedBy", "")), size=int(row.get("Size") or 0))
            for row in rows
        )

    def pull(
        self, reference: str, *, auth: RegistryAuth = NO_AUTH, platform: str = ""
    ) -> Iterator[LayerProgress]:
        """Pull one tag or digest.

        When it breaks off, the engine keeps the layers that were unpacked. 20.10 was seen to fetch
        again what was complete and not yet unpacked.
        """
        name, tag = split_reference(reference)
        params = {"fromImage": name, "tag": tag} | ({"platform": platform} if platform else {})
        with translated(f"pulling {reference}"):
            client = self._connected()
            lines = client.lines(
                "POST",
                "/images/create",
                params=params,
                headers=_auth_header(auth),
                silence_s=STANDSTILL_S,
            )
            yield from _moving(map(_layer, lines), reference, time.monotonic)

    def push(self, reference: str, *, auth: RegistryAuth = NO_AUTH) -> Iterator[LayerProgress]:
        """Push one tag."""
        name, tag = split_reference(reference)
        with translated(f"pushing {reference}"):
            client = self._connected()
            lines = client.lines(
                "POST",
                f"/images/{quoted(name)}/push",
                params={"tag": tag},
                headers=_auth_header(auth),
            )
            for line in lines:
                yield _layer(line)

    def build(
        self,
        context: Iterable[bytes],
        *,
        tag: str,
        dockerfile: str = "Dockerfile",
        labels: Mapping[str, str] = NOTHING,
        build_args: Mapping[str, str] = NOTHING,
        auths: Mapping[str, RegistryAuth] | None = None,
        no_cache: bool = False,
        pull: bool = False,
        platform: str = "",
        target: str = "",
        network: str = "",
    ) -> Iterator[BuildEvent]:
        """Build by the classic builder from a streamed tar. Raises BuildFailed with the reason.

        `auths` are those of the registries that FROM lines name, by server.
        """
        params: dict[str, Any] = {
            "t": tag,
            "dockerfile": dockerfile,
            "labels": json.dumps(dict(labels)),
            "buildargs": json.dumps(dict(build_args)),
            "rm": "1",
            "forcerm": "1",
            "nocache": int(no_cache),
            "pull": int(pull),
            "version": "1",
        }
        params |= {"platform": platform} if platform else {}
        params |= {"target": target} if target else {}
        params |= {"networkmode": network} if network else {}
        headers = {"Content-Type": "application/x-tar"}
        if auths:
            configs = {server: _auth_fields(auth) for server, auth in auths.items()}
            headers["X-Registry-Config"] = _encoded(configs)
        watch = _BuildWatch(tag)
        with translated(f"building {tag}"):
            lines = self._connected().lines(
                "POST", "/build", params=params, data=iter(context), headers=headers
            )
            try:
                for line in lines:
                    yield from watch.events(line)
            except (LineError, docker.errors.APIError) as exc:
                yield from watch.rest()
                raise watch.failure(exc) from exc

    def load(self, archive: Iterable[bytes]) -> Iterator[LayerProgress | Built]:
        """Load a `docker save` archive. Layers that the engine has may be missing from it."""
        with translated("loading an image"):
            lines = self._connected().lines(
                "POST",
                "/images/load",
                data=iter(archive),
                headers={"Content-Type": "application/x-tar"},
            )
            for line in lines:
                text = str(line.get("stream", "")).strip()
                if text.startswith(("Loaded image: ", "Loaded image ID: ")):
                    yield Built(image_id=text.partition(": ")[2])
                elif "progressDetail" in line or "status" in line:
                    yield _layer(line)

    def save(self, reference: str) -> Iterator[bytes]:
        """The image as an archive that `load` takes."""
        with translated(f"reading image {reference}"):
            yield from self._connected().chunks("GET", f"/images/{quoted(reference)}/get")

    def tag(self, reference: str, new: str) -> None:
        name, tag = split_reference(new)
        with translated(f"naming {reference} {new}"):
            self._connected().tag(reference, name, tag)

    def remove(self, reference: str, *, force: bool = False) -> bool:
        """False when there was none. One that a container uses is refused."""
        with translated(f"removing image {reference}"):
            try:
                self._connected().remove_image(reference, force=force)
            except docker.errors.ImageNotFound:
                return False
            return True

    def layers_size(self) -> int:
        """Bytes of all layers, each counted once; images add up to more, since they share them."""
        with translated("asking what the images take"):
            return int(self._connected().df().get("LayersSize") or 0)

    def prune_cache(self) -> int:
        """Drop the builder's cache that nothing uses; bytes that came free."""
        with translated("pruning the builder's cache"):
            return int(self._connected().prune_builds().get("SpaceReclaimed") or 0)


def split_reference(reference: str) -> tuple[str, str]:
    """A reference's name, and its tag ("latest" where none is named) or digest.

    >>> split_reference("localhost:5000/a/b")
    ('localhost:5000/a/b', 'latest')
    """
    name, at, digest = reference.partition("@")
    if at:
        return name, digest
    head, colon, tag = reference.rpartition(":")
    if colon and "/" not in tag:
        return head, tag
    return reference, "latest"


class _BuildWatch:
    """Turns the classic builder's lines into events, and knows whose fault a failure is."""

    def __init__(self, tag: str) -> None:
        self._tag = tag
        self._step: BuildStep | None = None
        self._partial = ""

    def events(self, line: Mapping[str, Any]) -> Iterator[BuildEvent]:
        if "aux" in line:
            if image_id := (line["aux"] or {}).get("ID"):
                yield Built(image_id=str(image_id))
        elif "stream" in line:
            # One line of a tool may come in several messages: only a newline ends it.
            *whole, self._partial = (self._partial + str(line["stream"])).split("\n")
            for text in whole:
                yield from self._text(text.rstrip("\r"))
        elif "status" in line:
            yield _layer(line)

    def rest(self) -> Iterator[BuildEvent]:
        """A last line without its newline."""
        yield from self._text(self._partial)

    def _text(self, text: str) -> Iterator[BuildEvent]:
        if match := STEP.fullmatch(text):
            self._step = BuildStep(index=int(match[1]), total=int(match[2]), text=match[3])
            yield self._step
        elif text.strip():
            yield BuildOutput(line=text)

    def failure(self, exc: LineError | docker.errors.APIError) -> EngineError:
        if isinstance(exc, LineError):
            message, status = exc.message, exc.code
        else:
            message, status = str(exc.explanation), exc.status_code
        known = engine_error(f"building {self._tag}", message, status=status)
        # A base image that is not to be had, or a full disk, is not the Dockerfile's fault.
        at_from = self._step is not None and self._step.text.startswith("FROM")
        if at_from or "image prune" in known.hint:
            return known
        return BuildFailed(message.strip())


def _inspect(client: DialledClient, reference: str) -> Image | None:
    try:
        return parse_image(client.call("GET", f"/images/{quoted(reference)}/json").json())
    except docker.errors.NotFound:
        return None


def parse_image(found: Mapping[str, Any]) -> Image:
    """An Image out of the engine's inspection."""
    config = found.get("Config") or {}
    return Image(
        id=str(found["Id"]),
        tags=tuple(sorted(found.get("RepoTags") or ())),
        digests=tuple(sorted(found.get("RepoDigests") or ())),
        labels=dict(config.get("Labels") or {}),
        size=int(found.get("Size") or 0),
        created=str(found.get("Created", "")),
        architecture=str(found.get("Architecture", "")),
        env=parse_env(config.get("Env")),
        entrypoint=tuple(config.get("Entrypoint") or ()),
        command=tuple(config.get("Cmd") or ()),
        user=str(config.get("User") or ""),
        workdir=str(config.get("WorkingDir") or ""),
        exposed_ports=tuple(sorted(config.get("ExposedPorts") or ())),
        layers=tuple((found.get("RootFS") or {}).get("Layers") or ()),
        volumes=tuple(sorted(config.get("Volumes") or ())),
    )


def parse_env(lines: Iterable[str] | None) -> dict[str, str]:
    """NAME=VALUE lines; one without a value is an empty one."""
    pairs = (line.partition("=") for line in lines or ())
    return {name: value for name, _, value in pairs}


def _moving(
    layers: Iterator[LayerProgress], reference: str, clock: Callable[[], float]
) -> Iterator[LayerProgress]:
    """The same, until nothing has changed for long, or there is no end to the layers."""
    last = dict[str, LayerProgress]()
    changed = clock()
    for layer in layers:
        if last.get(layer.layer) != layer:
            changed = clock()
        last[layer.layer] = layer
        if clock() - changed > STANDSTILL_S or len(last) > MOST_LAYERS:
            raise EngineError(
                f"pulling {reference}: nothing has come for {STANDSTILL_S / 60:.0f} minutes"
                if len(last) <= MOST_LAYERS
                else f"pulling {reference}: the engine tells of more than {MOST_LAYERS} layers",
                hint="the same command again: complete layers are kept",
            )
        yield layer


def _layer(line: Mapping[str, Any]) -> LayerProgress:
    detail = line.get("progressDetail") or {}
    return LayerProgress(
        layer=str(line.get("id", "")),
        status=str(line.get("status", "")),
        current=detail.get("current"),
        total=detail.get("total") or None,
        unit=str(detail.get("units") or "B"),
    )


def _auth_fields(auth: RegistryAuth) -> dict[str, str]:
    if auth.identity_token:
        return {"identitytoken": auth.identity_token, "serveraddress": auth.server}
    return {
        "username": auth.username,
        "password": auth.password,
        "serveraddress": auth.server,
    }


def _auth_header(auth: RegistryAuth) -> dict[str, str]:
    empty = auth == NO_AUTH
    return {"X-Registry-Auth": _encoded({} if empty else _auth_fields(auth))}


def _encoded(value: object) -> str:
    return docker.auth.encode_header(value).decode("ascii")
