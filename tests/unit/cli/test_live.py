"""The live view says what is so, without colour, with the command that mends each trouble."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from remotedl.cli.live import sync_line, sync_remedies, tunnel_line, view, wrapped
from remotedl.cli.render import amount, lasting
from remotedl.session.status import Phase, Snapshot, SyncLine, TunnelStatus

CALM = SyncLine(
    mode="two-way-safe",
    last_success=100.0,
    pending=0,
    conflicts=(),
    frozen=(),
    left_out=(),
    degraded=None,
    paused=False,
    halted=None,
)
URL = "http://127.0.0.1:8889/lab?token=" + "f" * 64
TUNNEL = TunnelStatus("Jupyter", "127.0.0.1", 8889, 8888, "8888", URL, 1, 3, 1000, 2_000_000)
SNAPSHOT = Snapshot(
    host="h1",
    address="192.0.2.10",
    project="thesis",
    root="/p",
    workdir="/w",
    pid=1,
    phase=Phase.LIVE,
    detail="",
    since=40.0,
    runtime="docker",
    image="remotedl/base:x",
    container="remotedl-thesis-abc",
    gpus="all",
    tunnels=(TUNNEL,),
    sync=CALM,
    jobs=({"id": "j1", "command": "python train.py", "state": "running"},),
    gpu_lines=("0 H100  12 %  3.1 of 80 GiB",),
    events=((90.0, "link lost"),),
    warnings=(("disk nearly full", "remotedl image prune"),),
)


def drawn(snapshot: Snapshot, width: int = 120) -> str:
    out = io.StringIO()
    Console(file=out, width=width, no_color=True).print(view(snapshot, "footer", 102.0))
    return out.getvalue()


def replaced(**changes: object) -> SyncLine:
    fields = {name: getattr(CALM, name) for name in CALM.__slots__}
    return SyncLine(**(fields | changes))


def test_everything_that_counts_is_on_it() -> None:
    text = drawn(SNAPSHOT)
    for part in ("thesis on h1", "live", URL, "in step", "H100", "python train.py", "link lost"):
        assert part in text
    assert "remotedl image prune" in text


def test_the_address_is_never_cut_on_a_narrow_terminal() -> None:
    assert URL in drawn(SNAPSHOT, width=60).replace("\n", "")


def test_a_moved_port_is_said() -> None:
    assert "(8888 is taken)" in tunnel_line(TUNNEL)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (CALM, "in step · 0 pending · last 2.0 s ago · 0 conflicts · 0 frozen · watching"),
        (replaced(pending=3), "3 pending · last"),
        (replaced(last_success=None), "first comparison… · 0 pending"),
        (replaced(paused=True), "paused · 0 pending"),
        (replaced(conflicts=("a.py",)), " · 1 conflict · "),
        (replaced(frozen=("x",)), "1 frozen"),
        (replaced(failures=("x (No space left on device)",)), "1 refused"),
        (replaced(degraded="polling: sysctl x"), "polling"),
        (replaced(left_out=("big.ckpt",)), "1 left on the host"),
        (replaced(halted="the remote folder is empty"), "halted: the remote folder"),
    ],
)
def test_the_sync_line_names_each_trouble(line: SyncLine, says: str) -> None:
    text, style = sync_line(line, 102.0)
    assert says in text
    calm = line is CALM or line.pending or line.left_out or line.last_success is None
    assert (style == "green") is bool(calm)


def test_without_a_link_it_is_not_in_step() -> None:
    text, style = sync_line(CALM, 102.0, linked=False)
    assert text.startswith("waits for the link · 0 pending · last 2.0 s ago")
    assert style == "yellow"


@pytest.mark.parametrize("trouble", ["conflicts", "frozen", "failures"])
def test_it_is_not_in_step_while_something_waits_for_the_user(trouble: str) -> None:
    assert "in step" not in sync_line(replaced(**{trouble: ("a",)}), 102.0)[0]


def test_each_trouble_has_its_command() -> None:
    line = replaced(remedies=(("changed on both sides: a.py", "remotedl sync conflicts --diff"),))
    assert sync_remedies(CALM) == []
    assert sync_remedies(line) == [
        "changed on both sides: a.py  next: remotedl sync conflicts --diff"
    ]
    narrow = " ".join(drawn(replace(SNAPSHOT, sync=line), width=50).split())
    assert "remotedl sync conflicts --diff" in narrow


def test_a_snapshot_survives_json() -> None:
    assert Snapshot.from_json(SNAPSHOT.as_json()) == SNAPSHOT


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0, "B", "0 B"),
        (999, "B", "999 B"),
        (1500, "B", "1.5 kB"),
        (2.5e9, "B", "2.5 GB"),
        (12345, "files", "12,345 files"),
        (5e15, "B", "5000.0 TB"),
    ],
)
def test_amount(value: float, unit: str, text: str) -> None:
    assert amount(value, unit) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.25, "0.2 s"), (42.4, "42 s"), (75, "1 min 15 s"), (7260, "2 h 1 min")]
)
def test_lasting(seconds: float, text: str) -> None:
    assert lasting(seconds) == text


@pytest.mark.parametrize(
    ("lengths", "width", "more"),
    [
        ([80, 40, 0], 80, 0),
        ([80, 40, 0], 79, 1),
        ([80, 41, 40], 40, 2),
        ([100], 30, 3),
        ([3], 0, 2),
    ],
)
def test_a_narrower_terminal_breaks_what_stands_there_into_more_rows(
    lengths: list[int], width: int, more: int
) -> None:
    assert wrapped(lengths, width) == more


def test_who_gets_in_without_a_link_is_said() -> None:
    raw = replace(TUNNEL, name="port 5432", url=None, port=5432, wished_port=5432, target="5432")
    assert "open to" not in tunnel_line(raw)
    said = tunnel_line(replace(raw, open_to="every program on this laptop"))
    assert said.startswith("127.0.0.1:5432 → 5432  open to every program on this laptop")
    assert '"5432/tcp"' in tunnel_line(replace(raw, trouble='no HTTP: "5432/tcp"'))
