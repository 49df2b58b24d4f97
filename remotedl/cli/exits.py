"""The one place that ends the process: errors become a message, a hint and an exit status."""

from __future__ import annotations

import errno
import signal
import sys
import traceback

from remotedl.cli.next_step import completed
from remotedl.config.paths import APP, FULL, make_room, state_place
from remotedl.errors import FolderUnusable, RemotedlError

NO_ROOM = (*FULL, errno.EROFS)


def run() -> None:
    """Parse argv, run the command, exit. A traceback is shown with --debug alone."""
    from remotedl.cli.app import app

    try:
        app()
    except RemotedlError as error:
        _explain(error)
        raise SystemExit(error.exit_code) from None
    except BrokenPipeError:
        sys.stderr.close()
        raise SystemExit(1) from None
    except Exception as error:
        if isinstance(error, OSError) and error.errno in NO_ROOM:
            full = _no_room(error)
            _explain(full)
            raise SystemExit(full.exit_code) from None
        if "--debug" in sys.argv:
            raise
        _say(f"remotedl: internal error: {type(error).__name__}: {error}")
        _say("  next: run it again with --debug and report what it prints")
        raise SystemExit(1) from None


def _no_room(error: OSError) -> RemotedlError:
    """Of the laptop: what the host says of its disks is translated in its rooms."""
    where = error.filename or state_place()
    return FolderUnusable(
        f"{APP} cannot write on this laptop ({where}): {error.strerror}",
        hint=make_room(where),
    )


def end_in_order() -> None:
    """SIGTERM and a closed terminal end a command as Ctrl-C does: in order, with status 130."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None:
            signal.signal(number, interrupt)


def _explain(error: RemotedlError) -> None:
    if "--debug" in sys.argv:
        traceback.print_exception(error)
    _say(f"remotedl: {error.message}")
    if error.hint:
        _say(f"  next: {completed(error.hint)}")


def _say(text: str) -> None:
    from remotedl.shown import shown_message

    print(shown_message(text), file=sys.stderr)  # noqa: T201
