"""What the stages decide without a host: consent, and how programs reach the web."""

from __future__ import annotations

import pytest

from remotedl.config.models import HostConfig, Mirrors
from remotedl.container.runtime import Answer, Change, Plan
from remotedl.errors import ContainerError, JobsRunning
from remotedl.report import SILENT
from remotedl.session.options import UpOptions
from remotedl.session.stages import consent_of, reach

DEAR = Plan(Change.RECREATE, ("another image",), lost=("/opt/tool",))
BUSY = Plan(Change.RECREATE, ("another image",), jobs=("j1",))


class Answers:
    """Somebody at the terminal, with their answers in order."""

    def __init__(self, *answers: bool) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    def secret(self, question: str) -> str | None:
        return None

    def confirm(self, question: str) -> bool:
        self.asked.append(question)
        return self.answers.pop(0)


def decide(plan: Plan, *answers: bool, yes: bool = False) -> Answer:
    return consent_of(UpOptions(yes=yes), Answers(*answers), SILENT)(plan)


def test_what_a_recreate_would_lose_is_offered_to_be_kept() -> None:
    assert decide(DEAR, True, True) is Answer.COMMIT
    assert decide(DEAR, True, False) is Answer.GO
    with pytest.raises(ContainerError, match="left as it is"):
        decide(DEAR, False)


def test_where_nothing_is_lost_nothing_is_offered() -> None:
    assert decide(BUSY, True) is Answer.GO
    assert decide(Plan(Change.RECREATE, ("another image",))) is Answer.GO
    assert decide(DEAR, yes=True) is Answer.GO


def test_a_running_job_is_not_ended_for_a_no() -> None:
    with pytest.raises(JobsRunning):
        decide(BUSY, False)


def test_pip_and_proxy_of_the_host_reach_the_programs() -> None:
    host = HostConfig(address="x", proxy="http://u:p@proxy:3128", mirrors=Mirrors(pip="https://i"))
    found = reach(host)
    assert found["PIP_INDEX_URL"] == "https://i"
    assert found["https_proxy"] == found["HTTP_PROXY"] == "http://u:p@proxy:3128"
    assert "127.0.0.1" in found["NO_PROXY"]
    assert reach(HostConfig(address="x")) == {}


def test_a_proxy_on_the_hosts_loopback_is_none_for_a_container() -> None:
    own = {"address": "x", "proxy": "http://127.0.0.1:3128"}
    assert reach(HostConfig.model_validate(own)) == {}
    native = reach(HostConfig.model_validate({**own, "runtime": "native"}))
    assert native["https_proxy"] == "http://127.0.0.1:3128"
