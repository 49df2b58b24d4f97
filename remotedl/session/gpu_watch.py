"""The host's GPUs as a live session sees them: sampled in a thread of its own.

nvidia-smi can take seconds (eight GPUs without persistence mode) or hang (one off the bus). Nobody
waits for it but this thread; what it last said stays readable, and says how old it is.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence

from remotedl.errors import LinkLost, RemotedlError
from remotedl.provision.gpus import find_smi
from remotedl.ssh.remote import Remote

SMI_FIELDS = "index,name,utilization.gpu,memory.used,memory.total"
EVERY_S = 10.0
LOOKED_AT_EVERY_S = 2.0
"""While somebody looks."""
LOOKED_AT_S = 8.0
"""How long a look counts as somebody looking."""
ANSWER_S = 60.0
"""What nvidia-smi may take before it is ended."""
SLOW_S = 10.0
"""What it may take before that is told."""
LOADS_KEPT = 30
"""Bars of EVERY_S: five minutes."""
BARS = "▁▂▃▄▅▆▇█"
_GIB = 1024


class GpuWatch:
    """The latest sample; read from any thread. `start` after each new link."""

    def __init__(
        self, remote: Remote, smi: str | None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`smi`: where nvidia-smi lies on the host, "" for nowhere, None to find out."""
        self._remote, self._smi, self._clock = remote, smi, clock
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        self._news = threading.Condition()
        self._lines: tuple[str, ...] = ()
        self._loads: Mapping[str, tuple[int, ...]] = {}
        self._bar_until = 0.0
        self._asked: float | None = None
        """When the question that is still open was put."""
        self._sampled = float("-inf")
        self._looked = float("-inf")

    def start(self) -> None:
        """Begin, or begin again. Idempotent."""
        if self._thread is None:
            self._stop = threading.Event()
            self._thread = threading.Thread(
                target=self._run, args=(self._stop,), name="gpus", daemon=True
            )
            self._thread.start()

    def stop(self) -> None:
        """No further sample. Never waits for nvidia-smi: that ends with the link."""
        with self._news:
            self._stop.set()
            self._news.notify_all()
        self._thread = None

    def move(self, remote: Remote) -> None:
        """A new link, for `start`."""
        self.stop()
        self._remote = remote

    def look(self, wait_s: float = 0.0) -> tuple[str, ...]:
        """One line a GPU; samples come faster from now on. Waits up to `wait_s` for a new one."""
        with self._news:
            self._looked = self._clock()
            self._news.notify_all()
            if wait_s and self._smi != "" and self._thread is not None:
                fresh = self._looked - LOOKED_AT_EVERY_S
                self._news.wait_for(lambda: self._sampled >= fresh, wait_s)
            slow = self._clock() - self._asked if self._asked is not None else 0.0
            if slow < SLOW_S:
                return self._lines
            return (*self._lines, f"nvidia-smi has not answered for {slow:.0f} s")

    def _run(self, stop: threading.Event) -> None:
        while not stop.is_set():
            try:
                self._sample()
            except LinkLost:
                return  # whoever holds the link notices by its own ping
            except RemotedlError as exc:
                self._say((f"nvidia-smi: {exc.message}",))
            except Exception as exc:  # noqa: BLE001 - told; the next sample may be better
                self._say((f"nvidia-smi: internal error: {type(exc).__name__}: {exc}",))
            if self._smi == "" or self._pause(stop):
                return

    def _pause(self, stop: threading.Event) -> bool:
        """Until the next sample is due; whether this thread is to end."""
        with self._news:
            while not stop.is_set():
                looked_at = self._clock() - self._looked < LOOKED_AT_S
                due = self._sampled + (LOOKED_AT_EVERY_S if looked_at else EVERY_S)
                left = due - self._clock()
                if left <= 0:
                    return False
                self._news.wait(left)
        return True

    def _sample(self) -> None:
        if self._smi is None:
            # The native runtime comes up without the facts of the host.
            self._smi = find_smi(self._remote)
        if not self._smi:
            return
        query = [self._smi, f"--query-gpu={SMI_FIELDS}", "--format=csv,noheader,nounits"]
        self._asked = self._clock()
        try:
            result = self._remote.run(query, check=False, timeout_s=ANSWER_S)
        finally:
            self._asked = None
        if not result.ok:
            self._say((f"nvidia-smi: {result.error_text.strip() or result.text.strip()}",))
            return
        another = self._clock() >= self._bar_until
        if another:
            self._bar_until = self._clock() + EVERY_S
        self._loads = remembered(self._loads, result.text, another=another)
        self._say(gpu_lines(result.text, self._loads))

    def _say(self, lines: tuple[str, ...]) -> None:
        with self._news:
            self._lines, self._sampled = lines, self._clock()
            self._news.notify_all()


def remembered(
    before: Mapping[str, tuple[int, ...]], csv: str, *, another: bool = True
) -> Mapping[str, tuple[int, ...]]:
    """The last loads of each GPU by its index, the newest last. Pure.

    Without `another` the newest bar goes on: it shows the highest load of its time.
    """
    loads = {}
    for row in csv.splitlines():
        cells = [cell.strip() for cell in row.split(",")]
        if len(cells) == 5:
            load = min(int(cells[2]), 100) if cells[2].isdigit() else 0
            past = before.get(cells[0], ())
            if past and not another:
                past, load = past[:-1], max(past[-1], load)
            loads[cells[0]] = (*past, load)[-LOADS_KEPT:]
    return loads


def sparkline(loads: Sequence[int]) -> str:
    """Per cents as bars. Pure."""
    return "".join(BARS[load * (len(BARS) - 1) // 100] for load in loads)


def gpu_lines(csv: str, loads: Mapping[str, Sequence[int]]) -> tuple[str, ...]:
    """One line a GPU out of nvidia-smi's CSV, with its load over the last minutes. Pure."""
    lines = []
    for row in csv.splitlines():
        cells = [cell.strip() for cell in row.split(",")]
        if len(cells) != 5:
            continue
        index, name, load, used, total = cells
        if used.isdigit() and total.isdigit():
            memory = f"{int(used) / _GIB:.1f} of {int(total) / _GIB:.0f} GiB"
        else:
            memory = "memory not told"
        bars = sparkline(loads.get(index, ()))
        lines.append(f"{index} {name}  {bars}{' ' if bars else ''}{load} %  {memory}")
    return tuple(lines)
