"""What may be taken back, and what stays because somebody uses it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from remotedl.provision.facts import Engine, HostContainer, HostFacts
from remotedl.provision.journal import Entry, FileBefore, entry_text, parse_entry
from remotedl.provision.snapshot import Changes, Snapshot, difference
from remotedl.provision.undo import parse_removals, parse_rpm_needs
from remotedl.provision.undo_plan import plan_undo, removable

ENGINE = Entry(
    number=2,
    step="install-docker",
    what="install docker.io",
    by="ada",
    when=1,
    state="done",
    named=("docker.io",),
    changes=Changes(
        packages_added={"docker.io:amd64": "26", "runc:amd64": "1"},
        groups_added=("docker",),
        paths_made=("/var/lib/docker",),
        units_enabled=("docker.service",),
    ),
)
FETCHERS = Entry(
    number=1,
    step="install-fetchers",
    what="install curl",
    by="ada",
    when=1,
    state="done",
    named=("curl",),
    changes=Changes(packages_added={"curl:amd64": "8", "libcurl4:amd64": "8"}),
)
FILE = FileBefore("/etc/docker/daemon.json", True, "/var/lib/remotedl/backup/x", "0" * 64)
SETTINGS = Entry(
    number=3,
    step="write-docker-settings",
    what="set runtimes",
    by="ada",
    when=1,
    state="done",
    files=(FILE,),
)
NOW = Snapshot(
    packages={"docker.io:amd64": "26", "runc:amd64": "1", "curl:amd64": "8", "libcurl4:amd64": "8"},
    automatic=frozenset({"runc", "libcurl4"}),
    groups={"docker": ()},
)


def with_containers(*owners: str) -> HostFacts:
    containers = tuple(
        HostContainer(f"{n:064x}", f"c{n}", "running", "image", owner)
        for n, owner in enumerate(owners)
    )
    return HostFacts(engine=Engine(kind="docker", access="sudo", containers=containers))


def test_the_newest_change_goes_first() -> None:
    found = plan_undo((FETCHERS, ENGINE, SETTINGS), NOW, HostFacts(), "ada")

    assert [r.entry.number for r in found.reversals] == [3, 2, 1]
    assert found.reversals[1].packages == ("docker.io:amd64", "runc:amd64")
    assert found.reversals[1].groups == ("docker",)
    assert found.left == ()


def test_docker_stays_while_others_have_containers_on_it() -> None:
    found = plan_undo((FETCHERS, ENGINE, SETTINGS), NOW, with_containers("ada", "bob"), "ada")

    assert [r.entry.step for r in found.reversals] == ["install-fetchers"]
    assert [left.what for left in found.left] == ["set runtimes", "install docker.io"]
    assert "c1" in found.left[0].why and "c0" not in found.left[0].why


def test_ones_own_containers_are_named_in_the_question() -> None:
    found = plan_undo((ENGINE,), NOW, with_containers("ada"), "ada")

    assert "c0" in found.question and found.reversals


def test_a_shared_login_has_containers_of_others_too() -> None:
    facts = with_containers("ada", "ada")
    mine, theirs = (replace(c, project=f"p{n}") for n, c in enumerate(facts.engine.containers))
    facts = replace(facts, engine=replace(facts.engine, containers=(mine, theirs)))

    assert plan_undo((ENGINE,), NOW, facts, "ada", {"p0", "p1"}).reversals
    found = plan_undo((ENGINE,), NOW, facts, "ada", {"p0"})

    assert found.reversals == () and "c1" in found.left[0].why


def test_settings_of_an_engine_that_stays_take_a_restart() -> None:
    alone = plan_undo((SETTINGS,), NOW, HostFacts(), "ada")
    with_engine = plan_undo((ENGINE, SETTINGS), NOW, HostFacts(), "ada")

    assert alone.reversals[0].restart
    assert not with_engine.reversals[0].restart


def test_a_package_that_somebody_asked_for_since_stays() -> None:
    now = replace(NOW, automatic=frozenset({"runc"}))

    found = plan_undo((FETCHERS,), now, HostFacts(), "ada")

    assert found.reversals[0].packages == ("curl:amd64",)
    assert [left.what for left in found.left] == ["libcurl4 8"]


def test_a_package_that_is_gone_is_gone() -> None:
    found = plan_undo((FETCHERS,), Snapshot(), HostFacts(), "ada")

    assert found.reversals[0].packages == ()


def test_an_upgrade_is_told_and_not_turned_back() -> None:
    entry = replace(FETCHERS, changes=Changes(packages_changed={"libc6:amd64": ("2.36", "2.37")}))

    found = plan_undo((entry,), NOW, HostFacts(), "ada")

    assert [left.what for left in found.left] == ["libc6:amd64 2.37 (it was 2.36)"]


def test_an_empty_journal_asks_nothing() -> None:
    assert plan_undo((), NOW, HostFacts(), "ada").question == ""


# ---- which packages can go


def needing(needs: dict[str, set[str]]) -> object:
    """A package manager in which KEY is needed by VALUES."""

    def simulate(names: Collection[str]) -> set[str]:
        going = set(names)
        while more := {user for name in going for user in needs.get(name, set())} - going:
            going |= more
        return going

    return simulate


def test_what_nobody_needs_can_go() -> None:
    assert removable({"a", "b"}, needing({"b": {"a"}})) == {"a", "b"}  # type: ignore[arg-type]


def test_what_a_stranger_needs_stays_with_all_that_it_needs() -> None:
    needs = {"lib": {"stranger"}, "base": {"lib"}, "other": set[str]()}

    assert removable({"lib", "base", "other"}, needing(needs)) == {"other"}  # type: ignore[arg-type]


def test_a_removal_that_always_takes_something_along_is_none() -> None:
    def greedy(names: Collection[str]) -> set[str]:
        return {*names, "stranger"} if len(names) > 1 else set(names)

    assert removable({"a", "b"}, greedy) == set()


def test_apts_simulation_is_read() -> None:
    text = "Reading...\nRemv docker.io [26.1] [x]\nPurg runc [1.1]\nInst other [1]\n"

    assert parse_removals(text) == {"docker.io", "runc"}


def test_rpms_complaints_are_read() -> None:
    text = "error: Failed dependencies:\n\trunc is needed by (installed) podman-4.9-1.el9.x86_64\n"

    assert parse_rpm_needs(text) == {"podman-4.9-1.el9.x86_64"}


# ---- the journal's entries


def test_an_entry_survives_writing_and_reading() -> None:
    begun = replace(ENGINE, state="begun", before=NOW, files=(FILE,))
    changes = Changes(
        packages_changed={"x": ("1", "2")},
        members_added=(("docker", "ada"),),
        users_added=("u",),
    )

    for entry in (begun, ENGINE, replace(SETTINGS, changes=changes)):
        assert parse_entry(entry_text(entry)) == entry
        assert "\n" not in entry_text(entry)


def test_what_differs_between_two_snapshots() -> None:
    before = Snapshot(
        packages={"a": "1", "b": "1", "c": "1"},
        groups={"old": ("x",)},
        users=frozenset({"root"}),
        units=frozenset({"ssh.service"}),
        paths={"/made": False, "/there": True, "/never": False},
    )
    after = Snapshot(
        packages={"a": "1", "b": "2", "d": "1"},
        groups={"old": ("x", "y"), "new": ("z",)},
        users=frozenset({"root", "u"}),
        units=frozenset({"ssh.service", "docker.service"}),
        paths={"/made": True, "/there": True, "/never": False},
    )

    changes = difference(before, after)

    assert changes == Changes(
        packages_added={"d": "1"},
        packages_removed={"c": "1"},
        packages_changed={"b": ("1", "2")},
        groups_added=("new",),
        members_added=(("old", "y"),),
        users_added=("u",),
        units_enabled=("docker.service",),
        paths_made=("/made",),
    )
    assert difference(before, before) == Changes()


def done(step: str, **more: object) -> Entry:
    return replace(FETCHERS, number=9, step=step, changes=Changes(), **more)  # type: ignore[arg-type]


def test_apts_lists_stay_and_are_told_once() -> None:
    file = replace(FILE, path="/etc/apt/sources.list.d/docker.sources", existed=False)
    steps = (done("refresh-packages"), done("add-docker-repository", files=(file,)))

    found = plan_undo(steps, NOW, HostFacts(), "ada")

    assert [left.what for left in found.left] == ["apt's package lists in /var/lib/apt/lists"]


def test_a_repository_of_dnf_leaves_nothing() -> None:
    file = replace(FILE, path="/etc/yum.repos.d/docker-ce.repo", existed=False)

    assert (
        plan_undo((done("add-docker-repository", files=(file,)),), NOW, HostFacts(), "").left == ()
    )


def test_what_others_may_use_by_now_is_told() -> None:
    steps = (done("add-el-repositories"), done("add-containers-module"), done("upgrade-system"))

    found = plan_undo(steps, NOW, HostFacts(), "ada")

    assert [left.what for left in found.left] == [
        "the repository CRB, enabled",
        "the Containers Module of SLES",
        "the upgraded system",
    ]


def test_many_upgraded_packages_are_told_in_one_line() -> None:
    changes = Changes(packages_changed={f"p{n}": ("1", "2") for n in range(40)})

    found = plan_undo((replace(FETCHERS, changes=changes),), NOW, HostFacts(), "ada")

    assert [left.what for left in found.left] == ["40 packages at newer versions"]
