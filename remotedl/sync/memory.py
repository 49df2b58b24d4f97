"""What the C library keeps back is given back to the system."""

from __future__ import annotations

import functools
import sys
from typing import Any

_M_ARENA_MAX = -8


def one_heap() -> None:
    """Have all threads from now on share a heap: each keeps what it once needed, 8 MB a thread."""
    library = _c_library()
    if library is not None:
        library.mallopt(_M_ARENA_MAX, 1)


def trim() -> bool:
    """Return freed memory; False where there is none, or it cannot be asked for."""
    library = _c_library()
    return library is not None and bool(library.malloc_trim(0))


@functools.cache
def _c_library() -> Any:
    """GNU's; None elsewhere."""
    if sys.platform != "linux":
        return None
    import ctypes

    library = ctypes.CDLL(None)
    return library if hasattr(library, "malloc_trim") and hasattr(library, "mallopt") else None
