"""Builds by `docker buildx build` on the host, the context streamed to its stdin.

BuildKit keeps pip's downloads in a cache beside the layers and takes the package index as a
secret, which is in no layer, no history and no command line. It is spoken to through the host's
own command line, because its API is a gRPC session that docker-py does not know.
"""

from __future__ import annotations

import base64
import json
import re
import threading
from collections.abc import Callable
from typing import Any

from remotedl.engine.explain import engine_error
from remotedl.errors import EngineError, LinkLost
from remotedl.images.order import (
    Order,
    Sources,
    failure,
    instruction_lines,
    no_base,
    unbuilt,
)
from remotedl.images.recipe import context_tar
from remotedl.images.wish import HostCapabilities
from remotedl.report import Report
from remotedl.ssh.remote import Process, Remote

OLDEST = (0, 13)
"""The first with --progress=rawjson, by which progress is told apart from output."""
VERSION = re.compile(r"buildx v?(\d+)\.(\d+)")
STEP = re.compile(r"\[(?:\S+ +)?(\d+)/(\d+)\] (.*)", re.DOTALL)
CHUNK = 64 * 1024

# Secrets come first on stdin, into memory where the host has a place for it; dd takes exactly their
# bytes and leaves the context. A build argument without a value is taken from the environment.
WITH_SECRETS = """
umask 077
d=$(mktemp -d /dev/shm/remotedl.XXXXXX 2>/dev/null || mktemp -d) || exit 1
trap 'rm -rf "$d"' EXIT
trap 'exit 129' HUP INT TERM
dd bs=1 count="$1" of="$d/pip.conf" 2>/dev/null
dd bs=1 count="$2" of="$d/proxy" 2>/dev/null
shift 2
proxy=$(cat "$d/proxy")
[ -z "$proxy" ] || export HTTP_PROXY="$proxy" http_proxy="$proxy" HTTPS_PROXY="$proxy" https_proxy="$proxy"
docker buildx build --secret "id=pip,src=$d/pip.conf" "$@"
"""  # noqa: E501


def has_buildx(remote: Remote, host: HostCapabilities) -> bool:
    """Whether the host's docker has a buildx that is new enough."""
    run = remote.sudo if host.docker_sudo else remote.run
    found = run(["docker", "buildx", "version"], env=host.docker_env, check=False)
    match = VERSION.search(found.text) if found.ok else None
    return match is not None and (int(match[1]), int(match[2])) >= OLDEST


def build_buildx(
    remote: Remote,
    order: Order,
    sources: Sources,
    host: HostCapabilities,
    report: Report,
    *,
    no_cache: bool = False,
) -> None:
    """Build `order` under its tag into the engine's store. Raises BuildFailed, LinkLost."""
    text = order.dockerfile_text()
    pip_conf = f"[global]\nindex-url = {sources.pip_index}\n" if sources.pip_index else ""
    secrets = (pip_conf.encode(), sources.proxy.encode())
    lengths = [str(len(secret)) for secret in secrets]
    arguments = [*(["--no-cache"] if no_cache else []), *_arguments(order, sources)]
    argv = ["/bin/sh", "-c", WITH_SECRETS, "remotedl-build", *lengths, *arguments]
    process = remote.start(argv, sudo=host.docker_sudo, env=host.docker_env)
    watch = _Watch(order, text.decode("utf-8", "replace"), report)
    try:
        sender = _Sender(process, order, b"".join(secrets), text)
        _each_status(process, watch)
        code = process.wait()
        sender.join()
    finally:
        process.close()
    if code != 0:
        raise watch.failed(code)


def _arguments(order: Order, sources: Sources) -> list[str]:
    arguments = ["--builder", "default", "--progress", "rawjson", "--load", "--tag", order.tag]
    arguments += ["--file", order.dockerfile]
    if order.target:
        arguments += ["--target", order.target]
    if sources.host_network:
        arguments += ["--network", "host"]
    for name, value in sorted(order.build_args.items()):
        arguments += ["--build-arg", f"{name}={value}"]
    for name in sorted(sources.proxy_args):
        arguments += ["--build-arg", name]
    for name, value in sorted(order.all_labels.items()):
        arguments += ["--label", f"{name}={value}"]
    return [*arguments, "-"]


class _Sender:
    """Feeds the process from a thread of its own: it talks while it listens."""

    def __init__(self, process: Process, order: Order, secrets: bytes, dockerfile: bytes) -> None:
        self._process = process
        self._order = order
        self._secrets = secrets
        self._dockerfile = dockerfile
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._send, name="build-context", daemon=True)
        self._thread.start()

    def join(self) -> None:
        self._thread.join()
        if self._failure is not None:
            raise self._failure

    def _send(self) -> None:
        try:
            if self._secrets:
                self._process.sendall(self._secrets)
            replaced = {**self._order.replaced, self._order.dockerfile: self._dockerfile}
            for chunk in context_tar(self._order.context, replaced):
                self._process.sendall(chunk)
            self._process.shutdown_write()
        except (LinkLost, OSError):
            pass  # the build ended early, or the link did: whoever listens finds out which
        except BaseException as exc:  # noqa: BLE001 - raised again by join()
            self._failure = exc
            self._process.close()


def _each_status(process: Process, take: Callable[[str], None]) -> None:
    """JSON objects and lines that are none, as they come.

    Newer versions write an object a line; the first ones spread it over many, "}" alone at its end.
    """
    partial, begun = b"", ""
    while chunk := process.recv_stderr(CHUNK):
        *whole, partial = (partial + chunk).split(b"\n")
        for line in whole:
            text = line.decode("utf-8", "replace")
            if begun or text.rstrip() == "{":
                begun += text
                if text.rstrip() == "}":
                    take(begun)
                    begun = ""
            else:
                take(text)
    if begun or partial:
        take(begun + partial.decode("utf-8", "replace"))


class _Watch:
    """Reads BuildKit's rawjson: steps, what they print, and bytes that move."""

    def __init__(self, order: Order, dockerfile: str, report: Report) -> None:
        self._order = order
        self._dockerfile = dockerfile
        self._report = report
        self._names: dict[str, str] = {}
        self._said: dict[str, list[str]] = {}
        self._failed = ""
        self._reason = ""
        self._plain: list[str] = []

    def __call__(self, text: str) -> None:
        try:
            status = json.loads(text)
        except ValueError:
            # Not progress: what the docker command itself has to say.
            self._plain.append(text)
            return
        if isinstance(status, dict):
            for vertex in status.get("vertexes") or ():
                self._vertex(vertex)
            for entry in status.get("logs") or ():
                self._log(entry)
            for moved in status.get("statuses") or ():
                self._moved(moved)

    def _vertex(self, vertex: dict[str, Any]) -> None:
        digest, name = str(vertex.get("digest")), str(vertex.get("name"))
        if digest not in self._names and vertex.get("started"):
            self._names[digest] = name
            cached = " (cached)" if vertex.get("cached") else ""
            if match := STEP.fullmatch(name):
                what = f"building {self._order.title}"
                self._report.progress(what, int(match[1]) - 1, int(match[2]), "steps")
            self._report.output(name + cached)
        if vertex.get("error") and not self._failed:
            self._names[digest] = name
            self._failed, self._reason = digest, str(vertex["error"])

    def _log(self, entry: dict[str, Any]) -> None:
        text = base64.b64decode(entry.get("data") or "").decode("utf-8", "replace")
        said = self._said.setdefault(str(entry.get("vertex")), [])
        for line in text.splitlines():
            said.append(line)
            self._report.output(line)

    def _moved(self, moved: dict[str, Any]) -> None:
        if total := moved.get("total"):
            what = f"building {self._order.title}: {str(moved.get('id'))[:60]}"
            self._report.progress(what, float(moved.get("current") or 0), float(total))

    def failed(self, code: int) -> EngineError:
        if not self._failed:
            why = "; ".join(line for line in self._plain if line.strip()) or f"status {code}"
            return unbuilt(self._order, why)
        name = self._names[self._failed]
        known = engine_error(f"building {self._order.title}", self._reason)
        if name.startswith("[internal] load metadata"):
            return no_base(self._order, name, self._reason)
        if "image prune" in known.hint:
            return known
        match = STEP.fullmatch(name)
        step = match[3] if match else name
        said = self._said.get(self._failed, [])
        return failure(self._order, step, self._line_of(step), self._reason, said)

    def _line_of(self, step: str) -> int:
        """The line that `step` is on: BuildKit tells its text, with spaces put in order."""
        lines = self._dockerfile.splitlines()
        for number in instruction_lines(self._dockerfile):
            words = lines[number - 1].rstrip("\\").split()
            if words and step.split()[: len(words)] == words:
                return number
        return 0
