"""Makes all that is dear to make and kept between runs: images, seeds, package mirrors."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

from tests.lab.aptrepo import mirror_folder
from tests.lab.engine import ensure_dockerd
from tests.lab.images import RELEASES
from tests.lab.seeds import seed_volume

WORTH_SAYING_S = 2.0


def prepare(say: Callable[[str], None], *, mirrors: bool) -> None:
    """About three minutes the first time, one second afterwards."""
    ensure_dockerd()
    jobs: list[tuple[str, Callable[[], object]]] = [
        (f"a host of {release} with its engine", partial(seed_volume, release))
        for release in RELEASES
    ]
    if mirrors:
        jobs.append(("package mirrors", mirror_folder))
    for what, make in jobs:
        start = time.monotonic()
        make()
        if (spent := time.monotonic() - start) > WORTH_SAYING_S:
            say(f"lab: made {what} in {spent:.0f} s; kept for the next run")
