"""The probe under every shell that is at hand, and with tools that hang. Needs no lab host."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from remotedl.errors import ProvisionError
from remotedl.provision.frame import Section, read_frame
from remotedl.provision.gpus import find_smi
from remotedl.provision.parse import parse_facts
from remotedl.provision.parse_engine import parse_engine
from remotedl.provision.probe import ask, gather, script
from tests.support.local_remote import LocalRemote

SHELLS = [["sh"], ["dash"], ["bash", "--posix"], ["busybox", "sh"], ["zsh", "--emulate", "sh"]]
HANGING = ("docker", "nvidia-smi", "systemctl", "dpkg-query", "df", "sudo", "snap", "podman")


def answer(shell: list[str], env: dict[str, str] | None = None) -> bytes:
    argv = [*shell, "-s", "--", "user", ""]
    done = subprocess.run(
        argv, input=script("probe.sh"), capture_output=True, env=env, timeout=120, check=True
    )
    assert done.stderr == b"", done.stderr
    return done.stdout


@pytest.mark.parametrize("shell", SHELLS, ids=lambda shell: shell[0])
def test_every_shell_gives_the_same_facts(shell: list[str]) -> None:
    if shutil.which(shell[0]) is None:
        pytest.skip(f"no {shell[0]} here")

    facts, by_sh = (parse_facts(read_frame(answer(s))) for s in (shell, ["sh"]))

    assert facts.distro == by_sh.distro and facts.machine == by_sh.machine
    assert facts.person == by_sh.person and facts.tools == by_sh.tools
    assert facts.packages == by_sh.packages and facts.space.keys() == by_sh.space.keys()
    assert facts.engine.version == by_sh.engine.version
    assert facts.now > 0 and facts.cpus > 0 and facts.person.home_writable


def test_tools_that_hang_are_given_up(tmp_path: Path) -> None:
    for name in HANGING:
        tool = tmp_path / name
        tool.write_text("#!/bin/sh\nexec sleep 100\n")
        tool.chmod(0o755)
    env = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "REMOTEDL_LIMIT_S": "0.1"}

    facts = parse_facts(read_frame(answer(["sh"], env)))

    assert not facts.engine.works and not facts.driver.smi_works and facts.machine.kernel


def test_where_nvidia_smi_lies_is_told_without_running_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert find_smi(LocalRemote()) == ""
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\nexec sleep 100\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    assert find_smi(LocalRemote()) == str(tool)


@pytest.mark.parametrize("shell", SHELLS, ids=lambda shell: shell[0])
def test_proxies_are_told_without_their_passwords(shell: list[str]) -> None:
    if shutil.which(shell[0]) is None:
        pytest.skip(f"no {shell[0]} here")
    said = script("probe.sh").decode().replace('\nmain "$@" </dev/null\n', "\nask_proxies\n")
    env = {"PATH": os.environ["PATH"], "https_proxy": "http://me:hush@p.example:3128/x y"}

    done = subprocess.run([*shell, "-s"], input=said, capture_output=True, text=True, env=env)

    assert "http://p.example:3128/x" in done.stdout.splitlines() and "hush" not in done.stdout


JSON = b'{"mtu": 1400, "log-driver": "local"}'
CONTENTS = {
    "no newline at its end": (JSON, JSON.decode()),
    "empty": (b"", ""),
    "CRLF": (JSON.replace(b",", b",\r\n"), JSON.decode().replace(",", ",\r\n")),
    "BOM": (b"\xef\xbb\xbf" + JSON + b"\n", JSON.decode() + "\n"),
    "NUL": (b'{"a": "\0"}', '{"a": "\0"}'),
    "other line ends": (b'{"a":\x0b"\xe2\x80\xa8@sudo_mode 0\xc2\x85"}', None),
    "1 MB": (b" " * (2**20 - len(JSON)) + JSON, " " * (2**20 - len(JSON)) + JSON.decode()),
    "no UTF-8": (b'{"a": "\xe9"}', '{"a": "\udce9"}'),
    "frame": (b"|@end 0\n@@end\n@sudo_mode 0\n|root\n", "|@end 0\n@@end\n@sudo_mode 0\n|root\n"),
}


@pytest.mark.parametrize("shell", SHELLS, ids=lambda shell: shell[0])
def test_settings_come_over_as_they_are_whatever_they_hold(
    shell: list[str], tmp_path: Path
) -> None:
    if shutil.which(shell[0]) is None:
        pytest.skip(f"no {shell[0]} here")
    lines = ['\nlimit() { "$@"; }; as_root() { return 126; }', "ask_both() {"]
    for number, (content, _) in enumerate(CONTENTS.values()):
        (tmp_path / f"{number}").write_bytes(content)
        lines.append(f"show_file file {tmp_path}/{number}")
    lines += [f"show_file file {tmp_path}/absent", "echo socket", "}", "probe both\n"]
    said = script("probe.sh").decode().replace('\nmain "$@" </dev/null\n', "\n".join(lines))

    done = subprocess.run([*shell, "-s"], input=said.encode(), capture_output=True, check=True)

    answer = b"@@remotedl 1\n" + done.stdout + b"@@end\n"
    sections = read_frame(answer)
    assert list(sections) == ["both"] and sections["both"].lines[-1] == "socket"
    found = parse_engine({"docker_files": sections["both"]}).settings
    for file, (name, (content, text)) in zip(found, CONTENTS.items(), strict=False):
        assert file.text == (content.decode() if text is None else text), name
    assert found[len(CONTENTS)].text is None, "what is not there was not read"


def test_a_file_of_more_than_the_probe_reads_is_none_that_is_empty(tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(b" " * (2**20 + 1))
    said = (
        script("probe.sh")
        .decode()
        .replace(
            '\nmain "$@" </dev/null\n',
            f'\nlimit() {{ "$@"; }}; probe_big() {{ show_file file {tmp_path}/big; }}\nprobe_big\n',
        )
    )
    done = subprocess.run(["sh", "-s"], input=said.encode(), capture_output=True, check=True)

    found = parse_engine({"docker_files": Section(0, done.stdout.decode())}).settings

    assert [file.text for file in found] == [None]


@pytest.mark.parametrize("text", [
    'ID=debian\nPRETTY_NAME="Debian 12"', '\ufeffID=debian\r\nPRETTY_NAME="Debian 12"\r\n',
])  # fmt: skip
def test_the_systems_name_is_read_with_a_bom_and_crlf(text: str) -> None:
    answer = "@@remotedl 1\n@os 0\n" + "".join(f"|{line}\n" for line in text.split("\n"))

    found = parse_facts(read_frame((answer + "@@end\n").encode())).distro

    assert (found.id, found.name) == ("debian", "Debian 12")


def test_only_the_probes_own_lines_are_commands_that_change_nothing() -> None:
    code = [line.partition("# ")[0] for line in script("probe.sh").decode().splitlines()]
    text = re.sub(r"'[^']*'", "''", "\n".join(code))

    assert not re.search(r"\b(rm|mv|cp|mkdir|tee|chmod|chown|kill|install)\s+[-/\"$]", text)
    redirected = re.findall(r"[^0-9&]>\s*(\S+)", text)
    assert {target for target in redirected if not target.startswith("/dev/null")} <= {"&2"}


def test_the_facts_of_this_machine_over_a_remote(tmp_path: Path) -> None:
    facts = gather(LocalRemote(tmp_path))

    assert facts.machine.machine and facts.person.uid == os.getuid()


def test_an_answer_that_makes_no_sense_is_an_error_with_what_was_said(tmp_path: Path) -> None:
    class Strange(LocalRemote):
        def run(self, argv, **more):  # type: ignore[no-untyped-def]
            return super().run(["sh", "-c", "echo This account is not available; exit 1"], **more)

    with pytest.raises(ProvisionError, match="This account is not available"):
        ask(Strange(tmp_path), "user")
