"""On a real host over real SSH: the engine through sudo, and a reboot."""

from __future__ import annotations

from dataclasses import replace

import pytest

from remotedl import ssh
from remotedl.config.models import ProjectConfig
from remotedl.container.docker import DockerRuntime
from remotedl.container.runtime import Change, State, Wanted
from remotedl.container.services import Tools
from remotedl.container.spec import Image
from remotedl.engine import Engine
from remotedl.ssh.remote import Remote
from tests.lab.fixtures import MakeHost
from tests.lab.host import Host
from tests.lab_tests.container.conftest import BARE, fresh_project, until

pytestmark = [pytest.mark.lab, pytest.mark.timeout(300)]

DOCKERFILE = """\
FROM debian:bookworm-slim
RUN mkdir -p /opt/remotedl/bin \\
 && printf '#!/bin/sh\\nexec sleep 1000000\\n' > /opt/remotedl/bin/supervisord \\
 && chmod +x /opt/remotedl/bin/supervisord \\
 && rm -rf /usr/share/zoneinfo
"""
"""As much of an image as a container without services needs; slim ones know no time zones."""


class NobodyThere:
    """A Prompt that nobody answers."""

    def secret(self, question: str) -> str | None:
        return None

    def confirm(self, question: str) -> bool:
        return False


def test_a_reboot_brings_the_container_back_and_the_session_finds_it(make_host: MakeHost) -> None:
    host = make_host(engine=True)
    host.exec(["docker", "build", "-t", "small", "-"], stdin=DOCKERFILE.encode())
    image = Image("small", host.sh("docker image inspect -f '{{.Id}}' small").strip())
    host.sh("ln -sf /usr/share/zoneinfo/Asia/Kolkata /etc/localtime; rm -f /etc/timezone")
    project = fresh_project("reboot")
    remote, runtime = _logged_in(host, project)
    tools = replace(image, tools=Tools("/opt/remotedl/bin"))
    wanted = Wanted(host.login.host_config(), ProjectConfig(**BARE), tools)
    first = runtime.ensure(wanted)
    said = runtime.run(["sh", "-c", "whoami; touch /workspace/made; stat -c %u /workspace/made"])
    assert said.text.split() == ["ada", "1000"]
    assert host.sh(f"stat -c %U {first.folders.workdir}/made").strip() == "ada"
    assert runtime.run(["date", "+%Z"]).text == "IST\n"
    remote.close()
    host.restart()

    remote, runtime = _logged_in(host, project)
    until(lambda: runtime.status().state is not State.STOPPED, "the engine has started it", 60)
    back = runtime.resume(wanted.host)
    assert (back.id, back.token, back.change) == (first.id, first.token, Change.KEEP)
    assert runtime.ensure(wanted).change is Change.KEEP
    remote.close()


def _logged_in(host: Host, project: object) -> tuple[Remote, DockerRuntime]:
    login = host.login
    remote = ssh.connect(login.host_config(), prompt=NobodyThere(), known_hosts=login.known_hosts)
    engine = Engine(lambda: remote.start(["docker", "system", "dial-stdio"], sudo=True))
    return remote, DockerRuntime(remote, engine, project)  # type: ignore[arg-type]
