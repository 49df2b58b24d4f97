"""Ports of this machine's loopback, each reached by a unix socket: `door.py DOORS FOLDER`.

A program of the user's (Gradio, MLflow, a viewer) listens on a port; what comes from outside gets
there by a socket of that number in FOLDER, which belongs to one user alone. DOORS is a JSON list of
ports; it is looked at once a second, and what it says is what is open: a socket that was removed is
made again. Knows nothing of what it carries. Nothing listens on a port because of it.
"""

from __future__ import annotations

import json
import os
import selectors
import socket
import sys
import threading
from typing import Dict, List, Optional

LOOK_S = 1.0
CHUNK = 64 * 1024
BACKLOG = 128
CONNECT_S = 10.0


def main(argv: List[str]) -> int:
    os.umask(0o077)
    serve(*argv)
    return 0


def serve(doors: str, folder: str) -> None:
    """For ever: bring the open doors in line with the list, and let in who comes."""
    selector = selectors.DefaultSelector()
    open_now: Dict[int, socket.socket] = {}
    while True:
        ports = wanted(doors)
        if ports is not None:
            bring_in_line(ports, folder, open_now, selector)
        for key, _ in selector.select(LOOK_S):
            listener = key.fileobj
            assert isinstance(listener, socket.socket)
            try:
                end, _ = listener.accept()
            except OSError:
                continue
            threading.Thread(target=carry, args=(end, key.data), daemon=True).start()


def wanted(doors: str) -> Optional[List[int]]:
    """The list; None where it cannot be read, and all stays as it is."""
    try:
        with open(doors, encoding="utf-8") as file:
            return [int(port) for port in json.load(file)]
    except (OSError, ValueError, TypeError):
        return None


def bring_in_line(
    ports: List[int],
    folder: str,
    open_now: Dict[int, socket.socket],
    selector: selectors.BaseSelector,
) -> None:
    for port in list(open_now):
        path = os.path.join(folder, str(port))
        if port not in ports or not os.path.exists(path):
            listener = open_now.pop(port)
            selector.unregister(listener)
            listener.close()
            remove(path)
    for port in ports:
        if port in open_now:
            continue
        try:
            listener = listen(os.path.join(folder, str(port)))
        except OSError as exc:
            print("port", port, exc, flush=True)
            continue
        open_now[port] = listener
        selector.register(listener, selectors.EVENT_READ, port)


def listen(path: str) -> socket.socket:
    """What an earlier one left there is replaced. Raises OSError."""
    remove(path)
    listener = socket.socket(socket.AF_UNIX)
    try:
        listener.bind(path)
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    listener.setblocking(False)
    return listener


def remove(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        pass  # it is not there, or will be told when it is in the way


def carry(end: socket.socket, port: int) -> None:
    """One connection, to its last byte."""
    end.setblocking(True)
    try:
        far = dial(port)
    except OSError:
        end.close()  # nobody listens there: the other side hears an end without a word
        return
    back = threading.Thread(target=pump, args=(far, end), daemon=True)
    back.start()
    pump(end, far)
    back.join()
    end.close()
    far.close()


def dial(port: int) -> socket.socket:
    """Raises OSError where neither loopback has it."""
    try:
        far = socket.create_connection(("127.0.0.1", port), CONNECT_S)
    except OSError:
        far = socket.create_connection(("::1", port), CONNECT_S)
    far.settimeout(None)
    far.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return far


def pump(source: socket.socket, sink: socket.socket) -> None:
    """One direction; an end is passed on as an end, anything else ends both."""
    try:
        while True:
            data = source.recv(CHUNK)
            if not data:
                sink.shutdown(socket.SHUT_WR)
                return
            sink.sendall(data)
    except OSError:
        for one in (source, sink):
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # the other side was faster


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
