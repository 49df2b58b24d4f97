"""Progress: finished stages stay, bars show a rate, plain lines are never drawn over."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from remotedl.cli.render import PlainReport, TerminalReport


def screen(width: int = 100) -> tuple[Console, io.StringIO]:
    out = io.StringIO()
    return Console(file=out, force_terminal=True, width=width, no_color=True, highlight=False), out


BUILD = """\
[internal] load remote build context
[2/3] RUN apt-get update     && apt-get install -y jq
Get:1 http://deb.debian.org/debian bookworm InRelease [151 kB]
Reading package lists...

The following NEW packages will be installed:
  jq libjq1
  libonig5
0 upgraded, 3 newly installed, 0 to remove and 6 not upgraded.
(Reading database ... 5%
Unpacking jq (1.6-2.1) ...
Setting up jq (1.6-2.1) ...
E: Unable to locate package nosuch
  Downloading x-1.0-py3-none-any.whl (9.7 kB)
     ━━━━━━━━━━━━━━━ 1.3/1.3 MB 591.3 MB/s  0:00:00
Epoch 1
  loss 0.5
"""


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


def test_plain_lines_of_a_build_hold_news_and_no_chatter(
    capsys: pytest.CaptureFixture[str],
) -> None:
    report = PlainReport()
    for line in BUILD.splitlines():
        report.output(line)

    assert capsys.readouterr().err.splitlines() == [
        "  [2/3] RUN apt-get update && apt-get install -y jq",
        "  E: Unable to locate package nosuch",
        "  Epoch 1",
        "    loss 0.5",
    ]


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
