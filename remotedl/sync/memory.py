"""What the C library keeps back is given back to the system."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable


def trim() -> bool:
    """Return freed memory; False where there is none, or it cannot be asked for."""
    call = _malloc_trim()
    return call is not None and bool(call(0))


@functools.cache
def _malloc_trim() -> Callable[[int], int] | None:
    if sys.platform != "linux":
        return None
    import ctypes

    try:
        found: Callable[[int], int] = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError):
        return None  # another C library
    return found
