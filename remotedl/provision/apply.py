"""Does what a plan says, stage by stage, with the facts gathered anew in between.

Whatever is done is in the journal before it begins. It may be killed at any line: the next run
closes the entry that stayed open, plans from what it finds, and comes to the same end. One run
at a time on a host: a lock of the host's, held by a process that ends with the connection.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from remotedl.errors import (
    ProvisionError,
    RebootNeeded,
    RemoteCommandFailed,
    StepFailed,
    UnsupportedHost,
)
from remotedl.provision import host_lock
from remotedl.provision.facts import HostFacts
from remotedl.provision.journal import BACKUPS, Entry, FileBefore, read_journal, write_entry
from remotedl.provision.plan import plan
from remotedl.provision.probe import exports, framed, gather, proxy_variables, script
from remotedl.provision.reboot import Reconnect, restart
from remotedl.provision.snapshot import Changes, Snapshot, difference, parse_snapshot
from remotedl.provision.steps import Notice, Plan, Run, Stage, Step, Wish, WriteFile
from remotedl.provision.symptoms import recognise
from remotedl.provision.waiting import PACKAGE_TOOLS, Clock, wait_cloud_init, wait_packages
from remotedl.report import SILENT, Report
from remotedl.ssh import quoting
from remotedl.ssh.remote import Remote, Result

Confirm = Callable[[str], bool]
MAX_STAGES = 20
STEP_LIMIT_S = 3600.0
LAST_LINES = 12
WRITE = """\
set -e; umask 022
mkdir -p "${1%/*}"
if [ -n "$3" ] && [ -e "$1" ] && [ ! -e "$3" ]; then
    mkdir -p -m 0700 "${3%/*}"; cp -p "$1" "$3.new"; mv "$3.new" "$3"
fi
cat > "$1.remotedl-new"
if [ -e "$1" ]; then chown --reference="$1" "$1.remotedl-new"; fi
chmod "$2" "$1.remotedl-new"; mv -f "$1.remotedl-new" "$1"
"""


class SystemClock:
    def monotonic(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float, /) -> None:
        time.sleep(seconds)


SYSTEM_CLOCK: Clock = SystemClock()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was done, and what the host is now."""

    done: tuple[Step, ...]
    facts: HostFacts
    notices: tuple[Notice, ...] = ()
    """What the report was told on the way."""
    declined: tuple[Step, ...] = ()
    """Steps that needed a yes and got none; only GPUs need them."""
    remote: Remote | None = None
    """The connection to go on with: another one after a reboot."""


def nobody(question: str) -> bool:
    """The answer of a run that nobody watches."""
    del question
    return False


def preview(remote: Remote, wish: Wish, *, sys_root: str = "") -> Plan:
    """The plan for the host as it is; nothing is changed."""
    return plan(gather(remote, wish, sys_root=sys_root), wish)


def converge(
    remote: Remote,
    wish: Wish,
    *,
    report: Report = SILENT,
    confirm: Confirm = nobody,
    sys_root: str = "",
    clock: Clock = SYSTEM_CLOCK,
    reconnect: Reconnect | None = None,
) -> Outcome:
    """Make the host ready: facts, plan, apply one stage, again, until the plan is empty.

    A reboot that is needed is done where `reconnect` gives a new connection afterwards (the old
    one is dead then: go on with `Outcome.remote`), and is RebootNeeded where it is not given.
    Raises UnsupportedHost (nothing was changed), StepFailed, RebootNeeded, SudoRefused.
    """
    report.stage("provision", remote.name)
    facts = gather(remote, wish, sys_root=sys_root)
    first = plan(facts, wish)
    _refuse(remote, first)
    if not first.steps:
        for notice in first.notices:
            report.warn(notice.text, notice.hint)
        return Outcome((), facts, first.notices, remote=remote)
    run = _Run(remote, wish, report, confirm, sys_root, clock)
    while True:
        with host_lock.held(run.remote, report, clock):
            wait_cloud_init(run.remote, report, clock)
            outcome = run.until_reboot(may_reboot=reconnect is not None)
        if outcome is not None:
            return outcome
        assert reconnect is not None, "a reboot is only asked for where one can come back"
        run.remote = restart(run.remote, reconnect, report, clock)


def carry_out(
    remote: Remote,
    steps: Sequence[Step],
    *,
    report: Report = SILENT,
    clock: Clock = SYSTEM_CLOCK,
) -> None:
    """Do these steps and nothing else, under the host's lock and in its journal."""
    with host_lock.held(remote, report, clock):
        run = _Run(remote, Wish(), report, nobody, "", clock)
        run.read_entries()
        for step in steps:
            report.stage("provision", step.what)
            run.perform(step)


def _refuse(remote: Remote, found: Plan) -> None:
    if found.refusal is not None:
        raise UnsupportedHost(f"{remote.name}: {found.refusal.reason}", hint=found.refusal.hint)


class _Run:
    """One convergence, under the lock."""

    def __init__(
        self,
        remote: Remote,
        wish: Wish,
        report: Report,
        confirm: Confirm,
        sys_root: str,
        clock: Clock,
    ) -> None:
        self.remote = remote
        self.wish = wish
        self.report = report
        self.confirm = confirm
        self.sys_root = sys_root
        self.clock = clock
        self.done: list[Step] = []
        self.declined: list[Step] = []
        self.entries: list[Entry] = []
        self.notices: list[Notice] = []

    def until_reboot(self, *, may_reboot: bool) -> Outcome | None:
        """To the end, or None when the host has to be restarted before it goes on."""
        self.read_entries()
        for _ in range(MAX_STAGES):
            facts = gather(self.remote, self.wish, sys_root=self.sys_root)
            found = plan(facts, self.wish)
            _refuse(self.remote, found)
            steps = [step for step in found.steps if step.name not in self._declined_names()]
            if not steps:
                self._tell(found.notices)
                notices = tuple(self.notices)
                declined = tuple(self.declined)
                return Outcome(tuple(self.done), facts, notices, declined, self.remote)
            self._tell(found.notices)
            if steps[0].stage is Stage.REBOOT:
                if self._reboot(steps[0], may_reboot=may_reboot):
                    return None
                continue
            self._stage([step for step in steps if step.stage is steps[0].stage])
        raise ProvisionError(f"{self.remote.name}: no end after {MAX_STAGES} stages")

    def read_entries(self) -> None:
        """The journal as it is; what a run that was killed left open is closed."""
        self.entries = list(read_journal(self.remote))
        if any(entry.state == "begun" for entry in self.entries):
            # the package manager of the run that was killed may still be at work
            wait_packages(self.remote, self.report, self.clock)
            self.entries = list(close_entries(self.remote, self.entries))

    def _tell(self, notices: Sequence[Notice]) -> None:
        """Each notice once, though every stage's plan has it again."""
        for notice in notices:
            if notice not in self.notices:
                self.notices.append(notice)
                self.report.warn(notice.text, notice.hint)

    def _declined_names(self) -> set[str]:
        return {step.name for step in self.declined}

    def _stage(self, steps: Sequence[Step]) -> None:
        for number, step in enumerate(steps):
            self._not_twice(step)
            if step.confirm and not self.confirm(step.confirm):
                self._decline(step)
                return
            self.report.stage("provision", step.what)
            self.perform(step)
            self.done.append(step)
            self.report.progress(str(step.stage), number + 1, len(steps), "steps")

    def _reboot(self, step: Step, *, may_reboot: bool) -> bool:
        """Whether to restart the host now. Raises RebootNeeded where nobody asked for it."""
        self._not_twice(step)
        if not may_reboot:
            raise RebootNeeded(
                f"{self.remote.name} must be rebooted: {step.why}",
                hint=f"remotedl provision {self.remote.name} --reboot",
            )
        if step.confirm and not self.confirm(step.confirm):
            self._decline(step)
            return False
        self.report.stage("provision", step.what)
        self.done.append(step)
        return True

    def _not_twice(self, step: Step) -> None:
        if step in self.done:
            raise StepFailed(
                f"{self.remote.name}: {step.what}: done without an error, and still needed "
                f"({step.why})",
                hint=f"remotedl doctor {self.remote.name}",
            )

    def _decline(self, step: Step) -> None:
        if not step.optional:
            raise ProvisionError(
                f"{self.remote.name}: {step.what} needs a yes: {step.confirm}",
                hint=f"remotedl provision {self.remote.name} --yes",
            )
        self.declined.append(step)
        self.report.warn(f"not done: {step.what} ({step.why})", "remotedl provision")

    # ---- one step

    def perform(self, step: Step) -> None:
        """One step, and its entry in the journal."""
        entry = self._begin(step)
        try:
            for action in step.actions:
                if isinstance(action, WriteFile):
                    self._write(step, action, entry)
                else:
                    self._command(step, action)
        finally:
            if self.remote.alive:
                self._finish(entry)

    def _begin(self, step: Step) -> Entry:
        """Into the journal, before anything is changed."""
        number = max((entry.number for entry in self.entries), default=0) + 1
        writes = [action for action in step.actions if isinstance(action, WriteFile)]
        paths = [*step.leaves, *(write.path for write in writes)]
        before = snapshot(self.remote, paths)
        files = tuple(
            FileBefore(
                path=write.path,
                existed=before.paths.get(write.path, False),
                backup=f"{BACKUPS}/{number:04d}-{write.path.rpartition('/')[2]}",
                sha256=hashlib.sha256(write.content.encode()).hexdigest(),
            )
            for write in writes
        )
        entry = Entry(
            number=number,
            step=step.name,
            what=step.what,
            by=self.remote.user,
            when=before.now,
            named=self._expected_packages(step),
            files=files,
            before=before,
        )
        try:
            write_entry(self.remote, entry)
        except RemoteCommandFailed as exc:
            raise StepFailed(
                f"{self.remote.name}: nothing was changed, for the journal in /var/lib/remotedl "
                f"cannot be written: {exc.message}",
                hint=f"ssh {self.remote.name} df -h /var",
            ) from exc
        self.entries.append(entry)
        return entry

    def _expected_packages(self, step: Step) -> tuple[str, ...]:
        """What a step asks for by name, and what apt says it would bring along.

        apt writes down which packages are mere dependencies only when it is done: after a kill
        this is how they are told from what somebody installed by hand.
        """
        expected = set(_named_packages(step))
        for action in step.actions:
            if isinstance(action, Run) and action.argv[0] == "apt-get" and "install" in action.argv:
                argv = ["apt-get", "--simulate", *action.argv[1:]]
                result = self.remote.run(argv, env=action.env, timeout_s=120.0, check=False)
                expected.update(re.findall(r"^Inst (\S+)", result.text, re.MULTILINE))
        return tuple(sorted(expected))

    def _finish(self, entry: Entry) -> None:
        """What the step changed, whether it went well or not."""
        done = _closed(entry, picture(self.remote, entry), whole=True)
        try:
            write_entry(self.remote, done)
        except RemoteCommandFailed:
            return  # the entry stays open, and the next run closes it
        self.entries[self.entries.index(entry)] = done

    def _write(self, step: Step, action: WriteFile, entry: Entry) -> None:
        file = next(file for file in entry.files if file.path == action.path)
        argv = ["sh", "-c", WRITE, "write", action.path, f"{action.mode:o}", file.backup]
        result = self.remote.sudo(argv, stdin=action.content.encode(), check=False)
        if not result.ok:
            raise failed(self.remote, step, f"writing {action.path}", result)

    def _command(self, step: Step, action: Run) -> None:
        for attempt in range(3):
            if action.argv[0] in PACKAGE_TOOLS:
                wait_packages(self.remote, self.report, self.clock)
            result = self._execute(action)
            if result.ok:
                return
            # somebody took the lock between our look and our call
            locked = "Could not get lock" in result.error_text
            if not locked or attempt == 2:
                break
        if not action.may_fail:
            raise failed(self.remote, step, action.argv[0], result)
        last = (result.error_text.strip().splitlines() or [""])[-1]
        self.report.warn(f"{step.what}: {last}")

    def _execute(self, action: Run) -> Result:
        lines = _Lines(self.report.output)
        call = self.remote.sudo if action.root else self.remote.run
        argv: Sequence[str] = action.argv
        stdin, env = b"", dict(action.env)
        if self.wish.proxy:
            # on stdin, since the proxy's URL may hold a password
            words = quoting.join(action.argv)
            stdin = exports(env | proxy_variables(self.wish.proxy))
            stdin += f"exec {words} </dev/null\n".encode()
            argv, env = ("sh", "-s"), {}
        return call(
            argv,
            stdin=stdin,
            env=env,
            timeout_s=STEP_LIMIT_S,
            check=False,
            on_stdout=lines.take,
            on_stderr=lines.take,
        )


class _Lines:
    """Chunks of bytes as whole lines."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._rest = b""

    def take(self, chunk: bytes) -> None:
        *lines, self._rest = (self._rest + chunk).replace(b"\r", b"\n").split(b"\n")
        for line in lines:
            if line.strip():
                self._tell(line.decode("utf-8", "replace"))


def close_entries(remote: Remote, entries: Sequence[Entry]) -> tuple[Entry, ...]:
    """Steps of a run that was killed: what differs by now is what they did.

    Of the packages that came since, only those that the step named or that came as a
    dependency: what somebody installed by hand in the meantime is theirs.
    """
    closed = list[Entry]()
    for entry in entries:
        if entry.state == "begun":
            done = _closed(entry, picture(remote, entry), whole=False)
            write_entry(remote, done)
            closed.append(done)
        else:
            closed.append(entry)
    return tuple(closed)


def picture(remote: Remote, entry: Entry) -> Snapshot:
    """A snapshot that asks about the same paths as the one that `entry` holds."""
    return snapshot(remote, sorted(entry.before.paths) if entry.before else [])


def snapshot(remote: Remote, paths: Sequence[str]) -> Snapshot:
    """The host's packages, groups, users and services now, and which of `paths` exist."""
    argv = ["sh", "-s", "--", *paths]
    result = remote.run(argv, stdin=script("snapshot.sh"), timeout_s=120.0, check=False)
    return parse_snapshot(framed(remote, result))


def failed(remote: Remote, step: Step, doing: str, result: Result) -> StepFailed:
    """The error of a step: what was run, how it ended, and its last lines."""
    said = (result.text + "\n" + result.error_text).splitlines()
    last = [line for line in said if line.strip()][-LAST_LINES:]
    shown = "".join(f"\n  {line}" for line in last) or " it printed nothing"
    reason, hint = _cause(remote, "\n".join(last))
    return StepFailed(
        f"{remote.name}: {step.what} failed{reason}: {doing} ended with {result.code}:{shown}",
        hint=hint,
    )


def _cause(remote: Remote, text: str) -> tuple[str, str]:
    for symptom in recognise(text):
        return f" ({symptom.meaning})", symptom.mend.format(host=remote.name)
    return "", f"remotedl doctor {remote.name}"


def _named_packages(step: Step) -> tuple[str, ...]:
    """What a step's installing commands ask for: the words after "install" that are no options."""
    named = list[str]()
    for action in step.actions:
        if isinstance(action, Run) and "install" in action.argv and action.argv[0] != "install":
            words = action.argv[action.argv.index("install") + 1 :]
            named += [word for word in words if not word.startswith("-")]
    return tuple(named)


def _closed(entry: Entry, now: Snapshot, *, whole: bool) -> Entry:
    if entry.before is None:
        return replace(entry, state="done")
    changes = difference(entry.before, now)
    if not whole and now.automatic:
        changes = _ours_only(changes, now, entry.named)
    return replace(entry, state="done", before=None, changes=changes)


def _ours_only(changes: Changes, now: Snapshot, named: Sequence[str]) -> Changes:
    def ours(name: str) -> bool:
        short = name.partition(":")[0]
        return short in named or short in now.automatic

    added = {name: v for name, v in changes.packages_added.items() if ours(name)}
    return replace(changes, packages_added=added)
