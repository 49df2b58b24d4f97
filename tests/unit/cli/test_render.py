"""Progress: finished stages stay, bars show a rate, plain lines are never drawn over."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from remotedl.cli.render import PlainReport, TerminalReport


def screen(width: int = 100) -> tuple[Console, io.StringIO]:
    out = io.StringIO()
    return Console(file=out, force_terminal=True, width=width, no_color=True, highlight=False), out


def test_finished_stages_stay_on_the_terminal_with_their_last_detail() -> None:
    console, out = screen()
    with TerminalReport(console) as report:
        report.stage("image", "base")
        report.progress("layer", 10, 100)
        report.output("Step 1/9")
        report.stage("image", "remotedl/base:1 (built)")
        report.stage("sync")
        report.note("3 files [sent]")
        report.warn("port 8888 is taken", hint="lsof -i :8888")
    text = out.getvalue()
    assert "✓ image      remotedl/base:1 (built)" in text
    assert "✓ sync" in text
    assert "3 files [sent]" in text
    assert "lsof -i :8888" in text


def test_the_stage_that_failed_is_marked() -> None:
    console, out = screen()
    with pytest.raises(RuntimeError), TerminalReport(console) as report:
        report.stage("connect", "h1")
        raise RuntimeError
    assert "✗ connect    h1" in out.getvalue()


def test_plain_lines_carry_their_stage(capsys: pytest.CaptureFixture[str]) -> None:
    report = PlainReport()
    report.stage("image", "base")
    report.progress("layer", 1, 10)
    report.progress("layer", 10, 10)
    report.warn("slow", hint="wait")
    assert capsys.readouterr().err.splitlines() == [
        "[image] base",
        "[image] layer: 10 B of 10 B",
        "[image] warning: slow (next: wait)",
    ]
