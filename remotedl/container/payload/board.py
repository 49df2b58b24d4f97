"""TensorBoard on a unix socket: `board.py SOCKET ARGS…`, ARGS being TensorBoard's own.

TensorBoard itself listens on ports only, and asks nobody who they are. Its web server (werkzeug)
can do otherwise; this is TensorBoard with that said. Runs in the environment that TensorBoard is in
and needs nothing else.
"""

from __future__ import annotations

import importlib
import logging
import os
import sys
from typing import Any, List


def main(argv: List[str]) -> int:
    del sys.path[0]  # our own folder: its programs are no modules of TensorBoard's
    program = importlib.import_module("tensorboard.program")
    default = importlib.import_module("tensorboard.default")
    board = program.TensorBoard(default.get_plugins(), server_class=listening_at(argv[0]))
    board.configure(argv=["tensorboard", *argv[1:]])
    return int(board.main() or 0)


def listening_at(path: str) -> Any:
    """A `TensorBoardServer`; its interface is in tensorboard/program.py."""
    serving = importlib.import_module("werkzeug.serving")
    logging.getLogger("werkzeug").setLevel(logging.WARNING)  # not a line a request

    class Server:
        def __init__(self, application: Any, flags: Any) -> None:
            self._inner = serving.make_server("unix://" + path, 0, application, threaded=True)

        def serve_forever(self) -> None:
            self._inner.serve_forever()

        def get_url(self) -> str:
            """For TensorBoard's own record of what runs, which takes nothing but a port."""
            return "http://127.0.0.1:" + os.path.basename(path)

        def print_serving_message(self) -> None:
            print("listening at", path, flush=True)

    return Server


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
