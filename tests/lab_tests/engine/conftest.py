"""Engines to talk to: this machine's, and those of lab hosts over our own SSH."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from remotedl.engine import Container, Engine, NewContainer
from remotedl.ssh import connect
from remotedl.ssh.prompt import NOBODY
from tests.lab.engine import ensure_dockerd
from tests.lab.host import Host
from tests.lab.images import base_image
from tests.support.local_remote import LocalRemote

LABELS = {"remotedl-lab-test": "engine"}


@pytest.fixture(scope="session")
def here() -> Iterator[Engine]:
    """This machine's engine, over subprocesses."""
    ensure_dockerd()
    remote = LocalRemote()
    engine = Engine(lambda: remote.start(["docker", "system", "dial-stdio"]))
    yield engine
    engine.close()
    remote.close()


@pytest.fixture(scope="session")
def debian(here: Engine) -> str:
    return base_image("bookworm")


@pytest.fixture(scope="session")
def there(engine_host: Host) -> Iterator[Engine]:
    """A lab host's engine, through sudo and channels of one SSH connection; 20.10 and 26.1."""
    login = engine_host.login
    remote = connect(
        login.host_config(),
        prompt=NOBODY,
        known_hosts=login.known_hosts,
        ssh_config=Path(os.devnull),
    )
    engine = Engine(lambda: remote.start(["docker", "system", "dial-stdio"], sudo=True))
    yield engine
    engine.close()
    remote.close()


@pytest.fixture
def sleeper(here: Engine, debian: str) -> Iterator[Container]:
    """A container that does nothing, for as long as the test."""
    made = here.containers.create(
        NewContainer(image=debian, command=("sleep", "600"), labels=LABELS, init=True)
    )
    here.containers.start(made.id)
    yield made
    here.containers.remove(made.id, force=True)
