"""What stands in the way of the sync, each with what to type about it. Pure.

The status line may be short, but never silent: whatever is pending, refused, frozen, in conflict,
halted or watched badly is named here with the command that mends it.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from remotedl.sync.agent.tree import Issue, parents
from remotedl.sync.lanes import Choice
from remotedl.sync.status import Barrier, Failure, State, SyncStatus, There
from remotedl.sync.turns import waits_since
from remotedl.sync.verdict import Conflict, Frozen, LeftOut, LeftOutWhy, Where

SHOWN = 3
"""Paths that one remedy names; `remotedl sync status` lists all."""
SYSCTLS = {
    "fs.inotify.max_user_watches": 1_048_576,
    "fs.inotify.max_user_instances": 1024,
    "fs.inotify.max_queued_events": 131_072,
}

FLUSH = "remotedl sync flush"
SPECIAL = re.compile(r"[\\*?\[\]]| (?= *$)")
"""What ignore rules read otherwise than as it stands."""
IGNORE = "printf '%s\\n' {rule} >> .remotedlignore"
MENDS: dict[Issue, str] = {
    Issue.UNREADABLE: "chmod -R u+rwX {path}",
    Issue.UNSTABLE: f"wait until its program is done: {FLUSH}",
    Issue.COLLIDING: "mv {path} ANOTHER-NAME",
    Issue.UNSUPPORTED: IGNORE,
    Issue.UNNAMEABLE: "mv {path} ANOTHER-NAME",
    Issue.MOUNTPOINT: IGNORE,
    Issue.HOLDS_IGNORED: "move the ignored files in {path} away",
    Issue.ZEROED: "save {path} again, or copy the other side's version over it",
}
TAKE_OVER = 'sudo chown -R "$USER" {path}'
ON_HOST = {Issue.UNREADABLE: TAKE_OVER}
"""Where the host's mend is another one: what is not readable there belongs to root, mostly."""
REFUSALS = (
    ("space", "df -h {folder}", "df -h {folder}", "make room"),
    ("quota", "df -h {folder}", "df -h {folder}", "make room"),
    ("belongs to user", TAKE_OVER, TAKE_OVER, ""),
    ("permission", "chmod -R u+rwX {folder}", 'sudo chown -R "$USER" {folder}', ""),
    ("read-only", "findmnt -T {folder}", "findmnt -T {folder}", "make it writable"),
)
"""Part of what the system said, what to type on the laptop, on the host, what that is for."""


class Remedy(NamedTuple):
    """One trouble and the way out."""

    what: str
    mend: str
    """A command for the laptop's terminal; where there is none, what to do."""


def remedies(status: SyncStatus) -> tuple[Remedy, ...]:
    """All that keeps both sides apart, the gravest first."""
    return tuple(_all(status))


class Trouble(NamedTuple):
    """One path that is not in step."""

    kind: str
    """As the status calls it: conflict, refused or frozen."""
    path: str
    what: str
    mend: str


def troubles(barrier: Barrier) -> Iterator[Trouble]:
    """What a flush could not bring over, path by path, each with its reason and the way out."""
    for conflict in barrier.conflicts:
        yield Trouble("conflict", conflict.key, conflict.kind.value, ways_out(conflict))
    for failure in barrier.failures:
        what = f"not written on the {_side(failure.where)}: {failure.why}"
        yield Trouble("refused", failure.key, what, _mend_refusal(failure, barrier.there))
    for item in barrier.frozen:
        what = f"left alone, {item.issue.value} on the {_side(item.where)}"
        if item.spellings:
            what += ": " + ", ".join(ascii(path) for path in item.spellings)
        for remedy in _of_frozen([item], barrier.there):
            yield Trouble("frozen", item.key, what, remedy.mend)


def troubles_behind(barrier: Barrier) -> Iterator[Trouble]:
    """What the host does not have as it was saved on the laptop, each with its reason."""
    known = {one.path: one for one in troubles(barrier)}
    for key in barrier.behind:
        above = (known[one] for one in (key, *parents(key)) if one in known)
        yield next(above, Trouble("pending", key, "not there yet", FLUSH))._replace(path=key)


def ways_out(conflict: Conflict) -> str:
    """The commands that settle it."""
    both = "" if conflict.laptop is None else " | --both"
    return f"remotedl sync resolve {typed(conflict.key)} --laptop | --remote{both}"


def still_apart(conflict: Conflict, choice: Choice, status: SyncStatus) -> Remedy | None:
    """Why a conflict that was decided upon is not settled, and the way on; None where it is."""

    def concerns(key: str) -> bool:
        return key == conflict.key or key.startswith(conflict.key + "/")

    for remedy in (
        *_of_frozen((one for one in status.frozen if concerns(one.key)), status.there),
        *_of_failures((one for one in status.failures if concerns(one.key)), status.there),
    ):
        return remedy
    found = next((one for one in status.conflicts if one.key == conflict.key), None)
    if found is None:
        return None
    path = typed(conflict.key)
    if found.version != conflict.version:
        return Remedy("it was edited meanwhile", "remotedl sync conflicts --diff")
    if choice is Choice.BOTH:
        what = "the name of the host's copy is one that is left out"
        return Remedy(what, f"remotedl sync resolve {path} --laptop | --remote")
    return Remedy("one side cannot make room for it", "remotedl sync status")


def shown(path: str) -> str:
    """A path on one line of a terminal: nothing in it moves the cursor or is left out."""
    return printable(path) if path == path.strip() else f"'{printable(path)}'"


def printable(text: str) -> str:
    """One line in which nothing moves the cursor."""
    return "".join(ch if ch.isprintable() else ch.encode("unicode_escape").decode() for ch in text)


def shown_frozen(item: Frozen) -> str:
    """A frozen path and why; names that look alike are spelled out."""
    why = f"{item.issue.value} on the {_side(item.where)}"
    if item.spellings:
        why += ": " + ", ".join(ascii(path) for path in item.spellings)
    return f"{shown(item.key) or 'the whole folder'} ({why})"


def shown_failure(failure: Failure) -> str:
    return f"{shown(failure.key)} ({failure.why} on the {_side(failure.where)})"


def shown_left_out(item: LeftOut) -> str:
    return f"{shown(item.key)} ({item.why.value})"


def watching(status: SyncStatus) -> str | None:
    """What is wrong with how changes are noticed; None where the kernel tells them."""
    polled = [f"{side}: {how}" for side, how in _watches(status) if how.startswith("poll")]
    return "changes are looked for by polling: " + "; ".join(polled) if polled else None


def _all(status: SyncStatus) -> Iterator[Remedy]:
    if status.halt is not None:
        yield Remedy(f"halted: {status.halt.message}", status.halt.hint)
    if status.disk_since is not None:
        yield Remedy(waits_since(status.disk_since), "remotedl doctor")
    if status.state is State.PAUSED:
        yield Remedy("paused: nothing is changed on either side", "remotedl sync resume")
    if status.conflicts:
        paths = [conflict.key for conflict in status.conflicts if not conflict.held]
        if paths:
            yield Remedy(f"changed on both sides: {_some(paths)}", "remotedl sync conflicts --diff")
        held = [conflict.key for conflict in status.conflicts if conflict.held]
        if held:
            what = f"held back, they tell a program of the laptop what to do: {_some(held)}"
            yield Remedy(what, f"remotedl sync resolve {typed(held[0])} --remote | --laptop")
    if status.unmerged:
        kept = _some(list(status.unmerged))
        yield Remedy(f"kept beside files that were open: {kept}", "remotedl sync conflicts --diff")
    yield from _of_failures(status.failures, status.there)
    yield from _of_frozen(status.frozen, status.there)
    waiting = status.pending - len(status.failures)
    if waiting > 0 and status.halt is None and status.state is not State.PAUSED:
        yield Remedy(f"{waiting} on their way", FLUSH)
    for side, how in _watches(status):
        if how.startswith("poll"):
            yield Remedy(f"{side}: changes are looked for by polling", _mend_watching(how))
    big = [item.key for item in status.left_out if item.why is LeftOutWhy.TOO_BIG]
    if big:
        source = typed(f"/workspace/{big[0]}")
        yield Remedy(f"left on the host: {_some(big)}", f"remotedl get {source} {typed(big[0])}")


def _of_failures(failures: Iterable[Failure], there: There) -> Iterator[Remedy]:
    """One for each thing that the system said, on each side."""
    grouped: dict[tuple[str, Where], list[Failure]] = {}
    for failure in failures:
        grouped.setdefault((failure.why, failure.where), []).append(failure)
    for (why, where), same in grouped.items():
        what = f"not written on the {_side(where)}: {_some([one.key for one in same])}: {why}"
        yield Remedy(what, _mend_refusal(same[0], there))


def _mend_refusal(failure: Failure, there: There) -> str:
    for said, on_laptop, on_host, purpose in REFUSALS:
        if said in failure.why.lower():
            folder = failure.key.rpartition("/")[0]
            command = on_host if failure.where is Where.REMOTE else on_laptop
            text = _placed(command, failure.where, there, path=failure.key, folder=folder)
            return f"{purpose}: {text}" if purpose else text
    return FLUSH


def _placed(
    command: str,
    where: Where,
    there: There,
    *,
    path: str,
    folder: str = "",
    spell: Callable[[str], str] | None = None,
) -> str:
    """`command` for the laptop's terminal: for the host's side with the way there."""
    spell = spell or typed
    if where is Where.LAPTOP or not there.host:
        return command.format(path=spell(path or "."), folder=spell(folder or "."))
    base = there.folder.rstrip("/")
    full = {"path": spell(f"{base}/{path}"), "folder": spell(f"{base}/{folder}".rstrip("/"))}
    way = f"ssh {there.host} {shlex.quote(command.format(**full))}"
    if not (command.startswith("sudo chown") and there.container):
        return way
    inside = command.replace('sudo chown -R "$USER"', 'chown -R "$(id -u)"')
    inside = inside.format(path=spell(f"/workspace/{path}"), folder=spell(f"/workspace/{folder}"))
    without = shlex.quote(f"docker exec -u 0 {there.container} {inside}")
    return f"{way}; without sudo: ssh {there.host} {without}"


def _of_frozen(frozen: Iterable[Frozen], there: There) -> Iterator[Remedy]:
    """One for each issue on each side."""
    grouped: dict[tuple[Issue, Where], list[Frozen]] = {}
    for item in frozen:
        grouped.setdefault((item.issue, item.where), []).append(item)
    for (issue, where), items in grouped.items():
        paths = [item.spellings or (item.key or ".",) for item in items]
        names = [ascii(one) if len(group) > 1 else one for group in paths for one in group]
        what = f"left alone, {issue.value} on the {_side(where)}: {_some(names)}"
        yield Remedy(what, _mend_frozen(items[0], there))


def _mend_frozen(item: Frozen, there: There) -> str:
    mend = MENDS[item.issue]
    path = item.spellings[-1] if item.spellings else item.key
    spell = _spelled_out if item.spellings else typed
    if mend == IGNORE:  # the laptop's rules rule
        return IGNORE.format(rule=typed(rule_for(item.key)))
    if item.where is Where.REMOTE:
        mend = ON_HOST.get(item.issue, mend)
    if not mend.startswith(("chmod", "mv", "sudo")):  # no command: what to do
        return mend.format(path=spell(path or "."))
    return _placed(mend, item.where, there, path=path, spell=spell)


def rule_for(key: str) -> str:
    """A line of .remotedlignore that means this path alone."""
    return "/" + SPECIAL.sub(r"\\\g<0>", key)


def typed(path: str) -> str:
    """A path as an argument of a shell: safe to be printed, to be typed, and no option."""
    path = f"./{path}" if path.startswith("-") else path
    return shlex.quote(path) if path.isprintable() else _spelled_out(path)


def _spelled_out(path: str) -> str:
    """Byte by byte, for names that look like others or move the cursor."""
    raw = path.encode("utf-8", "surrogateescape")
    return "$'" + "".join(_ansi_c(byte) for byte in raw) + "'"


def _ansi_c(byte: int) -> str:
    ch = chr(byte)
    return ch if 32 <= byte < 127 and ch not in "'\\" else f"\\x{byte:02x}"


def _watches(status: SyncStatus) -> tuple[tuple[str, str], ...]:
    return (("laptop", status.laptop_watching), ("host", status.remote_watching))


def _mend_watching(how: str) -> str:
    sysctl = how.removeprefix("poll").removeprefix(": ")
    if sysctl in SYSCTLS:
        return f"sudo sysctl {sysctl}={SYSCTLS[sysctl]}"
    return "move the folder to a disk of that machine itself"


def _side(where: Where) -> str:
    return "laptop" if where is Where.LAPTOP else "host"


def _some(paths: list[str]) -> str:
    text = ", ".join(shown(path) for path in paths[:SHOWN])
    return text + (f" and {len(paths) - SHOWN} more" if len(paths) > SHOWN else "")
