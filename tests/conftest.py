"""Loads the lab's fixtures for every test; see tests/lab/README.md."""

import signal

pytest_plugins = ["tests.lab.plugin"]

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # Started in the background of a shell: every child would inherit that Ctrl-C is ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
