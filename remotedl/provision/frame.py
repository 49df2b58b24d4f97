"""The probe's answer, cut into sections; and the small readings that every parser shares."""

from __future__ import annotations

import base64
import codecs
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

FRAME_START = "@@remotedl 1"
FRAME_END = "@@end"


class ProbeUnreadable(ValueError):
    """The answer has no frame, or ends early."""


@dataclass(frozen=True, slots=True)
class Section:
    """What one probe said: its exit status and its lines."""

    code: int = 127
    text: str = ""

    @property
    def lines(self) -> list[str]:
        """A newline ends a line and nothing else does: files of others hold all the rest."""
        return [line.removesuffix("\r") for line in self.text.split("\n")] if self.text else []


NOTHING = Section()


def read_frame(answer: bytes) -> dict[str, Section]:
    """The probe's answer as sections. Raises ProbeUnreadable when its end is missing."""
    lines = [line.removesuffix("\r") for line in answer.decode("utf-8", "replace").split("\n")]
    try:
        start = lines.index(FRAME_START)
        end = lines.index(FRAME_END, start)
    except ValueError:
        raise ProbeUnreadable("the probe's answer has no beginning or no end") from None
    sections: dict[str, Section] = {}
    name, code, body = "", 127, list[str]()
    for line in [*lines[start + 1 : end], "@"]:
        if line.startswith("|"):
            body.append(line[1:])
        elif line.startswith("@"):
            if name:
                sections[name] = Section(code, "\n".join(body))
            name, _, status = line[1:].partition(" ")
            code, body = int(status) if status.isdigit() else 127, []
    return sections


def merge(sections: Iterable[Mapping[str, Section]]) -> dict[str, Section]:
    """Later answers over earlier ones: the root part fills in what the user could not see."""
    merged: dict[str, Section] = {}
    for answer in sections:
        merged.update(answer)
    return merged


def whole(text: str) -> int:
    """The number at the start of `text`; 0 where there is none."""
    match = re.match(r"\s*(\d+)", text)
    return int(match.group(1)) if match else 0


def parse_pairs(section: Section) -> dict[str, str]:
    """ "key the rest of the line", the first of each key."""
    pairs: dict[str, str] = {}
    for line in section.lines:
        key, _, value = line.partition(" ")
        if key:
            pairs.setdefault(key, value.strip())
    return pairs


def read_file(fields: str) -> tuple[str, int, str | None]:
    """ "PATH CHANGED SIZE CONTENT" of the probe's `show_file`; text None where it was not all read.

    What is no UTF-8 comes as surrogates: nobody reads it, and it can be told.
    """
    path, changed, size, body = [*fields.rsplit(" ", 3), "", "", ""][:4]
    if not (changed.isdigit() and size.isdigit()):
        return fields, 0, None
    try:
        data = base64.b64decode(body, validate=True)
    except ValueError:
        return path, int(changed), None
    whole_file = len(data) == int(size)
    text = data.removeprefix(codecs.BOM_UTF8).decode("utf-8", "surrogateescape")
    return path, int(changed), text if whole_file else None


def first_json(section: Section) -> Mapping[str, object]:
    """The first line that holds a JSON object; tools print warnings around it."""
    for line in section.lines:
        if line.startswith("{"):
            try:
                value = json.loads(line)
            except ValueError:
                continue
            if isinstance(value, dict):
                return value
    return {}


def text_of(value: object) -> str:
    return value if isinstance(value, str) else ""


def names_of(value: object) -> tuple[str, ...]:
    """The strings of a JSON list, or the keys of a JSON object, sorted."""
    if isinstance(value, dict | list):
        return tuple(sorted(str(item) for item in value))
    return ()
