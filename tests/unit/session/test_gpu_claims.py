"""A claim of a live session is said again before it ends, and when it changes."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from remotedl.container.jobs import Job, JobState
from remotedl.provision.facts import Gpu, GpuClaim, GpuProcess
from remotedl.provision.frame import Section
from remotedl.provision.gpus import GpuReport, claim, views
from remotedl.provision.parse_gpus import parse_claims
from remotedl.session.gpu_claims import CLAIM_S, RENEW_S, Claim, others_on, released_on_failure
from tests.support.local_remote import LocalRemote


def job(state: JobState, *gpus: str) -> Job:
    return Job("1", ("python",), state, 0.0, note={"gpus": list(gpus)})


@pytest.fixture
def project() -> Iterator[str]:
    name = uuid.uuid4().hex[:16]
    yield name
    for left in Path("/tmp").glob(f".remotedl-claim-*{name}*"):
        left.unlink()


def note(project: str) -> dict[str, object]:
    (path,) = Path("/tmp").glob(f".remotedl-claim-*{project}*")
    found: dict[str, object] = json.loads(path.read_text())
    return found


def test_it_is_renewed_before_it_ends_and_at_once_where_it_changes(project: str) -> None:
    now = [1000.0]
    held, remote = Claim(project, ("1",), clock=lambda: now[0]), LocalRemote()
    held.renew(remote, [])
    first = note(project)
    assert first["gpus"] == ["1"]
    assert int(str(first["until"])) == pytest.approx(time.time() + CLAIM_S, abs=5)
    path = next(Path("/tmp").glob(f".remotedl-claim-*{project}*"))
    path.unlink()
    now[0] += RENEW_S - 1
    held.renew(remote, [])
    assert not path.exists(), "it is too early"
    held.renew(remote, [job(JobState.RUNNING, "0"), job(JobState.EXITED, "3")])
    assert note(project)["gpus"] == ["0", "1"]
    path.unlink()
    now[0] += RENEW_S + 1
    held.renew(remote, [job(JobState.RUNNING, "0")])
    assert note(project)["gpus"] == ["0", "1"]
    assert RENEW_S < CLAIM_S / 2, "one renewal may be missed"


def test_gpus_shows_the_project_by_the_name_that_people_know(project: str) -> None:
    Claim(project, ("1",), name="thesis-012345").renew(LocalRemote(), [])
    said = json.dumps(note(project))
    claims = parse_claims(Section(0, f"ada {said}"))
    gpu = Gpu(1, "GPU-1", "H100", memory_total=80, memory_used=0)
    (view,) = views(GpuReport((gpu,), claims, (), now=int(time.time())))
    assert [(one.what, one.project) for one in view.holders] == [("thesis-012345", project)]


def test_who_else_is_on_a_gpu() -> None:
    programs = (
        GpuProcess("GPU-0", 1, "python3", 9, "bob"),
        GpuProcess("GPU-0", 2, "python3", 9, "ada"),
    )
    gpu = Gpu(0, "GPU-0", "H100", memory_total=80, memory_used=18, processes=programs)
    claims = (GpuClaim("cyd", ("0",), 100, "p", name="cyds"), GpuClaim("ada", ("0",), 100, "mine"))
    report = GpuReport((gpu,), claims, (), now=99)
    assert others_on(report, 0, "mine", "ada") == ["python3 of bob", "cyds of cyd"]


def test_who_chose_nothing_claims_nothing(project: str) -> None:
    Claim(project, ("all",)).renew(LocalRemote(), [])
    assert not list(Path("/tmp").glob(f".remotedl-claim-*{project}*"))


def test_a_claim_that_has_ended_is_none() -> None:
    gpu = Gpu(0, "GPU-0", "H100", memory_total=80, memory_used=0)
    claims = (GpuClaim("ada", ("0",), 100, "p"),)
    (before,) = views(GpuReport((gpu,), claims, (), now=99))
    (after,) = views(GpuReport((gpu,), claims, (), now=100))
    assert (before.free, after.free) == (False, True)


@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt])
def test_it_is_given_back_where_an_up_fails(
    project: str, tmp_path: Path, failure: type[BaseException]
) -> None:
    remote = LocalRemote(tmp_path)
    until = int(time.time()) + CLAIM_S
    with pytest.raises(failure), released_on_failure(remote, project):
        claim(remote, ["0"], project=project, user="ada", until=until)
        assert note(project)["gpus"] == ["0"]
        raise failure
    assert not list(Path("/tmp").glob(f".remotedl-claim-*{project}*"))


def test_it_stays_where_an_up_came_to_its_end(project: str, tmp_path: Path) -> None:
    remote = LocalRemote(tmp_path)
    with released_on_failure(remote, project):
        claim(remote, ["0"], project=project, user="ada", until=int(time.time()) + CLAIM_S)
    assert note(project)["gpus"] == ["0"]
