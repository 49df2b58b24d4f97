"""Makes the venv of the native runtime, or finds it made. `venv.py ROOT [PIP_WHEEL]`.

Reads JSON on stdin (requirements, constraints, jupyter, oldest, index, proxy: the last two may hold
passwords), prints
what pip prints, and as the last line the JSON {"venv": PATH}. Exit status 4: this Python is too
old; 5: it cannot make venvs; 6: pip failed; 7: it has no pip, call again with a wheel of it.

A venv counts as made when its stamp is there; what a broken run left behind is thrown away.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from typing import Any, Dict, List, Optional

STAMP = ".complete"
PINNED = re.compile(r"^([A-Za-z0-9._-]+(?:\[[^\]]*\])?)\s*[=~><!]=?[^;#]*", re.MULTILINE)
NO_FIT = ("No matching distribution", "ResolutionImpossible", "Could not find a version")
NO_LINK = "Retrying (Retry("
"""pip also says that nothing fits when it has reached no index at all."""


def main(argv: List[str]) -> int:
    os.umask(0o077)
    asked = json.load(sys.stdin)
    oldest = tuple(int(part) for part in str(asked["oldest"]).split("."))
    if sys.version_info[:2] < oldest:
        return 4
    if importlib.util.find_spec("venv") is None:
        return 5
    os.makedirs(argv[0], mode=0o700, exist_ok=True)
    # A venv's scripts hold its path: the real one, which no link can change under them.
    root = os.path.realpath(argv[0])
    venv = os.path.join(root, fingerprint(asked))
    with open(venv + ".lock", "w") as lock:
        # Another `up` may be making the same one; then it is there when this returns.
        fcntl.flock(lock, fcntl.LOCK_EX)
        code = 0 if os.path.exists(os.path.join(venv, STAMP)) else make(venv, asked, argv[1:])
    if code == 0:
        print(json.dumps({"venv": venv}))
    return code


def fingerprint(asked: Dict[str, Any]) -> str:
    what = [asked["requirements"], asked["constraints"], asked["jupyter"]]
    said = [json.dumps(what, sort_keys=True), sys.version, os.path.realpath(sys.executable)]
    return hashlib.sha256("\0".join(said).encode()).hexdigest()[:16]


def make(venv: str, asked: Dict[str, Any], wheel: List[str]) -> int:
    if not wheel and importlib.util.find_spec("ensurepip") is None:
        return 7
    shutil.rmtree(venv, ignore_errors=True)
    argv = [sys.executable, "-m", "venv", *(["--without-pip"] if wheel else []), venv]
    if subprocess.call(argv, stdout=sys.stderr) != 0:
        return 5
    requirements = str(asked["requirements"])
    said = install(venv, asked, wheel, requirements, str(asked["constraints"]))
    if said is not None and NO_LINK not in said and any(sign in said for sign in NO_FIT):
        print("These versions do not fit this Python: taking the newest that do.", flush=True)
        said = install(venv, asked, wheel, PINNED.sub(r"\1 ", requirements), "")
    if said is not None:
        shutil.rmtree(venv, ignore_errors=True)
        return 6
    set_up_jupyter(venv, asked["jupyter"])
    with open(os.path.join(venv, STAMP), "w", encoding="utf-8") as stamp:
        stamp.write(requirements)
    return 0


def set_up_jupyter(venv: str, files: Dict[str, str]) -> None:
    """As dockerfiles/base/jupyter/install.sh does it in an image."""
    python = os.path.join(venv, "bin", "python")
    code = "import sysconfig, jupyter_server_documents; print(sysconfig.get_path('purelib'))"
    asked = subprocess.run([python, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    etc = os.path.join(venv, "etc", "jupyter")
    places = {"page_config.json": os.path.join(etc, "labconfig", "page_config.json")}
    # Without jupyter_server_documents (a Python older than it wants) there is nothing to mend.
    if asked.returncode == 0:
        packages = asked.stdout.decode().strip()
        notice = os.path.join(venv, "share", "jupyter", "labextensions", "remotedl-notice")
        settings = os.path.join(etc, "jupyter_server_config.d", "remotedl_jupyter.json")
        places["remotedl_jupyter.json"] = settings
        places["notice.json"] = os.path.join(notice, "package.json")
        places["notice.js"] = os.path.join(notice, "static", "notice.js")
        places.update((name, os.path.join(packages, name)) for name in files if name[-3:] == ".py")
    for name, text in files.items():
        if name in places:
            os.makedirs(os.path.dirname(places[name]), exist_ok=True)
            with open(places[name], "w", encoding="utf-8") as file:
                file.write(text)


def install(
    venv: str, asked: Dict[str, Any], wheel: List[str], requirements: str, constraints: str
) -> Optional[str]:
    """None when pip has done it; what it said otherwise."""
    listed = []
    for flag, name, text in (
        ("-r", "requirements.txt", requirements + "\npip\n"),
        ("-c", "constraints.txt", constraints),
    ):
        path = os.path.join(venv, name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        listed += [flag, path]
    env = dict(os.environ, PYTHONUNBUFFERED="1", PIP_DISABLE_PIP_VERSION_CHECK="1")
    if wheel:
        # pip runs from its wheel; the copy that it then installs into the venv is the one to keep.
        env["PYTHONPATH"] = wheel[0]
    if asked.get("index"):
        env["PIP_INDEX_URL"] = str(asked["index"])
    if asked.get("proxy"):
        env["HTTP_PROXY"] = env["HTTPS_PROXY"] = str(asked["proxy"])
        env["http_proxy"] = env["https_proxy"] = str(asked["proxy"])
    pip = [os.path.join(venv, "bin", "python"), "-m", "pip", "install", "--no-input"]
    child = subprocess.Popen(
        [*pip, "--progress-bar", "off", *listed],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    said = []
    assert child.stdout is not None
    for line in child.stdout:
        sys.stdout.write(line)
        sys.stdout.flush()
        said.append(line)
    return None if child.wait() == 0 else "".join(said)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
