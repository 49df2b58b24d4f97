"""The room can be imported where the laptop is no Unix: nothing of Unix is needed at that time."""

from __future__ import annotations

import subprocess
import sys

# What others import stays as it is; what we import is gone.
AS_ON_WINDOWS = """\
import socket, sys
import fabric, paramiko, pydantic, shutil, subprocess, tempfile
for name in ("fcntl", "grp", "pty", "pwd", "resource", "termios", "tty"):
    sys.modules[name] = None
for name in ("AF_UNIX", "TCP_NOTSENT_LOWAT", "send_fds"):
    if hasattr(socket, name):
        delattr(socket, name)
import remotedl.ssh.connection, remotedl.ssh.embedded
"""
LAZY = """\
import sys
import remotedl.ssh, remotedl.ssh.prompt, remotedl.ssh.remote
print(sorted({name.partition(".")[0] for name in sys.modules} & {"paramiko", "fabric", "invoke"}))
"""


def test_nothing_of_unix_is_imported() -> None:
    subprocess.run([sys.executable, "-c", AS_ON_WINDOWS], check=True)


def test_paramiko_is_imported_when_a_connection_is_opened_and_not_before() -> None:
    done = subprocess.run([sys.executable, "-c", LAZY], check=True, capture_output=True, text=True)
    assert done.stdout == "[]\n"
