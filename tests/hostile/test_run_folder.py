"""Code in the container puts pipes and links where the programs beside it keep their notes."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import ModuleType

import pytest

from remotedl.container.payload import idle, job

pytestmark = pytest.mark.timeout(10)


@pytest.mark.parametrize("program", [job, idle], ids=["job", "idle"])
@pytest.mark.parametrize("kind", ["pipe", "link", "device", "endless"])
def test_what_is_no_file_is_no_note(
    program: ModuleType, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(idle, "RUN", str(tmp_path))
    note = tmp_path / "note"
    (tmp_path / "real").write_text(json.dumps({"planted": True}))
    if kind == "pipe":
        os.mkfifo(note)
    elif kind == "link":
        note.symlink_to(tmp_path / "real")
    elif kind == "device":
        note.symlink_to("/dev/zero")
    else:
        with note.open("wb") as file:
            file.write(b'{"a": "')
            file.truncate(3 << 30)
    assert not program.read(str(note))


def test_a_pipe_in_the_place_of_a_jobs_output(tmp_path: Path) -> None:
    os.mkfifo(job.part(str(tmp_path), 0, "log"))
    assert job.tail_offset(str(tmp_path), 10) == 0
