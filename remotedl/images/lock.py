"""One build of an image at a time on a host: who comes second waits, and then finds it made.

The lock is flock(2) on a file in the SSH user's ~/.remotedl, held by a process on the host whose
stdin is our channel: when the laptop, the link or remotedl dies, the channel ends, and with it the
lock. It saves work and guards nothing: where a host has no flock(1) or no room for the file, the
build begins without it. Users of one host do not wait for each other.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from remotedl.report import Report
from remotedl.ssh.remote import Remote, read_line

HOLD = """\
umask 077
mkdir -p "$HOME/.remotedl/locks" && exec 9>"$HOME/.remotedl/locks/$1" || exit
command -v flock >/dev/null || exit
flock -n 9 || { echo busy; flock 9; }
echo held
exec cat >/dev/null
"""


@contextmanager
def one_build(remote: Remote, tag: str, title: str, report: Report) -> Iterator[bool]:
    """Hold the host's lock of an image's tag; gives whether another one had it before us.

    Waits as long as the other one builds. Raises LinkLost.
    """
    name = re.sub(r"[^a-z0-9.-]", "_", tag)
    process = remote.start(["sh", "-c", HOLD, "remotedl-lock", name])
    try:
        waited = read_line(process) == b"busy\n"
        if waited:
            report.note(f"another remotedl makes {title} on the host: waiting until it is done")
            read_line(process)
        yield waited
    finally:
        process.close()
