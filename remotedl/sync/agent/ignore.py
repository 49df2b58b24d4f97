"""Which paths are never synced: gitignore rules, matched as git matches them. Pure.

Runs on Python 3.8 with the standard library and does no I/O: who reads `.remotedlignore` or a
`.gitignore` hands its text in as a `Source`. Matching works on keys (NFC) and, as in git, on
the bytes of their UTF-8: `?` is one byte. An ignored dir is not descended into, so nothing
below it can be brought back by a `!` rule.

Decision: rules become dicts of literal names, suffixes and prefixes, and regular expressions
only for the rest. Alternative: one regular expression of all rules. Reason: 100,000 paths take
0.1 s instead of seconds, and almost every rule that people write is a name or a suffix.
"""

from __future__ import annotations

import hashlib
import itertools
import re
import unicodedata
from typing import (
    AbstractSet,
    Dict,
    FrozenSet,
    Iterable,
    List,
    NamedTuple,
    Optional,
    Pattern,
    Set,
    Tuple,
)

from remotedl.sync.agent.names import Names

ALWAYS = (".remotedl", ".git")
"""Our own marker, trash and staging area, and git's: folder or file, in every form that a disk
takes for that name. No rule brings them back: a hook in there is run by the next `git commit`."""

DEFAULTS = (
    ".venv/",
    "venv/",
    "node_modules/",
    "__pycache__/",
    "*.egg-info",
    ".ipynb_checkpoints/",
    ".pytest_cache/",
    ".mypy_cache/",
    ".ruff_cache/",
    ".tox/",
    ".nox/",
    ".~*",
    ".*.sw[a-p]",
    "*~",
    ".#*",
    r"\#*#",
    ".DS_Store",
)
"""Ignored unless a `!` rule of the user says otherwise."""

_ALWAYS = Names(ALWAYS)
_MEMORY = 1 << 16
"""Names whose answer is remembered; a training set's names must not fill the memory."""


class Source(NamedTuple):
    """The text of one file of rules."""

    text: str
    """Lines as in a .gitignore."""
    folder: str = ""
    """The key of the dir whose paths the rules speak about; "" is the root."""


class Ignore:
    """Compiled rules. Immutable; the same sources give the same answers on both sides.

    A later source overrules an earlier one, a later line an earlier line. Give them in this
    order: .gitignore files (root first, then deeper ones), .remotedlignore, the configuration's
    own lines. The defaults come before all of them, `ALWAYS` after.
    """

    sources: Tuple[Source, ...]
    fingerprint: str
    """Hex; equal for equal sources. A scan says by which rules it was made."""

    def __init__(self, sources: Iterable[Source] = (), *, defaults: bool = True) -> None:
        self.sources = tuple(Source(*source) for source in sources)
        self._defaults = defaults
        self.fingerprint = _fingerprint(self.sources, defaults)
        texts = list(self.sources)
        if defaults:
            texts = [Source("\n".join(DEFAULTS)), *texts, Source("\n".join(ALWAYS))]
        rules: List[_Rule] = []
        for source in texts:
            rules.extend(_parse(source, len(rules)))
        self._negated = [*(rule.negated for rule in rules), True]  # -1: nothing matched
        by_folder: Dict[str, List[_Rule]] = {"": []}
        for rule in rules:
            by_folder.setdefault(rule.folder, []).append(rule)
        self._names = _Names(by_folder[""])
        self._paths = _Paths(by_folder.pop(""))
        self._nested = {f: (_Names(found), _Paths(found)) for f, found in by_folder.items()}
        self._scopes: Dict[str, bool] = {}

    def plus(self, *sources: Source) -> Ignore:
        """These rules and, overruling them, further sources."""
        return Ignore((*self.sources, *sources), defaults=self._defaults)

    def ignores(self, path: str, is_dir: bool) -> bool:
        """Whether `path`, or a dir above it, is ignored. A link to a dir is no dir."""
        path = _as_bytes(path)
        cut = path.find("/")
        while cut > 0:
            if not self._negated[self._last(path[:cut], True)]:
                return True
            cut = path.find("/", cut + 1)
        return not self._negated[self._last(path, is_dir)]

    def ignores_child(self, folder: str, leaf: str, is_dir: bool) -> bool:
        """The same for a scan that stands in `folder` and knows that it is not ignored."""
        by_path = self._scopes.get(folder)
        if by_path is None:
            by_path = self._enter(folder)
        if not by_path and leaf.isascii():
            hit = self._names.known.get(leaf) or self._names.last(leaf)
            return not self._negated[hit[is_dir]]
        path = f"{folder}/{leaf}" if folder else leaf
        return not self._negated[self._last(_as_bytes(path), is_dir)]

    def _enter(self, folder: str) -> bool:
        """Whether anything but names counts directly inside `folder`; remembered."""
        inside = _as_bytes(folder) + "/" if folder else ""
        nested = any(inside.startswith(f"{known}/") for known in self._nested)
        if len(self._scopes) >= _MEMORY:
            self._scopes.clear()
        found = self._scopes[folder] = nested or self._paths.may_match_in(inside)
        return found

    def _last(self, path: str, is_dir: bool) -> int:
        """The number of the last rule that matches, -1 for none. `path` is `_as_bytes`."""
        leaf = path[path.rfind("/") + 1 :]
        found = self._names.last(leaf)[is_dir]
        if self._paths.starts:
            found = max(found, self._paths.last(path)[is_dir])
        if self._nested:
            cut = path.rfind("/")
            while cut > 0:
                inside = self._nested.get(path[:cut])
                if inside is not None:
                    names, paths = inside
                    found = max(found, names.last(leaf)[is_dir])
                    found = max(found, paths.last(path[cut + 1 :])[is_dir])
                cut = path.rfind("/", 0, cut)
        return found


_Hit = Tuple[int, int]
"""The last rule that matches something if it is a file, and if it is a dir."""

_NONE: _Hit = (-1, -1)


class _Rule(NamedTuple):
    number: int
    """Its place among all rules; the highest that matches decides."""
    negated: bool
    dir_only: bool
    anchored: bool
    """It speaks about paths; else about names at any depth."""
    pattern: str
    folder: str


class _Names:
    """Rules without a slash: they match a name at any depth."""

    def __init__(self, rules: Iterable[_Rule]) -> None:
        self._exact: Dict[str, _Hit] = {}
        self._ends: Dict[int, Dict[str, _Hit]] = {}
        self._starts: Dict[int, Dict[str, _Hit]] = {}
        globs: List[Tuple[_Rule, str]] = []
        for rule in rules:
            if rule.anchored:
                continue
            text = rule.pattern
            if _literal_length(text) == len(text):
                _note(self._exact, text, rule)
            elif text[0] == "*" and _literal_length(text[1:]) == len(text) - 1 > 0:
                _note(self._ends.setdefault(len(text) - 1, {}), text[1:], rule)
            elif text[-1] == "*" and _literal_length(text) == len(text) - 1:
                _note(self._starts.setdefault(len(text) - 1, {}), text[:-1], rule)
            else:
                regex = _translate(text, names_only=True)
                if regex is not None:
                    globs.append((rule, regex))
        self._globs = _Globs(globs)
        self._firsts = {rule.pattern[rule.pattern[0] == "\\" :][:1] for rule, _ in globs}
        self._anything = not self._firsts.isdisjoint("*?[")
        self.known: Dict[str, _Hit] = {}

    def last(self, leaf: str) -> _Hit:
        hit = self.known.get(leaf)
        if hit is None:
            if len(self.known) >= _MEMORY:
                self.known.clear()
            hit = self.known[leaf] = self._look_up(leaf)
        return hit

    def _look_up(self, leaf: str) -> _Hit:
        hit = self._exact.get(leaf, _NONE)
        always = _ALWAYS.match(_as_text(leaf))
        if always is not None:
            hit = _later(hit, self._exact.get(always, _NONE))
        for length, ends in self._ends.items():
            if leaf[-length:] in ends:
                hit = _later(hit, ends[leaf[-length:]])
        for length, starts in self._starts.items():
            if leaf[:length] in starts:
                hit = _later(hit, starts[leaf[:length]])
        if self._globs.any and (self._anything or leaf[:1] in self._firsts):
            hit = self._globs.last(leaf, hit)
        return hit


class _Paths:
    """Rules with a slash: they match from the dir of their source."""

    def __init__(self, rules: Iterable[_Rule]) -> None:
        self._exact: Dict[str, _Hit] = {}
        globs: List[Tuple[_Rule, str]] = []
        self.starts: Set[str] = set()
        for rule in rules:
            if not rule.anchored:
                continue
            prefix = _literal_length(rule.pattern)
            self.starts.add(rule.pattern[:prefix])
            if prefix == len(rule.pattern):
                _note(self._exact, rule.pattern, rule)
                continue
            # git compares the literal part first and forgets it: "a**/b" matches as "a" + "**/b"
            regex = _translate(rule.pattern[prefix:])
            if regex is not None:
                globs.append((rule, re.escape(rule.pattern[:prefix]) + regex))
        self._globs = _Globs(globs)

    def may_match_in(self, inside: str) -> bool:
        """Whether a rule can match a direct child of a dir; `inside` ends in a slash, or is ""."""
        return any(s.startswith(inside) or inside.startswith(s) for s in self.starts)

    def last(self, path: str) -> _Hit:
        hit = self._exact.get(path, _NONE)
        return self._globs.last(path, hit) if self._globs.any else hit


class _Globs:
    """Rules that need a regular expression: one of all of them first, then each."""

    def __init__(self, rules: List[Tuple[_Rule, str]]) -> None:
        self.any = bool(rules)
        self._each: List[Tuple[_Rule, Pattern[str]]] = [
            (rule, re.compile(regex, re.DOTALL)) for rule, regex in reversed(rules)
        ]
        everything = "|".join(f"(?:{regex})" for _, regex in rules)
        self._some = re.compile(everything, re.DOTALL)

    def last(self, text: str, hit: _Hit) -> _Hit:
        if self._some.fullmatch(text) is None:
            return hit
        for rule, regex in self._each:
            if rule.number < min(hit):
                break
            if regex.fullmatch(text) is not None:
                hit = _later(hit, _hit_of(rule))
                if not rule.dir_only:
                    break
        return hit


def _hit_of(rule: _Rule) -> _Hit:
    return (-1 if rule.dir_only else rule.number, rule.number)


def _later(one: _Hit, other: _Hit) -> _Hit:
    return (max(one[0], other[0]), max(one[1], other[1]))


def _note(table: Dict[str, _Hit], text: str, rule: _Rule) -> None:
    table[text] = _later(table.get(text, _NONE), _hit_of(rule))


def _parse(source: Source, first: int) -> List[_Rule]:
    """The rules of one file, read as git's dir.c does, numbered from `first` on."""
    text = source.text
    if text.startswith("\ufeff"):
        text = text[1:]
    folder = _as_bytes(source.folder)
    rules: List[_Rule] = []
    for line in text.split("\n"):
        if not line or line[0] == "#":
            continue
        pattern = _trimmed(line[:-1] if line[-1] == "\r" else line)
        negated = pattern.startswith("!")
        pattern = _as_bytes(pattern[negated:])
        dir_only = pattern.endswith("/")
        pattern = pattern[: len(pattern) - dir_only]
        if not pattern:
            continue
        anchored = "/" in pattern
        if pattern[0] == "/":
            pattern = pattern[1:]
        rules.append(_Rule(first + len(rules), negated, dir_only, anchored, pattern, folder))
    return rules


def _trimmed(line: str) -> str:
    """`line` without trailing spaces, unless a backslash keeps one."""
    keep = 0
    at = 0
    while at < len(line):
        if line[at] == "\\":
            if at + 1 >= len(line):
                return line
            at += 2
            keep = at
        else:
            at += 1
            if line[at - 1] != " ":
                keep = at
    return line[:keep]


def _as_bytes(text: str) -> str:
    """One character a byte of the NFC form's UTF-8, as git sees it."""
    if text.isascii():
        return text
    normal = unicodedata.normalize("NFC", text)
    return normal.encode("utf-8", "surrogateescape").decode("latin-1")


def _as_text(raw: str) -> str:
    """The way back from `_as_bytes`."""
    return raw if raw.isascii() else raw.encode("latin-1").decode("utf-8", "surrogateescape")


def _fingerprint(sources: Tuple[Source, ...], defaults: bool) -> str:
    seen = repr((defaults and (DEFAULTS, ALWAYS), [tuple(source) for source in sources]))
    return hashlib.sha256(seen.encode("utf-8", "surrogatepass")).hexdigest()


_SPECIAL = re.compile(r"[*?\[\\]")


def _literal_length(pattern: str) -> int:
    """How many characters come before the first that is special."""
    found = _SPECIAL.search(pattern)
    return len(pattern) if found is None else found.start()


_STAR, _DEEP, _DEEPER = "*", "**/", "**\\/"
"""Parts of a pattern that take any number of characters: inside a name, of whole folders (also
none), of whole folders (at least one). Between them stand expressions of one character each.
"""
_names = itertools.count()


def _translate(pattern: str, *, names_only: bool = False) -> Optional[str]:
    """The regular expression of a pattern of git's wildmatch.c; None if it matches nothing.

    `names_only`: the text holds no slash, stars differ in nothing.

    Nothing is tried twice: where what follows may begin anywhere (another star), the first place
    where a piece fits is as good as any, and is not given up again. So no pattern takes longer
    than its length times that of the path.
    """
    parts = _parts(pattern, names_only)
    if parts is None:
        return None
    out: List[str] = []
    deep = ""
    run: List[str] = []
    for part in [*parts, None]:
        if part is not None and part not in (_DEEP, _DEEPER):
            run.append(part)
            continue
        regex = _run(run, "." if names_only else "[^/]")
        out.append(_once(deep + regex) if deep and part is not None else deep + regex)
        deep = {None: "", _DEEP: "(?:.*?/)??", _DEEPER: ".*?/"}[part]
        run = []
    return "".join(out)


def _run(parts: List[str], any_char: str) -> str:
    """Of a piece of a pattern that spans no unknown number of folders."""
    out: List[str] = []
    segments: List[List[str]] = [[]]
    for part in [*parts, "/"]:
        if part == _STAR:
            segments.append([])
            continue
        if part == "/":
            out.extend(segments[0])
            for number, segment in enumerate(segments[1:], 2):
                piece = f"{any_char}*?{''.join(segment)}"
                out.append(_once(piece) if number < len(segments) else piece)
            segments = [[]]
        (out if part == "/" else segments[-1]).append(part)
    out.pop()
    return "".join(out)


def _once(regex: str) -> str:
    """The first way in which `regex` matches, and no other (an atomic group, for Python 3.8)."""
    name = f"n{next(_names)}"
    return f"(?=(?P<{name}>{regex}))(?P={name})"


def _parts(pattern: str, names_only: bool) -> Optional[List[str]]:
    out: List[str] = []
    at = 0
    while at < len(pattern):
        char = pattern[at]
        if char == "*":
            end = at
            while end < len(pattern) and pattern[end] == "*":
                end += 1
            star, at = (_STAR, end) if names_only else _star(pattern, at, end)
            out.append(star)
        elif char == "[":
            found = _bracket(pattern, at + 1)
            if found is None:
                return None
            out.append(_class(found[0]))
            at = found[1]
        elif char == "?":
            out.append("[^/]")
            at += 1
        else:
            at += char == "\\"
            if at == len(pattern):
                return None
            out.append(re.escape(pattern[at]))
            at += 1
    return out


def _star(pattern: str, at: int, end: int) -> Tuple[str, int]:
    """The stars at `at` up to `end`, and where to go on. "**" is more only between slashes."""
    opens = at == 0 or pattern[at - 1] == "/"
    rest = pattern[end : end + 2]
    if end - at < 2 or not opens or not (rest == "" or rest[0] == "/" or rest == "\\/"):
        return _STAR, end
    if rest == "":
        return ".*", end
    return (_DEEP, end + 1) if rest[0] == "/" else (_DEEPER, end + 2)


_BYTES = frozenset(map(chr, range(1, 256)))
_ASCII = frozenset(map(chr, range(1, 128)))
_CLASSES: Dict[str, FrozenSet[str]] = {
    "alnum": frozenset(ch for ch in _ASCII if ch.isalnum()),
    "alpha": frozenset(ch for ch in _ASCII if ch.isalpha()),
    "blank": frozenset(" \t"),
    "cntrl": frozenset(ch for ch in _ASCII if ch < " " or ch == "\x7f"),
    "digit": frozenset("0123456789"),
    "graph": frozenset(ch for ch in _ASCII if "!" <= ch <= "~"),
    "lower": frozenset(ch for ch in _ASCII if ch.islower()),
    "print": frozenset(ch for ch in _ASCII if " " <= ch <= "~"),
    "punct": frozenset(ch for ch in _ASCII if "!" <= ch <= "~" and not ch.isalnum()),
    "space": frozenset(" \t\n\v\f\r"),
    "upper": frozenset(ch for ch in _ASCII if ch.isupper()),
    "xdigit": frozenset("0123456789abcdefABCDEF"),
}


def _bracket(pattern: str, at: int) -> Optional[Tuple[AbstractSet[str], int]]:
    """The bytes that a set after "[" takes, and where to go on; None if it is malformed."""
    negated = pattern[at : at + 1] in ("!", "^")
    at += negated
    taken: Set[str] = set()
    before = ""
    first = True
    while first or pattern[at : at + 1] != "]":
        first = False
        char = pattern[at : at + 1]
        if char == "-" and before and pattern[at + 1 : at + 2] not in ("", "]"):
            at += 1 + (pattern[at + 1] == "\\")
            taken.update(map(chr, range(ord(before), ord(pattern[at : at + 1] or "\0") + 1)))
            before = ""
        elif pattern[at : at + 2] == "[:" and _closes(pattern, at):
            end = pattern.index("]", at + 2)
            named = _CLASSES.get(pattern[at + 2 : end - 1])
            if named is None:
                return None
            taken |= named
            before = ""
            at = end
        else:
            at += char == "\\"
            before = pattern[at : at + 1]
            taken.add(before)
        at += 1
        if at >= len(pattern):
            return None
    return (_BYTES - taken if negated else taken), at + 1


def _closes(pattern: str, at: int) -> bool:
    """Whether the "[:" at `at` is a named class: the next "]" comes right after a ":"."""
    end = pattern.find("]", at + 2)
    return end > at + 2 and pattern[end - 1] == ":"


def _class(taken: AbstractSet[str]) -> str:
    """A set of bytes as a regular expression; a slash is never taken by one."""
    inside = "".join(f"\\x{ord(char):02x}" for char in sorted(taken - {"/"}))
    return f"[{inside}]" if inside else "(?!)"
