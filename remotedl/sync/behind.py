"""Which of the laptop's saved files the host does not have as they were saved. Pure.

What a job would run with the host's older version. What the host has in a newer one is not behind,
nor is what stays on its side on purpose: results, what is left out, what is ignored.
"""

from __future__ import annotations

from collections.abc import Iterable

from remotedl.sync.agent.tree import DIR, Entry, Issue, Side, Tree, changed_keys, sort_key
from remotedl.sync.lanes import Lane, Policy
from remotedl.sync.verdict import Frozen, LeftOut, Where

NOT_SEEN = frozenset([Issue.UNREADABLE, Issue.ZEROED])
"""Nobody knows what the laptop's user saved there; where nothing ever was synced, nobody asks."""


def behind(
    ancestor: Tree,
    laptop: Side,
    remote: Side,
    policy: Policy,
    frozen: Iterable[Frozen],
    left_out: Iterable[LeftOut],
) -> tuple[str, ...]:
    """Keys, sorted: changed on the laptop and not so on the host, or not to be seen here."""
    keeps_x = laptop.traits.executable and remote.traits.executable
    on_purpose = {item.key for item in left_out}
    found = {
        key
        for key in changed_keys(ancestor, laptop.tree)
        if key not in on_purpose
        and _differs(laptop.tree.get(key), remote.tree.get(key), keeps_x)
        and _differs(laptop.tree.get(key), ancestor.get(key), laptop.traits.executable)
        and not _is_by_rule(key, laptop.tree.get(key) or ancestor[key], policy)
    }
    found.update(item.key for item in frozen if _hides(item, ancestor))
    return tuple(sorted(found, key=sort_key))


def _differs(one: Entry | None, other: Entry | None, keeps_x: bool) -> bool:
    """A folder too many or too few makes no other program of it."""
    if one is None or other is None:
        return (one or other) not in (None, DIR)
    if not keeps_x:
        other = other._replace(executable=one.executable)
    return one != other


def _is_by_rule(key: str, entry: Entry, policy: Policy) -> bool:
    is_dir = entry == DIR
    return policy.lane(key, entry.kind) is Lane.OUTPUT or policy.ignore.ignores(key, is_dir)


def _hides(item: Frozen, ancestor: Tree) -> bool:
    """Whether the laptop's user may have saved something at or below a frozen path."""
    if item.where is not Where.LAPTOP:
        return False
    if item.issue is Issue.COLLIDING:
        return bool(item.spellings)
    if item.issue is Issue.UNSTABLE:
        return True
    return item.issue in NOT_SEEN and _is_known(item.key, ancestor)


def _is_known(key: str, ancestor: Tree) -> bool:
    return key in ancestor or any(one.startswith(f"{key}/") for one in ancestor)
