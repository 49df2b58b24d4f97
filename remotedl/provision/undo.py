"""Takes back what the journal says, newest first, and says what it leaves.

Each reversal can be run twice, and an entry is dropped from the journal only when it has been
taken back, so that an undo that was killed goes on where it was.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from remotedl.errors import StepFailed
from remotedl.provision import host_lock
from remotedl.provision.apply import (
    SYSTEM_CLOCK,
    Confirm,
    close_entries,
    nobody,
    snapshot,
)
from remotedl.provision.causes import short
from remotedl.provision.engine_data import EngineData, folder_size, look_at_data
from remotedl.provision.facts import HostFacts
from remotedl.provision.journal import (
    Entry,
    FileBefore,
    drop_entries,
    read_journal,
    write_entry,
)
from remotedl.provision.managers import APT_ENV, APT_OPTIONS, manager_of
from remotedl.provision.probe import gather
from remotedl.provision.steps import Run
from remotedl.provision.undo_plan import (
    CONTAINERDS,
    DATA,
    DOCKERS,
    REMOVABLE,
    Left,
    Reversal,
    kept_for,
    plan_undo,
    remainder,
    removable,
)
from remotedl.provision.waiting import Clock, wait_packages
from remotedl.report import SILENT, Report
from remotedl.ssh.remote import Remote, Result

LIMIT_S = 1800.0
RESTORE = """\
# path, backup, sha256 of ours, whether it was there before
if [ ! -e "$1" ]; then [ "$4" = no ] && echo done || echo gone; exit; fi
now=$(sha256sum "$1" | cut -d' ' -f1)
if [ "$now" != "$3" ]; then
    if [ -e "$2" ] && cmp -s "$1" "$2"; then echo done; else echo changed; fi
    exit
fi
if [ "$4" = no ]; then rm -f "$1" && echo done; exit; fi
cp -p "$2" "$1.remotedl-new" && mv -f "$1.remotedl-new" "$1" && echo done
"""
RUNNING = """\
for file in /run/docker.pid /run/containerd/containerd.pid /run/docker/containerd/containerd.pid; do
    pid=$(cat "$file" 2>/dev/null) && kill -0 "$pid" 2>/dev/null && echo "$pid" && exit
done
"""
REMOVE = 'if [ -d "$1" ]; then rmdir "$1"; else rm -f "$1"; fi'


@dataclass(frozen=True, slots=True)
class UndoOutcome:
    """The steps that were taken back, newest first, and what stays."""

    undone: tuple[Entry, ...] = ()
    left: tuple[Left, ...] = ()
    question: str = ""
    """What nobody said yes to: nothing was done."""
    went: tuple[str, ...] = ()
    """What was removed or put back, by name, and by size where it has one."""


def undo(
    remote: Remote,
    *,
    report: Report = SILENT,
    confirm: Confirm = nobody,
    remove_data: Confirm = nobody,
    projects: Collection[str] | None = None,
    clock: Clock = SYSTEM_CLOCK,
) -> UndoOutcome:
    """Revert everything in the host's journal.

    Containers of this user may go with Docker; with `projects`, only those of these projects.
    Volumes, containers and images stay on the disk unless `remove_data` says yes to a question that
    names them.
    Raises StepFailed, SudoRefused, StateCorrupt (a damaged journal).
    """
    report.stage("undo", remote.name)
    if not read_journal(remote):
        return UndoOutcome()
    with host_lock.held(remote, report, clock):
        wait_packages(remote, report, clock)
        entries = close_entries(remote, read_journal(remote))
        paths = sorted({path for entry in entries for path in entry.changes.paths_made})
        facts = gather(remote)
        now = snapshot(remote, paths)
        found = plan_undo(entries, now, facts, remote.user, projects)
        if not found.reversals:
            return UndoOutcome(left=found.left)
        if not confirm(found.question):
            return UndoOutcome(question=found.question)
        data = look_at_data(remote, found.data) if found.data else EngineData()
        question = f"Remove what Docker holds ({data.told})?"
        keep = () if data.empty or remove_data(question) else found.data
        work = _Undo(remote, report, clock, facts, now.packages, keep, data)
        for reversal in found.reversals:
            report.stage("undo", reversal.entry.what)
            work.revert(reversal)
        undone = tuple(r.entry for r in found.reversals if r.entry not in work.unfinished)
        return UndoOutcome(undone, (*found.left, *work.left), went=tuple(work.went))


class _Undo:
    def __init__(
        self,
        remote: Remote,
        report: Report,
        clock: Clock,
        facts: HostFacts,
        installed: Collection[str],
        keep: Collection[str],
        data: EngineData,
    ) -> None:
        self.installed = installed
        """Packages that are on the host, as a snapshot names them."""
        self.keep = keep
        """Folders of data that nobody said yes to losing."""
        self.data = data
        self.went: list[str] = []
        self.unfinished: list[Entry] = []
        self.remote = remote
        self.report = report
        self.clock = clock
        self.manager = manager_of(facts)
        self.facts = facts
        self.left: list[Left] = []

    def revert(self, reversal: Reversal) -> None:
        """One entry; it is dropped from the journal at the end."""
        for group, user in reversal.members:
            self._run("gpasswd", "-d", user, group)
        for file in reversal.files:
            self._restore(file)
        for unit in reversal.units:
            self._run("systemctl", "disable", "--now", unit)
        if reversal.restart:
            self._run("systemctl", "daemon-reload")
            self._run("systemctl", "restart", "docker.service")
        staying = self._remove(reversal)
        if reversal.reinstall and self.manager is not None:
            names = [short(name) for name in reversal.reinstall]
            self._call(self.manager.install(names))
        self._folders(reversal.folders, staying)
        for user in reversal.users:
            self._run("userdel", user, may_fail=True)
            self.went.append(f"the user {user}")
        self._groups([group for group in reversal.groups if not kept_for(group, staying)])
        rest = remainder(reversal.entry, staying)
        if rest is not None:
            self.unfinished.append(reversal.entry)
            write_entry(self.remote, rest)
            return
        drop_entries(self.remote, [reversal.entry])

    def _restore(self, file: FileBefore) -> None:
        before = "yes" if file.existed else "no"
        argv = ["sh", "-c", RESTORE, "restore", file.path, file.backup, file.sha256, before]
        said = self.remote.sudo(argv).text.strip()
        if said == "changed":
            self.left.append(Left(file.path, "somebody has changed it since"))
        elif said == "gone":
            self.left.append(Left(file.path, "somebody has removed it since"))
        elif said != "done":
            raise StepFailed(f"{self.remote.name}: {file.path} cannot be put back: {said}")
        else:
            self.went.append(file.path + (", as it was before" if file.existed else ""))

    def _remove(self, reversal: Reversal) -> set[str]:
        """Packages and their settings, but never data that was there before us.

        Returns those of the entry that stay on the host, for whatever reason.
        """
        packages = reversal.packages
        # what the plan already left, since somebody asked for it by name
        staying = {n for n in reversal.entry.changes.packages_added if n in self.installed}
        staying -= set(packages)
        if not packages or self.manager is None:
            return staying | set(packages)
        wait_packages(self.remote, self.report, self.clock)
        going = sorted(removable(packages, self._simulation()))
        for name in sorted(set(packages) - set(going)):
            self.left.append(Left(short(name), "other packages need it by now"))
        staying |= set(packages) - set(going)
        if not going:
            return staying
        self._stop_daemons(going)
        self.went.append(f"packages: {', '.join(sorted({short(name) for name in going}))}")
        if self.manager.tool == "apt-get":
            self._call(Run(("apt-get", *APT_OPTIONS, "remove", *going), env=APT_ENV))
            # docker.io's purge empties /var/lib/docker with this, whosever images lie there;
            # what is ours to remove there, `_folders` removes.
            self._run("rm", "-f", "/var/lib/docker/nuke-graph-directory.sh")
            self._call(Run(("dpkg", "--purge", *going), env=APT_ENV))
        else:
            self._call(self.manager.remove(going))
        return staying

    def _stop_daemons(self, going: Collection[str]) -> None:
        """Before their packages and their data go: not every package stops what it brought."""
        names = {short(name) for name in going}
        units = list[str]()
        if names & set(DOCKERS):
            units += ["docker.socket", "docker.service"]
        if names & set(CONTAINERDS) - set(DOCKERS):
            units.append("containerd.service")
        for unit in units:
            self._run("systemctl", "stop", unit, may_fail=True)

    def _simulation(self) -> Callable[[Collection[str]], set[str]]:
        apt = self.manager is not None and self.manager.tool == "apt-get"
        return self._simulate_apt if apt else self._simulate_rpm

    def _simulate_apt(self, names: Collection[str]) -> set[str]:
        argv = ["apt-get", *APT_OPTIONS, "--simulate", "remove", *sorted(names)]
        result = self.remote.run(argv, env=APT_ENV, timeout_s=LIMIT_S)
        return {_as_in(name, names) for name in parse_removals(result.text)}

    def _simulate_rpm(self, names: Collection[str]) -> set[str]:
        if self.manager is not None and self.manager.tool == "pacman":
            return set(names)
        result = self.remote.run(["rpm", "-e", "--test", *sorted(names)], check=False)
        return set(names) | parse_rpm_needs(result.error_text + result.text)

    def _folders(self, paths: Sequence[str], staying: Collection[str]) -> None:
        for path in sorted(paths, reverse=True):
            if owner := kept_for(path, staying):
                self.left.append(Left(path, f"it belongs to {owner}, which stays"))
            elif path in self.keep:
                why = f"it holds data ({self.data.told}); sudo rm -rf {path} removes it"
                self.left.append(Left(path, why))
            elif path in REMOVABLE:
                self._remove_folder(path)
            else:
                self.remote.sudo(["sh", "-c", REMOVE, "remove", path], check=False)

    def _remove_folder(self, path: str) -> None:
        if path in DATA and (process := self._daemon()):
            why = f"process {process} still works with it; stop it, then: sudo rm -rf {path}"
            self.left.append(Left(path, why))
            return
        size = folder_size(self.remote, [path])
        self._run("rm", "-rf", "--one-file-system", path, may_fail=True)
        if size:
            self.went.append(f"{path} ({size})")

    def _daemon(self) -> str:
        """The process id of a Docker or containerd that runs all the same; "" for none."""
        return self.remote.sudo(["sh", "-c", RUNNING], check=False).text.strip()

    def _groups(self, groups: Sequence[str]) -> None:
        for group in groups:
            members = self.remote.run(["getent", "group", group], check=False).text.strip()
            if not members:
                continue
            if members.rpartition(":")[2]:
                why = f"{members.rpartition(':')[2]} is in it"
                self.left.append(Left(f"the group {group}", why))
            else:
                self._run("groupdel", group)
                self.went.append(f"the group {group}")

    def _run(self, *argv: str, may_fail: bool = False) -> None:
        self._call(Run(argv, may_fail=may_fail))

    def _call(self, run: Run) -> Result:
        result = self.remote.sudo(run.argv, env=run.env, timeout_s=LIMIT_S, check=False)
        if not result.ok and not run.may_fail:
            last = (result.error_text.strip() or result.text.strip()).splitlines()[-5:]
            raise StepFailed(
                f"{self.remote.name}: taking back failed: {run.argv[0]} ended with "
                f"{result.code}: " + " / ".join(last),
                hint=f"remotedl provision {self.remote.name} --undo",
            )
        return result


def parse_removals(text: str) -> set[str]:
    """Names in the lines "Remv NAME [VERSION]" of `apt-get --simulate`."""
    return set(re.findall(r"^(?:Remv|Purg) (\S+)", text, re.MULTILINE))


def parse_rpm_needs(text: str) -> set[str]:
    """Who needs what: "libx is needed by (installed) foo-1.2-3.x86_64"."""
    return set(re.findall(r"needed by \(installed\) (\S+)", text))


def _as_in(name: str, names: Collection[str]) -> str:
    """apt leaves the native architecture away: the full name as we know it, if we do."""
    if name in names:
        return name
    return next((full for full in names if short(full) == name), name)
