"""Whatever keeps both sides apart is named, each with the command that mends it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from remotedl.sync.agent.ignore import Ignore, Source
from remotedl.sync.agent.tree import Entry, Issue, Kind
from remotedl.sync.remedies import (
    MENDS,
    remedies,
    rule_for,
    shown,
    shown_frozen,
    troubles,
    typed,
    watching,
    ways_out,
)
from remotedl.sync.safety import Halt, HaltKind
from remotedl.sync.status import Barrier, Failure, State, SyncStatus, There
from remotedl.sync.verdict import Conflict, ConflictKind, Frozen, LeftOut, LeftOutWhy, Where

FILE = Entry(Kind.FILE, bytes(32), 10)
CALM = SyncStatus(
    state=State.LIVE,
    last_success=1.0,
    pending=0,
    transfers=(),
    conflicts=(),
    frozen=(),
    failures=(),
    left_out=(),
    laptop_watching="events",
    remote_watching="events",
    halt=None,
    files=3,
)
TWINS = Frozen("caf\xe9", Where.REMOTE, Issue.COLLIDING, ("cafe\u0301", "caf\xe9"))


def told(**changes: object) -> str:
    return "\n".join(f"{one.what}: {one.mend}" for one in remedies(CALM._replace(**changes)))


def test_nothing_is_said_when_nothing_is_wrong() -> None:
    assert remedies(CALM) == ()


def test_a_conflict() -> None:
    conflict = Conflict("a.py", None, FILE, FILE, ConflictKind.BOTH_NEW, "v")
    text = told(conflicts=(conflict,))
    assert text == "changed on both sides: a.py: remotedl sync conflicts --diff"


def test_what_is_held_back_is_named_apart() -> None:
    held = Conflict(".envrc", None, None, FILE, ConflictKind.HELD_NEW, "v", held=True)
    both = Conflict("a.py", None, FILE, FILE, ConflictKind.BOTH_NEW, "v")
    lines = told(conflicts=(both, held)).splitlines()
    assert lines[0].startswith("changed on both sides: a.py:")
    assert lines[1].endswith(": .envrc: remotedl sync resolve .envrc --remote | --laptop")
    assert ways_out(held) == "remotedl sync resolve .envrc --laptop | --remote"
    assert ways_out(both).endswith("a.py --laptop | --remote | --both")


def test_a_name_is_never_taken_for_an_option() -> None:
    assert typed("-rf") == "./-rf" and typed("-\n") == r"$'./-\x0a'"


def test_names_that_begin_or_end_with_a_space_are_quoted() -> None:
    conflict = Conflict(" lead", None, FILE, FILE, ConflictKind.BOTH_NEW, "v")
    assert "changed on both sides: ' lead':" in told(conflicts=(conflict,))
    assert shown("in the middle") == "in the middle"


def test_a_halt_says_its_way_on() -> None:
    halt = Halt(HaltKind.ROOT_EMPTIED, Where.REMOTE, "it is empty", "type this")
    assert told(halt=halt) == "halted: it is empty: type this"


def test_paused() -> None:
    assert "remotedl sync resume" in told(state=State.PAUSED, pending=4)


def test_what_is_on_its_way_can_be_waited_for() -> None:
    assert told(pending=4) == "4 on their way: remotedl sync flush"


@pytest.mark.parametrize(
    ("why", "mend"),
    [
        ("No space left on device", "make room: df -h d"),
        ("it belongs to user 12345", 'sudo chown -R "$USER" d/a'),
        ("Permission denied", "chmod -R u+rwX d"),
        ("Read-only file system", "make it writable: findmnt -T d"),
        ("Input/output error", "remotedl sync flush"),
    ],
)
def test_what_was_refused_is_grouped_by_what_the_system_said(why: str, mend: str) -> None:
    failures = tuple(Failure(f"d/{key}", Where.LAPTOP, why) for key in "abcde")
    text = told(failures=failures, pending=5)
    assert text == f"not written on the laptop: d/a, d/b, d/c and 2 more: {why}: {mend}"


@pytest.mark.parametrize(
    ("why", "words"),
    [
        ("No space left on device", ["df", "-h", "/srv/a b/d'"]),
        ("it belongs to user 0", ["sudo", "chown", "-R", "me", "/srv/a b/d'/x"]),
        ("Permission denied", ["sudo", "chown", "-R", "me", "/srv/a b/d'"]),
    ],
)
def test_what_the_host_refused_is_mended_there(why: str, words: list[str], tmp_path: Path) -> None:
    """As typed, in a shell: `ssh` hands its words to a shell on the host."""
    there = There("box", "/srv/a b")
    (trouble,) = troubles(Barrier(1, (Failure("d'/x", Where.REMOTE, why),), (), (), (), there))
    mend = trouble.mend.removeprefix("make room: ")
    assert mend.startswith("ssh box ")
    assert run_typed(mend, tmp_path) == words


def test_without_sudo_the_container_mends_it(tmp_path: Path) -> None:
    there = There("box", "/srv/w", "remotedl-p-123456")
    unreadable = Frozen("d/x y", Where.REMOTE, Issue.UNREADABLE)
    first, _, second = told(frozen=(unreadable,), there=there).partition("; without sudo: ")
    assert first.endswith("""ssh box 'sudo chown -R "$USER" '"'"'/srv/w/d/x y'"'"''""")
    uid = str(os.getuid())
    assert run_typed(second, tmp_path) == [
        *("docker", "exec", "-u", "0", there.container, "chown", "-R", uid, "/workspace/d/x y")
    ]


def test_rules_are_written_on_the_laptop_wherever_the_trouble_is() -> None:
    pipe = Frozen("p", Where.REMOTE, Issue.UNSUPPORTED)
    assert told(frozen=(pipe,), there=There("box", "/srv")).endswith(" /p >> .remotedlignore")


def run_typed(command: str, folder: Path) -> list[str]:
    """What a hint runs on the host, word by word."""
    tell = '#!/bin/sh\nfor word in "${0##*/}" "$@"; do printf "%s\\0" "$word"; done\n'
    scripts = dict.fromkeys(("df", "sudo", "docker"), tell)
    scripts["ssh"] = '#!/bin/sh\nshift\nexec sh -c "$*"\n'
    for name, text in scripts.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    env = {"PATH": f"{folder}:{os.environ['PATH']}", "USER": "me"}
    done = subprocess.run(["bash", "-c", command], env=env, capture_output=True, check=True)
    return done.stdout.decode().split("\0")[:-1]


@pytest.mark.parametrize("issue", list(Issue))
def test_each_frozen_path_has_its_mend(issue: Issue) -> None:
    text = told(frozen=(Frozen("a b", Where.LAPTOP, issue),))
    assert f"{issue.value} on the laptop: a b" in text
    assert MENDS[issue].format(path="'a b'", rule="'/a b'") in text


@pytest.mark.parametrize(
    "key", ["p", "!bang", "#pipe", "a*b", "a?", "[a]", "x ", "x  ", "back\\slash", "d/p", " lead"]
)
def test_a_rule_means_the_one_path(key: str) -> None:
    ignore = Ignore([Source(rule_for(key))], defaults=False)
    assert ignore.ignores(key, False)
    for other in ("below/" + key, "other", "a", "x", "axb", key + "y"):
        assert other == key or not ignore.ignores(other, False), other


def test_twins_are_told_apart() -> None:
    """Both look the same on a terminal: they are spelled out, and what is typed is exact."""
    text = told(frozen=(TWINS,))
    assert r"'cafe\u0301', 'caf\xe9'" in text
    assert text.endswith(r"mv $'caf\xc3\xa9' ANOTHER-NAME")
    assert shown_frozen(TWINS) == r"café (colliding on the host: 'cafe\u0301', 'caf\xe9')"


@pytest.mark.parametrize(
    ("how", "mend"),
    [
        ("poll: fs.inotify.max_user_watches", "sudo sysctl fs.inotify.max_user_watches=1048576"),
        ("poll: fs.inotify.max_user_instances", "sudo sysctl fs.inotify.max_user_instances=1024"),
        ("poll", "move the folder to a disk of that machine itself"),
    ],
)
def test_degraded_watching_names_the_knob(how: str, mend: str) -> None:
    assert told(remote_watching=how) == f"host: changes are looked for by polling: {mend}"
    assert watching(CALM._replace(remote_watching=how)) is not None
    assert watching(CALM) is None


def test_what_is_too_big_can_be_fetched() -> None:
    left = LeftOut("runs/model.pt", FILE, LeftOutWhy.TOO_BIG)
    assert told(left_out=(left,)) == (
        "left on the host: runs/model.pt: remotedl get /workspace/runs/model.pt runs/model.pt"
    )
    assert told(left_out=(left._replace(why=LeftOutWhy.UPLOAD_ONLY),)) == ""


@pytest.mark.parametrize("name", ["a\x1b[2J", "line\nbreak", "\u202etxt.exe", "\udcff", "it's"])
def test_no_name_reaches_the_terminal_as_a_command(name: str) -> None:
    assert shown(name).isprintable()
    assert typed(name).isprintable()


@pytest.mark.parametrize("name", ["a b", "it's $HOME", "line\nbreak\\n", "caf\xe9", "\x01'\"\\"])
def test_what_is_typed_means_the_file(name: str) -> None:
    done = subprocess.run(["bash", "-c", f"printf %s {typed(name)}"], capture_output=True)
    assert done.stdout == name.encode()
