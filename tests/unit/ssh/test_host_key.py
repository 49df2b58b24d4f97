"""The rule about host keys, where no loopback sshd can show it: CheckHostIP, hints."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from remotedl.config.models import HostConfig
from remotedl.errors import HostKeyChanged
from remotedl.report import SILENT
from remotedl.ssh.host_key import Judge
from remotedl.ssh.known_hosts import Key
from remotedl.ssh.prompt import NOBODY, Prompt
from remotedl.ssh.route import Hop, plan_route

PEER = "192.0.2.7"


def key(rest: bytes) -> Key:
    return Key("ssh-ed25519", (11).to_bytes(4, "big") + b"ssh-ed25519" + rest)


OURS, OTHER = key(b"ours"), key(b"other")


class Yes:
    def secret(self, question: str) -> str | None:
        return None

    def confirm(self, question: str) -> bool:
        return True


def hop(file: Path, config: str = "CheckHostIP yes", **trust: object) -> Hop:
    found = plan_route(
        HostConfig(address="box", port=2222), config_text=config, known_hosts_file=file
    )[0]
    return replace(found, trust=replace(found.trust, **trust))  # type: ignore[arg-type]


def judge(there: Hop, known: str, *, accept_new: bool = False, prompt: Prompt = NOBODY) -> None:
    there.trust.user_files[0].write_text(known)
    Judge(there, prompt, accept_new=accept_new, report=SILENT).check(OURS, None, PEER)


def test_the_address_is_remembered_beside_the_name(tmp_path: Path) -> None:
    there = hop(tmp_path / "known")
    judge(there, f"[box]:2222 {OURS.line}\n")
    assert f"[{PEER}]:2222 {OURS.line}\n" in there.trust.user_files[0].read_text()


def test_an_unknown_host_is_remembered_by_both(tmp_path: Path) -> None:
    there = hop(tmp_path / "known")
    judge(there, "", accept_new=True)
    names = [line.split()[0] for line in there.trust.user_files[0].read_text().splitlines()]
    assert names == ["[box]:2222", f"[{PEER}]:2222"]


@pytest.mark.parametrize("known", [f"[box]:2222 {OURS.line}\n", ""])
def test_another_key_for_the_address_stops_unless_a_person_says_yes(
    tmp_path: Path, known: str
) -> None:
    there = hop(tmp_path / "known")
    known += f"[{PEER}]:2222 {OTHER.line}\n"
    for accept_new in (True, False):
        with pytest.raises(HostKeyChanged):
            judge(there, known, accept_new=accept_new)
    judge(there, known, prompt=Yes())
    with pytest.raises(HostKeyChanged):
        judge(replace(there, trust=replace(there.trust, strict=True)), known, prompt=Yes())


@pytest.mark.parametrize("config", ["CheckHostIP no", "CheckHostIP yes\nHostKeyAlias box"])
def test_without_it_the_address_says_nothing(tmp_path: Path, config: str) -> None:
    known = f"[box]:2222 {OURS.line}\nbox {OURS.line}\n[{PEER}]:2222 {OTHER.line}\n"
    judge(hop(tmp_path / "known", config), known)


def test_the_hint_can_be_typed_whatever_the_file_is_called(tmp_path: Path) -> None:
    there = hop(tmp_path / "it's a file")
    with pytest.raises(HostKeyChanged) as caught:
        judge(there, f"[box]:2222 {OTHER.line}\n")
    words = shlex.split(caught.value.hint.partition("then: ")[2])
    assert words == ["ssh-keygen", "-f", str(tmp_path / "it's a file"), "-R", "[box]:2222"]
