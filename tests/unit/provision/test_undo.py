"""Taking back, in front of a host that notes what is done to it: what goes, and what stays."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, cast

import pytest

from remotedl.provision import undo as taking_back
from remotedl.provision.engine_data import EngineData, look_at_data
from remotedl.provision.facts import Engine, HostFacts
from remotedl.provision.journal import Entry, entry_text, parse_entry
from remotedl.provision.probe import script
from remotedl.provision.snapshot import Changes
from remotedl.provision.undo import UndoOutcome, undo
from remotedl.ssh.remote import Remote, Result
from tests.unit.provision.test_undo_plan import ENGINE

DOCKER = replace(
    ENGINE,
    named=("docker-ce",),
    changes=Changes(
        packages_added={"docker-ce:amd64": "29", "containerd.io:amd64": "2", "slirp:amd64": "1"},
        groups_added=("docker",),
        paths_made=("/etc/docker", "/var/lib/containerd", "/var/lib/docker"),
    ),
)
NOTHING_HELD = json.dumps({"Images": [], "Containers": [], "Volumes": [], "BuildCache": []})
HELD = json.dumps(
    {
        "Images": [{"Repository": "mine", "Tag": "1", "Size": "4GB"}],
        "Containers": [{"Names": "work", "Size": "12MB (virtual 4GB)"}],
        "Volumes": [{"Name": "weights", "Size": "1.2GB"}],
    }
)


class Host:
    """Answers as a host with Docker on it; `needs`: packages that somebody else's leans on."""

    name, user, alive = "h1", "ada", True

    def __init__(self, held: str, needs: Sequence[str] = (), daemon: str = "") -> None:
        self.journal = {DOCKER.path: entry_text(DOCKER)}
        self.held, self.needs, self.daemon = held, needs, daemon
        self.packages = set(DOCKER.changes.packages_added)
        self.did: list[str] = []

    def run(self, argv: Sequence[str], *, stdin: bytes = b"", **more: Any) -> Result:
        said = ""
        if b"journal/*.json" in stdin:
            said = "".join(f"{path} {text}\n" for path, text in self.journal.items())
        elif stdin == script("snapshot.sh"):
            said = "".join(f"|{name} 1\n" for name in sorted(self.packages))
            said = f"@@remotedl 1\n@packages 0\n{said}@now 0\n|1\n@@end\n"
        elif "--simulate" in argv:
            going = [name.partition(":")[0] for name in argv[list(argv).index("remove") + 1 :]]
            going += ["platform"] if set(going) & set(self.needs) else []
            said = "".join(f"Remv {name} [1]\n" for name in going)
        elif argv[0] == "getent":
            said = "docker:x:988:\n"
        return Result(tuple(argv), 0, said.encode(), b"")

    def sudo(self, argv: Sequence[str], *, stdin: bytes = b"", **more: Any) -> Result:
        said, code = "", 0
        words = [word for word in argv if "\n" not in word]
        if argv[:3] == ["docker", "system", "df"]:
            said, code = self.held, 0 if self.held else 1
        elif argv[0] == "du":
            said = "3.4G\ttotal\n"
        elif "docker.pid" in argv[-1]:
            said = self.daemon
        elif "journal" in argv:
            self.journal[argv[-1]] = stdin.decode()
        elif argv[:2] == ["rm", "-f"] and "--" in argv:
            for path in argv:
                self.journal.pop(path, None)
        elif argv[0] != "rmdir":
            self.did.append(" ".join(words))
        if "--purge" in argv:
            self.packages -= set(argv)
        return Result(tuple(argv), code, said.encode(), b"")


@pytest.fixture(autouse=True)
def _quiet_host(monkeypatch: pytest.MonkeyPatch) -> None:
    import contextlib

    facts = HostFacts(tools={"apt-get": "/usr/bin/apt-get"}, engine=Engine("docker", "sudo"))
    monkeypatch.setattr(taking_back.host_lock, "held", lambda *_: contextlib.nullcontext())
    monkeypatch.setattr(taking_back, "wait_packages", lambda *_: None)
    monkeypatch.setattr(taking_back, "gather", lambda *_: facts)


def take_back(host: Host, remove_data: Callable[[str], bool]) -> UndoOutcome:
    return undo(cast(Remote, host), confirm=lambda _: True, remove_data=remove_data)


def refused(question: str) -> bool:
    raise AssertionError(question)


def test_an_engine_that_holds_nothing_goes_whole_and_stopped_first() -> None:
    host = Host(NOTHING_HELD)

    outcome = take_back(host, refused)

    assert host.did.index("systemctl stop docker.service") < next(
        at for at, line in enumerate(host.did) if "remove" in line
    )
    assert "rm -rf --one-file-system /var/lib/docker" in host.did
    assert "/var/lib/docker (3.4G)" in outcome.went and "the group docker" in outcome.went
    assert outcome.left == () and host.journal == {}


@pytest.mark.parametrize("yes", [False, True])
def test_data_is_asked_about_by_name_and_size_and_kept_by_default(yes: bool) -> None:
    host, asked = Host(HELD), list[str]()

    outcome = take_back(host, lambda question: bool(asked.append(question)) or yes)

    assert asked == [
        "Remove what Docker holds (volume weights (1.2GB), container work (12MB), "
        "image mine:1 (4GB))?"
    ]
    removed = "rm -rf --one-file-system /var/lib/docker" in host.did
    assert removed is yes and host.journal == {}
    kept = [left.what for left in outcome.left]
    assert kept == ([] if yes else ["/var/lib/docker", "/var/lib/containerd"])
    assert yes or "weights (1.2GB)" in outcome.left[0].why


def test_what_belongs_to_a_package_that_stays_stays_with_its_entry() -> None:
    host = Host(NOTHING_HELD, needs=["docker-ce", "containerd.io"])

    outcome = take_back(host, lambda _: True)

    assert not [line for line in host.did if "rm -rf" in line or "groupdel" in line]
    assert not [line for line in host.did if "systemctl stop" in line]
    assert {left.what for left in outcome.left} >= {"docker-ce", "/var/lib/docker", "/etc/docker"}
    (text,) = host.journal.values()
    rest = parse_entry(text)
    assert set(rest.changes.packages_added) == {"docker-ce:amd64", "containerd.io:amd64"}
    assert rest.changes.paths_made == DOCKER.changes.paths_made
    assert outcome.undone == () and "slirp" in "".join(outcome.went)

    host.needs = []
    assert take_back(host, lambda _: True).undone and host.journal == {}
    assert "rm -rf --one-file-system /var/lib/docker" in host.did


def test_a_daemon_that_runs_all_the_same_keeps_its_data() -> None:
    host = Host(NOTHING_HELD, daemon="812\n")

    outcome = take_back(host, lambda _: True)

    assert not [line for line in host.did if "rm -rf" in line and "/var/lib" in line]
    assert "process 812" in outcome.left[0].why


def test_an_engine_that_does_not_answer_may_hold_anything() -> None:
    data = look_at_data(cast(Remote, Host("")), ["/var/lib/docker"])

    assert data == EngineData(known=False, size="3.4G") and not data.empty
    assert data.told.startswith("3.4G; Docker does not answer")


def test_an_entry_that_was_cut_short_is_read_as_one() -> None:
    assert isinstance(parse_entry(entry_text(DOCKER)), Entry)
