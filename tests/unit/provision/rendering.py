"""A case of a plan as JSON, and back: how the cases in cases/ are read and (re)written.

`python -m tests.unit.provision.rendering NAME…` writes the plan that the code makes now into the
cases of these names, for a person to read and commit; tests only compare.
"""

from __future__ import annotations

import base64
import itertools
import json
import sys
from pathlib import Path
from typing import Any

from remotedl.config.models import RuntimeKind, SudoMode
from remotedl.provision.facts import HostFacts
from remotedl.provision.frame import Section, read_frame
from remotedl.provision.parse import parse_facts
from remotedl.provision.plan import plan
from remotedl.provision.steps import Plan, Step, TrustKey, Wish, WriteFile

CASES = Path(__file__).parent / "cases"


def names() -> list[str]:
    return sorted(path.stem for path in CASES.glob("*.json"))


def load(name: str) -> dict[str, Any]:
    value = json.loads((CASES / f"{name}.json").read_text(encoding="utf-8"))
    assert isinstance(value, dict)
    return value


def facts_of(case: dict[str, Any]) -> HostFacts:
    return parse_facts(sections_of(case))


def sections_of(case: dict[str, Any]) -> dict[str, Section]:
    """The case's facts file, with the sections under "change" in place of its own."""
    sections = read_frame((CASES / case["facts"]).read_bytes())
    for name, lines in case.get("change", {}).items():
        sections[name] = Section(0, "\n".join(_with_files(lines)))
    return sections


SPECIFICATION = """\
cdiVersion: 0.5.0
devices:
- containerEdits:
    deviceNodes:
    - path: /dev/nvidia0
  name: "0"
- containerEdits: {}
  name: all
kind: nvidia.com/gpu
"""


def show_file(word: str, path: str, content: bytes | None, changed: int = 1) -> str:
    """What the probe's `show_file` prints; None: a file that it may not read."""
    size = 9 if content is None else len(content)
    return f"{word} {path} {changed} {size} {base64.b64encode(content or b'').decode()}"


def _with_files(lines: list[str]) -> list[str]:
    """A case writes "file PATH CHANGED" and the file's lines, each after a blank."""
    done, rest = list[str](), list(lines)
    while rest:
        word, _, fields = rest[0].partition(" ")
        path, _, changed = fields.rpartition(" ")
        if word not in ("file", "spec") or not changed.isdigit():
            done.append(rest.pop(0))
            continue
        content = list(itertools.takewhile(lambda one: one.startswith(" "), rest[1:]))
        del rest[: 1 + len(content)]
        text = "".join(f"{one[1:]}\n" for one in content)
        if word == "spec" and not text:
            text = SPECIFICATION
        body = None if text == "unreadable\n" else text.encode()
        done.append(show_file(word, path, body, int(changed)))
    return done


def wish_of(case: dict[str, Any]) -> Wish:
    given = dict(case.get("wish", {}))
    if "runtime" in given:
        given["runtime"] = RuntimeKind(given["runtime"])
    if "sudo" in given:
        given["sudo"] = SudoMode(given["sudo"])
    return Wish(**given)


def made(case: dict[str, Any]) -> dict[str, Any]:
    """The plan that the code makes of the case."""
    return as_json(plan(facts_of(case), wish_of(case)))


def as_json(found: Plan) -> dict[str, Any]:
    """A plan in the shape of a case; what is empty is left out."""
    value: dict[str, Any] = {
        "refusal": [found.refusal.reason, found.refusal.hint] if found.refusal else None,
        "steps": [step_json(step) for step in found.steps],
        "notices": [[notice.text, notice.hint] for notice in found.notices],
        "kept": [f"{kept.stage}: {kept.why}" for kept in found.kept],
    }
    return {key: part for key, part in value.items() if part}


def step_json(step: Step) -> dict[str, Any]:
    value: dict[str, Any] = {
        "step": f"{step.stage}: {step.name}",
        "what": step.what,
        "why": step.why,
        "do": [
            {"write": action.path, "lines": action.content.splitlines(), "mode": oct(action.mode)}
            if isinstance(action, WriteFile)
            else {"key": action.url, "to": action.path, "is": action.fingerprint}
            if isinstance(action, TrustKey)
            else " ".join([*(() if action.root else ("(as the user)",)), *action.argv])
            for action in step.actions
        ],
        "confirm": step.confirm,
        "optional": step.optional,
    }
    return {key: part for key, part in value.items() if part}


def main(wanted: list[str]) -> None:
    for name in wanted or names():
        case = load(name)
        text = json.dumps({**case, "plan": made(case)}, indent=2, ensure_ascii=False) + "\n"
        (CASES / f"{name}.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
