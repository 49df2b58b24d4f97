"""Commands in hints are right when they are typed: two shells read what stands behind ssh."""

from __future__ import annotations

import shlex
import subprocess

import pytest

from remotedl.config.models import HostConfig
from remotedl.ssh.connection import _failed
from remotedl.ssh.remote import Result
from remotedl.ssh.route import plan_route


@pytest.mark.parametrize(
    "argv",
    [
        ("docker", "system", "df"),
        ("sh", "-c", 'printf "%s" "$1"', "x", "it's a \\ file"),
        ("ls", "--", "a b", "$HOME", "*"),
    ],
)
@pytest.mark.parametrize("by_root", [False, True])
def test_a_failed_command_is_typed_as_it_was(argv: tuple[str, ...], by_root: bool) -> None:
    hint = _failed("box", Result(argv, 1, b"", b"no"), by_root=by_root).hint
    program, host, *rest = shlex.split(hint)
    assert (program, host) == ("ssh", "box")
    shown = subprocess.run(
        ["sh", "-c", f"for word in {' '.join(rest)}; do printf '%s\\0' \"$word\"; done"],
        capture_output=True,
        check=True,
    ).stdout.decode()
    assert tuple(shown.split("\0")[:-1]) == (("sudo",) if by_root else ()) + argv


def test_a_script_of_ours_is_nothing_to_type() -> None:
    result = Result(("sh", "-c", "a\nb"), 1, b"", b"no")
    assert _failed("box", result, by_root=False).hint == "ssh box"
    long = Result(("sh", "-c", "x" * 300), 1, b"", b"no")
    assert _failed("box", long, by_root=False).hint == "ssh box"


def test_the_way_to_a_hop_has_its_port_and_its_key() -> None:
    host = HostConfig(address="192.0.2.7", port=2222, user="ada", identity_file="/a b/key")
    (hop,) = plan_route(host, config_text="")
    assert shlex.split(hop.typed) == ["-p", "2222", "-i", "/a b/key", "ada@192.0.2.7"]
    (hop,) = plan_route(HostConfig(address="::1", user="ada"), config_text="")
    assert hop.typed == "ada@::1"
