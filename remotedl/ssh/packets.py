"""Packets on the wire: paramiko's Packetizer, which also knows when it last heard something."""

from __future__ import annotations

import time
from typing import Any

from paramiko.message import Message
from paramiko.packet import Packetizer as ParamikoPacketizer


class Packetizer(ParamikoPacketizer):
    """`heard` is the time of the last whole packet, as time.monotonic()."""

    REKEY_BYTES = 1 << 32
    REKEY_BYTES_OVERFLOW_MAX = 1 << 32

    def __init__(self, sock: Any) -> None:
        super().__init__(sock)
        self.heard = time.monotonic()

    def read_message(self) -> tuple[int, Message]:
        read: tuple[int, Message] = super().read_message()
        self.heard = time.monotonic()
        return read
