"""Which tunnels a session wants, and who is let in to each."""

from __future__ import annotations

from pathlib import Path

import pytest

from remotedl.config.models import HostConfig, ProjectConfig, port_pair
from remotedl.session.gate_key import gate_key, secret_of
from remotedl.session.tunnels import wanted_tunnels


def test_everything_but_jupyter_and_what_is_no_http_is_gated() -> None:
    project = ProjectConfig(ports=("7860", "15432:5432/tcp"))
    wants = wanted_tunnels(project, HostConfig(address="h", ports=("9000", "9001/tcp")))
    assert {want.page: want.gated for want in wants} == {
        "jupyter": False,
        "tensorboard": True,
        "7860": True,
        "5432": False,
        "9000": True,
        "9001": False,
    }
    assert [want.laptop_port for want in wants] == [8888, 6006, 7860, 15432, 9000, 9001]


@pytest.mark.parametrize("text", ["0", "65536", "1:0", "80/udp", "80/", "a", "1:2:3", "-1", "٣"])
def test_what_is_no_port(text: str) -> None:
    with pytest.raises(ValueError, match="LAPTOP:REMOTE"):
        port_pair(text)


def test_links_stay_good_and_differ_by_tunnel_and_project(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    key = gate_key(one)
    assert gate_key(one) == key
    assert (one / "gate.key").stat().st_mode & 0o777 == 0o600
    secrets = {secret_of(key, "TensorBoard"), secret_of(key, "port 7860")}
    assert len({*secrets, secret_of(gate_key(other), "TensorBoard")}) == 3
    (one / "gate.key").write_bytes(b"cut")
    assert gate_key(one) != key
