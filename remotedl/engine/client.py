"""docker-py over dialled streams, and the one place where its exceptions become ours.

docker-py's own constructor opens sockets and reads the laptop's docker configuration: its proxies
would end up in the host's builds, and its credentials in requests that need none. So it is not
called. Credentials are handed over for one request at a time (images/credentials.py finds them).
"""

from __future__ import annotations

import json
import math
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

import docker.api.client
import docker.auth
import docker.constants
import docker.errors
import docker.utils.proxy
import requests
import urllib3.exceptions

from remotedl.engine.explain import engine_error, no_engine
from remotedl.engine.stream import Dial
from remotedl.engine.wire import DialledAdapter, Hijacked, HungUp, Refused, TooMuch
from remotedl.errors import EngineError, RemotedlError

CHUNK = 64 * 1024
LONGEST_LINE = 4 * 1024 * 1024
BASE_URL = "http+docker://localhost"
NEWEST_API = docker.constants.DEFAULT_DOCKER_API_VERSION
"""What docker-py was written against. The engine may speak a newer one; we do not ask for it."""


class DialledClient(docker.api.client.APIClient):
    """docker-py's low-level client, its connections being streams that `dial` opens."""

    # docker-py has these; its published types do not know them.
    _raise_for_status: Callable[[requests.Response], None]
    _version: str

    def __init__(self, dial: Dial, *, limit: int, timeout_s: float) -> None:
        requests.Session.__init__(self)
        self.base_url = BASE_URL
        self.timeout = math.ceil(timeout_s)
        self.trust_env = False  # the laptop's proxies and .netrc mean nothing on the host
        self.credstore_env = None
        self._general_configs: dict[str, Any] = {}
        self._proxy_configs = docker.utils.proxy.ProxyConfig()
        self._auth_configs = docker.auth.AuthConfig({})
        self.adapters.clear()
        self._adapter = DialledAdapter(dial, limit=limit)
        self.mount("http+docker://", self._adapter)
        self._version = _agreed_version(self.version(api_version=False))

    def _set_auth_headers(self, headers: dict[str, str]) -> None:
        """docker-py would read the laptop's credentials here, all of them, for any build."""

    @property
    def api_version(self) -> str:
        """What is spoken: the engine's newest, but none newer than docker-py knows."""
        return self._version

    def newest_info(self) -> dict[str, Any]:
        """/info by the engine's newest API: an older one leaves out DiscoveredDevices."""
        return cast(dict[str, Any], self._checked(self.get(f"{BASE_URL}/info")).json())

    def call(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        body: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        patient: bool = False,
    ) -> requests.Response:
        """One request by the agreed API. A `patient` one has no deadline."""
        response = self.request(
            method,
            self._versioned(path),
            params=params,
            headers=headers,
            json=body,
            timeout=None if patient else self.timeout,
        )
        return self._checked(response)

    def chunks(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        data: Iterator[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
        silence_s: float | None = None,
    ) -> Iterator[bytes]:
        """A long answer in pieces, as they come; it may be silent for `silence_s`, or for ever."""
        with self._adapter.long_request():
            response = self.request(
                method,
                self._versioned(path),
                params=params,
                data=data,
                headers=dict(headers or {}),
                stream=True,
                timeout=silence_s,
            )
            try:
                yield from self._checked(response).raw.stream(CHUNK, decode_content=True)
            finally:
                response.close()

    def lines(self, method: str, path: str, **request: Any) -> Iterator[dict[str, Any]]:
        """A long answer of JSON lines; takes what `chunks` takes.

        A status of 200 says nothing: an error may follow as a line of its own, and is raised.
        """
        partial = b""
        for chunk in self.chunks(method, path, **request):
            *whole, partial = (partial + chunk).split(b"\n")
            if len(partial) > LONGEST_LINE:
                raise TooMuch("a line of its answer has no end")
            for text in whole:
                if text.strip():
                    yield _checked_line(json.loads(text))
        if partial.strip():
            yield _checked_line(json.loads(partial))

    def hijack(self, path: str, body: Mapping[str, Any]) -> Hijacked:
        """POST and keep the connection as a raw two-way stream."""
        headers = {
            "Content-Type": "application/json",
            "Connection": "Upgrade",
            "Upgrade": "tcp",
        }
        data = json.dumps(body).encode()
        return self._adapter.hijack(f"/v{self._version}{path}", data, headers)

    def _versioned(self, path: str) -> str:
        return f"{BASE_URL}/v{self._version}{path}"

    def _checked(self, response: requests.Response) -> requests.Response:
        """Raises APIError for a status of 400 or more."""
        self._raise_for_status(response)
        return response


def quoted(name: str) -> str:
    """A name as part of a path: an image's slashes and colons stay."""
    return urllib.parse.quote(name, safe="/:@")


class LineError(Exception):
    """The engine gave up in the middle of a long answer; `message` is its reason."""

    def __init__(self, message: str, code: int | None) -> None:
        super().__init__(message)
        self.message = message
        self.code = code


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Errors of docker-py and of the wire as ours; `what` was being done ("pulling x")."""
    try:
        yield
    except RemotedlError:
        raise
    except docker.errors.APIError as exc:
        raise engine_error(what, str(exc.explanation or exc), status=exc.status_code) from exc
    except LineError as exc:
        raise engine_error(what, exc.message, status=exc.code) from exc
    except Refused as exc:
        raise engine_error(what, _message_of(exc.body), status=exc.status) from exc
    except TooMuch as exc:
        raise EngineError(
            f"{what}: the Docker Engine answers without end ({exc})", hint="remotedl doctor"
        ) from exc
    except HungUp as exc:
        raise no_engine(what, exc.complaint) from exc
    except urllib3.exceptions.EmptyPoolError as exc:
        raise EngineError(
            f"{what}: all connections to the engine are in use",
            hint="end a `remotedl shell` or `remotedl logs -f`, then try again",
        ) from exc
    except (requests.exceptions.Timeout, urllib3.exceptions.TimeoutError, TimeoutError) as exc:
        raise EngineError(
            f"{what}: the Docker Engine does not answer",
            hint="remotedl doctor",
        ) from exc
    except (
        requests.exceptions.RequestException,
        urllib3.exceptions.HTTPError,
        docker.errors.DockerException,
        ConnectionError,
    ) as exc:
        raise EngineError(
            f"{what}: the Docker Engine ended the connection ({exc})", hint="remotedl doctor"
        ) from exc


def _checked_line(line: dict[str, Any]) -> dict[str, Any]:
    if "error" not in line and "errorDetail" not in line:
        return line
    detail = line.get("errorDetail") or {}
    raise LineError(str(detail.get("message") or line.get("error")), detail.get("code"))


def _agreed_version(answer: Mapping[str, Any]) -> str:
    newest, oldest = str(answer["ApiVersion"]), str(answer.get("MinAPIVersion") or "1.24")
    return max(oldest, min(newest, NEWEST_API, key=_numbers), key=_numbers)


def _numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".")]


def _message_of(body: bytes) -> str:
    try:
        return str(json.loads(body)["message"])
    except (ValueError, KeyError, TypeError):
        return body.decode("utf-8", "replace")
