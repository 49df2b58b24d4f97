"""What the engine says, as our errors: one row for each thing that it is known to say."""

from __future__ import annotations

import pytest

from remotedl.engine.explain import engine_error, no_engine
from remotedl.errors import EngineError, ImageNotFound

SAID = [
    ("No such image: nope:1", ImageNotFound, "check the name"),
    ("manifest for debian:nope not found: manifest unknown", ImageNotFound, "check the name"),
    (
        "pull access denied for me/secret, repository does not exist or may require 'docker login'",
        ImageNotFound,
        "docker login",
    ),
    (
        "Head https://r.example/v2/a/manifests/1: no basic auth credentials",
        ImageNotFound,
        "docker login",
    ),
    ("write /var/lib/docker/x: no space left on device", EngineError, "image prune"),
    (
        'could not select device driver "" with capabilities: [[gpu]]',
        EngineError,
        "doctor --fix",
    ),
    ("CDI device injection failed: unresolvable CDI devices", EngineError, "doctor --fix"),
    (
        "no matching manifest for linux/arm64/v8 in the manifest list entries",
        EngineError,
        "architecture",
    ),
    ("invalid mount config: bind source path does not exist: /no/such", EngineError, "mounts"),
    (
        'Get "https://registry.example.org/v2/": dial tcp: lookup registry.example.org on '
        "127.0.0.53:53: no such host",
        EngineError,
        "image pull IMAGE --via-laptop",
    ),
    (
        'Get "https://registry.example.org/v2/": net/http: request canceled while waiting for '
        "connection (Client.Timeout exceeded while awaiting headers)",
        EngineError,
        "image load",
    ),
    (
        'failed to resolve reference "example.org/library/x:1": failed to do request: Head '
        '"https://registry.example.org/v2/library/x/manifests/1": dial tcp 1.2.3.4:443: '
        "i/o timeout",
        EngineError,
        "set proxy",
    ),
    (
        'Get "https://registry.example.org/v2/": proxyconnect tcp: dial tcp 10.0.0.1:3128: '
        "connect: connection refused",
        EngineError,
        "hosts.toml",
    ),
    ("Conflict. The container name is already in use", EngineError, ""),
]


@pytest.mark.parametrize(("message", "kind", "hint"), SAID, ids=[row[0][:40] for row in SAID])
def test_each_known_message_has_its_error(message: str, kind: type, hint: str) -> None:
    error = engine_error("pulling x", message, status=404)
    assert type(error) is kind
    assert hint in error.hint
    assert error.message.startswith("pulling x: ")


COMPLAINTS = [
    (
        "permission denied while trying to connect to the Docker daemon socket",
        "may not use",
        "remotedl provision",
    ),
    ("dial unix /var/run/docker.sock: connect: no such file or directory", "does not run", "--fix"),
    ("Cannot connect to the Docker daemon at unix:///x. Is it running?", "does not run", "--fix"),
    ("bash: line 1: docker: command not found", "has no Docker", "remotedl provision"),
    ("", "hung up", "remotedl doctor"),
]


@pytest.mark.parametrize(("complaint", "says", "hint"), COMPLAINTS)
def test_a_dial_that_failed_says_why(complaint: str, says: str, hint: str) -> None:
    error = no_engine("asking", complaint)
    assert says in error.message
    assert hint in error.hint
