"""Becomes another program, with the project's environment around it.

    launch.py service NAME      a service of services.json
    launch.py exec ARGV…        any command
    launch.py shell             the best shell there is

The files beside this one hold what must not be in an argv or in the container's settings:
env.json (the project's secrets), token, and sockets.json where the sockets lie elsewhere.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any, Dict, List

RUN = os.path.dirname(os.path.abspath(__file__))
SHELLS = ("bash", "zsh", "sh")


def main(argv: List[str]) -> int:
    os.environ.update(secrets())
    if argv[:1] == ["service"]:
        return service(argv[1])
    if argv[:1] == ["shell"]:
        os.environ["REMOTEDL_SHELL"] = RUN  # so that it is found: idle.py
        for shell in SHELLS:
            become([shell])
        return 127
    if argv[:1] == ["exec"] and len(argv) > 1:
        return become(argv[1:])
    sys.stderr.write(__doc__ or "")
    return 2


def service(name: str) -> int:
    entry = load("services.json")[name]
    os.environ.update(entry["env"])
    os.chdir(entry["cwd"])
    folder = sockets()
    return become([part.replace("{sockets}", folder) for part in entry["argv"]])


def sockets() -> str:
    """Where the services listen: a folder of ours in which nobody else has any business."""
    folder = str(load("sockets.json").get("folder", os.path.join(RUN, "s")))
    os.makedirs(folder, 0o700, exist_ok=True)
    return folder


def secrets() -> Dict[str, str]:
    """The project's env_file and the host's proxy, put here by remotedl, readable by us alone."""
    return {str(name): str(value) for name, value in load("env.json").items()}


def load(name: str) -> Dict[str, Any]:
    try:
        with open(os.path.join(RUN, name), encoding="utf-8") as file:
            found = json.load(file)
    except FileNotFoundError:
        return {}
    return dict(found)


def become(argv: List[str]) -> int:
    """Only returns when that was not possible: 127 not found, 126 not runnable, as shells say."""
    try:
        os.execvp(argv[0], argv)  # noqa: S606
    except FileNotFoundError:
        sys.stderr.write(f"{argv[0]}: command not found\n")
        return 127
    except OSError as exc:
        sys.stderr.write(f"{argv[0]}: {exc.strerror}\n")
        return 126


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
