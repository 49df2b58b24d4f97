"""Memory that does not grow with the days: what the C library keeps back is given back.

A session has short-lived threads by the thousand (connections, links that come and go). glibc gives
threads arenas of their own and returns little of what is freed in them: under load every reconnect
cost a megabyte, though nothing was in use any more.
"""

from __future__ import annotations

import gc

from remotedl.sync.memory import trim


def give_back() -> bool:
    """Return what nobody uses to the system; False where that cannot be asked for.

    An ended connection is a knot of objects that only the collector undoes, and it does not know
    how much memory of OpenSSL's hangs on them.
    """
    gc.collect()
    return trim()
