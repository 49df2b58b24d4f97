"""A host whose network card carries less than Docker sends: what hangs, and what mends it."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator

import pytest

from remotedl.provision.apply import converge, preview
from remotedl.provision.doctor import findings_of_host
from remotedl.provision.probe import gather
from remotedl.provision.steps import Wish
from remotedl.provision.undo import undo
from tests.lab.fixtures import MakeHost
from tests.lab.host import Host
from tests.lab.run import LabRun
from tests.lab_tests.provision.conftest import LogIn, Told

pytestmark = [pytest.mark.lab, pytest.mark.timeout(300)]
NO_GPU = Wish(gpus=False)
SIZE = 2_000_000
BUILD = """\
FROM debian:bookworm-slim
RUN timeout -k 1 {limit} bash -c 'exec 3<>/dev/tcp/{at}; printf "GET / HTTP/1.0\\r\\n\\r\\n" >&3; \
wc -c <&3 >/size' && test $(cat /size) -gt {size}
"""


class Blob(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(bytes(SIZE))


@pytest.fixture
def server(lab_run: LabRun) -> Iterator[str]:
    """HOST/PORT of a download, as bash's /dev/tcp names it, outside of the host."""
    with http.server.ThreadingHTTPServer((lab_run.gateway, 0), Blob) as serving:
        thread = threading.Thread(target=serving.serve_forever)
        thread.start()
        yield f"{lab_run.gateway}/{serving.server_address[1]}"
        serving.shutdown()
        thread.join()


def builds(host: Host, server: str, limit_s: int) -> bool:
    text = BUILD.format(at=server, limit=limit_s, size=SIZE)
    argv = ["docker", "build", "--no-cache", "-"]
    return host.exec(argv, stdin=text.encode(), check=False).returncode == 0


def test_a_download_in_a_build_hangs_until_docker_knows_what_the_card_carries(
    make_host: MakeHost, log_in: LogIn, told: Told, server: str
) -> None:
    host = make_host(engine=True, mtu=1400)
    remote = log_in(host)
    facts = gather(remote, NO_GPU)

    assert not builds(host, server, 8)
    assert (facts.uplink_mtu, facts.engine.mtu) == (1400, 1500)
    found = {one.name: one for one in findings_of_host(facts, NO_GPU, "h1", facts.now)}
    assert "1400" in found["mtu"].what and found["mtu"].mend == "remotedl provision h1"
    assert "unprovisioned" not in found, "one cause, one finding"

    outcome = converge(remote, NO_GPU, report=told)

    assert [step.name for step in outcome.done] == ["write-docker-settings", "restart-docker"]
    assert builds(host, server, 20)
    assert preview(remote, NO_GPU).steps == ()
    host.sh("docker container prune -f")  # what the killed build left
    assert undo(remote, confirm=lambda question: True).undone
    assert host.exec(["test", "-e", "/etc/docker/daemon.json"], check=False).returncode == 1


def test_a_host_whose_card_carries_what_docker_sends_is_left_alone(
    bookworm_host: Host, log_in: LogIn
) -> None:
    facts = gather(log_in(bookworm_host), NO_GPU)

    assert facts.uplink_mtu == facts.engine.mtu == 1500
