"""Does what a plan says, stage by stage, with the facts gathered anew in between.

Whatever is done is in the journal before it begins. It may be killed at any line: the next run
closes the entry that stayed open, plans from what it finds, and comes to the same end. One run
at a time on a host: a lock of the host's, held by a process that ends with the connection.
"""

from __future__ import annotations

import hashlib
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
from remotedl.provision.causes import causes_of, within
from remotedl.provision.facts import HostFacts
from remotedl.provision.journal import BACKUPS, Entry, FileBefore, read_journal, write_entry
from remotedl.provision.keys import fingerprints, is_pinned
from remotedl.provision.managers import foresee, foreseen
from remotedl.provision.plan import plan
from remotedl.provision.plan_engine import fetching
from remotedl.provision.probe import exports, framed, gather, proxy_variables, script
from remotedl.provision.reboot import Reconnect, restart
from remotedl.provision.snapshot import Snapshot, difference, parse_snapshot
from remotedl.provision.steps import Notice, Plan, Run, Stage, Step, TrustKey, Wish, WriteFile
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
    consent: Confirm | None = None,
) -> Outcome:
    """Make the host ready: facts, plan, apply one stage, again, until the plan is empty.

    A reboot that is needed is done where `reconnect` gives a new connection afterwards (the old
    one is dead then: go on with `Outcome.remote`), and is RebootNeeded where it is not given.
    `consent` is asked once, before anything is changed at all, where somebody is there to answer.
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
    if consent is not None:
        _ask_once(remote, first, report, consent)
    run = _Run(remote, wish, report, confirm, sys_root, clock)
    while True:
        with host_lock.held(run.remote, report, clock):
            wait_cloud_init(run.remote, report, clock)
            outcome = run.until_reboot(may_reboot=reconnect is not None)
        if outcome is not None:
            return outcome
        assert reconnect is not None, "a reboot is only asked for where one can come back"
        run.remote = restart(run.remote, reconnect, report, clock)


def _ask_once(remote: Remote, found: Plan, report: Report, consent: Confirm) -> None:
    for step in found.steps:
        report.note(f"{step.what} ({step.why})")
    count = len(found.steps)
    what = f"{count} steps" if count > 1 else "step"
    if not consent(f"Do this on {remote.name} as root ({what}; --undo takes it back)?"):
        raise ProvisionError(
            f"{remote.name}: nothing was changed, since nobody said yes",
            hint=f"remotedl provision {remote.name} --dry-run",
        )


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
                elif isinstance(action, TrustKey):
                    self._trust(step, action)
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
        if any(isinstance(a, Run) and a.argv[0] in PACKAGE_TOOLS for a in step.actions):
            # what others install until then is not ours
            wait_packages(self.remote, self.report, self.clock)
        expected = self._expected_packages(step)
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
            named=expected,
            may=causes_of(step, expected),
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
        """What a step asks for by name, and what the package manager says it would do for it:
        nothing else that changes meanwhile is the step's."""
        expected = set(_named_packages(step))
        for action in step.actions:
            look = foresee(action) if isinstance(action, Run) else None
            if look is not None:
                result = self._execute(look, aloud=False)
                expected.update(foreseen(look.argv[0], result.text))
        return tuple(sorted(expected))

    def _finish(self, entry: Entry) -> None:
        """What the step changed, whether it went well or not."""
        done = closed(entry, picture(self.remote, entry))
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

    def _trust(self, step: Step, action: TrustKey) -> None:
        """What is checked is what is written. Raises StepFailed where it is somebody else's."""
        fetched = self._execute(fetching(action.url), aloud=False)
        if not fetched.ok:
            raise failed(self.remote, step, f"fetching {action.url}", fetched)
        found = fingerprints(fetched.stdout)
        seen = " and ".join(found) or "no OpenPGP key at all"
        if found and action.mirror and not is_pinned(found, action.fingerprint):
            self.report.warn(f"{action.url} is signed by {seen}, which is not {action.owner}'s key")
        elif not is_pinned(found, action.fingerprint):
            raise StepFailed(
                f"{self.remote.name}: {step.what}: {action.url} is not {action.owner}'s key: "
                f"expected {action.fingerprint}, got {seen}; nothing was trusted",
                hint="somebody on the way changes downloads, or the key is new: then a newer "
                "remotedl knows it",
            )
        argv = ["sh", "-c", WRITE, "write", action.path, "644", ""]
        result = self.remote.sudo(argv, stdin=fetched.stdout, check=False)
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

    def _execute(self, action: Run, *, aloud: bool = True) -> Result:
        lines = _Lines(self.report.output if aloud else SILENT.output)
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
    """Steps of a run that was killed: what differs by now, and they may have caused, is theirs."""
    ended = list[Entry]()
    for entry in entries:
        if entry.state == "begun":
            done = closed(entry, picture(remote, entry))
            write_entry(remote, done)
            ended.append(done)
        else:
            ended.append(entry)
    return tuple(ended)


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
    """What a step's commands ask for: the words after "install" or "remove" that are no options."""
    named = list[str]()
    for action in step.actions:
        argv = action.argv[1:] if isinstance(action, Run) else ()
        for verb in {"install", "remove", "purge"} & set(argv):
            named += [word for word in argv[argv.index(verb) + 1 :] if not word.startswith("-")]
    return tuple(named)


def closed(entry: Entry, now: Snapshot) -> Entry:
    """The entry of a step that has ended, with what the step changed."""
    if entry.before is None:
        return replace(entry, state="done")
    changes = within(difference(entry.before, now), entry.may)
    return replace(entry, state="done", before=None, changes=changes)
