"""What this room needs of a connection, in its own words: it knows no SSH.

`ssh/remote.py`'s Stream and Process fulfil these protocols by their shape alone, and so does a
subprocess in the tests. Types only; nothing here does anything.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable


class Stream(Protocol):
    """Bytes to and from one `docker system dial-stdio` on the host."""

    def recv(self, size: int) -> bytes:
        """At most `size` bytes, as soon as there are any; b"" at the end. Raises LinkLost."""
        ...

    def sendall(self, data: bytes | bytearray | memoryview) -> None:
        """All of `data`; blocks while the other side's window is full. Raises LinkLost."""
        ...

    def shutdown_write(self) -> None:
        """Send end-of-file; reading goes on."""
        ...

    def close(self) -> None:
        """Idempotent; a blocked `recv` or `sendall` in another thread ends."""
        ...


@runtime_checkable
class Complaining(Protocol):
    """A Stream that is a process: what it says on stderr tells why it ended."""

    def recv_stderr(self, size: int) -> bytes: ...


Dial = Callable[[], Stream]
"""Opens one more Stream to the engine (through sudo, where that is the only way)."""
